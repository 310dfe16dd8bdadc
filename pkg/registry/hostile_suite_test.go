package registry_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

func TestHostile(t *testing.T) {
	t.Run("referrers API", func(t *testing.T) { registrytest.Hostile(t, inMemory(true), 29) })
	t.Run("fallback tag", func(t *testing.T) { registrytest.Hostile(t, inMemory(false), 31) })
}
