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
	Peak           int64   `json:"peak"`
	SlopePerSecond float64 `json:"slopePerSecond"`
	Samples        int     `json:"samples"`
}

// SmokeService is how one service fared in smoke.
type SmokeService struct {
	Name      string `json:"name"`
	Healthy   bool   `json:"healthy"`
	OOMKilled bool   `json:"oomKilled"`
	Restarts  int    `json:"restarts"`
	Memory    Memory `json:"memory"`
}

// SmokeCheck is one check's outcome.
type SmokeCheck struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// Smoke is the result of a prod-like run.
type Smoke struct {
	Release  Digest         `json:"release,omitzero"`
	Services []SmokeService `json:"services"`
	Checks   []SmokeCheck   `json:"checks"`
	Result   Result         `json:"result"`
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished"`
	// Predicate is the in-toto test-result predicate, unsigned.
	Predicate json.RawMessage `json:"predicate,omitempty"`
}
