package reliability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// container is what matters of one.
type container struct{ Name, Service, Image, State, Health string }

// containers lists what an environment has on the engine, running or not.
func (w *World) containers(ctx context.Context, env string) ([]container, error) {
	out, err := w.docker(ctx, "ps", "-aq", "--no-trunc", "--filter", "label=com.docker.compose.project="+w.project(env))
	ids := strings.Fields(out)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	out, err = w.docker(ctx, append([]string{"inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var raw []struct {
		Name, Image string
		State       struct {
			Status string
			Health struct{ Status string }
		}
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(out), &raw); err != nil {
		return nil, err
	}
	var list []container
	for _, c := range raw {
		list = append(list, container{strings.TrimPrefix(c.Name, "/"), c.Config.Labels["com.docker.compose.service"], c.Image, c.State.Status, c.State.Health.Status})
	}
	return list, nil
}

// judged is containers as soon as the engine has asked every health check: the
// program does not wait for that.
func (w *World) judged(ctx context.Context, env string) ([]container, error) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		list, err := w.containers(ctx, env)
		starting := slices.ContainsFunc(list, func(c container) bool { return c.Health == "starting" })
		if err != nil || !starting || time.Now().After(end) {
			return list, err
		}
	}
}

// whole reports why an environment is not exactly one version: each service once,
// under its own name, of that version's image, running and healthy, and nothing
// else. An empty version is nothing at all.
func (w *World) whole(ctx context.Context, env, version string) error {
	list, err := w.judged(ctx, env)
	if err != nil {
		return err
	}
	var bad []string
	want := len(services)
	if version == "" {
		want = 0
	}
	if len(list) != want {
		bad = append(bad, fmt.Sprintf("%d containers, want %d", len(list), want))
	}
	for _, c := range list {
		if c.Name != w.project(env)+"-"+c.Service+"-1" || c.State != "running" || c.Health != "healthy" || c.Image != w.state.Images[version][c.Service] {
			bad = append(bad, fmt.Sprintf("%s is %s, %s, of %.19s", c.Name, c.State, c.Health, c.Image))
		}
	}
	if len(bad) > 0 {
		return errors.New("not " + named(version) + ": " + strings.Join(bad, "; "))
	}
	return nil
}

func named(version string) string {
	if version == "" {
		return "empty"
	}
	return version
}

// which gives the version that an environment is exactly, of those given.
func (w *World) which(ctx context.Context, env string, candidates ...string) (string, error) {
	var errs []error
	for _, v := range candidates {
		err := w.whole(ctx, env, v)
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// look finds out what runs, at the start of a run in an old workspace; what a
// run that was stopped left open is resumed.
func (w *World) look(ctx context.Context) error {
	if err := errors.Join(w.unmount(ctx), w.forget(ctx)); err != nil {
		return err
	}
	if err := w.must(ctx, nil, w.resume(production, true)...); err != nil {
		return err
	}
	// Somebody may have cleaned up since.
	if err := w.whole(ctx, "staging", versions[1]); err != nil {
		fmt.Fprintf(w.o.Log, "%s: staging is %v; deploying again\n", w.state.Name, err)
		if err := w.must(ctx, nil, "to", "staging", "--release", versions[1], "--redeploy"); err != nil {
			return err
		}
	}
	var err error
	if w.running, err = w.which(ctx, production, versions...); err != nil {
		fmt.Fprintf(w.o.Log, "%s: %v; deploying again\n", w.state.Name, err)
		return w.recover(ctx, production, nil)
	}
	return nil
}

// record is what matters of a ledger's record.
type record struct {
	Sequence    int64
	Phase       string
	Environment string
	Intent      *int64
	Resumes     *int64
	Reason      string
	Targets     []struct{ Snapshots []snapshot }

	digest string // as the log gives it
}

// attempt is what containers and volumes made for an intended record are
// labelled with.
func (r record) attempt() string {
	_, hex, _ := strings.Cut(r.digest, ":")
	return fmt.Sprintf("%d-%.12s", r.Sequence, hex)
}

// records reads an environment's, oldest first; the program verifies the whole log
// on the way.
func (w *World) records(ctx context.Context, env string) ([]record, error) {
	var log struct {
		Records []struct {
			Record record
			Digest string
		}
	}
	if err := w.must(ctx, &log, "log", env); err != nil {
		return nil, err
	}
	var list []record
	for _, e := range slices.Backward(log.Records) {
		e.Record.digest = e.Digest
		list = append(list, e.Record)
	}
	return list, nil
}

// glance reads an environment's records from the ledger's file, as far as a
// writer that was killed has got, and verifies nothing.
func (w *World) glance(env string) ([]record, error) {
	raw, err := os.ReadFile(filepath.Join(w.ledger(), "log"))
	if err != nil {
		return nil, err
	}
	var list []record
	for line := range strings.SplitSeq(string(raw), "\n") {
		var envelope struct{ Payload []byte }
		var r record
		if json.Unmarshal([]byte(line), &envelope) != nil || json.Unmarshal(envelope.Payload, &r) != nil {
			continue // the last one, torn
		}
		if r.Environment == env {
			list = append(list, r)
		}
	}
	return list, nil
}

// settled reports what is lost, doubled or ambiguous: each intent is closed or
// resumed, once, and what was recorded before is still there.
func settled(before, after []record) error {
	var bad []string
	for i, r := range before {
		if i >= len(after) || after[i].Sequence != r.Sequence || after[i].Phase != r.Phase {
			bad = append(bad, fmt.Sprintf("record %d is lost", r.Sequence))
		}
	}
	ends := map[int64]int{}
	for _, r := range after {
		switch {
		case r.Phase == "intended" && r.Resumes != nil:
			ends[*r.Resumes]++
		case (r.Phase == "deployed" || r.Phase == "rolledBack") && r.Intent != nil:
			ends[*r.Intent]++
		}
	}
	for _, r := range after {
		if r.Phase != "intended" {
			continue
		}
		switch n := ends[r.Sequence]; {
		case n == 0:
			bad = append(bad, fmt.Sprintf("record %d is open", r.Sequence))
		case n > 1:
			bad = append(bad, fmt.Sprintf("record %d has %d ends", r.Sequence, n))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}
