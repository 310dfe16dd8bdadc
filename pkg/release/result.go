package release

import (
	"encoding/json"
	"time"
)

// Image is one built and pushed service image.
type Image struct {
	Service    string   `json:"service"`
	Repository string   `json:"repository"`
	Digest     Digest   `json:"digest"`
	Platforms  []string `json:"platforms"`
	Cached     bool     `json:"cached"`
	// Provenance is the SLSA v1 provenance predicate of the build, unsigned.
	Provenance json.RawMessage `json:"provenance,omitempty"`
}

// Subject gives the image's subject.
func (i Image) Subject() Subject { return Subject{Repository: i.Repository, Digest: i.Digest} }

// Database says which vulnerability data a scan used.
type Database struct {
	Version   int       `json:"version"`
	UpdatedAt time.Time `json:"updatedAt"`
	Digest    Digest    `json:"digest"` // of the OCI artifact it came as
	// Covers lists the ecosystems and distributions it has advisories for:
	// "pip", "go", "debian 12".
	Covers []string `json:"covers"`
}

// Finding is one thing a scan found in an image.
type Finding struct {
	ID         string `json:"id"` // CVE, GHSA, secret rule or check id
	Severity   string `json:"severity"`
	Package    string `json:"package,omitempty"`
	Version    string `json:"version,omitempty"`
	FixedIn    string `json:"fixedIn,omitempty"`
	Path       string `json:"path,omitempty"`
	Line       int    `json:"line,omitempty"`
	Layer      string `json:"layer,omitempty"` // digest of the layer
	Class      string `json:"class"`           // vulnerability, secret, licence, misconfiguration, coverage
	Title      string `json:"title,omitempty"`
	Suppressed string `json:"suppressedBy,omitempty"` // the statement that waives it
}

// Scan is the result of scanning one image.
type Scan struct {
	Subject  Subject        `json:"subject"`
	Database Database       `json:"database"`
	Summary  map[string]int `json:"summary"` // unsuppressed findings by severity
	Findings []Finding      `json:"findings"`
	Result   Result         `json:"result"` // passed, warned or failed
	// Distribution is the operating system found, "debian 12.11"; empty if none.
	Distribution string `json:"distribution,omitempty"`
	// Predicate is the cosign vulnerability predicate that holds this scan;
	// SBOM is the CycloneDX predicate. Both unsigned.
	Predicate json.RawMessage `json:"predicate,omitempty"`
	SBOM      json.RawMessage `json:"sbom,omitempty"`
}

// Memory is what one service's memory did during smoke. Sizes in bytes.
type Memory struct {
	Limit          int64   `json:"limit"`
	Peak           int64   `json:"peak"` // without file pages that the kernel gives back on demand
	PercentOfLimit float64 `json:"percentOfLimit"`
	SlopePerSecond float64 `json:"slopePerSecond"`
	// SlopeLow and SlopeHigh bound the slope with 99 % confidence; absent is
	// unknown. SecondsToLimit is the time from the end of the run until the
	// limit is reached at SlopePerSecond; absent is never.
	SlopeLow       *float64 `json:"slopeLow,omitempty"`
	SlopeHigh      *float64 `json:"slopeHigh,omitempty"`
	SecondsToLimit *float64 `json:"secondsToLimit,omitempty"`
	// HighWater is the most that counted against the limit, reclaimable cache
	// too; Cache is the most cache.
	HighWater int64   `json:"highWater"`
	Cache     int64   `json:"cache"`
	Samples   int     `json:"samples"`
	Series    []Point `json:"series,omitempty"` // for a picture: at most 120 stretches
}

// Point is one stretch of a series of samples: when it began, in seconds since
// the run did, and the least and the most memory in it.
type Point struct {
	Seconds float64 `json:"s"`
	Low     int64   `json:"l"`
	High    int64   `json:"h"`
}

// The kinds of marks.
const (
	MarkLoad      = "load"   // the load began
	MarkSteady    = "steady" // the warm-up was over
	MarkMove      = "move"   // it was restarted or replaced by a check
	MarkRestart   = "restart"
	MarkOOM       = "oom"
	MarkUnhealthy = "unhealthy"
	MarkExit      = "exit"
	MarkStop      = "stop" // it was asked to stop
)

// Mark is a moment of a run that explains its picture, in seconds since the
// run began.
type Mark struct {
	Seconds float64 `json:"s"`
	Kind    string  `json:"kind"`
	Text    string  `json:"text,omitempty"`
}

// SmokeService is how one service fared in smoke.
type SmokeService struct {
	Name      string `json:"name"`
	Healthy   bool   `json:"healthy"`
	OOMKilled bool   `json:"oomKilled"`
	Restarts  int    `json:"restarts"`
	Memory    Memory `json:"memory"`
	OOMKills  int64  `json:"oomKills"` // processes that the kernel killed, children too; -1 is unknown
	// Throttled is the share of scheduling periods in which the CPU limit cut
	// it short, from 0 to 1. FDs and Tasks are the most open files and threads
	// seen; -1 is unknown.
	Throttled float64 `json:"throttled"`
	FDs       int64   `json:"fds"`
	Tasks     int64   `json:"tasks"`
	Marks     []Mark  `json:"marks,omitempty"`
	// Log is the end of its log. It may hold what the predicate must not, and
	// is no part of it.
	Log []string `json:"log,omitempty"`
}

// SmokeCheck is one check's outcome.
type SmokeCheck struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"`
	// Service is the one that the check is about; empty is the whole run.
	Service string  `json:"service,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // that the check took; 0 is not measured
}

// Smoke is the result of a prod-like run.
type Smoke struct {
	Release  Digest         `json:"release,omitzero"`
	Project  string         `json:"project,omitempty"` // the unique name it ran under
	Services []SmokeService `json:"services"`
	Checks   []SmokeCheck   `json:"checks"`
	Result   Result         `json:"result"`
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished"`
	// Predicate is the in-toto test-result predicate, unsigned.
	Predicate json.RawMessage `json:"predicate,omitempty"`
}
