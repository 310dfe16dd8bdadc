package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How a look at an environment came out.
const (
	WatchFine    = "fine"
	WatchDrifted = "drifted" // something is not as recorded
	WatchFailing = "failing" // a check, a threshold or today's database says no
	WatchUnknown = "unknown" // a part of it could not be looked at
	WatchSkipped = "skipped" // a promotion is under way
)

// The kinds of findings of a look at an environment.
const (
	FoundCheck         = "check"         // Name is the check's
	FoundMemory        = "memory"        // more than the threshold
	FoundVulnerability = "vulnerability" // Name is its id
	FoundUnknown       = "unknown"       // Name is what could not be looked at; empty is the target
	FoundOpen          = "open"          // a promotion was left open
	FoundDrift         = "drift"         // Name is the field
)

// Watch is one look at what an environment runs.
type Watch struct {
	Environment string    `json:"environment"`
	Time        time.Time `json:"time"` // when it was looked
	// Seconds is how long the look took.
	Seconds float64 `json:"seconds"`
	// Release is the one that was recorded last.
	Release    Digest            `json:"release"`
	Version    string            `json:"version"`
	Dimensions map[string]Digest `json:"dimensions"`
	// Result is fine, drifted, failing, unknown or skipped.
	Result string `json:"result"`
	// Message says why it was skipped, or what was left open.
	Message string          `json:"message,omitempty"`
	Targets []WatchedTarget `json:"targets"`
	Scans   []WatchedScan   `json:"scans"`
	// Findings are all that is wrong, the worst kinds first.
	Findings []WatchFinding `json:"findings"`
	// Changed says that the outcome is not the one that was recorded last, and
	// Before which that was; null where none was recorded.
	Changed bool            `json:"changed"`
	Before  *WatchedOutcome `json:"before"`
	// Appeared and Gone are what changed in the findings since then.
	Appeared []WatchFinding `json:"appeared"`
	Gone     []WatchFinding `json:"gone"`
}

// WatchedTarget is what was seen of one target.
type WatchedTarget struct {
	Name string `json:"name"`
	// Error says what kept the target, or a part of it, from being looked at.
	Error       string           `json:"error,omitempty"`
	Differences []Deviation      `json:"differences"` // from its record
	Services    []WatchedService `json:"services"`
	Checks      []WatchedCheck   `json:"checks"`
}

// WatchedService is how a service fares. Sizes in bytes.
type WatchedService struct {
	Name string `json:"name"`
	// Digest is that of the image's verified manifest for the platform, empty where
	// another image runs; Image is the engine's own id of what runs.
	Digest   Digest `json:"digest"`
	Image    string `json:"image"`
	State    string `json:"state"`  // missing, or as the engine says
	Health   string `json:"health"` // healthy, unhealthy, starting, none
	Healthy  bool   `json:"healthy"`
	Restarts int    `json:"restarts"`
	// Memory is without what the kernel gives back on demand; null where it was
	// not measured. Limit 0 is none.
	Memory *int64 `json:"memory"`
	Limit  int64  `json:"limit"`
}

// PercentOfLimit is a service's memory of its limit; 0 where one is not known.
func (s WatchedService) PercentOfLimit() float64 {
	if s.Memory == nil || s.Limit <= 0 {
		return 0
	}
	return 100 * float64(*s.Memory) / float64(s.Limit)
}

// WatchedCheck is a smoke check that was asked of what runs.
type WatchedCheck struct {
	Name    string `json:"name"`
	Service string `json:"service,omitempty"`
	// Result is passed, failed, unknown, or skipped where it was not asked.
	Result  string  `json:"result"`
	Detail  string  `json:"detail,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// WatchedScan is what is known of an image's vulnerabilities.
type WatchedScan struct {
	Services   []string   `json:"services"` // that run the image
	Digest     Digest     `json:"digest"`
	ScannedAt  *time.Time `json:"scannedAt"` // the newest verified scan; null if there is none
	AgeSeconds *int64     `json:"ageSeconds"`
	// Matched says that the image was matched against today's database now, or
	// within the last hour; Failing are the findings that the threshold counts.
	Matched  bool       `json:"matched"`
	Database *time.Time `json:"database"` // of when the database is
	Failing  []string   `json:"failing"`
	Message  string     `json:"message,omitempty"` // why something is not known
}

// WatchFinding is one thing that is wrong. It holds names only: what a record
// says must not hold what a container said.
type WatchFinding struct {
	Target  string `json:"target,omitempty"`
	Service string `json:"service,omitempty"`
	Kind    string `json:"kind"` // check, memory, vulnerability, unknown, open, drift
	Name    string `json:"name,omitempty"`
}

// String gives "prod-1 planner: drift memory".
func (f WatchFinding) String() string {
	where := strings.TrimSpace(f.Target + " " + f.Service)
	what := strings.TrimSpace(f.Kind + " " + f.Name)
	if where == "" {
		return what
	}
	return where + ": " + what
}

// watchKinds orders findings, the worst first.
var watchKinds = []string{FoundCheck, FoundMemory, FoundVulnerability, FoundOpen, FoundUnknown, FoundDrift}

func compareFindings(a, b WatchFinding) int {
	return cmp.Or(cmp.Compare(slices.Index(watchKinds, a.Kind), slices.Index(watchKinds, b.Kind)),
		cmp.Compare(a.Target, b.Target), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
}

// mostFindings bounds what a record keeps of them.
const mostFindings = 100

// WatchedOutcome is what a watched record keeps of a look.
type WatchedOutcome struct {
	Result string `json:"result"`
	// Findings are at most 100, Count is of all of them and Digest over all.
	Findings []WatchFinding `json:"findings,omitempty"`
	Count    int            `json:"count"`
	Digest   Digest         `json:"digest"`
}

// Conclude sorts the findings, says how the look came out, and compares it with
// the last recorded one, nil for none, which was of the release then.
func (w *Watch) Conclude(before *WatchedOutcome, then Digest) error {
	slices.SortFunc(w.Findings, compareFindings)
	w.Findings = slices.Compact(w.Findings)
	w.Result = WatchFine
	for _, result := range []string{WatchDrifted, WatchUnknown, WatchFailing} { // the later ones count more
		if slices.ContainsFunc(w.Findings, func(f WatchFinding) bool { return resultOf(f.Kind) == result }) {
			w.Result = result
		}
	}
	now, err := w.Outcome()
	if err != nil {
		return err
	}
	w.Before, w.Changed = before, before == nil || before.Digest != now.Digest || then != w.Release
	w.Appeared, w.Gone = w.Findings, []WatchFinding{}
	if before != nil {
		w.Appeared, w.Gone = missingFrom(before.Findings, w.Findings), missingFrom(w.Findings, before.Findings)
	}
	return nil
}

func resultOf(kind string) string {
	switch kind {
	case FoundDrift:
		return WatchDrifted
	case FoundUnknown, FoundOpen:
		return WatchUnknown
	}
	return WatchFailing // also what this version has no name for
}

// missingFrom gives those of a list that are not in another.
func missingFrom(others, list []WatchFinding) []WatchFinding {
	return slices.DeleteFunc(slices.Clone(list), func(f WatchFinding) bool { return slices.Contains(others, f) })
}

// Outcome is what a record keeps.
func (w Watch) Outcome() (WatchedOutcome, error) {
	raw, err := Canonical(struct {
		Result   string         `json:"result"`
		Findings []WatchFinding `json:"findings"`
	}{w.Result, append([]WatchFinding{}, w.Findings...)})
	if err != nil {
		return WatchedOutcome{}, fmt.Errorf("encoding the findings: %w", err)
	}
	return WatchedOutcome{Result: w.Result, Count: len(w.Findings), Digest: DigestOf(raw), Findings: w.Findings[:min(len(w.Findings), mostFindings)]}, nil
}

// Summary says the outcome in a line.
func (w Watch) Summary() string {
	if len(w.Findings) == 0 {
		return w.Result
	}
	const most = 5
	var parts []string
	for _, f := range w.Findings[:min(len(w.Findings), most)] {
		parts = append(parts, f.String())
	}
	if more := len(w.Findings) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return w.Result + ": " + strings.Join(parts, "; ")
}

// LastWatched gives the environment's last watched record.
func (h History) LastWatched(environment string) (Entry, bool) {
	for i := len(h) - 1; i >= 0; i-- {
		if r := h[i].Record; r.Environment == environment && r.Phase == Watched && r.Watched != nil {
			return h[i], true
		}
	}
	return Entry{}, false
}
