package ledger_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

func isMoved(err error) bool {
	return errors.Is(err, ledger.ErrMoved) && release.KindOf(err) == release.KindUnavailable
}

func TestWhoMayWriteWhat(t *testing.T) {
	promoter, alice := ledgertest.NewKey("ops", release.Promoter), ledgertest.NewKey("alice", release.Approver)
	owner, tester := ledgertest.NewKey("carol", release.Owner), ledgertest.NewKey("ci", release.Tester, release.Builder)
	breaker := ledgertest.NewKey("bob", release.BreakGlass)
	keys := []ledgertest.Key{promoter, alice, owner, tester, breaker}
	writers := map[release.Phase]string{
		release.Released: "ops", release.Intended: "ops", release.Deployed: "ops", release.RolledBack: "ops",
		release.FailedPhase: "ops", release.DeniedPhase: "ops", release.Frozen: "ops", release.Exception: "ops",
		release.BreakGlassed: "ops", release.Watched: "ops",
		release.Approved: "alice", release.Unfrozen: "alice", release.TrustChanged: "carol",
		"invented": "",
	}
	for phase, writer := range writers {
		for _, key := range keys {
			o := ledgertest.Options(&ledgertest.Memory{}, keys...)
			o.Sign = key.Sign
			l := opened(t, o)
			r := ledgertest.Released(0)
			r.Phase, r.Environment = phase, "production"
			_, _, err := l.Append(t.Context(), r, 0)
			if key.Signer.Name == writer {
				if err != nil {
					t.Errorf("%s by %s: %v", phase, writer, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s by %s was accepted", phase, key.Signer.Name)
			}
			if writer != "" && release.KindOf(err) != release.KindDenied {
				t.Errorf("%s by %s: %v, want a denial", phase, key.Signer.Name, err)
			}
			if h, _, err := l.Read(t.Context()); err != nil || len(h) != 0 {
				t.Errorf("%s by %s left %d records, %v", phase, key.Signer.Name, len(h), err)
			}
		}
	}
}

func TestWhoFrozeMayUnfreeze(t *testing.T) {
	ops, deputy := ledgertest.NewKey("ops", release.Promoter), ledgertest.NewKey("deputy", release.Promoter)
	alice := ledgertest.NewKey("alice", release.Approver)
	// A rotated key of the same party: names count, not keys.
	rotated := ledgertest.NewKey("ops 2", release.Promoter)
	rotated.Signer.Name = "ops"
	m := &ledgertest.Memory{}
	size := int64(0)
	write := func(key ledgertest.Key, phase release.Phase, env string) error {
		o := ledgertest.Options(m, ops, deputy, rotated, alice)
		o.Sign = key.Sign
		r := ledgertest.Released(0)
		r.Phase, r.Environment = phase, env
		_, _, err := opened(t, o).Append(t.Context(), r, size)
		if err == nil {
			size++
		}
		return err
	}
	steps := []struct {
		key   ledgertest.Key
		phase release.Phase
		env   string
		ok    bool
	}{
		{ops, release.Unfrozen, "production", false},
		{ops, release.Frozen, "production", true},
		{deputy, release.Unfrozen, "production", false},
		{ops, release.Unfrozen, "staging", false},
		{rotated, release.Unfrozen, "production", true},
		{ops, release.Unfrozen, "production", false},
		{deputy, release.Frozen, "production", true},
		{ops, release.Unfrozen, "production", false},
		// Freezing beside somebody gives no say over theirs.
		{ops, release.Frozen, "production", true},
		{ops, release.Unfrozen, "production", true},
		{ops, release.Unfrozen, "production", false},
		{deputy, release.Unfrozen, "production", true},
		{deputy, release.Unfrozen, "production", false},
		// An approver lifts all of them.
		{ops, release.Frozen, "production", true},
		{deputy, release.Frozen, "production", true},
		{alice, release.Unfrozen, "production", true},
		{ops, release.Unfrozen, "production", false},
		{deputy, release.Unfrozen, "production", false},
	}
	for i, s := range steps {
		err := write(s.key, s.phase, s.env)
		if s.ok != (err == nil) || !s.ok && release.KindOf(err) != release.KindDenied {
			t.Errorf("step %d, %s %s by %s: %v", i, s.phase, s.env, s.key.Signer.Name, err)
		}
	}
}

func TestAnOutcomeClosesAnIntentOfItsEnvironment(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	ledgertest.Fill(t, l, 1)
	intended := ledgertest.Released(1)
	intended.Phase, intended.Environment, intended.LeaseSeconds = release.Intended, "staging", 60
	if _, _, err := l.Append(t.Context(), intended, 1); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		intent int64
		env    string
		ok     bool
	}{
		"a released record": {0, "staging", false}, "itself": {2, "staging", false}, "the future": {9, "staging", false},
		"below zero": {-1, "staging", false}, "of another environment": {1, "production", false}, "good": {1, "staging", true},
	} {
		store := &ledgertest.Memory{}
		state, _ := m.Read(t.Context())
		store.Replace(state)
		r := ledgertest.Released(2)
		r.Phase, r.Environment, r.Intent = release.Deployed, c.env, &c.intent
		if _, _, err := opened(t, ledgertest.Options(store)).Append(t.Context(), r, 2); c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	m := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m)), 2)
	o := ledgertest.Options(m)
	o.Sign = nil
	l := opened(t, o)
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != 2 {
		t.Fatalf("read %d records, %v", len(h), err)
	}
	if _, _, err := l.Append(t.Context(), ledgertest.Released(2), 2); release.KindOf(err) != release.KindConfig {
		t.Fatalf("appending without a key gave %v", err)
	}
}

func TestAKeyThatCannotBeHadLeavesNothing(t *testing.T) {
	for after := range 2 { // the record's signature, then the checkpoint's
		m := &ledgertest.Memory{}
		o := ledgertest.Options(m)
		sign, calls := o.Sign, 0
		o.Sign = func(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
			if calls++; calls > after {
				return nil, release.Unavailable("plug it in", "opening key: no token")
			}
			return sign(ctx, payloadType, payload)
		}
		if _, _, err := opened(t, o).Append(t.Context(), ledgertest.Released(0), 0); release.KindOf(err) != release.KindUnavailable {
			t.Errorf("got %v, want the key's fault", err)
		}
		if s, _ := m.Read(t.Context()); len(s.Log)+len(s.Checkpoint) > 0 {
			t.Errorf("something was written: %q", s)
		}
	}
}

// TestCouldNotVerifyIsNotTampering: a key service that is away says nothing
// about the ledger.
func TestCouldNotVerifyIsNotTampering(t *testing.T) {
	m := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m)), 2)
	for _, fail := range []string{ledger.PayloadTypeRecord, ledger.PayloadTypeCheckpoint} {
		o := ledgertest.Options(m)
		verify := o.Verify
		o.Verify = func(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
			if payloadType == fail {
				return nil, release.Signer{}, release.Unavailable("", "asking the key service: timeout")
			}
			return verify(envelope, payloadType)
		}
		if _, _, err := opened(t, o).Read(t.Context()); release.KindOf(err) != release.KindUnavailable {
			t.Errorf("%s: got %v, want unavailable", fail, err)
		}
	}
}

func TestAnotherLogIsRefused(t *testing.T) {
	m := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m)), 1)
	o := ledgertest.Options(m)
	o.Origin = "promote/other"
	if _, _, err := opened(t, o).Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
		t.Fatalf("got %v, want an integrity fault", err)
	}
	for _, origin := range []string{"", "a b", "a\nb", "a+b", "a\x00"} {
		o.Origin = origin
		if _, err := ledger.Open(t.Context(), o); err == nil {
			t.Errorf("origin %q was accepted", origin)
		}
	}
}

func TestTimesMayGoBackwards(t *testing.T) {
	o := ledgertest.Options(&ledgertest.Memory{})
	now := time.Date(2026, 3, 29, 3, 0, 0, 123456789, time.FixedZone("", 7200))
	o.Now = func() time.Time { now = now.Add(-time.Hour); return now }
	h := ledgertest.Fill(t, opened(t, o), 3)
	for n, e := range h {
		if e.Record.Sequence != int64(n) || e.Record.Time.Location() != time.UTC {
			t.Errorf("record %d is %d of %s", n, e.Record.Sequence, e.Record.Time)
		}
	}
}

func TestContains(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	var checkpoints []release.Checkpoint
	var states []ledger.State
	for range 5 {
		ledgertest.Fill(t, l, 1)
		_, c, _ := l.Read(t.Context())
		s, _ := m.Read(t.Context())
		checkpoints, states = append(checkpoints, c), append(states, s)
	}
	for n, c := range checkpoints {
		if err := l.Contains(t.Context(), c.Envelope); err != nil {
			t.Errorf("checkpoint over %d: %v", n+1, err)
		}
	}
	last := checkpoints[4].Envelope
	m.Replace(states[2])
	refused(t, "an old copy", l, last)
	m.Replace(ledger.State{})
	refused(t, "an empty ledger", l, last)

	fork := &ledgertest.Memory{}
	fork.Replace(states[1])
	o := ledgertest.Options(fork)
	o.Now = func() time.Time { return time.Unix(1, 0) }
	forked := opened(t, o)
	ledgertest.Fill(t, forked, 3)
	refused(t, "a fork", forked, last)
	if err := forked.Contains(t.Context(), checkpoints[1].Envelope); err != nil {
		t.Errorf("what both branches share: %v", err)
	}

	outsider := ledgertest.NewKey("mallory", release.Promoter)
	m.Replace(states[4])
	forged, _ := outsider.Sign(t.Context(), ledger.PayloadTypeCheckpoint, []byte(checkpoints[3].Text))
	refused(t, "a checkpoint by nobody", l, forged)
	refused(t, "rubbish", l, []byte("rubbish"))
	refused(t, "nothing", l, nil)
}

func refused(t *testing.T, name string, l *ledger.Ledger, envelope []byte) {
	t.Helper()
	if err := l.Contains(t.Context(), envelope); release.KindOf(err) != release.KindIntegrity {
		t.Errorf("%s: %v, want an integrity fault", name, err)
	}
}

func TestProve(t *testing.T) {
	l := ledgertest.New(t)
	h := ledgertest.Fill(t, l, 7)
	for n := range h {
		p, err := l.Prove(t.Context(), int64(n))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Errorf("record %d: %v", n, err)
		}
		if ledger.LeafHash(p.Envelope) != h[n].Digest {
			t.Errorf("record %d: the proof is about another record", n)
		}
		wrong := p
		wrong.Sequence = (p.Sequence + 1) % 7
		if wrong.Check() == nil {
			t.Errorf("record %d is proven at another place", n)
		}
		wrong = p
		wrong.Envelope = append([]byte(" "), p.Envelope...)
		if wrong.Check() == nil {
			t.Errorf("record %d is proven with other bytes", n)
		}
	}
	if _, err := l.Prove(t.Context(), 7); release.KindOf(err) != release.KindUsage {
		t.Errorf("proving what is not there: %v", err)
	}
}

func TestVerifyAllRemembersNothing(t *testing.T) {
	m := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m)), 5)
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	l := opened(t, reading(t, m, trust))
	for range 2 {
		trust.Calls.Store(0)
		c, err := l.VerifyAll(t.Context())
		if err != nil || c.TreeSize != 5 {
			t.Fatalf("%+v, %v", c, err)
		}
		if got := trust.Calls.Load(); got != 6 {
			t.Errorf("%d signatures verified, want 5 records and a checkpoint", got)
		}
	}
}

// TestAppendCostsTheSame: however long the log, an append and a second read
// verify a fixed number of signatures, in this process and in the next.
func TestAppendCostsTheSame(t *testing.T) {
	m := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(m)), 200)
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	cache := filepath.Join(t.TempDir(), "cache")
	start := func(policy string) *ledger.Ledger {
		o := reading(t, m, trust)
		o.Sign, o.Cache, o.Trust = trust.Keys[0].Sign, cache, release.DigestOf([]byte(policy))
		trust.Calls.Store(0)
		return opened(t, o)
	}
	step := func(l *ledger.Ledger, most int64) {
		t.Helper()
		h, c, err := l.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if h[len(h)-1].Signer.Name != "promoter" || !h[0].Signer.Has(release.Promoter) {
			t.Fatalf("signer remembered as %+v", h[0].Signer)
		}
		if _, _, err := l.Append(t.Context(), ledgertest.Released(1), c.TreeSize); err != nil {
			t.Fatal(err)
		}
		if got := trust.Calls.Load(); got > most {
			t.Errorf("%d signatures verified, want at most %d", got, most)
		}
		trust.Calls.Store(0)
	}
	l := start("one")
	step(l, 203)
	step(l, 3)
	step(start("one"), 5) // two new records, three checkpoints and a record of its own
	step(start("another policy"), 210)

	files, _ := filepath.Glob(filepath.Join(cache, "*"))
	if len(files) != 2 {
		t.Fatalf("cache files %v, want one for each policy", files)
	}
	for name, damage := range map[string]func(string) error{
		"deleted": os.Remove,
		"torn":    func(f string) error { return os.Truncate(f, 1000) },
		"flipped": func(f string) error {
			raw, err := os.ReadFile(f)
			raw[len(raw)/2] ^= 1
			return errors.Join(err, os.WriteFile(f, raw, 0o600))
		},
		"another role": func(f string) error {
			raw, err := os.ReadFile(f)
			return errors.Join(err, os.WriteFile(f, []byte(strings.ReplaceAll(string(raw), `"promoter"`, `"approver"`)), 0o600))
		},
		"rubbish": func(f string) error { return os.WriteFile(f, []byte("rubbish"), 0o600) },
		"a forged line without its digest": func(f string) error {
			return os.WriteFile(f, []byte(strings.Repeat("0", 64)+` {"leaf":"sha256:`+strings.Repeat("0", 64)+`"}`+"\n"), 0o600)
		},
	} {
		for _, f := range files {
			if err := damage(f); err != nil {
				t.Fatal(name, err)
			}
		}
		step(start("one"), 260)
		if trust.Calls.Load() != 0 {
			t.Fatal("counting is broken")
		}
		step(start("one"), 5)
		step(start("another policy"), 260)
	}
}

func TestAWarningTellsOfAnInterruptedAppend(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	ledgertest.Fill(t, l, 2)
	before, _ := m.Read(t.Context())
	ledgertest.Fill(t, l, 1)
	after, _ := m.Read(t.Context())
	m.Replace(ledger.State{Log: after.Log, Checkpoint: before.Checkpoint})
	var warned []string
	ctx := event.With(t.Context(), func(e event.Event) {
		if e.Type == event.Warning {
			warned = append(warned, e.Message)
		}
	})
	if _, _, err := l.Read(ctx); err != nil || len(warned) != 1 || !strings.Contains(warned[0], "record 2") {
		t.Fatalf("warnings %q, %v", warned, err)
	}
}

// TestARecordThatIsTooLargeIsRefused before anything is written.
func TestARecordThatIsTooLargeIsRefused(t *testing.T) {
	m := &ledgertest.Memory{}
	r := ledgertest.Released(0)
	r.Reason = strings.Repeat("x", 1<<20)
	if _, _, err := opened(t, ledgertest.Options(m)).Append(t.Context(), r, 0); release.KindOf(err) != release.KindUsage {
		t.Errorf("got %v", err)
	}
	if s, _ := m.Read(t.Context()); len(s.Log) > 0 {
		t.Error("it was written")
	}
}
