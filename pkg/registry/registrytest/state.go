package registrytest

import (
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// State is all that a registry, a directory or a file holds: a digest of its
// bytes for each thing, by a name that is the same every time.
type State map[string]release.Digest

// Keeper is a backend that can say everything it holds.
type Keeper interface {
	http.Handler
	State(t testing.TB) State
}

// State gives what the backend holds, once no request is under way.
func (p *Proxy) State(t testing.TB) State {
	t.Helper()
	k, ok := p.backend.(Keeper)
	if !ok {
		t.Fatalf("the backend %T cannot say what it holds", p.backend)
	}
	p.Settle(t)
	return k.State(t)
}

// Files gives the state of a directory or a file: every file's bytes, every
// directory and link by its name.
func Files(t testing.TB, root string) State {
	t.Helper()
	s := State{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) { // root itself, or it went a moment ago
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() {
			s[name+"/"] = release.DigestOf([]byte(d.Type().String()))
			return nil
		}
		raw, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		s[name] = release.DigestOf(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Unchanged requires that nothing was added, removed or changed.
func Unchanged(t testing.TB, before, after State) {
	t.Helper()
	if changes := difference(before, after); len(changes) > 0 {
		t.Errorf("the destination was changed:\n%s", strings.Join(changes, "\n"))
	}
}

// UnchangedButParts allows what a copy that fails in the middle cannot take
// back: whole blobs, and whole manifests below the root, all under their own
// digest. Nothing refers to them, a registry's garbage collection removes them,
// and they are what a second attempt does not move again. Upload sessions that
// were not committed may remain, too, and files that the registry did not get
// round to renaming into their place. The root, tags, lists of referrers and
// everything that was there before are as they were.
func UnchangedButParts(t testing.TB, before, after State, parts []release.Digest) {
	t.Helper()
	changes := slices.DeleteFunc(difference(before, after), func(change string) bool {
		name, added := strings.CutPrefix(change, "+ ")
		return added && (strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".tmp") || strings.Contains(name, "/_uploads/") || part(name, after[name], parts))
	})
	if len(changes) > 0 {
		t.Errorf("the destination was changed:\n%s", strings.Join(changes, "\n"))
	}
}

// part reports whether a new thing is one of some parts, under its name, with
// its bytes, or a link of the registry's own to it.
func part(name string, content release.Digest, parts []release.Digest) bool {
	for _, d := range parts {
		if !strings.Contains(name, d.Hex()) {
			continue
		}
		if strings.HasSuffix(name, "/link") {
			return content == release.DigestOf([]byte(d.String())) && !strings.Contains(name, "/tags/")
		}
		return content == d
	}
	return false
}

func difference(before, after State) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, ok := after[name]; !ok {
			list = append(list, "- "+name)
		} else if now != before[name] {
			list = append(list, "! "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, ok := before[name]; !ok {
			list = append(list, "+ "+name)
		}
	}
	return list
}
