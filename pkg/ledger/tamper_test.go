package ledger_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// mixed fills a ledger with records of several signers and gives its state.
func mixed(t testing.TB) (*ledgertest.Memory, ledger.State, *ledgertest.Trust) {
	t.Helper()
	m := &ledgertest.Memory{}
	promoter, alice := ledgertest.Promoter(), ledgertest.NewKey("alice", release.Approver)
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{promoter, alice}}
	phases := []release.Phase{release.Released, release.Approved, release.Intended, release.Deployed, release.Frozen, release.Unfrozen}
	for n, phase := range phases {
		key := promoter
		if phase == release.Approved || phase == release.Unfrozen {
			key = alice
		}
		r := ledgertest.Released(n)
		r.Phase, r.Environment = phase, "production"
		if phase == release.Deployed {
			intent := int64(n - 1)
			r.Intent = &intent
		}
		l := reading(t, m, trust)
		l.Sign = key.Sign
		if _, _, err := opened(t, l).Append(t.Context(), r, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	state, err := m.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m, state, trust
}

func reading(t testing.TB, s ledger.Store, trust *ledgertest.Trust) ledger.Options {
	t.Helper()
	return ledger.Options{Store: s, Origin: "promote/test", Verify: trust.Verify}
}

func opened(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mustBreak puts a state in place and wants the ledger to be refused, by a
// reader that knows nothing and by one that has read the sound log before.
func mustBreak(t *testing.T, name string, sound, state ledger.State, trust *ledgertest.Trust) {
	t.Helper()
	m := &ledgertest.Memory{}
	m.Replace(sound)
	before := opened(t, reading(t, m, trust))
	if _, _, err := before.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Replace(state)
	for who, l := range map[string]*ledger.Ledger{"new": opened(t, reading(t, m, trust)), "old": before} {
		if h, _, err := l.Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
			t.Fatalf("%s, %s reader: read %d records, %v; want an integrity fault", name, who, len(h), err)
		}
	}
	if _, err := before.VerifyAll(t.Context()); release.KindOf(err) != release.KindIntegrity {
		t.Fatalf("%s: VerifyAll gave %v, want an integrity fault", name, err)
	}
}

func join(lines [][]byte) []byte { return append(bytes.Join(lines, []byte{'\n'}), '\n') }

func TestTamperedRecordsAreRefused(t *testing.T) {
	_, sound, trust := mixed(t)
	lines := bytes.Split(bytes.TrimSuffix(sound.Log, []byte{'\n'}), []byte{'\n'})
	for n := range lines {
		with := func(name string, changed [][]byte) {
			mustBreak(t, name, sound, ledger.State{Log: join(changed), Checkpoint: sound.Checkpoint}, trust)
		}
		with("delete", slices.Delete(slices.Clone(lines), n, n+1))
		with("duplicate", slices.Insert(slices.Clone(lines), n, lines[n]))
		swapped := slices.Clone(lines)
		other := (n + 1) % len(lines)
		swapped[n], swapped[other] = swapped[other], swapped[n]
		with("swap", swapped)
		with("empty line", slices.Insert(slices.Clone(lines), n, []byte{}))
		edited := slices.Clone(lines)
		edited[n] = append([]byte(" "), lines[n]...)
		with("white space", edited)
		with("truncate", append(slices.Clone(lines[:n]), lines[n][:len(lines[n])/2]))
		mustBreak(t, "truncate at a line", sound, ledger.State{Log: append(join(lines[:n]), lines[n]...), Checkpoint: sound.Checkpoint}, trust)
	}
	mustBreak(t, "log gone", sound, ledger.State{Checkpoint: sound.Checkpoint}, trust)
	mustBreak(t, "checkpoint gone", sound, ledger.State{Log: sound.Log}, trust)
	mustBreak(t, "checkpoint empty object", sound, ledger.State{Log: sound.Log, Checkpoint: []byte("{}")}, trust)
}

// TestFlippedBitsAreRefused flips a bit in every byte of the log and of the
// checkpoint. A signature's key id is not signed, and the tree must notice; in
// the checkpoint's own envelope it changes nothing that anybody relies on, so
// it need only be harmless.
func TestFlippedBitsAreRefused(t *testing.T) {
	_, sound, trust := mixed(t)
	random := rand.New(rand.NewPCG(1, 2))
	m := &ledgertest.Memory{}
	m.Replace(sound)
	l := opened(t, reading(t, m, trust)) // knows the sound lines; a changed one is new to it
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1 << random.IntN(8)
		return b
	}
	for i := range sound.Log {
		log := flip(sound.Log, i)
		m.Replace(ledger.State{Log: log, Checkpoint: sound.Checkpoint})
		if i%50 == 0 {
			l = opened(t, reading(t, m, trust))
		}
		if _, _, err := l.Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
			t.Fatalf("byte %d of the log (%q → %q): %v, want an integrity fault", i, sound.Log[i], log[i], err)
		}
	}
	for i := range sound.Checkpoint {
		m.Replace(ledger.State{Log: sound.Log, Checkpoint: flip(sound.Checkpoint, i)})
		_, c, err := l.Read(t.Context())
		if err == nil && c.TreeSize == 6 {
			continue
		}
		if release.KindOf(err) != release.KindIntegrity {
			t.Fatalf("byte %d of the checkpoint: %+v, %v, want an integrity fault", i, c, err)
		}
	}
}

// TestForgedRecordsAreRefused lets somebody with one key, but not the right
// one, write well-formed records and checkpoints.
func TestForgedRecordsAreRefused(t *testing.T) {
	_, sound, trust := mixed(t)
	outsider := ledgertest.NewKey("mallory", release.Promoter)
	m := &ledgertest.Memory{}
	forged := opened(t, ledgertest.Options(m, outsider))
	ledgertest.Fill(t, forged, 3)
	state, _ := m.Read(t.Context())
	mustBreak(t, "untrusted key", sound, state, trust)

	tester := ledgertest.NewKey("tester", release.Tester)
	m = &ledgertest.Memory{}
	everything := tester
	everything.Signer.Roles = []release.Role{release.Promoter}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m, everything)), 3)
	state, _ = m.Read(t.Context())
	mustBreak(t, "wrong role", sound, state, &ledgertest.Trust{Keys: append(slices.Clone(trust.Keys), tester)})
}

// TestExchangedCheckpoint: an older checkpoint hides records; one record
// behind it is an interrupted append, more are not.
func TestExchangedCheckpoint(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	var states []ledger.State
	for n := range 4 {
		ledgertest.Fill(t, l, 1)
		s, _ := m.Read(t.Context())
		states = append(states, s)
		_ = n
	}
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	for n := range 2 {
		mustBreak(t, "older checkpoint", states[3], ledger.State{Log: states[3].Log, Checkpoint: states[n].Checkpoint}, trust)
	}
	mustBreak(t, "newer checkpoint", states[3], ledger.State{Log: states[2].Log, Checkpoint: states[3].Checkpoint}, trust)

	m.Replace(ledger.State{Log: states[3].Log, Checkpoint: states[2].Checkpoint})
	again := opened(t, ledgertest.Options(m))
	if h, _, err := again.Read(t.Context()); err != nil || len(h) != 3 {
		t.Fatalf("read %d records, %v; want the 3 that are covered", len(h), err)
	}
	if _, _, err := again.Append(t.Context(), ledgertest.Released(9), 3); !isMoved(err) {
		t.Fatalf("appending over an interrupted append gave %v, want ErrMoved", err)
	}
	if h, _, err := again.Read(t.Context()); err != nil || len(h) != 4 || h[3].Record.Version != "1.0.3" {
		t.Fatalf("read %d records, %v; want all 4 back", len(h), err)
	}
}
