package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// AcceptOptions are `trust accept`.
type AcceptOptions struct {
	Reason string
	DryRun bool
}

// AcceptResult is what `trust accept` gives.
type AcceptResult struct {
	// Pinned and Rules are the digests of the rules that the ledger holds
	// everybody to, and of those that are accepted.
	Pinned release.Digest `json:"pinned"`
	Rules  release.Digest `json:"rules"`
	// Changes are the differences of trust, a line each.
	Changes []string `json:"changes"`
	// Agreed are the distinct owners of the pinned version who signed.
	Agreed []string `json:"agreed"`
	Needed int      `json:"needed"`
	// InForce is true once the change counts; Existing when there was nothing
	// to sign.
	InForce  bool          `json:"inForce"`
	Existing bool          `json:"existing,omitempty"`
	Signer   string        `json:"signer,omitempty"`
	Record   *RecordResult `json:"record"`
	DryRun   bool          `json:"dryRun,omitempty"`
}

// TrustAccept signs the project's trust, environments and policies as they are
// now. They are in force once as many distinct owners as the pinned version
// asks for did, and somebody whom the new version names as owner or promoter.
// Whoever is neither is denied; agreeing twice is one agreement.
func (p *Pipeline) TrustAccept(ctx context.Context, o AcceptOptions) (AcceptResult, error) {
	for try := 1; ; try++ {
		out, err := p.accept(ctx, o)
		if err == nil || !errors.Is(err, release.ErrMoved) || try == appendTries {
			return out, err
		}
	}
}

func (p *Pipeline) accept(ctx context.Context, o AcceptOptions) (AcceptResult, error) {
	history, checkpoint, err := p.Ledger.Read(ctx)
	if err != nil {
		return AcceptResult{}, err
	}
	pin := history.Pinned()
	out := p.accepted(pin)
	out.DryRun = o.DryRun
	if len(history) == 0 || pin.Trust != nil && p.inForce(pin) {
		out.InForce, out.Existing = true, true // the first record pins by itself
		return out, nil
	}
	if err := p.outdated(pin); err != nil {
		return out, err
	}
	party, err := p.recorder(ctx)
	if err != nil {
		return out, err
	}
	if out.Signer, err = p.mayAccept(pin, party); err != nil {
		return out, err
	}
	if p.heard(pin, party) {
		out.Existing = true
		return out, nil
	}
	if o.DryRun {
		return out, nil
	}
	entry, _, err := p.write(ctx, p.complete(release.Record{Phase: release.TrustChanged, Reason: o.Reason}), checkpoint.TreeSize)
	if err != nil {
		return out, err
	}
	next := pin.Next(entry)
	agreed := p.accepted(next)
	if out.InForce = next.Trust != nil && p.inForce(next); out.InForce {
		agreed.Agreed = append(slices.Clone(out.Agreed), out.Signer)
	}
	out.Agreed = slices.Compact(slices.Sorted(slices.Values(agreed.Agreed)))
	out.Record = &RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}
	return out, nil
}

// recorder says who signs the ledger's records.
func (p *Pipeline) recorder(ctx context.Context) (release.Signer, error) {
	if p.Recorder != nil {
		return p.Recorder(ctx)
	}
	signer, err := p.Keys.Open(ctx)
	if err != nil {
		return release.Signer{}, err
	}
	return signer.Party(), nil
}

// accepted says how far the change has come.
func (p *Pipeline) accepted(pin release.Pin) AcceptResult {
	out := AcceptResult{Pinned: pin.Rules, Rules: p.rules(), Needed: pin.Needed(&p.Project.Trust), Changes: []string{}}
	if pin.Trust != nil {
		out.Changes = append(out.Changes, p.Project.Trust.Changes(*pin.Trust)...)
	}
	out.Agreed = append([]string{}, pin.Proposed[release.Proposal(p.rules(), &p.Project.Trust)].Owners...)
	return out
}

// mayAccept gives the name under which a key may agree: that of an owner of
// the pinned version or, once its owners agreed, of somebody of the new one.
func (p *Pipeline) mayAccept(pin release.Pin, party release.Signer) (string, error) {
	if name, ok := p.ownerOf(pin, party); ok {
		return name, nil
	}
	trust := p.Project.Trust
	if pin.Carried(p.rules(), &trust) {
		for _, role := range []release.Role{release.Owner, release.Promoter} {
			if name, ok := trust.Holds(party, role, p.Now()); ok {
				return name, nil
			}
		}
		return "", release.Denied("sign with the key of an owner or a promoter of the new version: promote trust accept --key KEY",
			"the owners agreed; this key (%s) is none of the new version's owners and promoters", party.ID)
	}
	return "", release.Denied("sign with the key of one of them: promote trust accept --key KEY",
		"this key (%s) is no owner's of the version that the ledger pins: %s", party.ID, strings.Join(p.owners(pin), ", "))
}

func (p *Pipeline) ownerOf(pin release.Pin, party release.Signer) (string, bool) {
	trust := p.Project.Trust
	if pin.Trust != nil {
		trust = *pin.Trust
	}
	return trust.Holds(party, release.Owner, p.Now())
}

func (p *Pipeline) owners(pin release.Pin) []string {
	trust := p.Project.Trust
	if pin.Trust != nil {
		trust = *pin.Trust
	}
	var names []string
	for _, party := range trust.Roles[release.Owner] {
		names = append(names, party.Name)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return []string{"nobody"}
	}
	return names
}

// heard reports whether the same change by the same key would add nothing.
func (p *Pipeline) heard(pin release.Pin, party release.Signer) bool {
	trust := p.Project.Trust
	agreed := pin.Proposed[release.Proposal(p.rules(), &trust)]
	name, owner := p.ownerOf(pin, party)
	if !owner || !slices.Contains(agreed.Owners, name) {
		return false
	}
	_, newOwner := trust.Holds(party, release.Owner, p.Now())
	_, newPromoter := trust.Holds(party, release.Promoter, p.Now())
	return agreed.Known || !newOwner && !newPromoter
}

// Pinned gives what the ledger holds everybody to, and whether it is what the
// project says.
func (p *Pipeline) Pinned(ctx context.Context) (pin release.Pin, inForce bool, err error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return release.Pin{}, false, err
	}
	pin = history.Pinned()
	return pin, len(history) == 0 || p.inForce(pin), nil
}
