// Package pipeline says what happens in which order: a release, a promotion,
// a rollback, a resume. It declares the small interfaces it needs and is
// handed their implementations; it does no I/O of its own.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// each runs f for every item side by side and gives the first error.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, item := range items {
		group.Go(func() error { return f(ctx, item) })
	}
	return group.Wait()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// DenialError is a KindDenied fault with its reasons.
type DenialError struct {
	Message string
	Reasons []release.Reason
}

func denial(message string, reasons []release.Reason) error {
	err := &DenialError{Message: message, Reasons: reasons}
	return &release.Fault{Kind: release.KindDenied, Err: err, Hint: err.hint()}
}

// Error gives the message and a line a reason.
func (e *DenialError) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for _, r := range e.Reasons {
		fmt.Fprintf(&b, "\n  %s: %s", r.Rule, r.Message)
		if r.File != "" {
			fmt.Fprintf(&b, " (%s:%d)", r.File, r.Line)
		}
	}
	return b.String()
}

// hint joins the distinct fixes of the first reasons.
func (e *DenialError) hint() string {
	var fixes []string
	for _, r := range e.Reasons {
		if r.Fix != "" && !slices.Contains(fixes, r.Fix) {
			fixes = append(fixes, r.Fix)
		}
	}
	return strings.Join(fixes[:min(3, len(fixes))], "; ")
}

const appendTries = 5

// append adds a record that needs nothing but its place in the log, after the
// rules in force are pinned.
func (p *Pipeline) append(ctx context.Context, r release.Record) (release.Entry, error) {
	for try := 1; ; try++ {
		history, checkpoint, err := p.Ledger.Read(ctx)
		if err != nil {
			return release.Entry{}, err
		}
		entry, err := p.appendTo(ctx, history, checkpoint.TreeSize, r)
		if err == nil || !errors.Is(err, release.ErrMoved) || try == appendTries {
			return entry, err
		}
	}
}

func (p *Pipeline) appendTo(ctx context.Context, h release.History, size int64, r release.Record) (release.Entry, error) {
	size, err := p.pinRules(ctx, h, size)
	if err != nil {
		return release.Entry{}, err
	}
	entry, _, err := p.write(ctx, p.complete(r), size)
	return entry, err
}

// complete fills in what every record says.
func (p *Pipeline) complete(r release.Record) release.Record {
	r.SchemaVersion = 1
	r.Actor = p.Project.Actor
	r.Rules = p.rules()
	r.Time = p.Now().UTC()
	return r
}
