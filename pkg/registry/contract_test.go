package registry_test

import (
	"io"
	"log"
	"net/http"
	"testing"

	memory "github.com/google/go-containerregistry/pkg/registry"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// inMemory is go-containerregistry's registry. It shares blobs between its
// repositories and never mounts.
func inMemory(referrers bool) registrytest.Backend {
	return registrytest.Backend{
		Referrers: referrers,
		New: func(testing.TB) http.Handler {
			return memory.New(memory.WithReferrersSupport(referrers), memory.Logger(log.New(io.Discard, "", 0)))
		},
	}
}

func TestContract(t *testing.T) {
	t.Run("referrers API", func(t *testing.T) { registrytest.Contract(t, inMemory(true)) })
	t.Run("fallback tag", func(t *testing.T) { registrytest.Contract(t, inMemory(false)) })
}
