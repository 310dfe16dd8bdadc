package release

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ScanRun is how a scan was made: what its predicate says beside its findings.
type ScanRun struct {
	Scanner         string // URI of the scanner
	Version         string
	DatabaseURI     string // the OCI repository the database came from
	FailOn          string
	Platforms       []string // linux/amd64
	Exceptions      Digest   // of the ignore file that was applied; zero for none
	Parameters      []string // further settings that change the result
	Started         time.Time
	Finished        time.Time
	InvocationURI   string // of the CI run; may be empty
	InvocationEvent string
}

// vulnerabilityPredicate follows cosign's vulnerability attestation.
// https://github.com/sigstore/cosign/blob/main/specs/COSIGN_VULN_ATTESTATION_SPEC.md
type vulnerabilityPredicate struct {
	Invocation struct {
		Parameters []string `json:"parameters"`
		URI        string   `json:"uri"`
		EventID    string   `json:"event_id"`
		BuilderID  string   `json:"builder.id"`
	} `json:"invocation"`
	Scanner struct {
		URI     string `json:"uri"`
		Version string `json:"version"`
		DB      struct {
			URI        string    `json:"uri"`
			Version    string    `json:"version"`
			LastUpdate time.Time `json:"lastUpdate"`
		} `json:"db"`
		Result *scanResult `json:"result"`
	} `json:"scanner"`
	Metadata struct {
		ScanStartedOn  time.Time `json:"scanStartedOn"`
		ScanFinishedOn time.Time `json:"scanFinishedOn"`
	} `json:"metadata"`
}

// scanResult is the part of the predicate that the scanner defines.
type scanResult struct {
	Subject      Subject        `json:"subject"`
	Database     Database       `json:"database"`
	Distribution string         `json:"distribution"`
	Platforms    []string       `json:"platforms"`
	FailOn       string         `json:"failOn"`
	Exceptions   Digest         `json:"exceptions"`
	Summary      map[string]int `json:"summary"`
	Findings     []Finding      `json:"findings"`
	Result       *Result        `json:"result"`
}

// ScanPredicate encodes a scan as cosign's vulnerability predicate. The scan's
// own Predicate and SBOM are not part of it.
func ScanPredicate(s Scan, run ScanRun) (json.RawMessage, error) {
	var p vulnerabilityPredicate
	p.Invocation.Parameters = run.Parameters
	p.Invocation.URI, p.Invocation.EventID = run.InvocationURI, run.InvocationEvent
	p.Scanner.URI, p.Scanner.Version = run.Scanner, run.Version
	p.Scanner.DB.URI = run.DatabaseURI
	p.Scanner.DB.Version = strconv.Itoa(s.Database.Version)
	p.Scanner.DB.LastUpdate = s.Database.UpdatedAt.UTC()
	p.Scanner.Result = &scanResult{
		Subject: s.Subject, Database: s.Database, Distribution: s.Distribution,
		Platforms: run.Platforms, FailOn: run.FailOn, Exceptions: run.Exceptions,
		Summary: s.Summary, Findings: s.Findings, Result: &s.Result,
	}
	p.Metadata.ScanStartedOn, p.Metadata.ScanFinishedOn = run.Started.UTC(), run.Finished.UTC()
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding the scan predicate: %w", err)
	}
	return raw, nil
}

// FactsFromScan reads a vulnerability attestation about a subject. The error
// says why it cannot be relied on: not verified, signed in another role, about
// another subject, empty, unreadable, from the future, or older than the
// limits allow. What could be read is returned with the error, so that a
// message can tell ages; its Verified is then false.
func FactsFromScan(ev Evidence, about Digest, limits Limits, now time.Time) (ScanFacts, error) {
	facts := ScanFacts{Findings: []Finding{}, Waived: []Finding{}, Summary: map[string]int{}}
	facts.Database.Covers = []string{}
	proof, err := prove(ev, PredicateVulnerability, about)
	facts.Proof = proof
	if err != nil {
		return facts, err
	}
	var p vulnerabilityPredicate
	if err := json.Unmarshal(ev.Predicate, &p); err != nil {
		return facts.reject(fmt.Errorf("the scan cannot be read: %w", err))
	}
	r := p.Scanner.Result
	switch {
	case r == nil || r.Result == nil || r.Findings == nil:
		return facts.reject(errors.New("the scan holds no result"))
	case r.Subject.Digest != about:
		return facts.reject(fmt.Errorf("the scan is of %s", describeDigest(r.Subject.Digest)))
	}
	facts.fill(p, limits, now)
	if err := checkTimes(ev, facts, limits, now); err != nil {
		return facts.reject(err)
	}
	return facts, nil
}

func (f *ScanFacts) fill(p vulnerabilityPredicate, limits Limits, now time.Time) {
	r := p.Scanner.Result
	f.ScannedAt = p.Metadata.ScanFinishedOn.UTC()
	f.AgeSeconds = seconds(now.Sub(f.ScannedAt))
	f.Database = databaseFacts(r.Database, now)
	f.Distribution = r.Distribution
	f.Findings, f.Omitted, f.Waived = weigh(r.Findings, limits.FailOn)
	// The scanner's own verdict counts too: it may have been made with a
	// stricter threshold, or know of a failure that is no finding.
	f.Result = min(*r.Result, JudgeFindings(r.Findings, limits.FailOn)).String()
	if r.Summary != nil {
		f.Summary = r.Summary
	}
}

func databaseFacts(d Database, now time.Time) DatabaseFacts {
	covers := d.Covers
	if covers == nil {
		covers = []string{}
	}
	return DatabaseFacts{
		UpdatedAt: d.UpdatedAt.UTC(), AgeSeconds: seconds(now.Sub(d.UpdatedAt)),
		Digest: d.Digest, Covers: covers,
	}
}

func (f ScanFacts) reject(err error) (ScanFacts, error) {
	f.Verified, f.Reason = false, err.Error()
	return f, err
}

func checkTimes(ev Evidence, f ScanFacts, limits Limits, now time.Time) error {
	most := time.Duration(limits.MaxAgeSeconds) * time.Second
	switch {
	case f.ScannedAt.IsZero() || f.Database.UpdatedAt.IsZero():
		return errors.New("the scan does not say when it was made, or of when its database is")
	case f.ScannedAt.After(now.Add(clockSkew)):
		return fmt.Errorf("the scan is dated %s, in the future", stamp(f.ScannedAt))
	case !ev.Time.IsZero() && f.ScannedAt.After(ev.Time.Add(clockSkew)):
		return fmt.Errorf("the scan is dated %s, after it was signed", stamp(f.ScannedAt))
	case f.Database.UpdatedAt.After(now.Add(clockSkew)):
		return fmt.Errorf("the scan's database is dated %s, in the future", stamp(f.Database.UpdatedAt))
	case now.Sub(f.ScannedAt) > most:
		return fmt.Errorf("the scan is %s old, the limit is %s", coarse(now.Sub(f.ScannedAt)), coarse(most))
	case now.Sub(f.Database.UpdatedAt) > most:
		return fmt.Errorf("the scan's database is %s old, the limit is %s", coarse(now.Sub(f.Database.UpdatedAt)), coarse(most))
	}
	return nil
}

// SortFindings puts the worst first, then by class, id, package and path, so
// that the same findings are always in the same order.
func SortFindings(findings []Finding) {
	slices.SortFunc(findings, func(a, b Finding) int {
		ra, _ := SeverityRank(a.Severity)
		rb, _ := SeverityRank(b.Severity)
		return cmp.Or(
			cmp.Compare(rb, ra), cmp.Compare(a.Class, b.Class), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.Package, b.Package), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Title, b.Title),
			cmp.Compare(a.FixedIn, b.FixedIn), cmp.Compare(a.Suppressed, b.Suppressed),
		)
	})
}

// MatchFrom reduces a fresh scan that was made for this decision, not attested.
func MatchFrom(s Scan, limits Limits, now time.Time) MatchFacts {
	m := MatchFacts{Made: true, Database: databaseFacts(s.Database, now)}
	m.Findings, m.Omitted, _ = weigh(s.Findings, limits.FailOn)
	return m
}

// seconds rounds up, so that a limit of whole seconds is never missed by a
// fraction.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

// coarse writes a duration for people: minutes matter, fractions do not.
func coarse(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	s := d.Round(time.Minute).String()
	return s[:len(s)-len("0s")]
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func describeDigest(d Digest) string {
	if d.IsZero() {
		return "no image"
	}
	return d.String()
}
