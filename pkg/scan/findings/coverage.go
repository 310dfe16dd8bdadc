package findings

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// bookkeeping are buckets of a trivy-db that hold no advisories.
var bookkeeping = []string{
	"vulnerability", "vulnerability-id", "vulnerability-detail", "advisory-detail", "data-source", "Red Hat CPE", "trivy",
}

// Covers reduces the names of a database's non-empty buckets to what it has
// advisories for, sorted: ecosystems ("pip", "go") and distributions as the
// database names them ("debian 12", "Oracle Linux 8").
func Covers(buckets []string) []string {
	covers := []string{}
	for _, name := range buckets {
		if slices.Contains(bookkeeping, name) {
			continue
		}
		ecosystem, _, _ := strings.Cut(name, "::")
		if ecosystem != "" && !slices.Contains(covers, ecosystem) {
			covers = append(covers, ecosystem)
		}
	}
	slices.Sort(covers)
	return covers
}

// distributions gives the database's name for a release of each family that
// the scanner can judge.
var distributions = map[string]func(version string) string{
	"alma":                named("alma", major),
	"alpine":              named("alpine", alpineStream),
	"amazon":              named("amazon linux", amazonRelease),
	"azurelinux":          named("Azure Linux", minor),
	"bottlerocket":        whole("bottlerocket"),
	"cbl-mariner":         named("CBL-Mariner", minor),
	"centos":              whole("Red Hat"),
	"chainguard":          whole("chainguard"),
	"debian":              named("debian", major),
	"echo":                whole("echo"),
	"minimos":             whole("minimos"),
	"opensuse-leap":       named("openSUSE Leap", same),
	"opensuse-tumbleweed": whole("openSUSE Tumbleweed"),
	"oracle":              named("Oracle Linux", major),
	"photon":              named("Photon OS", same),
	"redhat":              whole("Red Hat"),
	"rocky":               named("rocky", major),
	"slem":                named("SUSE Linux Enterprise Micro", same),
	"sles":                named("SUSE Linux Enterprise", same),
	"ubuntu":              named("ubuntu", same),
	"wolfi":               whole("wolfi"),
}

// Distribution names a distribution's release as databases do: family
// "debian", version "12.11" is "debian 12". A family that the scanner cannot
// judge keeps its own words, which no database covers.
func Distribution(family, version string) string {
	if name, ok := distributions[family]; ok {
		return name(version)
	}
	return strings.TrimSpace(family + " " + version)
}

func named(prefix string, release func(string) string) func(string) string {
	return func(version string) string { return prefix + " " + release(version) }
}

func whole(name string) func(string) string { return func(string) string { return name } }

func same(version string) string { return version }

func major(version string) string {
	v, _, _ := strings.Cut(version, ".")
	return v
}

func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func alpineStream(version string) string {
	if strings.Contains(version, "_alpha") {
		return "edge"
	}
	return minor(version)
}

func amazonRelease(version string) string {
	v := version
	if fields := strings.Fields(version); len(fields) > 0 {
		v = major(fields[0])
	}
	if v != "2" && v != "2022" && v != "2023" {
		return "1"
	}
	return v
}

// ecosystems gives the database's name for each type of language package that
// an image scan lists.
var ecosystems = map[string]string{
	"bundler": "rubygems", "gemspec": "rubygems",
	"rustbinary": "cargo", "cargo": "cargo",
	"composer": "composer", "composer-vendor": "composer",
	"gobinary": "go", "gomod": "go",
	"jar": "maven", "pom": "maven", "gradle": "maven", "sbt": "maven",
	"npm": "npm", "yarn": "npm", "pnpm": "npm", "bun": "npm", "node-pkg": "npm", "javascript": "npm",
	"nuget": "nuget", "dotnet-core": "nuget", "packages-props": "nuget",
	"pip": "pip", "pipenv": "pip", "poetry": "pip", "python-pkg": "pip", "uv": "pip", "pylock": "pip",
	"pub": "pub", "hex": "erlang", "conan": "conan", "swift": "swift", "cocoapods": "cocoapods",
	"bitnami": "bitnami", "kubernetes": "k8s", "julia": "julia",
}

// Ecosystem names a type of language package as databases do: "python-pkg" is
// "pip". A type that the scanner cannot judge keeps its own name.
func Ecosystem(packageType string) string {
	if name, ok := ecosystems[packageType]; ok {
		return name
	}
	return packageType
}

// Held is how many packages of a distribution or ecosystem an image holds.
type Held struct {
	Name     string // as Distribution or Ecosystem gives it
	Packages int
}

// Uncovered gives a finding for each thing an image holds that the database
// knows nothing about: its packages were looked at and not judged.
func Uncovered(held []Held, covers []string) []release.Finding {
	var list []release.Finding
	for _, h := range held {
		if slices.Contains(covers, h.Name) {
			continue
		}
		list = append(list, Gap(h.Name, fmt.Sprintf("the vulnerability database has no advisories for %s: %s of it are not judged", h.Name, packages(h.Packages))))
	}
	return list
}

// Gap is a finding that something in an image could not be judged. name is
// what a waiver must name.
func Gap(name, title string) release.Finding {
	return release.Finding{ID: name, Severity: "high", Class: release.ClassCoverage, Title: title}
}

func packages(n int) string {
	if n == 1 {
		return "1 package"
	}
	return fmt.Sprintf("%d packages", n)
}

// Waiver lets an uncovered distribution or ecosystem through, visibly and for
// a time.
type Waiver struct {
	Distribution string    `json:"distribution"` // as the finding's ID names it
	Statement    string    `json:"statement"`
	Expires      time.Time `json:"expires"`
}

// Check reports why a waiver cannot be used. An expired one is in order; it
// does not apply any more.
func (w Waiver) Check() error {
	missing := ""
	switch {
	case w.Distribution == "":
		missing = "the name of what it waives"
	case strings.TrimSpace(w.Statement) == "":
		missing = "a statement that says why"
	case w.Expires.IsZero():
		missing = "the day it expires"
	default:
		return nil
	}
	return release.Faultf(release.KindConfig, "a waiver names what it waives, why, and until when", "waiver of %q lacks %s", w.Distribution, missing)
}

// Waive suppresses the coverage findings that a waiver in force names.
func Waive(list []release.Finding, waivers []Waiver, now time.Time) error {
	for _, w := range waivers {
		if err := w.Check(); err != nil {
			return err
		}
		for i, f := range list {
			switch {
			case f.Class != release.ClassCoverage || f.ID != w.Distribution || f.Suppressed != "":
			case now.Before(w.Expires):
				list[i].Suppressed = fmt.Sprintf("%s (waived until %s)", strings.TrimSpace(w.Statement), day(w.Expires))
			default:
				list[i].Title += "; the waiver expired on " + day(w.Expires)
			}
		}
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
