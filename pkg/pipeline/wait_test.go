package pipeline_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// second runs another promotion of production while the first one deploys.
func second(t *testing.T, w *world, p *pipeline.Pipeline, o pipeline.PromoteOptions) (out pipeline.Promotion, err error) {
	t.Helper()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waits := make(chan struct{})
	o.Environment = "production"
	w.hosts["prod-1"].during = func(context.Context) {
		w.hosts["prod-1"].during = nil
		told := event.With(ctx, func(e event.Event) {
			if strings.HasPrefix(e.Name, "[wait]") && e.Type == event.Started {
				close(waits)
			}
		})
		wg.Go(func() { out, err = p.To(told, o) })
		if o.Wait > 0 {
			select {
			case <-waits:
			case <-ctx.Done():
				t.Error("it does not wait")
			}
		} else {
			wg.Wait()
		}
	}
	to(t, p, "production")
	wg.Wait()
	return out, err
}

func TestTheSecondOneIsToldWho(t *testing.T) {
	w, p := fixture(t)
	p.Project.Actor = release.Actor{User: "eve", Host: "laptop", Process: "process 7"}
	to(t, p, "staging")
	_, err := second(t, w, p, pipeline.PromoteOptions{})
	wantKind(t, err, release.KindHeld)
	if want := "record 3 of production (promote of v1) is open since 2023-11-14T22:13:20Z: eve on laptop, process 7"; err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	if !strings.Contains(hintOf(err), "--wait") || !strings.Contains(hintOf(err), "promote resume production") {
		t.Errorf("hint %q", hintOf(err))
	}
}

func TestTheSecondOneWaits(t *testing.T) {
	w, p := fixture(t)
	p.Project.Lease = time.Hour // what ends is seen at once all the same
	to(t, p, "staging")
	out, err := second(t, w, p, pipeline.PromoteOptions{Wait: time.Minute})
	if err != nil || !out.Unchanged {
		t.Fatalf("got %+v, %v", out, err)
	}
}

// A holder that is gone is not waited for: whoever comes next resumes.
func TestNobodyWaitsForTheDead(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	ctx, cancel := context.WithCancel(t.Context())
	w.hosts["prod-2"].during = func(context.Context) { cancel() }
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindInterrupted)
	w.hosts["prod-2"].during = nil
	_, err = p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Wait: time.Hour})
	wantKind(t, err, release.KindHeld)
	if !strings.Contains(err.Error(), "shown no life for 200ms") || !strings.HasPrefix(hintOf(err), "promote resume production") {
		t.Errorf("%v: %s", err, hintOf(err))
	}
	// Another environment is not held up by it.
	next(w, "v2")
	to(t, p, "staging")
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
		t.Fatal(err)
	}
	to(t, p, "production")
}

func TestWhatFailedIsNotWaitedFor(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	p.Project.Environments[1].OnFailure = "stop"
	w.hosts["prod-2"].applyErr = errBoom
	wantKind(t, tryTo(t, p, "production"), release.KindBroken)
	for _, wait := range []time.Duration{0, time.Hour} {
		_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Wait: wait})
		wantKind(t, err, release.KindHeld)
		if !strings.HasPrefix(hintOf(err), "promote resume production") || !strings.Contains(err.Error(), "failed and was not undone") {
			t.Errorf("%v: %s", err, hintOf(err))
		}
	}
}

// living holds production with a heart that beats.
func living(t *testing.T) (*world, *pipeline.Pipeline) {
	w, p := fixture(t)
	to(t, p, "staging")
	size := int64(len(w.records))
	if _, _, err := w.Append(t.Context(), release.Record{Phase: release.Intended, Kind: release.KindPromote, Environment: "production", Version: "v1", LeaseSeconds: 3600}, size); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				_ = w.Heartbeat(context.Background(), size)
			}
		}
	}()
	return w, p
}

func TestWaitingEnds(t *testing.T) {
	_, p := living(t)
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production", Wait: 300 * time.Millisecond})
	wantKind(t, err, release.KindHeld)
	if !strings.Contains(err.Error(), "--wait is over") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = p.To(ctx, pipeline.PromoteOptions{Environment: "production", Wait: time.Hour})
	wantKind(t, err, release.KindInterrupted)
}

// What fails while somebody waits for it has no holder any more, whatever beats.
func TestWaitingEndsWithAFailure(t *testing.T) {
	w, p := living(t)
	intent := int64(len(w.records) - 1)
	ctx := event.With(t.Context(), func(e event.Event) {
		if !strings.HasPrefix(e.Name, "[wait]") || e.Type != event.Started {
			return
		}
		failed := release.Record{Phase: release.FailedPhase, Environment: "production", Intent: &intent}
		if _, _, err := w.Append(t.Context(), failed, intent+1); err != nil {
			t.Error(err)
		}
	})
	_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production", Wait: 3 * time.Second})
	wantKind(t, err, release.KindHeld)
	if !strings.Contains(err.Error(), "failed and was not undone") {
		t.Error(err)
	}
}

// deaf is a ledger that stops answering when a promotion is to be closed.
type deaf struct {
	pipeline.Ledger
	at   release.Phase
	then func()
}

func (d deaf) Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	if r.Phase != d.at {
		return d.Ledger.Append(ctx, r, size)
	}
	d.then()
	<-ctx.Done()
	return release.Entry{}, release.Checkpoint{}, ctx.Err()
}

// After a signal nothing waits for a ledger that does not answer: the record
// stays open, and is resumed.
func TestASignalEndsTheClosing(t *testing.T) {
	defer pipeline.SetGrace(50 * time.Millisecond)()
	for _, at := range []release.Phase{release.Deployed, release.RolledBack} {
		w, p := fixture(t)
		to(t, p, "staging")
		ctx, cancel := context.WithCancel(t.Context())
		if at == release.RolledBack {
			w.hosts["prod-1"].pullErr = release.Unavailable("", "the registry does not answer")
		}
		p.Ledger = deaf{w, at, cancel}
		began := time.Now()
		_, err := p.To(ctx, pipeline.PromoteOptions{Environment: "production"})
		if took := time.Since(began); err == nil || took > 20*time.Second {
			t.Errorf("%s: %v after %s", at, err, took)
		}
		if _, open := w.records.Open("production"); !open {
			t.Errorf("%s: nothing to resume: %q", at, w.phases())
		}
		p.Ledger, w.hosts["prod-1"].pullErr = w, nil
		if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}
