package sign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// SignTrust adds the key's signature to a trust file.
func (k *Key) SignTrust(ctx context.Context, s release.SignedTrust) (release.SignedTrust, error) {
	sig, _, err := k.sign(ctx, envelope.PAE(release.PayloadTypeTrust, s.Payload))
	if err != nil {
		return s, signing(release.PayloadTypeTrust, err)
	}
	s.Signatures = append(slices.Clone(s.Signatures), sig)
	return s, nil
}

// TrustSigners gives the distinct owners whose signatures on a trust file count
// now, by name, sorted, and why others do not. The file says itself who they
// are: that it may replace the trust before it, the ledger decides. A signature
// that none of the file's owners made is a KindConfig fault.
func TrustSigners(s release.SignedTrust, now time.Time) (names, reasons []string, err error) {
	v, err := New(Options{Trust: s.File.Trust(), Now: func() time.Time { return now }})
	if err != nil {
		return nil, nil, err
	}
	message := envelope.PAE(release.PayloadTypeTrust, s.Payload)
	for i, sig := range s.Signatures {
		signer, err := v.signedBy(sig, message, now)
		switch {
		case errors.Is(err, envelope.ErrStranger) || err == nil && !signer.Has(release.Owner):
			return nil, nil, release.Faultf(release.KindConfig, "bring the file as its owners signed it; if it was edited, sign it again: promote trust accept --key KEY",
				"signature %d is by no owner whom the file names, or over something else", i+1)
		case err != nil:
			reasons = append(reasons, err.Error())
		default:
			names = append(names, signer.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), reasons, nil
}

// EnoughSigned reports why a trust file does not count yet: too few of its
// owners signed it.
func EnoughSigned(s release.SignedTrust, names, reasons []string) *release.Fault {
	needed := s.File.Trust().Threshold(release.Owner)
	if len(names) >= needed {
		return nil
	}
	got := "nobody"
	if len(names) > 0 {
		got = strings.Join(names, ", ")
	}
	what := fmt.Sprintf("version %d must be signed by %d of its owners, and is by %d: %s", s.File.Version, needed, len(names), got)
	if len(reasons) > 0 {
		what += " (" + strings.Join(reasons, "; ") + ")"
	}
	return release.Faultf(release.KindConfig, "an owner whom it names signs it: promote trust accept --key KEY", "%s", what)
}

// signedBy says whose a signature over a message is.
func (v *Verifier) signedBy(sig, message []byte, now time.Time) (release.Signer, error) {
	for _, key := range v.keys {
		if key.made(sig, message) {
			return v.policy.Signer(Proof{ID: key.ID}, now)
		}
	}
	return release.Signer{}, envelope.ErrStranger
}
