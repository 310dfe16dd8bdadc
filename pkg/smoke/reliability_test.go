//go:build engine

package smoke_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
	"github.com/promote-dev/promote/pkg/smoke/smoketest"
)

var (
	rounds = flag.Int("rounds", 1, "how often each variant is run")
	lanes  = flag.Int("lanes", 4, "how many runs go on side by side")
	only   = flag.String("variants", "", "a regular expression for the names of variants to run")
	table  = flag.String("table", "", "a document whose table of variants is brought up to date")
)

// TestReliability runs each variant and holds the gate to the right verdict
// for the right reason, every time. Side by side, so that it also shows that
// runs don't meet; the longest first, so that none is left for the end.
func TestReliability(t *testing.T) {
	r := unruly(t)
	wanted := regexp.MustCompile(*only)
	var list []*outcome
	for _, v := range smoketest.Variants() {
		if wanted.MatchString(v.Name) {
			list = append(list, &outcome{variant: v})
		}
	}
	longest := func(a, b *outcome) int {
		return cmp.Compare(b.variant.Options(r.image).Memory.Duration, a.variant.Options(r.image).Memory.Duration)
	}
	slices.SortStableFunc(list, longest)
	places := make(chan struct{}, *lanes)
	var group sync.WaitGroup
	for round := range *rounds {
		for _, o := range list {
			places <- struct{}{}
			group.Go(func() {
				defer func() { <-places }()
				o.add(t, r, round)
			})
		}
		publish(t, list)
	}
	group.Wait()
	publish(t, list)
	r.empty(t)
}

// publish brings the table up to date with the runs that have ended.
func publish(t *testing.T, list []*outcome) {
	t.Helper()
	if *table == "" {
		return
	}
	rows := map[string]smoketest.Row{}
	for _, o := range list {
		if row := o.row(); row.Runs > 0 {
			rows[o.variant.Name] = row
		}
	}
	text, err := os.ReadFile(*table)
	if err != nil {
		t.Fatal(err)
	}
	text, err = smoketest.Update(text, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*table, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// outcome is what became of a variant's runs.
type outcome struct {
	variant smoketest.Variant

	mu    sync.Mutex
	right int
	took  []time.Duration
	said  string
}

func (o *outcome) add(t *testing.T, r real, round int) {
	opts := o.variant.Options(r.image)
	opts.Engine, opts.Runner = r, r
	begin := time.Now()
	s, err := smoke.Run(context.Background(), opts)
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("no result: %w", err)
	} else {
		err = o.variant.Judge(s)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.took = append(o.took, took)
	if err == nil {
		o.right++
		o.said = o.variant.Said(s)
		t.Logf("%s, run %d: right after %s: %s", o.variant.Name, round+1, took.Round(100*time.Millisecond), o.said)
		return
	}
	var checks strings.Builder
	for _, c := range s.Checks {
		fmt.Fprintf(&checks, "\n  %-8s %-22s %s", c.Result, c.Name, c.Detail)
	}
	t.Errorf("%s, run %d, after %s: %v%s", o.variant.Name, round+1, took.Round(100*time.Millisecond), err, checks.String())
}

func (o *outcome) row() smoketest.Row {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.took) == 0 {
		return smoketest.Row{}
	}
	slices.Sort(o.took)
	return smoketest.Row{Right: o.right, Runs: len(o.took), Median: o.took[len(o.took)/2], Said: o.said}
}

// unruly is an engine, and an image of the unruly program that it can pull.
func unruly(t *testing.T) real {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{Name: "test"}, engine.Options{})
	if err != nil {
		missing(t, "no engine", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	registry := enginetest.NewRegistryOf(t, enginetest.Program{
		Dir: smoketest.Dir(), Path: smoketest.Path, Links: []string{smoketest.Link}, Dirs: smoketest.Directories,
	})
	image, _ := registry.Push(t, "unruly", enginetest.Image{Command: []string{smoketest.Path, "serve"}})
	t.Cleanup(func() { _ = h.RemoveImage(context.Background(), image) })
	return real{h, image, smoketest.Project}
}
