package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Check verifies an envelope's signature and gives the payload and who signed.
// A signature that nobody trusted made is an error of KindDenied; "could not
// decide" is KindUnavailable.
type Check func(envelope []byte, payloadType string) ([]byte, release.Signer, error)

// policy is a trust policy as the log uses it. A log outlives keys, so each
// record is judged by the trust that was in force when it was written: the one
// that the records before it pin, at the time that it claims.
type policy struct {
	open    func(release.Trust) (Check, error)
	trust   release.Trust
	bounded []release.Party // the entries that begin or end

	mu sync.Mutex
	at map[string]*judge
}

// judge is a policy at one time.
type judge struct {
	trust release.Digest // of what is in force; remembered signatures are kept under it
	open  func() (Check, error)

	mu    sync.Mutex
	check Check
}

func newPolicy(open func(release.Trust) (Check, error), trust release.Trust) *policy {
	p := &policy{open: open, trust: trust, at: map[string]*judge{}}
	for _, role := range release.Roles {
		for _, party := range trust.Roles[role] {
			if !party.NotBefore.IsZero() || !party.NotAfter.IsZero() {
				p.bounded = append(p.bounded, party)
			}
		}
	}
	return p
}

// judge gives the policy at a time. There are as many as there are sets of
// entries in force at once.
func (p *policy) judge(at time.Time) *judge {
	set := make([]byte, len(p.bounded))
	for i, party := range p.bounded {
		if party.In(at) {
			set[i] = 1
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	j, ok := p.at[string(set)]
	if !ok {
		trust := p.trust.At(at)
		j = &judge{trust: trust.Digest(), open: func() (Check, error) { return p.open(trust) }}
		p.at[string(set)] = j
	}
	return j
}

// verify makes the check when the first signature asks for it.
func (j *judge) verify(envelope []byte, payloadType string) ([]byte, release.Signer, error) {
	check, err := j.made()
	if err != nil {
		return nil, release.Signer{}, err
	}
	return check(envelope, payloadType)
}

func (j *judge) made() (check Check, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.check == nil {
		j.check, err = j.open()
	}
	return j.check, err
}

// policyOf gives what a pinned trust says. Its judges are kept for the next
// reading; a log changes its trust a few times in its life.
func (l *Ledger) policyOf(trust *release.Trust) *policy {
	digest := trust.Digest()
	l.policies.Lock()
	defer l.policies.Unlock()
	if p, ok := l.policies.known[digest]; ok {
		return p
	}
	open := l.o.VerifyBy
	if open == nil {
		open = func(release.Trust) (Check, error) {
			return nil, release.Faultf(release.KindInternal, "", "reading the ledger %s: it pins its trust, and nothing verifies by it", l.store)
		}
	}
	p := newPolicy(open, *trust)
	l.policies.known[digest] = p
	return p
}

// configured judges records that no trust is pinned for.
func (l *Ledger) configured() *judge {
	l.policies.Lock()
	defer l.policies.Unlock()
	if l.policies.configured == nil {
		l.policies.configured = &judge{trust: l.o.Trust, check: l.o.Verify}
	}
	return l.policies.configured
}

// judge gives who judges the record as the log's next. The first record brings
// the trust that it is judged by: whether that is the project's own, its reader
// has to compare.
func (t *chain) judge(r release.Record) *judge {
	trust := t.pin.Trust
	if t.size() == 0 {
		trust = r.Trust
	}
	switch {
	case trust == nil && t.older != nil:
		return t.older.judge(r.Time)
	case trust == nil:
		return t.l.configured()
	}
	if t.policy == nil || t.pinned != trust {
		t.policy, t.pinned = t.l.policyOf(trust), trust
	}
	return t.policy.judge(r.Time)
}

// newcomer judges a record that confirms a change by the trust that it brings.
// Only a change that the owners carried can be confirmed, so a stranger can't
// add a line.
func (t *chain) newcomer(r release.Record) *judge { return t.l.policyOf(r.Trust).judge(r.Time) }

func (t *chain) confirms(r release.Record) bool {
	return r.Phase == release.TrustChanged && r.Trust != nil && t.size() > 0 && t.pin.Carried(r.Rules, r.Trust)
}

// judgesOf gives who may have judged record n.
func (t *replay) judgesOf(n int64) []*judge {
	if n == t.before.n && n == t.n-1 {
		return t.before.judges(t.newest.Record)
	}
	before := &chain{l: t.l, n: n, older: t.older, pin: t.entries[:n].Pinned()}
	return before.judges(t.entries[n].Record)
}

// judges gives who may judge the record as the log's next.
func (t *chain) judges(r release.Record) []*judge {
	judges := []*judge{t.judge(r)}
	if t.confirms(r) {
		judges = append(judges, t.newcomer(r))
	}
	return judges
}

// adoptOlder makes the first trust that the log pins the one that judges the
// records before it, and reports whether that is news: records that were
// written before trust was pinned outlive their keys too. It is no way around
// the project's trust, with which the pinned one has to agree in the end.
func (t *chain) adoptOlder() bool {
	if t.older != nil || t.pin.Trust != nil || t.first == nil || t.searched {
		return false
	}
	t.searched = true
	trust := t.first()
	if trust == nil {
		return false
	}
	t.older = t.l.policyOf(trust)
	return true
}

// firstTrust gives the first trust that a record of the log says, unverified.
func firstTrust(log io.Reader) *release.Trust {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxRecord+1)
	for lines.Scan() {
		payload, err := payloadOf(lines.Bytes(), PayloadTypeRecord)
		if err != nil || !bytes.Contains(payload, []byte(`"trust":{`)) {
			continue
		}
		var r release.Record
		if json.Unmarshal(payload, &r) == nil && r.Trust != nil {
			return r.Trust
		}
	}
	return nil
}

// maxSkew is how far a record's time may be from when it is proven to have been
// signed: clocks differ, and services answer late.
const maxSkew = time.Hour

// timely reports why a record's time cannot be what it says. Which entries of a
// trust count follows from that time, so whoever's is proven must not claim
// another.
func timely(r release.Record, s release.Signer) error {
	if s.Time.IsZero() {
		return nil
	}
	if skew := s.Time.Sub(r.Time).Abs(); skew > maxSkew {
		return fmt.Errorf("it says that it is of %s, and it was signed at %s (is this machine's clock right?)",
			r.Time.UTC().Format(time.RFC3339), s.Time.UTC().Format(time.RFC3339))
	}
	return nil
}

// mayPin reports why a record may not say what trust it does.
func mayPin(r release.Record) error {
	if r.Trust != nil && r.Sequence != 0 && r.Phase != release.TrustChanged {
		return fmt.Errorf("a record of phase %q cannot pin a trust", r.Phase)
	}
	return nil
}

// usable reports why a record must not pin its trust: nothing could be written
// behind it, or nobody could change it again.
func (l *Ledger) usable(r release.Record) error {
	if r.Trust == nil || l.o.VerifyBy == nil {
		return nil
	}
	if _, err := l.o.VerifyBy(*r.Trust); err != nil || r.Phase != release.TrustChanged {
		return err
	}
	for _, role := range []release.Role{release.Promoter, release.Owner} {
		held := slices.ContainsFunc(r.Trust.Roles[role], func(p release.Party) bool {
			return r.Trust.State(p, r.Time) == release.PartyValid
		})
		if !held {
			return release.Denied("name somebody under trust."+string(role)+" who is in force and not revoked",
				"pinning trust: nobody holds the role %s now, so nothing could be recorded or changed any more", role)
		}
	}
	return nil
}
