package pipeline

import (
	"context"
	"fmt"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// rules is the digest of what decides: trust, environments and policies.
func (p *Pipeline) rules() release.Digest {
	raw, err := release.Canonical(map[string]release.Digest{"configuration": p.Project.Configuration, "policy": p.Judge.Digest()})
	if err != nil {
		panic(err) // two digests always encode
	}
	return release.DigestOf(raw)
}

// write appends a record, and tells of it once it is durable. The first one and changes of trust pin who may say
// what; all others are judged by it.
func (p *Pipeline) write(ctx context.Context, r release.Record, size int64) (release.Entry, release.Checkpoint, error) {
	if size == 0 || r.Phase == release.TrustChanged {
		trust := p.Project.Trust
		r.Trust = &trust
	}
	entry, checkpoint, err := p.Ledger.Append(ctx, r, size)
	if err == nil && p.Notifier != nil {
		p.Notifier.Recorded(ctx, entry)
	}
	return entry, checkpoint, err
}

// checkRules compares the rules in force with those the ledger pinned. Where
// one key speaks for everybody, then and now, a change by that key is allowed
// (it is recorded on the way); everything else takes the owners. The ledger
// says itself who may write it, so trust that is not the one pinned may also
// mean that the whole ledger is somebody else's.
func (p *Pipeline) checkRules(h release.History) (changed bool, err error) {
	pin := h.Pinned()
	if len(h) == 0 || p.inForce(pin) {
		return false, nil
	}
	if err := p.outdated(pin); err != nil {
		return true, err
	}
	if p.speaksAlone(pin) {
		return true, nil
	}
	return true, p.unaccepted(pin)
}

// warnOfRules tells whoever only looks that nothing could be promoted by this
// ledger: its records count by its own trust, which is not the project's.
func (p *Pipeline) warnOfRules(ctx context.Context, h release.History) {
	if _, err := p.checkRules(h); err != nil {
		event.Warnf(ctx, "what follows is judged by the trust that the ledger pins: %v", err)
	}
}

// inForce reports whether a ledger pins just the rules of this project. One
// that pins no trust is judged by the project's.
func (p *Pipeline) inForce(pin release.Pin) bool {
	return pin.Rules == p.rules() && (pin.Trust == nil || pin.Trust.Digest() == p.Project.Trust.Digest())
}

// outdated refuses a trust file that is not newer than the one that the ledger
// pins: the signatures of an older one stay good, so somebody could bring it
// back.
func (p *Pipeline) outdated(pin release.Pin) error {
	trust := p.Project.Trust
	if pin.Trust == nil || trust.Version == 0 || trust.Digest() == pin.Trust.Digest() {
		return nil
	}
	switch pinned := pin.Trust.Version; {
	case trust.Version < pinned:
		return release.Denied("bring the newest one, as from the main branch",
			"the trust file is of version %d, and the ledger pins version %d: an older one never counts again", trust.Version, pinned)
	case trust.Version == pinned && !trust.SameFile(*pin.Trust):
		return release.Denied("change it with promote trust add, rotate or revoke, which count its version up",
			"the trust file says something else than the one that the ledger pins, and both are of version %d", pinned)
	}
	return nil
}

// speaksAlone reports whether the project's only key is the ledger's only one.
func (p *Pipeline) speaksAlone(pin release.Pin) bool {
	if !p.Project.Trust.SingleKey || pin.Trust == nil {
		return p.Project.Trust.SingleKey
	}
	for _, owner := range p.Project.Trust.Roles[release.Owner] {
		if _, ok := pin.Trust.Holds(release.Signer{ID: owner.Fingerprint()}, release.Owner, p.Now()); ok {
			return pin.Trust.SingleKey
		}
	}
	return false
}

// unaccepted says what is in the way of a change, and who can clear it.
func (p *Pipeline) unaccepted(pin release.Pin) error {
	what := fmt.Sprintf("pinned %s, now %s", pin.Rules.Short(), p.rules().Short())
	if pin.Rules == p.rules() {
		what = fmt.Sprintf("the ledger pins another trust: %s, now %s", pin.Trust.Digest().Short(), p.Project.Trust.Digest().Short())
	}
	agreed := pin.Proposed[release.Proposal(p.rules(), &p.Project.Trust)]
	needed := pin.Needed(&p.Project.Trust)
	switch {
	case len(agreed.Owners) == 0:
	case len(agreed.Owners) < needed:
		what += fmt.Sprintf("; %d of %d owners agreed: %s", len(agreed.Owners), needed, strings.Join(agreed.Owners, ", "))
	default:
		return release.Denied("an owner or a promoter of the new version confirms it: promote trust accept",
			"trust, environments or policies changed since the ledger pinned them (%s; its owners agreed, and nobody of the new version yet)", what)
	}
	return release.Denied("the owners named by the pinned version must sign the change: promote trust accept; promote trust list says who they are. "+
		"If nobody changed anything, compare the ledger with a copy: it may be somebody else's",
		"trust, environments or policies changed since the ledger pinned them (%s)", what)
}

// pinRules records a change of the rules where one key speaks for everybody,
// and gives the size of the log after it.
func (p *Pipeline) pinRules(ctx context.Context, h release.History, size int64) (int64, error) {
	changed, err := p.checkRules(h)
	if err != nil || !changed {
		return size, err
	}
	event.Noticef(ctx, "trust, environments or policies changed; recording it (trust: single-key)")
	_, checkpoint, err := p.write(ctx, p.complete(release.Record{Phase: release.TrustChanged, Reason: "changed in single-key mode"}), size)
	return checkpoint.TreeSize, err
}
