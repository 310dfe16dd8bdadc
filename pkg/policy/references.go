package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
)

// checkReferences finds what the compiler lets through and what would make a
// gate pass in silence: a rule that nobody asks for, because its name is a
// typo, and a reference to a rule that does not exist, which is undefined. It
// looks at compiled modules, where every reference is written in full.
func checkReferences(compiler *ast.Compiler, sources []source) release.Errors {
	rules := map[string]ast.Ref{}
	for _, m := range compiler.Modules {
		for _, r := range m.Rules {
			path := rulePath(m, r)
			rules[path.String()] = path
		}
	}
	var faults release.Errors
	used := map[string]bool{}
	for _, s := range sources {
		m := compiler.Modules[s.file]
		for _, r := range m.Rules {
			own := rulePath(m, r)
			ast.WalkRefs(r, func(ref ast.Ref) bool {
				if !ref.HasPrefix(ast.DefaultRootRef) {
					return false
				}
				at, known := ref.GroundPrefix(), false
				for name, path := range rules {
					if along(at, path) {
						known = true
						used[name] = used[name] || !path.Equal(own)
					}
				}
				if !known {
					faults = append(faults, s.fault(ref[0].Location, "a rule about it would never say anything; correct the name", "%s is defined nowhere", ref))
				}
				return false
			})
		}
	}
	for _, s := range sources {
		faults = append(faults, unused(s, compiler.Modules[s.file], used)...)
	}
	sortFaults(faults)
	return faults
}

// unused lists the rules of a gate that are neither an outcome nor part of
// one. Libraries may offer more than is taken.
func unused(s source, m *ast.Module, used map[string]bool) release.Errors {
	var faults release.Errors
	if gate, _ := gateOf(s); gate == "" {
		return nil
	}
	for _, r := range m.Rules {
		name := ruleName(r)
		if slices.Contains(outcomes, name) || used[rulePath(m, r).String()] {
			continue
		}
		hint := "remove it, or use it: a gate's outcomes are deny, warn and unknown"
		if near := release.Nearest(name, outcomes); near != "" {
			hint = "did you mean " + near + "?"
		}
		faults = append(faults, s.fault(r.Location, hint, "rule %s has no effect: nothing asks for it", name))
	}
	return faults
}

// rulePath is where a rule's value stands: its package and its first name.
func rulePath(m *ast.Module, r *ast.Rule) ast.Ref {
	return m.Package.Path.Append(ast.StringTerm(ruleName(r)))
}

// along reports whether one reference leads to the other or past it.
func along(a, b ast.Ref) bool {
	n := min(len(a), len(b))
	return a[:n].Equal(b[:n])
}
