package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/promote-dev/promote/pkg/release"
)

// Judge gives one verdict for each gate, in the order of Gates. A gate that
// denies is Failed; else, if something is unknown, Unknown where the facts say
// that evidence is still to be made, and Failed where they do not; else, if it
// warns, Warned; else Passed. Only the reasons of that result are given.
//
// Facts without a release or without services are denied by a KindDenied
// fault: there is nothing that could pass. A gate whose answer is undefined,
// an error or no set of reasons is a KindConfig fault and no verdicts: such a
// policy decides nothing. Gates that take longer than Options.Timeout are
// KindUnavailable; a cancelled context is its error.
func (p *Policy) Judge(ctx context.Context, f release.Facts) ([]release.Verdict, error) {
	if len(f.Services) == 0 || f.Release.Digest.IsZero() {
		return nil, release.Denied("name the compose files in promote.yaml and run promote release",
			"judging %s %s: a release without a digest or without services has nothing to judge", f.Release.Name, f.Release.Version)
	}
	if err := p.ready(); err != nil {
		return nil, err
	}
	facts, err := input(f)
	if err != nil {
		return nil, release.Faultf(release.KindInternal, "report this as a defect of promote", "writing the facts for policies: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	verdicts := make([]release.Verdict, len(p.gates))
	for i, g := range p.gates {
		verdict, err := g.judge(limited, facts, f.Producible)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("judging gate %s: %w", g.Name, ctx.Err())
		case limited.Err() != nil:
			return nil, &release.Fault{Kind: release.KindUnavailable, Op: "judging gate", Subject: g.Name, File: g.File,
				Hint: "make the policy simpler, or try again on a machine that is less busy",
				Err:  fmt.Errorf("the gates take longer than %s", p.timeout)}
		case err != nil:
			return nil, g.fault(err)
		}
		verdicts[i] = verdict
	}
	return verdicts, nil
}

func (g gate) fault(err error) *release.Fault {
	f := &release.Fault{Kind: release.KindConfig, Op: "judging gate", Subject: g.Name, File: g.File, Err: err,
		Hint: "mend the policy: a gate that cannot judge lets nothing through"}
	var at *topdown.Error
	if errors.As(err, &at) && at.Location != nil {
		f.File, f.Line, f.Column = at.Location.File, at.Location.Row, at.Location.Col
	}
	return f
}

func (g gate) judge(ctx context.Context, facts ast.Value, producible bool) (release.Verdict, error) {
	v := release.Verdict{Gate: g.Name} // failed, unless something better is shown
	sets, err := g.ask(ctx, facts)
	if err != nil {
		return v, err
	}
	reasons := map[string][]release.Reason{}
	for i, name := range g.sets {
		if reasons[name], err = reasonsOf(g.Name, sets[i]); err != nil {
			return v, fmt.Errorf("%s: %w", name, err)
		}
	}
	// A gate says the worst it has to say; the rest would only hide it.
	switch {
	case len(reasons[deny]) > 0:
		v.Result, v.Reasons = release.Failed, reasons[deny]
	case len(reasons[unknown]) > 0 && producible:
		v.Result, v.Reasons = release.Unknown, reasons[unknown]
	case len(reasons[unknown]) > 0:
		v.Result, v.Reasons = release.Failed, reasons[unknown]
	case len(reasons[warn]) > 0:
		v.Result, v.Reasons = release.Warned, reasons[warn]
	default:
		v.Result, v.Reasons = release.Passed, []release.Reason{}
	}
	return v, nil
}

// ask evaluates a gate's sets.
func (g gate) ask(ctx context.Context, facts ast.Value) ([]any, error) {
	results, err := g.query.Eval(ctx, rego.EvalParsedInput(facts))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, errors.New("its answer is undefined")
	}
	sets, ok := results[0].Expressions[0].Value.([]any)
	if !ok || len(sets) != len(g.sets) {
		return nil, errors.New("its answer is undefined")
	}
	return sets, nil
}
