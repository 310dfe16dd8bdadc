package registry_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	memory "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// inMemory is go-containerregistry's registry. It shares blobs between its
// repositories and never mounts.
func inMemory(referrers bool) registrytest.Backend {
	return registrytest.Backend{
		Referrers: referrers,
		New: func(testing.TB) http.Handler {
			blobs := &blobMap{held: map[string][]byte{}}
			return &inMemoryRegistry{blobs: blobs, refs: map[string]bool{}, Handler: memory.New(
				memory.WithReferrersSupport(referrers), memory.WithBlobHandler(blobs), memory.Logger(log.New(io.Discard, "", 0)))}
		},
	}
}

// inMemoryRegistry can say what it holds: its blobs, and what it serves for
// every reference that was ever put.
type inMemoryRegistry struct {
	http.Handler
	blobs *blobMap

	mu   sync.Mutex
	refs map[string]bool
}

var _ registrytest.Keeper = (*inMemoryRegistry)(nil)

func (m *inMemoryRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
		m.mu.Lock()
		m.refs[r.URL.Path] = true
		m.mu.Unlock()
	}
	m.Handler.ServeHTTP(w, r)
}

func (m *inMemoryRegistry) State(testing.TB) registrytest.State {
	s := registrytest.State{}
	m.mu.Lock()
	defer m.mu.Unlock()
	for path := range m.refs {
		w := httptest.NewRecorder()
		m.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code == http.StatusOK {
			s[path] = release.DigestOf(w.Body.Bytes())
			s[path+" as "+w.Header().Get("Content-Type")] = s[path]
		}
	}
	m.blobs.mu.Lock()
	defer m.blobs.mu.Unlock()
	for digest, b := range m.blobs.held {
		s["blobs/"+digest] = release.DigestOf(b)
	}
	return s
}

// blobMap is the registry's blobs.
type blobMap struct {
	mu   sync.Mutex
	held map[string][]byte
}

func (b *blobMap) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.held[h.String()]
	if !ok {
		return nil, memory.ErrNotFound
	}
	return io.NopCloser(strings.NewReader(string(content))), nil
}

func (b *blobMap) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.held[h.String()]
	if !ok {
		return 0, memory.ErrNotFound
	}
	return int64(len(content)), nil
}

func (b *blobMap) Put(_ context.Context, _ string, h v1.Hash, r io.ReadCloser) error {
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[h.String()] = content
	return nil
}

func TestContract(t *testing.T) {
	t.Run("referrers API", func(t *testing.T) { registrytest.Contract(t, inMemory(true)) })
	t.Run("fallback tag", func(t *testing.T) { registrytest.Contract(t, inMemory(false)) })
}
