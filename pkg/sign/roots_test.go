package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/promote-dev/promote/pkg/release"
)

// source counts how often a root is fetched, and gives what it is told.
type source struct {
	asked int
	text  []byte
	err   error
}

func (s *source) fetch(context.Context, string) ([]byte, error) {
	s.asked++
	return s.text, s.err
}

var today = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestRoots(t *testing.T) {
	first, second := EmptyTrustedRoot(), append(EmptyTrustedRoot(), '\n')
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		after   time.Duration // since the first time
		offline bool
		err     error // of the source
		damage  func(path string) error
		asked   int
		kind    release.Kind
		want    []byte
	}{
		"fresh":                    {after: time.Hour, want: first},
		"fresh, offline":           {after: time.Hour, offline: true, want: first},
		"half as old":              {after: 4 * day, asked: 1, want: first}, // refreshed beside the work
		"half as old, offline":     {after: 4 * day, offline: true, want: first},
		"half as old, no network":  {after: 4 * day, asked: 1, err: errors.New("no route"), want: first},
		"too old":                  {after: 8 * day, asked: 1, want: second},
		"too old, offline":         {after: 8 * day, offline: true, kind: release.KindUnavailable},
		"too old, no network":      {after: 8 * day, asked: 1, err: errors.New("no route"), kind: release.KindUnavailable},
		"of tomorrow":              {after: -day, asked: 1, want: second},
		"of tomorrow, no network":  {after: -day, asked: 1, err: errors.New("no route"), kind: release.KindUnavailable},
		"gone":                     {after: time.Hour, damage: os.Remove, asked: 1, want: second},
		"gone, offline":            {after: time.Hour, damage: os.Remove, offline: true, kind: release.KindUnavailable},
		"damaged":                  {after: time.Hour, damage: flip, asked: 1, want: second},
		"damaged, offline":         {after: time.Hour, damage: flip, offline: true, kind: release.KindUnavailable},
		"cut off":                  {after: time.Hour, damage: func(p string) error { return os.Truncate(p, 40) }, asked: 1, want: second},
		"too large, and no bounds": {after: time.Hour, damage: func(p string) error { return os.Truncate(p, 4*maxRoot) }, asked: 1, want: second},
	} {
		t.Run(name, func(t *testing.T) {
			from := &source{text: first}
			beside := make(chan error, 1)
			now := today
			r := Roots{Dir: filepath.Join(t.TempDir(), "roots"), Fetch: from.fetch, Now: func() time.Time { return now }, background: func(err error) { beside <- err }}
			if _, err := r.Root(t.Context()); err != nil || from.asked != 1 {
				t.Fatalf("asked %d times: %v", from.asked, err)
			}
			if c.damage != nil {
				if err := c.damage(r.file()); err != nil {
					t.Fatal(err)
				}
			}
			now, from.asked, from.text, from.err, r.Offline = today.Add(c.after), 0, second, c.err, c.offline
			root, err := r.Root(t.Context())
			if c.asked == 1 && c.after == 4*day {
				if refreshed := <-beside; (refreshed == nil) != (c.err == nil) {
					t.Errorf("refreshed: %v", refreshed)
				}
			}
			if from.asked != c.asked || (err == nil) != (c.kind == "") || err != nil && release.KindOf(err) != c.kind {
				t.Fatalf("asked %d times, %s: %v", from.asked, release.KindOf(err), err)
			}
			if err == nil && root.Digest() != release.DigestOf(c.want) {
				t.Errorf("another root")
			}
		})
	}
}

// flip changes a letter of what is kept.
func flip(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(`"root":"e`), []byte(`"root":"f`), 1), 0o600)
}

// repository is an update framework's repository, of which one key signs all.
type repository struct {
	key   signature.Signer
	files map[string][]byte
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.LoadSigner(private, crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{key: key, files: map[string][]byte{}}
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	root := metadata.Root(time.Now().Add(time.Hour))
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		if err := root.Signed.AddKey(public, role); err != nil {
			t.Fatal(err)
		}
	}
	r.files["1.root.json"] = signed(t, r.key, root)
	return r
}

func signed[T metadata.Roles](t *testing.T, key signature.Signer, m *metadata.Metadata[T]) []byte {
	t.Helper()
	if _, err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
	text, err := m.ToBytes(false)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publish makes a version of what the repository holds.
func (r *repository) publish(t *testing.T, version int64, text []byte) {
	t.Helper()
	soon := time.Now().Add(time.Hour)
	file, err := metadata.TargetFile().FromBytes("trusted_root.json", text, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	number := string(rune('0' + version))
	targets := metadata.Targets(soon)
	targets.Signed.Version = version
	targets.Signed.Targets["trusted_root.json"] = file
	snapshot := metadata.Snapshot(soon)
	snapshot.Signed.Version = version
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(version)
	timestamp := metadata.Timestamp(soon)
	timestamp.Signed.Version = version
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(version)
	r.files[number+".targets.json"] = signed(t, r.key, targets)
	r.files[number+".snapshot.json"] = signed(t, r.key, snapshot)
	r.files["timestamp.json"] = signed(t, r.key, timestamp)
	r.files["targets/"+file.Hashes["sha256"].String()+".trusted_root.json"] = text
}

func (r *repository) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	text, ok := r.files[strings.TrimPrefix(q.URL.Path, "/")]
	if !ok {
		http.NotFound(w, q)
		return
	}
	_, _ = w.Write(text)
}

// The framework's newest root is the one that counts: an older one is refused,
// and so is one that its keys did not sign.
func TestFetchRoot(t *testing.T) {
	repository := newRepository(t)
	server := httptest.NewServer(repository)
	defer server.Close()
	dir := t.TempDir()
	fetch := func() ([]byte, error) {
		return fetchRoot(dir, tuf.DefaultOptions().WithRoot(repository.files["1.root.json"]).WithRepositoryBaseURL(server.URL).WithFetcher(fetcher{impatient(t.Context())}))
	}
	repository.publish(t, 1, []byte("one"))
	old := map[string][]byte{}
	for name, text := range repository.files {
		old[name] = text
	}
	for version, want := range []string{"one", "one", "two"} {
		if version == 2 {
			repository.publish(t, 2, []byte(want))
		}
		if text, err := fetch(); err != nil || string(text) != want {
			t.Fatalf("%d: %q, %v", version, text, err)
		}
	}
	newest := repository.files
	repository.files = old
	if text, err := fetch(); err == nil {
		t.Errorf("goes back to %q", text)
	}
	repository.files = newest
	name := ""
	for file := range newest {
		if strings.HasPrefix(file, "targets/") && string(newest[file]) == "two" {
			name = file
		}
	}
	newest[name] = []byte("too")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := fetch(); err == nil {
		t.Errorf("takes %q, which nobody signed", text)
	}
}
