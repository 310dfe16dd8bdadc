package pipeline_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// torn is a store whose writer is killed at its n-th write, when the record is
// in the log and the checkpoint over it is not.
type torn struct {
	*ledgertest.Memory
	at int
}

var errTorn = errors.New("killed")

func (s *torn) Write(ctx context.Context, from ledger.Position, add, checkpoint []byte) error {
	if s.at--; s.at != 0 {
		return s.Memory.Write(ctx, from, add, checkpoint)
	}
	before, err := s.Read(ctx)
	if err != nil {
		return err
	}
	s.Replace(ledger.State{Log: append(before.Log, add...), Checkpoint: before.Checkpoint})
	return errTorn
}

// Killed while it records its intent or its outcome, a promotion leaves a
// record that is neither there nor not. After one resume it is, once.
func TestResumeSettlesWhatWasBeingWritten(t *testing.T) {
	for name, at := range map[string]int{"the intent": 2, "the outcome": 3} { // the first write is of the release
		t.Run(name, func(t *testing.T) {
			w, p := fixture(t)
			useLedger(t, w, p, &torn{Memory: &ledgertest.Memory{}, at: at})
			if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging"}); !errors.Is(err, errTorn) {
				t.Fatal(err)
			}
			if _, err := p.Resume(t.Context(), pipeline.ResumeOptions{Environment: "staging"}); err != nil {
				t.Fatalf("resume: %v", err)
			}
			h, _, err := p.Ledger.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			count := map[release.Phase]int{}
			for _, e := range h {
				count[e.Record.Phase]++
			}
			if _, open := h.Open("staging"); open || count[release.Deployed] != 1 || len(w.hosts["stage"].running) != 1 {
				t.Errorf("records %v, open %t, running %v", count, open, w.hosts["stage"].running)
			}
			next(w, "v2")
			to(t, p, "staging")
		})
	}
}

// useLedger gives a pipeline a real ledger instead of the world's.
func useLedger(t *testing.T, w *world, p *pipeline.Pipeline, store ledger.Store) {
	t.Helper()
	l, err := ledger.Open(t.Context(), ledgertest.Options(store))
	if err != nil {
		t.Fatal(err)
	}
	me := ledgertest.Promoter()
	w.roles = me.Signer.Roles
	p.Project.Trust = release.Trust{SingleKey: true, Roles: map[release.Role][]release.Party{}}
	for _, role := range me.Signer.Roles {
		p.Project.Trust.Roles[role] = []release.Party{me.Party()}
	}
	p.Ledger, p.Now = l, time.Now
}
