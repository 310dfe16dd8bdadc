package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/promote-dev/promote/pkg/release"
)

// Outcome is what one test of a policy said.
type Outcome struct {
	Package string `json:"package"` // data.promote.…
	Name    string `json:"name"`
	File    string `json:"file"`
	Line    int    `json:"line"` // of what failed, else of the test
	Passed  bool   `json:"passed"`
	Message string `json:"message"` // why not
}

// Test runs every rule whose name starts with test_ in the *_test.rego files
// beside the policies, in order of package and name. A test that is skipped or
// cannot be judged has not passed. Errors are as Load's.
func Test(ctx context.Context, o Options) ([]Outcome, error) {
	if _, err := Load(ctx, o); err != nil {
		return nil, err
	}
	sources, err := read(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := parse(sources); err != nil {
		return nil, err
	}
	outcomes, err := run(ctx, sources, cmp.Or(o.Timeout, defaultTimeout))
	var compiling ast.Errors
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &compiling):
		return nil, faultsOf(err)
	case err != nil:
		return nil, release.Faultf(release.KindConfig, "mend the tests", "testing policies: %w", err)
	}
	slices.SortFunc(outcomes, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Name, b.Name))
	})
	return outcomes, nil
}

func run(ctx context.Context, sources []source, timeout time.Duration) ([]Outcome, error) {
	compiler, err := newCompiler()
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{}
	for _, s := range sources {
		modules[s.file] = s.module
	}
	var outcomes []Outcome
	store := inmem.New()
	err = storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := tester.NewRunner().SetCompiler(compiler).SetStore(store).SetModules(modules).
			SetTimeout(timeout).RaiseBuiltinErrors(true).EnableTracing(true).RunTests(ctx, txn)
		if err != nil {
			return err
		}
		for r := range results {
			outcomes = append(outcomes, outcome(r))
		}
		return ctx.Err()
	})
	return outcomes, err
}

func outcome(r *tester.Result) Outcome {
	o := Outcome{Package: r.Package, Name: r.Name, File: r.Location.File, Line: r.Location.Row, Passed: r.Pass() && !r.Skip}
	if o.Passed {
		return o
	}
	o.Message = "failed"
	switch {
	case r.Error != nil:
		o.Message = r.Error.Error()
	case r.Skip:
		o.Message = "skipped: a test that does not run shows nothing"
	default:
		o.Line = failedAt(r)
	}
	return o
}

// failedAt is the line of the expression at which a test gave up: the last one
// of its own file that failed.
func failedAt(r *tester.Result) int {
	line := r.Location.Row
	for _, e := range r.Trace {
		if e.Op == topdown.FailOp && e.Location != nil && e.Location.File == r.Location.File {
			line = e.Location.Row
		}
	}
	return line
}
