package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// store holds a crafted state; nothing is written to it.
type crafted struct{ State }

func (c *crafted) Read(context.Context) (State, error)                   { return c.State, nil }
func (c *crafted) Write(context.Context, Position, []byte, []byte) error { return ErrMoved }
func (c *crafted) Rewrite(context.Context, Position, []byte) error       { return ErrMoved }
func (c *crafted) Beat(context.Context, int64, int64) error              { return nil }
func (c *crafted) Beats(context.Context, int64) (int64, error)           { return 0, nil }
func (c *crafted) String() string                                        { return "crafted" }

// craft makes what a promoter who misuses the key can make: any payloads as
// records, well signed, under a well signed checkpoint.
func craft(t *testing.T, o Options, lines ...[]byte) State {
	t.Helper()
	var hashes tree
	var s State
	for n, line := range lines {
		if err := hashes.add(int64(n), leafOf(line)); err != nil {
			t.Fatal(err)
		}
		s.Log = append(append(s.Log, line...), '\n')
	}
	root, err := hashes.root(int64(len(lines)))
	if err != nil {
		t.Fatal(err)
	}
	s.Checkpoint = seal(t, o, PayloadTypeCheckpoint, []byte(FormatCheckpoint(o.Origin, int64(len(lines)), root)))
	return s
}

// seal signs a payload and gives the canonical envelope.
func seal(t *testing.T, o Options, payloadType string, payload []byte) []byte {
	t.Helper()
	raw, err := o.Sign(t.Context(), payloadType, payload)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = release.CanonicalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

func payload(t *testing.T, change func(*release.Record)) []byte {
	t.Helper()
	r := release.Record{SchemaVersion: 1, Phase: release.Released}
	change(&r)
	raw, err := release.Canonical(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestTheKeyDoesNotExcuseTheForm: records and checkpoints that the right key
// signed are refused when they could be read in two ways, or do not follow
// each other.
func TestTheKeyDoesNotExcuseTheForm(t *testing.T) {
	o := plain(nil)
	record := func(payload []byte) []byte { return seal(t, o, PayloadTypeRecord, payload) }
	good := payload(t, func(*release.Record) {})
	first := record(good)
	second := record(payload(t, func(r *release.Record) { r.Sequence, r.Previous = 1, LeafHash(first) }))
	with := func(key, value string) []byte {
		return append([]byte(`{"`+key+`":`+value+`,`), good[1:]...)
	}
	cases := map[string]struct {
		state State
		ok    bool
	}{
		"good":                {craft(t, o, first, second), true},
		"sequence":            {craft(t, o, first, record(payload(t, func(r *release.Record) { r.Sequence, r.Previous = 2, LeafHash(first) }))), false},
		"previous":            {craft(t, o, first, record(payload(t, func(r *release.Record) { r.Sequence, r.Previous = 1, LeafHash(second) }))), false},
		"no previous":         {craft(t, o, first, record(payload(t, func(r *release.Record) { r.Sequence = 1 }))), false},
		"previous of nothing": {craft(t, o, record(payload(t, func(r *release.Record) { r.Previous = LeafHash(nil) }))), false},
		"newer schema":        {craft(t, o, record(payload(t, func(r *release.Record) { r.SchemaVersion = 2 }))), false},
		"unknown phase":       {craft(t, o, record(payload(t, func(r *release.Record) { r.Phase = "invented" }))), false},
		"unknown field":       {craft(t, o, record(with("aaa", "1"))), false},
		"not canonical":       {craft(t, o, record(append([]byte(" "), good...))), false},
		"repeated key":        {craft(t, o, record(with("phase", `"denied"`))), false},
		"not JSON":            {craft(t, o, record([]byte("x"))), false},
		"trailing bytes":      {craft(t, o, record(append(bytes.Clone(good), '1'))), false},
		"loose envelope":      {craft(t, o, append(bytes.Clone(first), ' ')), false},
		"other payload type":  {craft(t, o, seal(t, o, PayloadTypeCheckpoint, good)), false},
	}
	for name, c := range cases {
		o := o
		o.Store = &crafted{c.state}
		l, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := l.Read(t.Context())
		if c.ok != (err == nil) || !c.ok && release.KindOf(err) != release.KindIntegrity {
			t.Errorf("%s: %d records, %v", name, len(h), err)
		}
	}
}

// TestThePayloadThatWasSignedCounts: a verifier that reads another payload out
// of an envelope than we do is not believed.
func TestThePayloadThatWasSignedCounts(t *testing.T) {
	for _, lie := range []string{PayloadTypeRecord, PayloadTypeCheckpoint} {
		o := plain(nil)
		o.Store = &crafted{craft(t, o, seal(t, o, PayloadTypeRecord, payload(t, func(*release.Record) {})))}
		verify := o.Verify
		o.Verify = func(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
			got, signer, err := verify(envelope, payloadType)
			if payloadType == lie {
				got = append(bytes.Clone(got), '\n')
			}
			return got, signer, err
		}
		l, _ := Open(t.Context(), o)
		if _, _, err := l.Read(t.Context()); release.KindOf(err) != release.KindIntegrity {
			t.Errorf("%s: %v, want an integrity fault", lie, err)
		}
	}
}

// TestWhoSignsCheckpoints: a promoter, or whoever wrote the record that is
// covered last.
func TestWhoSignsCheckpoints(t *testing.T) {
	o := plain(nil)
	line := seal(t, o, PayloadTypeRecord, payload(t, func(r *release.Record) { r.Phase = release.Approved }))
	o.Store = &crafted{craft(t, o, line)}
	verify := o.Verify
	for name, c := range map[string]struct {
		record, checkpoint release.Signer
		ok                 bool
	}{
		"promoter":         {release.Signer{ID: "a", Roles: []release.Role{release.Approver}}, release.Signer{ID: "p", Roles: []release.Role{release.Promoter}}, true},
		"the approver":     {release.Signer{ID: "a", Roles: []release.Role{release.Approver}}, release.Signer{ID: "a", Roles: []release.Role{release.Approver}}, true},
		"another approver": {release.Signer{ID: "a", Roles: []release.Role{release.Approver}}, release.Signer{ID: "b", Roles: []release.Role{release.Approver}}, false},
		"nobody":           {release.Signer{Roles: []release.Role{release.Approver}}, release.Signer{}, false},
	} {
		o.Verify = func(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
			payload, _, err := verify(envelope, payloadType)
			if payloadType == PayloadTypeCheckpoint {
				return payload, c.checkpoint, err
			}
			return payload, c.record, err
		}
		l, _ := Open(t.Context(), o)
		_, _, err := l.Read(t.Context())
		if c.ok != (err == nil) || !c.ok && release.KindOf(err) != release.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
		envelope := o.Store.(*crafted).Checkpoint
		if err := l.Contains(t.Context(), envelope); c.ok != (err == nil) {
			t.Errorf("%s: Contains: %v", name, err)
		}
	}
}

// TestAnotherSoundLogIsReadAsItIs: what a reader knows of one log is not taken
// for another one that stands in its place.
func TestAnotherSoundLogIsReadAsItIs(t *testing.T) {
	o := plain(nil)
	log := func(reasons ...string) State {
		var lines [][]byte
		var last release.Digest
		for n, reason := range reasons {
			line := seal(t, o, PayloadTypeRecord, payload(t, func(r *release.Record) {
				r.Sequence, r.Previous, r.Reason = int64(n), last, reason
			}))
			lines, last = append(lines, line), LeafHash(line)
		}
		return craft(t, o, lines...)
	}
	store := &crafted{log("a", "b", "c")}
	o.Store = store
	l, _ := Open(t.Context(), o)
	for _, want := range [][]string{{"a", "b", "c"}, {"a", "x", "c", "d"}, {"y"}, {"a", "b", "c"}} {
		store.State = log(want...)
		h, _, err := l.Read(t.Context())
		if err != nil || len(h) != len(want) {
			t.Fatalf("%v reads as %d records, %v", want, len(h), err)
		}
		for n, e := range h {
			if e.Record.Reason != want[n] || e.Digest != LeafHash(bytes.Split(store.Log, []byte{'\n'})[n]) {
				t.Errorf("%v: record %d reads %q", want, n, e.Record.Reason)
			}
		}
	}
}

// TestAnInterruptedUnfreezeIsCompleted: looking at it must not count as doing
// it.
func TestAnInterruptedUnfreezeIsCompleted(t *testing.T) {
	dir := t.TempDir()
	s := &fileStore{dir: dir}
	o := plain(s)
	l, _ := Open(t.Context(), o)
	write := func(phase release.Phase, size int64) error {
		_, _, err := l.Append(t.Context(), release.Record{Phase: phase, Environment: "production"}, size)
		return err
	}
	if err := write(release.Frozen, 0); err != nil {
		t.Fatal(err)
	}
	state, _ := s.Read(t.Context())
	before := bytes.Clone(state.Checkpoint)
	if err := write(release.Unfrozen, 1); err != nil {
		t.Fatal(err)
	}
	after, _ := s.Read(t.Context())
	if err := s.Write(t.Context(), Position{Found: int64(len(after.Log)), Keep: int64(len(after.Log)), Checkpoint: after.Checkpoint}, nil, before); err != nil {
		t.Fatal(err)
	}
	l, _ = Open(t.Context(), o)
	if h, _, err := l.Read(t.Context()); err != nil || len(h) != 1 {
		t.Fatalf("%d records, %v", len(h), err)
	}
	_ = write(release.Released, 1) // completes it, and has moved
	if err := write(release.Released, 2); err != nil {
		t.Fatal(err)
	}
}

// TestTheFormStays reads a record as an earlier version wrote it: a log is
// read for as long as it is kept. Fields may come; none may go or change.
func TestTheFormStays(t *testing.T) {
	const written = `{"actor":{"host":"h","name":"ops","process":"1","user":"u"},` +
		`"decision":{"configuration":"","environment":"production","evidence":["sha256:0000000000000000000000000000000000000000000000000000000000000001"],` +
		`"exceptions":"","policy":"","release":"sha256:0000000000000000000000000000000000000000000000000000000000000002","treeSize":7,"trust":"roles",` +
		`"verdicts":[{"gate":"scan","reasons":[{"file":"f","fix":"x","line":1,"message":"m","rule":"r"}],"result":"passed"}]},` +
		`"environment":"production","from":"sha256:0000000000000000000000000000000000000000000000000000000000000003","intent":4,"kind":"promote","leaseSeconds":60,` +
		`"phase":"deployed","previous":"sha256:0000000000000000000000000000000000000000000000000000000000000004","reason":"because",` +
		`"release":"sha256:0000000000000000000000000000000000000000000000000000000000000002","revision":"r","rules":"sha256:0000000000000000000000000000000000000000000000000000000000000005",` +
		`"schemaVersion":1,"sequence":5,"targets":[{"message":"m","name":"prod-1","running":[{"container":"c","digest":"","health":"healthy","image":"i","service":"planner","volumes":{"/data":"v@t"}}],"status":"deployed"}],` +
		`"time":"2026-01-02T03:04:05.678Z","version":"1.2.3"}`
	r, err := decodeRecord([]byte(written))
	if err != nil {
		t.Fatal(err)
	}
	again, err := release.Canonical(r)
	if err != nil || string(again) != written {
		t.Fatalf("%v\nread    %s\nwritten %s", err, again, written)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(again, &all); err != nil || len(all) != 18 {
		t.Fatalf("the record has %d fields: extend this test, %v", len(all), err)
	}
}
