package pipeline_test

import (
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// TestAnOlderTrustFileNeverCountsAgain: its signatures stay good, and its
// owners may even be the ones that the ledger pins.
func TestAnOlderTrustFileNeverCountsAgain(t *testing.T) {
	first := teamTrust(1, "alice", "mallory")
	first.Version = 1
	second := teamTrust(1, "alice")
	second.Version = 2
	w, p := owned(t, first)
	old := p.Project.Configuration
	p.Project.Trust, p.Project.Configuration = second, release.DigestOf([]byte("second"))
	if out, err := w.accept(p, "alice"); err != nil || !out.InForce {
		t.Fatalf("%+v, %v", out, err)
	}
	records := len(w.records)
	refused := func(want string) {
		t.Helper()
		next(w, "v2")
		for what, err := range map[string]error{"to": tryTo(t, p, "staging"), "accept": func() error { _, err := w.accept(p, "alice"); return err }()} {
			if release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if len(w.records) != records {
			t.Errorf("recorded %q", w.phases())
		}
	}
	p.Project.Trust, p.Project.Configuration = first, old
	refused("of version 1, and the ledger pins version 2")
	other := teamTrust(1, "alice", "mallory")
	other.Version = 2
	p.Project.Trust = other
	refused("both are of version 2")
	third := teamTrust(1, "alice", "dave")
	third.Version = 3
	p.Project.Trust = third
	if out, err := w.accept(p, "alice"); err != nil || !out.InForce {
		t.Errorf("a newer one: %+v, %v", out, err)
	}
}
