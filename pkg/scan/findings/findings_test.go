package findings

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

var now = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func TestCovers(t *testing.T) {
	got := Covers([]string{"vulnerability", "pip::PyPA", "pip::GitHub", "debian 12", "data-source", "Red Hat", "Red Hat CPE", "go::Go"})
	want := []string{"Red Hat", "debian 12", "go", "pip"}
	if !slices.Equal(got, want) {
		t.Errorf("covers %q, want %q", got, want)
	}
}

func TestDistribution(t *testing.T) {
	for _, c := range [][3]string{
		{"debian", "12.11", "debian 12"}, {"debian", "12", "debian 12"}, {"ubuntu", "22.04", "ubuntu 22.04"},
		{"alpine", "3.19.1", "alpine 3.19"}, {"alpine", "3.21_alpha20240606", "alpine edge"},
		{"amazon", "2023.4.20240319 (Amazon Linux)", "amazon linux 2023"}, {"amazon", "2018.03", "amazon linux 1"}, {"amazon", "", "amazon linux 1"},
		{"redhat", "9.3", "Red Hat"}, {"centos", "7.9", "Red Hat"}, {"oracle", "8.9", "Oracle Linux 8"}, {"rocky", "9.1", "rocky 9"},
		{"alma", "8.5", "alma 8"}, {"azurelinux", "3.0.20240727", "Azure Linux 3.0"}, {"cbl-mariner", "2.0.20220124", "CBL-Mariner 2.0"},
		{"photon", "4.0", "Photon OS 4.0"}, {"sles", "15.4", "SUSE Linux Enterprise 15.4"}, {"wolfi", "20230201", "wolfi"},
		{"opensuse-tumbleweed", "20240101", "openSUSE Tumbleweed"}, {"fedora", "40", "fedora 40"}, {"plan9", "", "plan9"},
	} {
		if got := Distribution(c[0], c[1]); got != c[2] {
			t.Errorf("%s %s is %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestUncoveredAndWaived(t *testing.T) {
	held := []Held{{"debian 12", 90}, {"pip", 3}, {"npm", 1}}
	list := Uncovered(held, []string{"pip", "go"})
	if len(list) != 2 || list[0].ID != "debian 12" || !strings.Contains(list[0].Title, "90 packages") || list[1].ID != "npm" {
		t.Fatalf("uncovered %+v, want debian 12 and npm", list)
	}
	if release.JudgeFindings(list, "critical") != release.Failed {
		t.Error("an uncovered distribution passes")
	}
	waivers := []Waiver{{Distribution: "debian 12", Statement: "demo", Expires: now.Add(time.Hour)}, {Distribution: "npm", Statement: "old", Expires: now}}
	if err := Waive(list, waivers, now); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(list[0].Suppressed, "demo") || !strings.Contains(list[0].Suppressed, "2030-01-02") {
		t.Errorf("not waived: %+v", list[0])
	}
	if list[1].Suppressed != "" || !strings.Contains(list[1].Title, "expired on 2030-01-02") {
		t.Errorf("an expired waiver: %+v", list[1])
	}
	if got := release.JudgeFindings(list[:1], "critical"); got != release.Warned {
		t.Errorf("a waived gap is %s, want warned", got)
	}
	for _, w := range []Waiver{{}, {Distribution: "x", Statement: " ", Expires: now}, {Distribution: "x", Statement: "y"}, {Statement: "y", Expires: now}} {
		if err := Waive(list, []Waiver{w}, now); release.KindOf(err) != release.KindConfig {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestCheckAge(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		most time.Duration
		ok   bool
	}{
		{time.Hour, 24 * time.Hour, true},
		{24 * time.Hour, 24 * time.Hour, true},
		{24*time.Hour + time.Second, 24 * time.Hour, false},
		{-time.Minute, 24 * time.Hour, true},
		{-time.Hour, 24 * time.Hour, false},
		{time.Second, 0, false},
	} {
		err := CheckAge(release.Database{UpdatedAt: now.Add(-c.age)}, c.most, now)
		if (err == nil) != c.ok || err != nil && release.KindOf(err) != release.KindDenied {
			t.Errorf("age %s of %s: %v", c.age, c.most, err)
		}
	}
	if CheckAge(release.Database{}, time.Hour, now) == nil {
		t.Error("a database without a date is fresh")
	}
}

func TestNeedsUpdate(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name             string
		age, next, asked time.Duration // ago
		want             bool
	}{
		{"new", time.Hour, -5 * time.Hour, 2 * time.Hour, false},
		{"past its next update", 7 * time.Hour, time.Hour, 2 * time.Hour, true},
		{"asked a moment ago", 7 * time.Hour, time.Hour, time.Minute, false},
		{"too old, whoever asked when", 25 * time.Hour, time.Hour, time.Minute, true},
		{"half way to too old", 13 * time.Hour, -5 * time.Hour, 2 * time.Hour, true},
		{"asked in the future", 7 * time.Hour, time.Hour, -2 * time.Hour, true},
		{"from the future", -2 * time.Hour, -20 * time.Hour, time.Minute, true},
	} {
		d := release.Database{UpdatedAt: now.Add(-c.age)}
		if got := NeedsUpdate(d, now.Add(-c.next), now.Add(-c.asked), day, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), ".trivyignore.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestIgnore(t *testing.T) {
	ig, err := LoadIgnore(write(t, `
vulnerabilities:
  - id: CVE-1
    statement: not reachable
    expired_at: 2030-02-01
  - id: CVE-2
    paths: ["app/**/METADATA"]
    statement: only in the tests
    expired_at: 2030-02-01
  - id: CVE-3
    purls: ["pkg:pypi/langchain@0.0.200"]
    statement: patched by hand
    expired_at: "2030-02-01T00:00:00Z"
  - id: CVE-4
    statement: was fine
    expired_at: 2030-01-02
secrets:
  - id: private-key
    paths: [etc/test.pem]
    statement: a test key
    expired_at: 2030-02-01
`))
	if err != nil {
		t.Fatal(err)
	}
	v := func(id, path string) release.Finding {
		return release.Finding{ID: id, Class: release.ClassVulnerability, Severity: "critical", Path: path}
	}
	list := []release.Finding{
		v("CVE-1", "x"), v("CVE-2", "app/a/b/METADATA"), v("CVE-2", "lib/METADATA"), v("CVE-3", ""), v("CVE-3", "other"), v("CVE-4", ""),
		{ID: "private-key", Class: release.ClassSecret, Path: "/etc/test.pem"}, {ID: "private-key", Class: release.ClassSecret, Path: "/etc/real.pem"},
		{ID: "CVE-1", Class: release.ClassSecret},
	}
	purls := []string{3: "pkg:pypi/langchain@0.0.200", 4: "pkg:pypi/langchain@0.0.201", 8: ""}
	expired := ig.Apply(list, func(i int) string { return purls[i] }, now)
	want := []bool{true, true, false, true, false, false, true, false, false}
	for i, f := range list {
		if (f.Suppressed != "") != want[i] {
			t.Errorf("%d %s %s: suppressed by %q, want %v", i, f.ID, f.Path, f.Suppressed, want[i])
		}
	}
	if len(expired) != 1 || !strings.Contains(expired[0], "CVE-4 expired on 2030-01-02") {
		t.Errorf("expired %q", expired)
	}
	if ig.Digest.IsZero() {
		t.Error("exceptions without a digest")
	}
}

func TestIgnoreRefusesWhatExplainsNothing(t *testing.T) {
	_, err := LoadIgnore(write(t, `vulnerabilities:
  - id: CVE-1
    expired_at: 2030-02-01
  - id: CVE-2
    statement: forever
  - statement: nothing
    expired_at: soon
  - id: CVE-3
    statment: typo
secrets:
  - id: key
    paths: ["[a"]
    statement: x
    expired_at: 2030-02-01
`))
	var faults release.Errors
	if !errors.As(err, &faults) {
		t.Fatalf("%v is not a list of faults", err)
	}
	var lines []int
	for _, f := range faults {
		if f.Kind != release.KindConfig || f.File == "" {
			t.Errorf("%v is of kind %s", f, f.Kind)
		}
		lines = append(lines, f.Line)
	}
	if want := []int{2, 4, 6, 6, 9, 11}; !slices.Equal(lines, want) {
		t.Errorf("faults on lines %v, want %v:\n%v", lines, want, err)
	}
	if _, err := LoadIgnore(write(t, "vulnerabilites: []\n")); release.KindOf(err) != release.KindConfig {
		t.Errorf("an unknown section: %v", err)
	}
	if ig, err := LoadIgnore(filepath.Join(t.TempDir(), "none")); err != nil || !ig.Digest.IsZero() {
		t.Errorf("no file: %v", err)
	}
	if _, err := LoadIgnore(t.TempDir()); release.KindOf(err) != release.KindConfig {
		t.Errorf("a directory: %v", err)
	}
}

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/*", "a/b", true}, {"a/*", "a/b/c", false}, {"**/c", "a/b/c", true}, {"**", "a/b", true},
		{"a/**", "a", true}, {"a/**/c", "a/c", true}, {"/a/b", "a/b", true}, {"a?c", "abc", true}, {"*", "a/b", false},
		{"**/**/**/x", strings.Repeat("a/", 2000) + "y", false},
	} {
		if got := matchPath(c.pattern, c.name); got != c.want {
			t.Errorf("%q on %.20q: %v", c.pattern, c.name, got)
		}
	}
}

func TestMatchPURL(t *testing.T) {
	const deb = "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12"
	for _, c := range []struct {
		pattern, purl string
		want          bool
	}{
		{"pkg:deb/debian/openssl", deb, true}, {"pkg:deb/debian/openssl@3.0.1", deb, true}, {"pkg:deb/debian/openssl@3.0.2", deb, false},
		{"pkg:deb/debian/openssl?arch=amd64", deb, true}, {"pkg:deb/debian/openssl?arch=arm64", deb, false}, {"pkg:deb/debian/open", deb, false},
		{"pkg:npm/%40angular/core", "pkg:npm/%40angular/core@1.0", true}, {"pkg:npm/@angular/core", "pkg:npm/@angular/core@1.0", true},
		{"pkg:pypi/x", "", false},
	} {
		if got := matchPURL(c.pattern, c.purl); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.purl, got)
		}
	}
}
