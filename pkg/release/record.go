package release

import (
	"errors"
	"time"
)

// Phase is what a record says happened.
type Phase string

// The phases of PRODUCT.md, "Ledger records".
const (
	Released     Phase = "released"
	Intended     Phase = "intended"
	Deployed     Phase = "deployed"
	RolledBack   Phase = "rolledBack"
	FailedPhase  Phase = "failed"
	DeniedPhase  Phase = "denied"
	Approved     Phase = "approved"
	Frozen       Phase = "frozen"
	Unfrozen     Phase = "unfrozen"
	Exception    Phase = "exception"
	BreakGlassed Phase = "breakGlass"
	TrustChanged Phase = "trustChanged"
	Watched      Phase = "watched"
	Compacted    Phase = "compacted"
)

// The kinds of a promotion's records.
const (
	KindPromote  = "promote"
	KindRollback = "rollback"
	KindFix      = "fix"
)

// Actor is who did something, and from where, as claimed by the machine that
// wrote the record.
type Actor struct {
	Name    string `json:"name"`              // the signing party's name
	User    string `json:"user,omitempty"`    // login or CI actor
	Host    string `json:"host,omitempty"`    // host name
	Process string `json:"process,omitempty"` // process id, or the CI run's URL
}

// Record is one entry of the ledger about one promotion.
type Record struct {
	SchemaVersion int       `json:"schemaVersion"` // 1
	Sequence      int64     `json:"sequence"`      // its index in the log, from 0
	Phase         Phase     `json:"phase"`
	Kind          string    `json:"kind,omitempty"` // promote, rollback, fix
	Time          time.Time `json:"time"`           // claimed; order is by Sequence
	Environment   string    `json:"environment,omitempty"`
	Release       Digest    `json:"release,omitzero"`
	Version       string    `json:"version,omitempty"`
	Revision      string    `json:"revision,omitempty"`
	// Intent is the sequence of the intended record that this one closes; nil
	// for records that close none.
	Intent *int64 `json:"intent,omitempty"`
	// Resumes is the sequence of the intended record that this intended one
	// takes over; nil for a promotion's first.
	Resumes *int64 `json:"resumes,omitempty"`
	// Previous is the leaf hash of the record before, zero for the first.
	Previous Digest         `json:"previous,omitzero"`
	Decision *Decision      `json:"decision,omitempty"`
	Actor    Actor          `json:"actor"`
	Reason   string         `json:"reason,omitempty"`
	Targets  []TargetStatus `json:"targets,omitempty"`
	// StateChanges names the volumes that were accepted to be new, other ones,
	// empty or gone; Reason says why.
	StateChanges []string `json:"stateChanges,omitempty"`
	// Restore is the sequence of the promotion whose snapshots volumes were to be
	// brought back to.
	Restore *int64 `json:"restore,omitempty"`
	// Adopt says that what ran already was to be taken over.
	Adopt bool `json:"adopt,omitempty"`
	// Rules is the digest of trust, environments and policies in force.
	Rules Digest `json:"rules,omitzero"`
	// Trust is who may say what under these rules. It stands in the first
	// record and in those of phase trustChanged; records of older versions lack it.
	Trust *Trust `json:"trust,omitempty"`
	// From is the release that the environment ran before; rollback goes there.
	From Digest `json:"from,omitzero"`
	// Until is when an approval or a freeze is over; zero for other records.
	Until time.Time `json:"until,omitzero"`
	// Configuration is the digest of the configuration that an approval is for.
	Configuration Digest `json:"configuration,omitzero"`
	// Acted says, in a released record, who attested what it rests on, by role
	// and name. Records of older versions lack it.
	Acted map[Role][]string `json:"acted,omitempty"`
	// LeaseSeconds is how long an intended record holds without a heartbeat.
	LeaseSeconds int64 `json:"leaseSeconds,omitempty"`
	// Watched is how a look at what runs came out, in watched records.
	Watched *WatchedOutcome `json:"watched,omitempty"`
	// Compaction stands in compacted records, and in no others.
	Compaction *Compaction `json:"compaction,omitempty"`
}

// Entry is a record as the ledger holds it: with its digest and signer.
type Entry struct {
	Record Record `json:"record"`
	// Digest is the record's leaf hash in the Merkle log.
	Digest Digest `json:"digest"`
	Signer Signer `json:"signer"`
}

// Checkpoint is a signed statement about the whole log at one size.
type Checkpoint struct {
	Origin   string `json:"origin"`
	TreeSize int64  `json:"treeSize"`
	RootHash Digest `json:"rootHash"`
	// Text is the C2SP tlog-checkpoint body that was signed.
	Text string `json:"text"`
	// Envelope is the DSSE envelope (JSON) over Text.
	Envelope []byte `json:"envelope"`
}

// History answers questions about a ledger's records, oldest first.
type History []Entry

// Open gives the environment's intended record that nothing has closed.
func (h History) Open(environment string) (Entry, bool) {
	for i := len(h) - 1; i >= 0; i-- {
		r := h[i].Record
		if r.Environment != environment {
			continue
		}
		switch r.Phase {
		case Intended:
			return h[i], true
		case Deployed, RolledBack:
			if r.Intent != nil {
				return Entry{}, false
			}
		}
	}
	return Entry{}, false
}

// Deployed gives the environment's last deployed record.
func (h History) Deployed(environment string) (Entry, bool) {
	for i := len(h) - 1; i >= 0; i-- {
		if r := h[i].Record; r.Environment == environment && r.Phase == Deployed {
			return h[i], true
		}
	}
	return Entry{}, false
}

// Released gives the first released record of a release: its place in the
// order of releases.
func (h History) Released(d Digest) (Entry, bool) {
	for _, e := range h {
		if e.Record.Phase == Released && e.Record.Release == d {
			return e, true
		}
	}
	return Entry{}, false
}

// ErrMoved says that somebody appended to the ledger after it was read: read
// it again and judge again. Test for it with errors.Is.
var ErrMoved = errors.New("the ledger has moved on")
