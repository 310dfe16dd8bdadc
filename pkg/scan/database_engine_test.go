//go:build engine && goexperiment.jsonv2

package scan_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

func TestDatabaseAge(t *testing.T) {
	r := theRegistry(t)
	s := r.push(t, r.repository("aged"), recipe{layers: [][]byte{python("requests", "2.31.0").tar(t)}})
	for name, c := range map[string]struct {
		updated time.Duration
		kind    release.Kind
	}{
		"fresh":     {-time.Hour, ""},
		"too old":   {-25 * time.Hour, release.KindDenied},
		"to-morrow": {24 * time.Hour, release.KindDenied},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, r.database(t, "db-"+strings.ReplaceAll(name, " ", "-"), time.Now().Add(c.updated)), s)
			if _, err := scan.Image(t.Context(), o); release.KindOf(err) != c.kind {
				t.Errorf("%v, want kind %q", err, c.kind)
			}
			if _, err := scan.DatabaseStatus(t.Context(), o); release.KindOf(err) != c.kind {
				t.Errorf("status: %v, want kind %q", err, c.kind)
			}
		})
	}
}

func TestDatabaseMissing(t *testing.T) {
	r := theRegistry(t)
	s := r.push(t, r.repository("undatabased"), recipe{layers: [][]byte{python("requests", "2.31.0").tar(t)}})
	o := options(t, r.repository("no-such-db"), s)
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("no database in the registry: %v", err)
	}
	if _, err := scan.DatabaseStatus(t.Context(), o); release.KindOf(err) != release.KindUnavailable || !strings.Contains(hint(err), "db update") {
		t.Errorf("status: %v, hint %q", err, hint(err))
	}
	o.Offline = true
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindUnavailable || !strings.Contains(hint(err), "db update") {
		t.Errorf("offline: %v, hint %q", err, hint(err))
	}
	// An image is no database.
	o = options(t, s.Repository+"@"+s.Digest.String(), s)
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindDenied {
		t.Errorf("an image as database: %v", err)
	}
}

func hint(err error) string {
	f, ok := err.(*release.Fault)
	if !ok {
		return ""
	}
	return f.Hint
}

// A database at hand serves while the registry is away, offline, and when it
// is damaged it is fetched again.
func TestDatabaseAtHand(t *testing.T) {
	r := theRegistry(t)
	s := r.push(t, r.repository("at-hand"), recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}})
	repository := r.database(t, "trivy-db", time.Now().Add(-20*time.Hour))
	up := true
	downloads := 0
	proxy := between(t, r, func(resp *http.Response) error {
		if !up {
			resp.StatusCode = http.StatusNotFound
			resp.Body = io.NopCloser(bytes.NewReader(nil))
			resp.ContentLength = 0
		} else if strings.Contains(resp.Request.URL.Path, "/blobs/") && resp.ContentLength > 1<<20 {
			downloads++
		}
		return nil
	})
	o := options(t, proxy.host+"/"+path(repository), s)
	check := func(when string, wantDownloads int) {
		t.Helper()
		got, err := scan.Image(t.Context(), o)
		if err != nil || got.Summary["critical"] != 4 {
			t.Errorf("%s: %v, %v", when, got.Summary, err)
		}
		if downloads != wantDownloads {
			t.Errorf("%s: %d downloads, want %d", when, downloads, wantDownloads)
		}
	}
	check("at first", 1)
	check("again", 1)
	file, err := filepath.Glob(filepath.Join(o.CacheDir, "db", "*", "trivy.db"))
	if err != nil || len(file) != 1 {
		t.Fatal(file, err)
	}
	if _, err := scan.UpdateDatabase(t.Context(), o); err != nil || downloads != 1 {
		t.Errorf("an update without anything new: %d downloads, %v", downloads, err)
	}
	for name, harm := range map[string]func() error{
		"overwritten": func() error { return os.WriteFile(file[0], bytes.Repeat([]byte("x"), 55<<20), 0o600) },
		"truncated":   func() error { return os.Truncate(file[0], 1<<20) },
		"removed":     func() error { return os.Remove(file[0]) },
		"a page of it": func() error {
			raw, err := os.ReadFile(file[0])
			if err != nil {
				return err
			}
			for i := 8192; i < len(raw); i++ {
				raw[i] ^= 0x5a
			}
			return os.WriteFile(file[0], raw, 0o600)
		},
		"the whole cache": func() error { return os.RemoveAll(o.CacheDir) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		check(name, downloads+1)
	}
	o.Offline = true
	check("offline", downloads)
	o.Offline, up = false, false
	o.Now = func() time.Time { return time.Now().Add(3 * time.Hour) } // past the hour in which nobody asks again
	check("registry away", downloads)
	o.Now = func() time.Time { return time.Now().Add(5 * time.Hour) }
	if _, err := scan.Image(t.Context(), o); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("too old and the registry away: %v", err)
	}
	// The image comes from another host than the database.
	if _, err := os.Stat(filepath.Join(o.CacheDir, "layers")); err != nil {
		t.Error(err)
	}
}

// A file that was damaged without a trace of being written to is found out
// when it is read.
func TestDatabaseDamagedUnseen(t *testing.T) {
	r := theRegistry(t)
	s := r.push(t, r.repository("rotten"), recipe{layers: [][]byte{python("langchain", "0.0.200").tar(t)}})
	o := options(t, r.database(t, "trivy-db", time.Now()), s)
	if _, err := scan.UpdateDatabase(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Glob(filepath.Join(o.CacheDir, "db", "*", "trivy.db"))
	if err != nil || len(file) != 1 {
		t.Fatal(file, err)
	}
	info, err := os.Stat(file[0])
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 2 * 4096; i < len(raw); i++ { // the first two pages say that all is well
		raw[i] = 0xff
	}
	if err := os.WriteFile(file[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file[0], info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got, err := scan.Image(t.Context(), o); err != nil || got.Summary["critical"] != 4 {
		t.Errorf("%v, %v", got.Summary, err)
	}
}
