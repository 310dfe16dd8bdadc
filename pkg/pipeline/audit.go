package pipeline

import (
	"fmt"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Anchor is what an auditor knows of a log from elsewhere. The log itself says
// who may write it, so without an anchor a whole log could be somebody else's.
type Anchor struct {
	// Trust is what the log must pin at its end, if it pins any; nil for none.
	Trust *release.Trust
	// TrustDigest is the same by its digest; zero for none.
	TrustDigest release.Digest
	// Keys are fingerprints, one of which must have signed the newest checkpoint;
	// empty for any.
	Keys []string
	// From names where that is known from: promote.yaml, a file, a flag.
	From string
}

// JudgeAudit adds what a sound log lacks by what is known from elsewhere.
func JudgeAudit(found release.LedgerAudit, a Anchor) release.LedgerAudit {
	find := func(rule, fix, format string, args ...any) {
		found.Findings = append(found.Findings, release.LedgerFinding{Rule: rule, Message: fmt.Sprintf(format, args...), Fix: fix})
		found.Result = "failed"
	}
	const fix = "if the trust was changed on purpose, its owners accept it (promote trust accept); else this is not the ledger of this project"
	pinned := found.Pinned
	switch {
	case found.Records == 0:
		return found
	case a.Trust != nil && pinned != nil && !sameTrust(*pinned, *a.Trust):
		find(release.AuditTrust, fix, "the trust in force at its end is %s, and %s says %s", pinned.Digest(), a.From, a.Trust.Digest())
	case !a.TrustDigest.IsZero() && found.Trust != a.TrustDigest:
		find(release.AuditTrust, fix, "the trust in force at its end is %s, and %s says %s", orNone(found.Trust), a.From, a.TrustDigest)
	}
	if c := found.Checkpoint; len(a.Keys) > 0 && c != nil && (c.Signer == nil || !slices.Contains(a.Keys, c.Signer.ID)) {
		by := "nobody who could be verified"
		if c.Signer != nil {
			by = fmt.Sprintf("%s (%s)", c.Signer.Name, c.Signer.ID)
		}
		find(release.AuditCheckpoint, "give the key of whoever wrote the last record, or what the project trusts (--trust)",
			"its checkpoint is signed by %s, and by no key of %s", by, a.From)
	}
	return found
}

// sameTrust compares a pinned trust with one from elsewhere. A trust file has a
// version, trust that promote.yaml holds has none; no file names a trusted root.
func sameTrust(pinned, known release.Trust) bool {
	if pinned.Version == 0 || known.Version == 0 {
		pinned.Version, known.Version = 0, 0
	}
	return pinned.SameFile(known)
}

func orNone(d release.Digest) string {
	if d.IsZero() {
		return "none"
	}
	return d.String()
}

// AuditDenial gives what a failed audit found as an error; nil if it passed.
func AuditDenial(found release.LedgerAudit) error {
	if found.Result == "passed" {
		return nil
	}
	var reasons []release.Reason
	for _, f := range found.Findings {
		r := release.Reason{Rule: f.Rule, Message: f.Message, Fix: f.Fix}
		if f.Line > 0 {
			r.File, r.Line = found.Ledger, int(f.Line)
		}
		if f.Record != nil {
			r.Message = fmt.Sprintf("record %d: %s", *f.Record, f.Message)
		}
		reasons = append(reasons, r)
	}
	more := ""
	if found.More > 0 {
		more = fmt.Sprintf(" (and %d more)", found.More)
	}
	return denial(fmt.Sprintf("the ledger %s is not sound: %d findings%s", found.Ledger, len(found.Findings), more), reasons)
}
