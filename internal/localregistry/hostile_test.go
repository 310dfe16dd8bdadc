//go:build engine

package localregistry_test

import (
	"maps"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// onDisk is the registry with all it holds: every file and directory under its
// root, upload sessions and links included.
type onDisk struct {
	http.Handler
	content string
}

var _ registrytest.Keeper = onDisk{}

// State waits until nothing moves any more: the registry may still be at work
// for a client that has left.
func (d onDisk) State(t testing.TB) registrytest.State {
	t.Helper()
	before := registrytest.Files(t, d.content)
	for range 500 {
		time.Sleep(10 * time.Millisecond)
		after := registrytest.Files(t, d.content)
		if maps.Equal(before, after) {
			return after
		}
		before = after
	}
	t.Error("the registry does not come to rest")
	return before
}

func TestHostile(t *testing.T) {
	registrytest.Hostile(t, registrytest.Backend{
		Mounts: true,
		New: func(t testing.TB) http.Handler {
			root := t.TempDir()
			return onDisk{handler(serve(t, root).Addr()), filepath.Join(root, "docker")}
		},
	}, 9) // the registries in memory run them all
}
