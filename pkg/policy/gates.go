package policy

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
)

// Where packages stand: all of them below promote, the default gates below
// promote.gates, and what several gates share in promote.lib (the default
// gates') and below it (a team's).
const (
	root     = "promote"
	defaults = "gates"
	library  = "lib"
)

// The sets that a gate may have, worst first.
const (
	deny    = "deny"
	unknown = "unknown"
	warn    = "warn"
)

var outcomes = []string{deny, unknown, warn}

var elementName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// gatesOf finds the gates in the order in which they judge: the default ones,
// then a team's, each by name.
func gatesOf(sources []source) ([]gate, release.Errors) {
	found := map[string]*gate{}
	first := map[string]source{}
	var faults release.Errors
	for _, s := range sources {
		name, fault := gateOf(s)
		if fault != nil {
			faults = append(faults, fault)
			continue
		}
		faults = append(faults, checkRules(s, name)...)
		if name == "" {
			continue
		}
		g, ok := found[name]
		switch {
		case !ok:
			g = &gate{Gate: Gate{Name: name, File: s.file, Doc: doc(s), Default: s.builtin}, path: s.module.Package.Path}
			found[name], first[name] = g, s
		case g.Default != s.builtin:
			faults = append(faults, s.fault(s.module.Package.Location, "choose another name: what ships with promote can be added to, not changed",
				"gate %s ships with promote", name))
		}
		for _, set := range outcomes {
			if defines(s.module, set) && !slices.Contains(g.sets, set) {
				g.sets = append(g.sets, set)
			}
		}
	}
	for name, g := range found {
		if !slices.Contains(g.sets, deny) && !slices.Contains(g.sets, warn) {
			s := first[name]
			faults = append(faults, s.fault(s.module.Package.Location, `add a rule such as: deny contains {"rule": "`+name+`/thing", "message": "…", "fix": "…"} if { … }`,
				"gate %s defines neither deny nor warn: it would always pass", name))
		}
	}
	sortFaults(faults)
	return sorted(found), faults
}

func sorted(found map[string]*gate) []gate {
	var gates []gate
	for _, g := range found {
		gates = append(gates, *g)
	}
	slices.SortFunc(gates, func(a, b gate) int {
		if a.Default != b.Default {
			if a.Default {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return gates
}

func sortFaults(faults release.Errors) {
	slices.SortStableFunc(faults, func(a, b *release.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

// gateOf gives the gate that a file belongs to; empty for a library. A team's
// gate promote.acme.ports is named acme.ports.
func gateOf(s source) (string, *release.Fault) {
	const hint = "name it package promote.<gate>, in lower case"
	refuse := func(hint, format string, args ...any) (string, *release.Fault) {
		return "", s.fault(s.module.Package.Location, hint, format, args...)
	}
	names, ok := packagePath(s.module)
	if !ok || len(names) < 2 || names[0] != root {
		return refuse(hint, "%s is not below promote", s.module.Package)
	}
	for _, n := range names[1:] {
		if !elementName.MatchString(n) {
			return refuse(hint, "%s: %q is no name", s.module.Package, n)
		}
	}
	names = names[1:]
	switch {
	case s.builtin && names[0] == defaults && len(names) > 1:
		return strings.Join(names[1:], "."), nil
	case s.builtin && names[0] == library:
		return "", nil
	case s.builtin:
		return refuse("default gates are below promote.gates", "%s is no default gate", s.module.Package)
	case names[0] == defaults:
		return refuse("name it package promote.<gate>: what ships with promote can be added to, not changed", "%s belongs to promote", s.module.Package)
	case names[0] == library && len(names) == 1:
		return refuse("name it package promote.lib.<name>", "%s belongs to promote", s.module.Package)
	case names[0] == library:
		return "", nil
	}
	return strings.Join(names, "."), nil
}

// packagePath gives a package's names without the leading "data".
func packagePath(m *ast.Module) ([]string, bool) {
	var names []string
	for _, t := range m.Package.Path[1:] {
		s, ok := t.Value.(ast.String)
		if !ok {
			return nil, false
		}
		names = append(names, string(s))
	}
	return names, len(names) > 0
}

// checkRules refuses outcomes that are no sets: only of a set is it certain
// that it is defined, and that two files add to it rather than disagree.
func checkRules(s source, gate string) release.Errors {
	var faults release.Errors
	for _, r := range s.module.Rules {
		name := ruleName(r)
		switch {
		case !slices.Contains(outcomes, name):
		case gate == "":
			faults = append(faults, s.fault(r.Location, "move it to a gate: package promote.<gate>", "%s in a library is asked by nobody", name))
		case r.Default || r.Head.RuleKind() != ast.MultiValue || len(r.Head.Ref()) != 1 || len(r.Head.Args) > 0:
			faults = append(faults, s.fault(r.Location, name+` contains {"rule": "`+gate+`/thing", "message": "…", "fix": "…"} if { … }`,
				"%s must be a set of reasons", name))
		}
	}
	return faults
}

func ruleName(r *ast.Rule) string {
	ref := r.Head.Ref()
	if len(ref) == 0 {
		return string(r.Head.Name)
	}
	if v, ok := ref[0].Value.(ast.Var); ok {
		return string(v)
	}
	return ref[0].String()
}

func defines(m *ast.Module, name string) bool {
	return slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return ruleName(r) == name })
}

// doc is the comment in front of a file's package.
func doc(s source) string {
	var lines []string
	for _, c := range s.module.Comments {
		if c.Location.Row < s.module.Package.Location.Row {
			lines = append(lines, strings.TrimSpace(string(c.Text)))
		}
	}
	return strings.Join(lines, " ")
}
