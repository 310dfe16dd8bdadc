package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// writers names the role that may write each phase. Unfrozen has a rule of its
// own besides.
var writers = map[release.Phase]release.Role{
	release.Released:     release.Promoter,
	release.Intended:     release.Promoter,
	release.Deployed:     release.Promoter,
	release.RolledBack:   release.Promoter,
	release.FailedPhase:  release.Promoter,
	release.DeniedPhase:  release.Promoter,
	release.Frozen:       release.Promoter,
	release.Exception:    release.Promoter,
	release.BreakGlassed: release.Promoter,
	release.Watched:      release.Promoter,
	release.Compacted:    release.Promoter,
	release.Approved:     release.Approver,
	release.Unfrozen:     release.Approver,
	release.TrustChanged: release.Owner,
}

// mayRecord reports why the signer may not write the record. Who froze an
// environment may lift their own freezes of it; names count, not keys.
func mayRecord(r release.Record, s release.Signer, frozen map[string][]string) error {
	role, known := writers[r.Phase]
	if !known {
		return fmt.Errorf("unknown phase %.60q (written by a newer version of promote?)", r.Phase)
	}
	if s.Has(role) {
		return nil
	}
	if r.Phase == release.Unfrozen && s.Name != "" && slices.Contains(frozen[r.Environment], s.Name) {
		return nil
	}
	return &roleError{Signer: s, Role: role, What: "a record of phase " + string(r.Phase)}
}

// mayConfirm reports why the signer may not confirm a change of trust that the
// owners carried: it takes an owner or a promoter of the new one.
func mayConfirm(r release.Record, s release.Signer) error {
	if s.Has(release.Owner) || s.Has(release.Promoter) {
		return nil
	}
	return &roleError{Signer: s, Role: release.Owner, What: "a record of phase " + string(r.Phase)}
}

// mayCheckpoint reports why the signer's checkpoint does not count. It takes a
// promoter, or whoever wrote the record that it covers last: an approver holds
// no promoter's key.
func mayCheckpoint(s release.Signer, last release.Entry) error {
	if s.Has(release.Promoter) || s.ID != "" && s.ID == last.Signer.ID && s.Issuer == last.Signer.Issuer {
		return nil
	}
	return &roleError{Signer: s, Role: release.Promoter, What: "a checkpoint"}
}

// roleError says that a good signature is by somebody who may not say that.
type roleError struct {
	Signer release.Signer
	Role   release.Role
	What   string
}

func (e *roleError) Error() string {
	name := e.Signer.Name
	if name == "" {
		name = e.Signer.ID
	}
	return fmt.Sprintf("%s must be signed by the role %s, and %.100q holds %v", e.What, e.Role, name, e.Signer.Roles)
}

// signerFault turns what reading back our own signature found into an answer
// for the person who brought the key.
func signerFault(err error) error {
	var role *roleError
	switch {
	case errors.As(err, &role):
		return release.Denied(fmt.Sprintf("sign with the key of the role %s (--key), or add this one to it under trust", role.Role),
			"appending to the ledger: %w", err)
	case release.KindOf(err) == release.KindDenied:
		return release.Denied("add the public half of this key under trust, or sign with another one (--key)",
			"appending to the ledger: the signing key is not trusted: %w", err)
	}
	return fmt.Errorf("appending to the ledger: %w", err)
}
