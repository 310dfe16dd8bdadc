package policy

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
)

// source is one file of Rego.
type source struct {
	file    string // for messages
	name    string // for the digest: the same on every machine
	text    string
	builtin bool
	test    bool
	module  *ast.Module
}

// parse fills the modules in, or gives all errors of all files.
func parse(sources []source) error {
	var faults release.Errors
	for i, s := range sources {
		module, err := ast.ParseModuleWithOpts(s.file, s.text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()})
		switch {
		case err != nil:
			faults = append(faults, faultsOf(err)...)
		case module == nil:
			f := release.Faultf(release.KindConfig, "write a gate into it, or remove the file", "an empty policy")
			f.File = s.file
			faults = append(faults, f)
		default:
			sources[i].module = module
		}
	}
	return faults.Or()
}

// fault is an error of a file at a place in it.
func (s source) fault(at *ast.Location, hint, format string, args ...any) *release.Fault {
	f := release.Faultf(release.KindConfig, hint, format, args...)
	f.File = s.file
	if at != nil {
		f.Line, f.Column = at.Row, at.Col
	}
	return f
}

// faultsOf gives OPA's errors their places, in order.
func faultsOf(err error) release.Errors {
	var several ast.Errors
	if !errors.As(err, &several) {
		var one *ast.Error
		if !errors.As(err, &one) {
			return release.Errors{{Kind: release.KindConfig, Op: "compiling policies", Err: err}}
		}
		several = ast.Errors{one}
	}
	var list release.Errors
	for _, e := range several {
		f := &release.Fault{Kind: release.KindConfig, Err: errors.New(message(e)), Hint: hint(e)}
		if e.Location != nil {
			f.File, f.Line, f.Column = e.Location.File, e.Location.Row, e.Location.Col
		}
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b *release.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return list
}

// message is OPA's, with its details where they are short.
func message(e *ast.Error) string {
	if e.Details == nil {
		return e.Message
	}
	details := strings.Join(strings.Fields(strings.Join(e.Details.Lines(), " ")), " ")
	if details == "" || len(details) > 300 {
		return e.Message
	}
	return e.Message + " (" + details + ")"
}

func hint(e *ast.Error) string {
	switch {
	case strings.Contains(e.Message, "undefined function"):
		return "policies may call pure functions only, nothing that reads the network, the clock or the environment: see docs/policies.md"
	case strings.Contains(e.Message, "undefined ref: input"):
		return "the facts have no such field; docs/policies.md says where they are described"
	}
	return "docs/policies.md says how a policy is written"
}
