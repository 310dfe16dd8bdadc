package pipeline_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// left makes the lock that a promotion leaves which is killed after it has
// closed its record.
func left(w *world, host, env string) release.LockNote {
	for _, e := range slices.Backward(w.records) {
		if r := e.Record; r.Environment == env && r.Phase == release.Intended {
			w.hosts[host].lock = &release.LockNote{Environment: env, Sequence: r.Sequence, Release: r.Release, Holder: "gone"}
			return *w.hosts[host].lock
		}
	}
	return release.LockNote{}
}

// Killed between closing its record and unlocking, a promotion leaves its lock
// on the target. It must not hold the environment for ever.
func TestALockLeftByAClosedRecordIsReplaced(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	left(w, "prod-2", "production")
	to(t, p, "production")
	if w.hosts["prod-2"].lock != nil {
		t.Errorf("still locked: %+v", w.hosts["prod-2"].lock)
	}
}

func TestResumeTakesAwayALockThatWasLeft(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	left(w, "prod-2", "production")
	w.hosts["prod-2"].checkpoint = "1"
	before := len(w.records)
	if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production", DryRun: true}); err != nil || w.hosts["prod-2"].lock == nil {
		t.Fatalf("a dry run: %v, lock %v", err, w.hosts["prod-2"].lock)
	}
	out, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"})
	if err != nil || !out.Unchanged || len(w.records) != before {
		t.Fatalf("%+v, %v, %d records", out, err, len(w.records))
	}
	if h := w.hosts["prod-2"]; h.lock != nil || h.checkpoint == "1" {
		t.Errorf("locked by %+v, checkpoint %q", h.lock, h.checkpoint)
	}
}

// A lock that this ledger cannot explain is somebody's, and stays.
func TestALockOfAnotherLedgerStays(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	note := left(w, "prod-2", "production")
	for name, other := range map[string]release.LockNote{
		"another release":     {Environment: "production", Sequence: note.Sequence, Release: release.DigestOf([]byte("x"))},
		"another environment": {Environment: "staging", Sequence: note.Sequence, Release: note.Release},
		"another record":      {Environment: "production", Sequence: note.Sequence + 1, Release: note.Release},
		"the future":          {Environment: "production", Sequence: 99, Release: note.Release},
		"before all":          {Environment: "production", Sequence: -1, Release: note.Release},
	} {
		w.hosts["prod-2"].lock = &other
		_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
		if release.KindOf(err) != release.KindHeld || w.hosts["prod-2"].lock == nil {
			t.Errorf("%s: %v, lock %v", name, err, w.hosts["prod-2"].lock)
		}
		if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "production"}); err != nil || w.hosts["prod-2"].lock == nil {
			t.Errorf("%s: resume: %v, lock %v", name, err, w.hosts["prod-2"].lock)
		}
	}
}

// What is slow to unlock must not take away the lock of whoever came next.
func TestUnlockingLateTakesNobodyElsesLock(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	to(t, p, "production")
	next(w, "v2")
	to(t, p, "staging")
	mine := release.LockNote{Environment: "production", Sequence: 99, Holder: "the next one"}
	w.onSave = func(h *fakeHost) { h.lock = &mine }
	to(t, p, "production")
	if got := w.hosts["prod-1"].lock; got == nil || got.Sequence != 99 {
		t.Errorf("the lock is %+v", got)
	}
}

// Another environment's promotion is not in the way: what moved the ledger
// only means judging again.
func TestAnotherEnvironmentsRecordIsNotInTheWay(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	judged := 0
	w.verdicts = func(f release.Facts) []release.Verdict {
		if judged++; judged == 1 {
			if _, _, err := w.Append(context.Background(), release.Record{Phase: release.Intended, Environment: "elsewhere"}, int64(len(w.records))); err != nil {
				t.Error(err)
			}
		}
		return signedOnly(f)
	}
	to(t, p, "production")
	if judged != 2 {
		t.Errorf("judged %d times", judged)
	}
}

// Who loses the race is told who won it.
func TestTheLoserIsToldWho(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.verdicts = func(f release.Facts) []release.Verdict {
		r := release.Record{Phase: release.Intended, Environment: "production", Actor: release.Actor{User: "ann", Host: "laptop", Process: "process 7"}}
		if _, _, err := w.Append(context.Background(), r, int64(len(w.records))); err != nil {
			t.Error(err)
		}
		return signedOnly(f)
	}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindHeld)
	if !strings.Contains(err.Error(), "ann on laptop, process 7") {
		t.Error(err)
	}
}

// A registry is written to after the intent is durable, not before, and the
// decision's attestation carries the checkpoint over it.
func TestTheIntentComesBeforeAnythingIsAttached(t *testing.T) {
	w, p := fixture(t)
	out := to(t, p, "staging")
	intended, attached := slices.Index(w.journal, "record intended"), slices.Index(w.journal, "attach "+release.PredicateDecision)
	if intended < 0 || attached < intended {
		t.Errorf("intended at %d, attached at %d of %q", intended, attached, w.journal)
	}
	for s, list := range w.attachments {
		for _, a := range list {
			if s.Digest == out.Release && a.PredicateType == release.PredicateDecision && !strings.Contains(string(a.Bundle), `"checkpoint":"2"`) {
				t.Errorf("no checkpoint in %s", a.Bundle)
			}
		}
	}
}
