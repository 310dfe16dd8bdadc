package findings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// Ignore is a .trivyignore.yaml of the checkout. Every entry says why and
// until when.
// https://trivy.dev/latest/docs/configuration/filtering/#trivyignoreyaml
type Ignore struct {
	File string
	// Digest is that of the file's bytes; zero without a file.
	Digest  release.Digest
	entries map[string][]ignored // by class
}

type ignored struct {
	ID        string   `yaml:"id"`
	Paths     []string `yaml:"paths"`
	PURLs     []string `yaml:"purls"`
	Statement string   `yaml:"statement"`
	ExpiredAt string   `yaml:"expired_at"`

	expires time.Time
}

type ignoreFile struct {
	Vulnerabilities   []*yamlpos.Node `yaml:"vulnerabilities"`
	Misconfigurations []*yamlpos.Node `yaml:"misconfigurations"`
	Secrets           []*yamlpos.Node `yaml:"secrets"`
	Licenses          []*yamlpos.Node `yaml:"licenses"`
}

// LoadIgnore reads an ignore file. An empty name, and a file that does not
// exist, ignore nothing. Entries without an id, a statement or an expiry, and
// unknown keys, are KindConfig faults with their position, all of them at
// once.
func LoadIgnore(file string) (Ignore, error) {
	ig := Ignore{File: file, entries: map[string][]ignored{}}
	if file == "" {
		return ig, nil
	}
	raw, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) {
		return ig, nil
	}
	if err != nil {
		return ig, &release.Fault{Kind: release.KindConfig, Op: "reading the ignore file", Subject: file, Err: err, Hint: "check that you may read it"}
	}
	root, err := yamlpos.Parse(file, raw)
	if err != nil {
		return ig, err
	}
	var f ignoreFile
	if err := yamlpos.Decode(root, &f); err != nil {
		return ig, err
	}
	ig.Digest = release.DigestOf(raw)
	var faults release.Errors
	for class, nodes := range map[string][]*yamlpos.Node{
		release.ClassVulnerability: f.Vulnerabilities, release.ClassSecret: f.Secrets,
		release.ClassMisconfiguration: f.Misconfigurations, release.ClassLicence: f.Licenses,
	} {
		for _, n := range nodes {
			e, bad := readEntry(n)
			faults = append(faults, bad...)
			ig.entries[class] = append(ig.entries[class], e)
		}
	}
	slices.SortFunc(faults, func(a, b *release.Fault) int { return a.Line - b.Line })
	return ig, faults.Or()
}

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > yamlpos.MaxBytes {
		return nil, fmt.Errorf("not a file of at most %d bytes", yamlpos.MaxBytes)
	}
	return os.ReadFile(file)
}

func readEntry(n *yamlpos.Node) (ignored, release.Errors) {
	var e ignored
	if err := yamlpos.Decode(n, &e); err != nil {
		var several release.Errors
		if errors.As(err, &several) {
			return e, several
		}
		return e, release.Errors{n.Faultf("", "%w", err)}
	}
	var faults release.Errors
	require := func(ok bool, hint, format string, args ...any) {
		if !ok {
			faults = append(faults, n.Faultf(hint, format, args...))
		}
	}
	require(e.ID != "", "add id: with the finding's id", "ignore entry without an id")
	require(strings.TrimSpace(e.Statement) != "", "add statement: with the reason why this is acceptable", "ignore entry %q without a statement", e.ID)
	var err error
	e.expires, err = parseDay(e.ExpiredAt)
	require(err == nil, "add expired_at: with a day such as 2030-12-31", "ignore entry %q without a day on which it expires", e.ID)
	for _, p := range e.Paths {
		require(validPattern(p), "use *, ** and ? as in .gitignore", "ignore entry %q: path pattern %q cannot be read", e.ID, p)
	}
	for _, p := range e.PURLs {
		require(strings.HasPrefix(p, "pkg:"), "write pkg:type/name@version", "ignore entry %q: %q is not a package URL", e.ID, p)
	}
	return e, faults
}

func parseDay(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("not a day: %q", s)
}

// Apply suppresses the findings that an entry in force names. purl gives the
// package URL of the i-th finding, empty where there is none. It returns the
// entries that have expired and would have matched, for a notice.
func (ig Ignore) Apply(list []release.Finding, purl func(i int) string, now time.Time) (expired []string) {
	for i, f := range list {
		if f.Suppressed != "" {
			continue
		}
		for _, e := range ig.entries[f.Class] {
			if !e.matches(f, purl(i)) {
				continue
			}
			if !now.Before(e.expires) {
				expired = append(expired, fmt.Sprintf("%s: the exception for %s expired on %s", ig.File, e.ID, day(e.expires)))
				continue
			}
			list[i].Suppressed = fmt.Sprintf("%s (ignored until %s)", strings.TrimSpace(e.Statement), day(e.expires))
			break
		}
	}
	slices.Sort(expired)
	return slices.Compact(expired)
}

func (e ignored) matches(f release.Finding, purl string) bool {
	if e.ID != f.ID {
		return false
	}
	if len(e.Paths) > 0 && !slices.ContainsFunc(e.Paths, func(p string) bool { return matchPath(p, f.Path) }) {
		return false
	}
	return len(e.PURLs) == 0 || slices.ContainsFunc(e.PURLs, func(p string) bool { return matchPURL(p, purl) })
}

// matchPURL compares type, namespace and name, and the version and the
// qualifiers where the pattern has them. An unknown package URL never matches.
func matchPURL(pattern, purl string) bool {
	if purl == "" {
		return false
	}
	wantPath, wantQuery, _ := strings.Cut(pattern, "?")
	gotPath, gotQuery, _ := strings.Cut(purl, "?")
	wantName, wantVersion, versioned := cutVersion(wantPath)
	gotName, gotVersion, _ := cutVersion(gotPath)
	if wantName != gotName || versioned && wantVersion != gotVersion {
		return false
	}
	got := strings.Split(gotQuery, "&")
	for _, q := range strings.Split(wantQuery, "&") {
		if q != "" && !slices.Contains(got, q) {
			return false
		}
	}
	return true
}

// cutVersion splits at the last '@', which a scope such as %40angular or
// @angular does not use.
func cutVersion(s string) (name, version string, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i <= strings.LastIndexByte(s, '/') {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// validPattern refuses what path.Match would call malformed.
func validPattern(pattern string) bool {
	_, err := path.Match(pattern, "x")
	return err == nil && pattern != ""
}

// matchPath matches a pattern with *, ?, [classes] and ** (any number of
// directories) against a path without a leading slash.
func matchPath(pattern, name string) bool {
	return matchParts(strings.Split(strings.TrimPrefix(pattern, "/"), "/"), strings.Split(strings.TrimPrefix(name, "/"), "/"))
}

func matchParts(pattern, name []string) bool {
	// reach[j]: the pattern so far matches the first j parts of the name.
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for _, p := range pattern {
		next := make([]bool, len(name)+1)
		for j := range reach {
			if p == "**" {
				next[j] = reach[j] || j > 0 && next[j-1]
				continue
			}
			if j > 0 && reach[j-1] {
				ok, err := path.Match(p, name[j-1])
				next[j] = ok && err == nil
			}
		}
		reach = next
	}
	return reach[len(name)]
}
