package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ErrMoved says that somebody appended after the ledger was read: read it
// again and judge again. Test for it with errors.Is.
var ErrMoved = release.ErrMoved

// Options says where a ledger is and who signs and verifies.
type Options struct {
	// Dir is the directory of a file ledger. It is made by the first Append.
	Dir string
	// Store is where the bytes live, instead of Dir.
	Store Store
	// Origin names the log in its checkpoints: "promote/<name>". Not empty, no
	// white space, no plus sign.
	Origin string
	// Sign puts a payload into a DSSE envelope (JSON). Nil: read-only.
	Sign func(ctx context.Context, payloadType string, payload []byte) ([]byte, error)
	// Verify checks signatures against the project's trust policy: those of
	// records that no trust is pinned for.
	Verify Check
	// VerifyBy makes what checks signatures against a policy that the log pins.
	// A policy that means nothing is an error. Nil: such a log is not read.
	VerifyBy func(release.Trust) (Check, error)
	// Now is the clock that stamps records; nil is time.Now.
	Now func() time.Time
	// Trust is the digest of the trust policy behind Verify, and Cache a
	// directory of this machine, private to the user, that remembers which
	// signatures were found good under it. Without both, signatures are
	// remembered for the life of the Ledger only.
	Trust release.Digest
	Cache string
	// Secret gives what authenticates what Audit remembers in Cache of the logs
	// that it found good; nil, or an empty one: it remembers nothing.
	Secret func() []byte
}

// Ledger is one log. It may be used by several goroutines; other processes may
// append to the same store at any time.
type Ledger struct {
	o     Options
	store Store
	seen  *signatures
	tick  func() time.Duration // a monotonic clock

	mu    sync.Mutex
	tip   *replay         // the log as last verified or written here; nil is unknown
	known release.History // what was last decoded; only saves decoding it again

	policies struct {
		sync.Mutex
		known      map[release.Digest]*policy
		configured *judge
	}
}

// Open checks the options. It reads and creates nothing: a log that does not
// exist yet is empty.
func Open(_ context.Context, o Options) (*Ledger, error) {
	if !validOrigin(o.Origin) {
		return nil, release.Faultf(release.KindConfig, "set a name in promote.yaml",
			"opening the ledger: origin %q: want a name without white space or plus sign", o.Origin)
	}
	if o.Verify == nil {
		return nil, release.Faultf(release.KindInternal, "", "opening the ledger: nothing to verify signatures with")
	}
	if o.Store == nil && o.Dir == "" {
		return nil, release.Faultf(release.KindConfig, "set ledger.file in promote.yaml", "opening the ledger: no place given")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Ledger{o: o, store: o.Store, seen: openSignatures(o.Cache, o.Origin, o.Trust)}
	l.policies.known = map[release.Digest]*policy{}
	if l.store == nil {
		l.store = &fileStore{dir: o.Dir}
	}
	start := time.Now()
	l.tick = func() time.Duration { return time.Since(start) }
	return l, nil
}

// String names the place where the log is.
func (l *Ledger) String() string { return l.store.String() }

func validOrigin(s string) bool {
	return s != "" && len(s) <= 512 && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// Read gives the whole history, oldest first, and the checkpoint over it, with
// everything verified: each record's signature, its signer's role, its
// canonical bytes, its place in the chain, and the tree's root against the
// signed checkpoint. A log that contradicts itself is a KindIntegrity fault,
// one that cannot be read KindUnavailable. An empty ledger has a zero
// checkpoint. The history is the caller's to keep and to extend, not to change.
//
// What an interrupted append left behind the last checkpoint is not part of
// the history; a warning event tells of it, and the next Append settles it.
func (l *Ledger) Read(ctx context.Context) (release.History, release.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.load(ctx)
	if err != nil {
		return nil, release.Checkpoint{}, err
	}
	if t.pending != nil {
		event.Warnf(ctx, "the ledger %s ends with record %d of an append that was interrupted; the next append completes it", l.store, t.size())
	}
	return t.entries[:len(t.entries):len(t.entries)], t.checkpoint, nil
}

// Append writes one record and the checkpoint over it, both durable before it
// returns. size is the size of the log that the caller read and judged by
// (Checkpoint.TreeSize): if the log is another one by now, nothing is written
// and the error is ErrMoved.
//
// Append fills in SchemaVersion, Sequence, Previous and Time. A signer without
// the role that the record needs is KindDenied; a store that does not take the
// write (full, read-only, failing) is KindUnavailable, and the log is as
// before unless the error says that this is not certain.
func (l *Ledger) Append(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, err := l.append(ctx, r, size)
	if err != nil {
		if !errors.Is(err, ErrMoved) { // what was verified stays so when others append
			l.tip = nil
		}
		return release.Entry{}, release.Checkpoint{}, err
	}
	return entry, l.tip.checkpoint, nil
}

func (l *Ledger) append(ctx context.Context, r release.Record, size int64) (release.Entry, error) {
	if l.o.Sign == nil {
		return release.Entry{}, noKey(l.store)
	}
	t := l.tip
	if t == nil || t.size() != size {
		var err error
		if t, err = l.load(ctx); err != nil {
			return release.Entry{}, err
		}
	}
	if t.pending != nil {
		if err := l.adopt(ctx, t); err != nil {
			return release.Entry{}, err
		}
	}
	if t.size() != size {
		return release.Entry{}, moved(l.store, size, t.size())
	}
	r.SchemaVersion, r.Sequence, r.Previous = schemaVersion, size, t.last()
	r.Time = l.o.Now().UTC().Truncate(time.Millisecond)
	if err := l.usable(r); err != nil {
		return release.Entry{}, err
	}
	return l.extend(ctx, t, r)
}

// extend signs the record and the checkpoint before it touches the store, so
// that a key that cannot be had leaves nothing behind, and no lock is held
// while a person looks for a hardware key.
func (l *Ledger) extend(ctx context.Context, t *replay, r release.Record) (release.Entry, error) {
	payload, err := release.Canonical(r)
	if err != nil {
		return release.Entry{}, fmt.Errorf("encoding record %d: %w", r.Sequence, err)
	}
	line, err := l.sign(ctx, PayloadTypeRecord, payload)
	if err != nil {
		return release.Entry{}, err
	}
	if len(line) > maxRecord {
		return release.Entry{}, release.Faultf(release.KindUsage, "shorten the reason, or name fewer targets at once",
			"appending record %d: %d bytes signed, at most %d", r.Sequence, len(line), maxRecord)
	}
	if t.keep+int64(len(line)) >= maxLog {
		return release.Entry{}, release.Unavailable("", "appending to the ledger %s: it would be larger than %d bytes", l.store, maxLog)
	}
	next := t.clone()
	// The record is read back as everybody else will read it: a key without
	// the role must not spoil the log.
	entry, err := next.accept(line, l.readOnce)
	if err != nil {
		return release.Entry{}, signerFault(err)
	}
	text, envelope, err := l.signCheckpoint(ctx, next)
	if err != nil {
		return release.Entry{}, err
	}
	next.checkpoint = text
	if err := l.store.Write(ctx, t.position(), append(line, '\n'), envelope); err != nil {
		return release.Entry{}, err
	}
	next.found = next.keep
	l.tip, l.known = next, next.entries
	return entry, nil
}

// Settle completes what an interrupted append left behind the last checkpoint,
// as the next Append would, and reports whether there was anything. Until then
// the record is neither part of the history nor gone.
func (l *Ledger) Settle(ctx context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := l.load(ctx)
	if err != nil || t.pending == nil {
		return false, err
	}
	if l.o.Sign == nil {
		return false, noKey(l.store)
	}
	if err := l.adopt(ctx, t); err != nil && !errors.Is(err, ErrMoved) { // moved: somebody else did
		l.tip = nil
		return false, err
	}
	l.tip = nil
	return true, nil
}

func noKey(s Store) error {
	return release.Faultf(release.KindConfig, "set sign.key in promote.yaml, or pass --key",
		"appending to the ledger %s: no key to sign records with", s)
}

// adopt covers the one whole record that an interrupted append left behind the
// last checkpoint: its signer meant it, and it may be the outcome of effects
// that took place.
func (l *Ledger) adopt(ctx context.Context, t *replay) error {
	next := t.clone()
	if _, err := next.accept(t.pending, l.readOnce); err != nil {
		return err
	}
	text, envelope, err := l.signCheckpoint(ctx, next)
	if err != nil {
		return err
	}
	position := t.position()
	position.Keep = next.keep
	if err := l.store.Write(ctx, position, nil, envelope); err != nil {
		return err
	}
	event.Noticef(ctx, "completed the interrupted append of record %d to the ledger %s", t.size(), l.store)
	next.checkpoint, next.found, next.pending = text, next.keep, nil
	*t = *next
	return nil
}

// load reads and replays the store and makes the result the tip.
func (l *Ledger) load(ctx context.Context) (*replay, error) {
	t, err := l.readOn(ctx)
	if err != nil {
		return nil, err
	}
	if t == nil {
		l.tip = nil
		state, err := l.store.Read(ctx)
		if err != nil {
			return nil, err
		}
		if t, err = l.replay(ctx, state, l.known, l.readOnce); err != nil {
			return nil, err
		}
	}
	l.seen.save()
	l.tip, l.known = t, t.entries
	return t, nil
}

// readOn goes on from the tip: what was verified stays so, and only what was
// added is read and verified. The root hash of the newest checkpoint is that of
// both. It gives nil if there is nothing to go on from, or if it does not fit:
// then the whole log is read, which says what is wrong.
func (l *Ledger) readOn(ctx context.Context) (*replay, error) {
	store, ok := l.store.(Ranger)
	t := l.tip
	if !ok || t == nil || t.size() == 0 {
		return nil, nil
	}
	l.tip = nil
	var from int64 // of the newest line: if it is where it was, so is what lies before it
	if n := t.size(); n > 1 {
		from = t.ends[n-2]
	}
	state, ok, err := store.ReadRange(ctx, from, -1)
	if err != nil || !ok {
		return nil, err
	}
	newest, rest, whole := bytes.Cut(state.Log, []byte{'\n'})
	if !whole || from+int64(len(newest))+1 != t.keep || digestOf(leafOf(newest)) != t.last() {
		return nil, nil // lines were taken out, or brought back
	}
	state.Log = rest
	if len(state.Log) == 0 && bytes.Equal(state.Checkpoint, t.checkpoint.Envelope) {
		t.found, t.pending = t.keep, nil
		return t, nil
	}
	next := t.clone()
	next.chain = t.apart()
	next.found, next.pending = t.keep+int64(len(state.Log)), nil
	if next.checkpoint, err = l.openCheckpoint(state.Checkpoint); err != nil {
		return nil, nil //nolint:nilerr // reading the whole log says why
	}
	switch err := l.settle(ctx, next, state.Log, l.readOnce); release.KindOf(err) {
	case "":
		return next, nil
	case release.KindUnavailable, release.KindInterrupted:
		return nil, err
	}
	return nil, nil
}

// sign gives the canonical bytes of a signed envelope.
func (l *Ledger) sign(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
	raw, err := l.o.Sign(ctx, payloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("signing for the ledger %s: %w", l.store, err)
	}
	line, err := release.CanonicalJSON(raw)
	if err != nil {
		return nil, release.Faultf(release.KindInternal, "", "signing for the ledger %s: %w", l.store, err)
	}
	signed, err := payloadOf(line, payloadType)
	if err != nil || !bytes.Equal(signed, payload) {
		return nil, release.Faultf(release.KindInternal, "", "signing for the ledger %s: the envelope does not hold what was to be signed (%v)", l.store, err)
	}
	return line, nil
}

func moved(s Store, want, got int64) error {
	return release.Unavailable("somebody else appended at the same time; run the command again",
		"appending to the ledger %s: it had %d records when it was read and has %d now: %w", s, want, got, ErrMoved)
}
