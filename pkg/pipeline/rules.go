package pipeline

import (
	"context"

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

// checkRules compares the rules in force with those the ledger pinned. With a
// single key a change is allowed (it is recorded on the way); with roles it
// needs the owners.
func (p *Pipeline) checkRules(h release.History) (changed bool, err error) {
	pinned := pinnedRules(h)
	if pinned.IsZero() || pinned == p.rules() {
		return false, nil
	}
	if !p.Project.Trust.SingleKey {
		return true, release.Denied("the owners named by the pinned version must sign the change: promote trust accept",
			"trust, environments or policies changed since the ledger pinned them (pinned %s, now %s)", pinned.Short(), p.rules().Short())
	}
	return true, nil
}

func pinnedRules(h release.History) release.Digest {
	for i := len(h) - 1; i >= 0; i-- {
		if r := h[i].Record; i == 0 || r.Phase == release.TrustChanged {
			return r.Rules
		}
	}
	return release.Digest{}
}

// pinRules records a change of the rules where one key speaks for everybody,
// and gives the size of the log after it.
func (p *Pipeline) pinRules(ctx context.Context, h release.History, size int64) (int64, error) {
	changed, err := p.checkRules(h)
	if err != nil || !changed {
		return size, err
	}
	event.Noticef(ctx, "trust, environments or policies changed; recording it (trust: single-key)")
	_, checkpoint, err := p.Ledger.Append(ctx, p.complete(release.Record{Phase: release.TrustChanged, Reason: "changed in single-key mode"}), size)
	return checkpoint.TreeSize, err
}
