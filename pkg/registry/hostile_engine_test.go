//go:build engine

package registry_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// Every cell of the matrix; the fast tests run a part of them.
func TestHostileWhole(t *testing.T) {
	t.Run("referrers API", func(t *testing.T) { registrytest.Hostile(t, inMemory(true), 1) })
	t.Run("fallback tag", func(t *testing.T) { registrytest.Hostile(t, inMemory(false), 1) })
}
