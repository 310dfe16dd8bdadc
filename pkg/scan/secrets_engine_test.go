//go:build engine && goexperiment.jsonv2

package scan_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

// token looks like one of GitHub's and never was one.
const token = "ghp_eifae6eigh3aeSah1shahd6oi1tague6vaey"

func TestSecretsOfEveryLayer(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	s := r.push(t, r.repository("secrets"), recipe{
		layers: [][]byte{
			debian().tar(t),
			files{"app/deleted/key.pem": secret, "app/changed.pem": secret, "app/tests/key.pem": secret, "README.md": "token: " + token + "\n"}.tar(t),
			files{"app/deleted/.wh.key.pem": "", "app/changed.pem": "nothing any more\n",
				// Nothing inside an image decides about the image.
				".trivyignore.yaml": "secrets:\n  - id: private-key\n    statement: x\n    expired_at: 2099-01-01\n", ".trivyignore": "private-key\n",
				"trivy-secret.yaml": "disable-rules: [private-key, github-pat]\n"}.tar(t),
		},
		config: map[string]any{"Env": []string{"PATH=/bin", "GITHUB=" + token}},
	})
	o := options(t, db, s)
	got, err := scan.Image(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var where []string
	for _, f := range find(got, release.ClassSecret) {
		where = append(where, f.ID+" "+f.Path)
		if f.Suppressed != "" || (f.Layer == "") != strings.HasPrefix(f.Path, "(") {
			t.Errorf("finding %+v", f)
		}
	}
	slices.Sort(where)
	want := []string{"github-pat (image configuration)", "github-pat README.md", "private-key app/changed.pem", "private-key app/deleted/key.pem", "private-key app/tests/key.pem"}
	if !slices.Equal(where, want) {
		t.Errorf("secrets in %q\nwant %q", where, want)
	}
	if got.Result != release.Failed {
		t.Errorf("result %s", got.Result)
	}
	for name, evidence := range map[string][]byte{"predicate": got.Predicate, "SBOM": got.SBOM, "findings": fmt.Appendf(nil, "%+v", got.Findings)} {
		if leaks(string(evidence)) {
			t.Errorf("the %s holds a secret", name)
		}
	}
	err = filepath.WalkDir(o.CacheDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Base(path) == "trivy.db" {
			return err
		}
		raw, err := os.ReadFile(path)
		if leaks(string(raw)) {
			t.Errorf("the cache holds a secret: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func leaks(text string) bool {
	return strings.Contains(text, token) || strings.Contains(text, secret[40:90])
}

// An ignore file of the checkout counts, and what it hides stays visible.
func TestIgnoreFileOfTheCheckout(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	s := r.push(t, r.repository("ignored"), recipe{layers: [][]byte{debian().tar(t), files{"app/key.pem": secret}.tar(t), python("langchain", "0.0.200").tar(t)}})
	o := options(t, db, s)
	o.IgnoreFile = filepath.Join(t.TempDir(), ".trivyignore.yaml")
	write := func(keyExpires string) {
		text := "secrets:\n  - {id: private-key, paths: [app/*.pem], statement: made for the test, expired_at: " + keyExpires + "}\nvulnerabilities:\n"
		for _, id := range []string{"CVE-2023-36095", "CVE-2023-38860", "CVE-2023-39631"} {
			text += "  - {id: " + id + ", statement: not reachable, expired_at: 2099-01-01}\n"
		}
		text += "  - {id: CVE-2023-39659, purls: [\"pkg:pypi/langchain@0.0.200\"], statement: patched, expired_at: 2099-01-01}\n"
		if err := os.WriteFile(o.IgnoreFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("2099-01-01")
	got, err := scan.Image(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	suppressed := 0
	for _, f := range got.Findings {
		if f.Suppressed != "" {
			suppressed++
		}
	}
	if got.Result != release.Warned || suppressed != 6 || got.Summary["critical"] != 0 {
		t.Errorf("result %s, %d suppressed, summary %v", got.Result, suppressed, got.Summary)
	}
	write("2020-01-01")
	if got, err = scan.Image(t.Context(), o); err != nil || got.Result != release.Failed {
		t.Errorf("with an expired entry: %s, %v", got.Result, err)
	}
	if err := os.WriteFile(o.IgnoreFile, []byte("secrets:\n  - id: private-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), ":2:") {
		t.Errorf("an entry that explains nothing: %v", err)
	}
}

func TestCoverage(t *testing.T) {
	r := theRegistry(t)
	db := r.database(t, "trivy-db", time.Now())
	empty := debian()
	empty["var/lib/dpkg/status"] = "\n"
	node := files{"app/node_modules/left-pad/package.json": `{"name":"left-pad","version":"1.0.0"}`}
	for _, c := range []struct {
		name  string
		files files
		want  []string
	}{
		{"distribution", debian(), []string{"debian 12"}},
		{"scratch", files{"app/main.txt": "nothing to see"}, nil},
		{"covered ecosystem", python("requests", "2.31.0"), nil},
		{"other ecosystem", node, []string{"npm"}},
		{"java", files{"app/lib/x.jar": "PK"}, []string{"java archives"}},
		{"emptied package database", empty, []string{"debian 12"}},
		{"packages without a distribution", files{"var/lib/dpkg/status": debian()["var/lib/dpkg/status"]}, []string{"unknown distribution"}},
		{"end of life", files{"etc/os-release": strings.ReplaceAll(osRelease, "12", "8"), "etc/debian_version": "8.11\n", "var/lib/dpkg/status": debian()["var/lib/dpkg/status"]},
			[]string{"debian 8", "debian 8 end of life"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := r.push(t, r.repository("coverage"), recipe{layers: [][]byte{c.files.tar(t)}})
			o := options(t, db, s)
			o.Waive = nil
			got, err := scan.Image(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var gaps []string
			for _, f := range find(got, release.ClassCoverage) {
				gaps = append(gaps, f.ID)
				o.Waive = append(o.Waive, scan.Waiver{Distribution: f.ID, Statement: "known", Expires: aYear})
			}
			if !slices.Equal(gaps, c.want) {
				t.Errorf("gaps %q, want %q", gaps, c.want)
			}
			if failed := got.Result == release.Failed; failed != (len(c.want) > 0) {
				t.Errorf("result %s", got.Result)
			}
			if waived, err := scan.Image(t.Context(), o); err != nil || waived.Result == release.Failed {
				t.Errorf("waived: %s, %v", waived.Result, err)
			}
		})
	}
}
