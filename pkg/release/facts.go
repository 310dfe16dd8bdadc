package release

import (
	"fmt"
	"time"
)

// Facts is what policies judge: everything that matters for one release and
// one environment, reduced from verified evidence, the ledger and the release
// itself. It holds only plain values, so that a stored decision can be judged
// again, and no field is left out of its JSON form, so that a policy never
// meets an undefined value.
//
// Facts are monotonic: what is missing, unverified or unusable is written as
// not verified, and taking evidence away never makes a decision better.
type Facts struct {
	// Kind is promote, rollback or fix: the last two bring back what was let
	// into the environment before.
	Kind        string           `json:"kind"`
	Environment EnvironmentFacts `json:"environment"`
	Release     ReleaseFacts     `json:"release"`
	// Trust is "single-key" or "roles".
	Trust    string         `json:"trust"`
	Services []ServiceFacts `json:"services"` // in order of name
	Smoke    SmokeFacts     `json:"smoke"`
	History  HistoryFacts   `json:"history"`
	// Approvals, Freezes and Window are what people said, and when promotions
	// may begin.
	Approvals ApprovalFacts `json:"approvals"`
	Freezes   []FreezeFacts `json:"freezes"`
	Window    WindowFacts   `json:"window"`
	// Resumed: it was let in when it began, and is to be finished or undone.
	Resumed bool           `json:"resumed"`
	Models  []ModelFinding `json:"models"`
	Limits  Limits         `json:"limits"`
	// Producible says that missing evidence would be made before a real
	// promotion: a plan for the first environment. Gates then answer unknown
	// where evidence is absent, and failed where it is bad.
	Producible bool `json:"producible"`
}

// EnvironmentFacts says where the release is to go.
type EnvironmentFacts struct {
	Name  string `json:"name"`
	After string `json:"after"` // empty for the first
	First bool   `json:"first"`
}

// ReleaseFacts identifies the release.
type ReleaseFacts struct {
	Digest   Digest `json:"digest"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	Revision string `json:"revision"` // the commit
	Dirty    bool   `json:"dirty"`    // built from a tree with uncommitted changes
}

// Proof says whether one kind of evidence can be relied on.
type Proof struct {
	// Verified: signed by a holder of the role that this kind needs, about
	// this subject, readable, and not out of date.
	Verified bool `json:"verified"`
	// Absent: no attestation of this kind was found at all. Verified is false.
	Absent bool   `json:"absent"`
	Signer string `json:"signer"` // the party's name; empty if unknown
	// Reason says why it is not verified; empty if it is.
	Reason string `json:"reason"`
	// Evidence is the digest of the attestation's bytes; zero if absent.
	Evidence Digest `json:"evidence"`
}

// ServiceFacts is what is known about one service's image.
type ServiceFacts struct {
	Name       string `json:"name"`
	Origin     string `json:"origin"` // built or external
	Repository string `json:"repository"`
	Digest     Digest `json:"digest"`
	// Pinned: whoever wrote the Compose file named the image by digest. Built
	// images always count as pinned.
	Pinned     bool            `json:"pinned"`
	Signature  Proof           `json:"signature"`
	Provenance ProvenanceFacts `json:"provenance"`
	Scan       ScanFacts       `json:"scan"`
	SBOM       SBOMFacts       `json:"sbom"`
	Config     ConfigFacts     `json:"config"`
	// Match is a fresh look at the image with today's database, made for this
	// decision. It can only deny.
	Match MatchFacts `json:"match"`
}

// ProvenanceFacts is what the builder says about how the image was made.
type ProvenanceFacts struct {
	Proof
	Builder  string `json:"builder"`  // the builder's id
	Revision string `json:"revision"` // the commit it was built from; empty if not said
	Bases    []Base `json:"bases"`
}

// Base is an image that a build started from.
type Base struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Pinned bool   `json:"pinned"` // the Dockerfile names the digest
}

// ScanFacts is what the scanner says about the image.
type ScanFacts struct {
	Proof
	ScannedAt    time.Time      `json:"scannedAt"`
	AgeSeconds   int64          `json:"ageSeconds"`
	Database     DatabaseFacts  `json:"database"`
	Distribution string         `json:"distribution"`
	Result       string         `json:"result"` // passed, warned or failed, by the scanner's own threshold
	Summary      map[string]int `json:"summary"`
	// Findings are the unsuppressed ones that matter for a decision:
	// vulnerabilities at or above Limits.FailOn, secrets, uncovered
	// distributions; at most MaxFindings of them.
	Findings []Finding `json:"findings"`
	// Omitted counts findings that matter and are not listed.
	Omitted int `json:"omitted"`
	// Waived are findings that would matter and that somebody suppressed, with
	// the statement; at most MaxFindings of them.
	Waived []Finding `json:"waived"`
}

// DatabaseFacts says which vulnerability data the scan used.
type DatabaseFacts struct {
	UpdatedAt  time.Time `json:"updatedAt"`
	AgeSeconds int64     `json:"ageSeconds"`
	Digest     Digest    `json:"digest"`
	Covers     []string  `json:"covers"`
}

// SBOMFacts says whether the image's parts are listed.
type SBOMFacts struct {
	Proof
	Components int `json:"components"`
}

// ConfigFacts is what the image's configuration and the environment's model
// say about how it runs.
type ConfigFacts struct {
	Known bool `json:"known"`
	// User is the model's user, or else the image's; empty is root.
	User        string `json:"user"`
	NonRoot     bool   `json:"nonRoot"`
	Healthcheck bool   `json:"healthcheck"`
}

// MatchFacts is a fresh look with today's database, if one was made.
type MatchFacts struct {
	Made     bool          `json:"made"`
	Database DatabaseFacts `json:"database"`
	Findings []Finding     `json:"findings"` // as in ScanFacts
	Omitted  int           `json:"omitted"`
}

// SmokeFacts is what the tester says about a prod-like run of the release.
type SmokeFacts struct {
	Proof
	Result       string         `json:"result"` // passed, warned or failed
	FinishedAt   time.Time      `json:"finishedAt"`
	AgeSeconds   int64          `json:"ageSeconds"`
	Services     []SmokeService `json:"services"`
	FailedChecks []SmokeCheck   `json:"failedChecks"`
	WarnedChecks []SmokeCheck   `json:"warnedChecks"`
}

// HistoryFacts is what the ledger says about the release.
type HistoryFacts struct {
	Released bool `json:"released"` // the ledger holds its released record
	// DeployedToAfter: the last deployed record of the environment before is
	// this release's. False for the first environment.
	DeployedToAfter bool `json:"deployedToAfter"`
	// RanHere: the environment has a deployed record of the release.
	RanHere bool `json:"ranHere"`
	// AfterOpen: a promotion of the environment before is under way, or was
	// interrupted.
	AfterOpen bool `json:"afterOpen"`
	// SoakSeconds is for how long it has run there undisturbed, by the records'
	// own claimed times.
	SoakSeconds         int64 `json:"soakSeconds"`
	RequiredSoakSeconds int64 `json:"requiredSoakSeconds"`
}

// ModelFinding is something that a merged Compose model does and should not.
type ModelFinding struct {
	Reason
	Model string `json:"model"` // smoke or an environment
	// Severity is error (denies) or warning.
	Severity string `json:"severity"`
}

// Limits are the thresholds that promote.yaml sets.
type Limits struct {
	MaxAgeSeconds int64  `json:"maxAgeSeconds"` // of a scan and of its database
	FailOn        string `json:"failOn"`        // the least severity that denies
}

// MaxFindings bounds each list of findings in facts: policies judge and people
// read them, nobody reads a thousand.
const MaxFindings = 50

// clockSkew is how far another machine's clock may run ahead of ours.
const clockSkew = 5 * time.Minute

// EvidenceDigests lists the attestations that the facts rest on, in order of
// service and kind, then the records of approvals, for the decision's record.
func (f Facts) EvidenceDigests() []Digest {
	list := []Digest{}
	add := func(p Proof) {
		if p.Verified && !p.Evidence.IsZero() {
			list = append(list, p.Evidence)
		}
	}
	for _, s := range f.Services {
		add(s.Signature)
		add(s.Provenance.Proof)
		add(s.Scan.Proof)
		add(s.SBOM.Proof)
	}
	add(f.Smoke.Proof)
	for _, v := range f.Approvals.Votes {
		if v.Counts {
			list = append(list, v.Record)
		}
	}
	return list
}

// The severities, least first. They are written in lower case everywhere.
var severities = []string{"unknown", "low", "medium", "high", "critical"}

// SeverityRank orders severities from 0 (unknown) to 4 (critical); ok is false
// for any other word.
func SeverityRank(severity string) (rank int, ok bool) {
	for i, name := range severities {
		if severity == name {
			return i, true
		}
	}
	return 0, false
}

// CheckFailOn reports why a threshold is not a severity.
func CheckFailOn(failOn string) error {
	if _, ok := SeverityRank(failOn); !ok {
		return fmt.Errorf("severity %q: want unknown, low, medium, high or critical", clip(failOn))
	}
	return nil
}

// The classes of findings.
const (
	ClassVulnerability    = "vulnerability"
	ClassSecret           = "secret"
	ClassLicence          = "licence"
	ClassMisconfiguration = "misconfiguration"
	ClassCoverage         = "coverage"
)

// Matters reports whether a finding decides about an image: a vulnerability at
// or above failOn, a secret, a distribution that the database does not cover.
// An unknown threshold or severity matters, whatever it is.
func (f Finding) Matters(failOn string) bool {
	switch f.Class {
	case ClassSecret, ClassCoverage:
		return true
	case ClassVulnerability:
		least, known := SeverityRank(failOn)
		rank, ok := SeverityRank(f.Severity)
		return !known || !ok || rank >= least
	}
	return false
}

// JudgeFindings gives the result of a scan: failed if an unsuppressed finding
// matters, warned if a suppressed one would, else passed.
func JudgeFindings(findings []Finding, failOn string) Result {
	result := Passed
	for _, f := range findings {
		switch {
		case !f.Matters(failOn):
		case f.Suppressed == "":
			return Failed
		default:
			result = Warned
		}
	}
	return result
}

// Summarize counts the unsuppressed findings by severity. Every severity is
// present, so that a reader need not guess what an absent one means.
func Summarize(findings []Finding) map[string]int {
	summary := map[string]int{}
	for _, name := range severities {
		summary[name] = 0
	}
	for _, f := range findings {
		if f.Suppressed == "" {
			summary[f.Severity]++
		}
	}
	return summary
}

// weigh splits findings into those that matter, at most MaxFindings with the
// worst first, and those that somebody waived.
func weigh(findings []Finding, failOn string) (matter []Finding, omitted int, waived []Finding) {
	matter, waived = []Finding{}, []Finding{}
	for _, f := range findings {
		switch {
		case !f.Matters(failOn):
		case f.Suppressed == "":
			matter = append(matter, f)
		case len(waived) < MaxFindings:
			waived = append(waived, f)
		}
	}
	SortFindings(matter)
	if len(matter) > MaxFindings {
		omitted = len(matter) - MaxFindings
		matter = matter[:MaxFindings]
	}
	return matter, omitted, waived
}
