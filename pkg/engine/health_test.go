package engine

import (
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// A health check is asked as the engine asks it.
func TestHealthTest(t *testing.T) {
	for _, c := range []struct {
		shell, test, want []string
	}{
		{nil, []string{"CMD", "/probe", "a b"}, []string{"/probe", "a b"}},
		{nil, []string{"CMD-SHELL", "probe || exit 1"}, []string{"/bin/sh", "-c", "probe || exit 1"}},
		{[]string{"/bin/bash", "-eo", "pipefail", "-c"}, []string{"CMD-SHELL", "a | b"}, []string{"/bin/bash", "-eo", "pipefail", "-c", "a | b"}},
		{[]string{"/bin/bash", "-c"}, []string{"CMD", "a"}, []string{"a"}},
		{nil, []string{"NONE"}, nil},
		{nil, nil, nil},
	} {
		config := &container.Config{Shell: c.shell}
		if c.test != nil {
			config.Healthcheck = &container.HealthConfig{Test: c.test}
		}
		if got := healthTest(config); !slices.Equal(got, c.want) {
			t.Errorf("%q with the shell %q: %q, want %q", c.test, c.shell, got, c.want)
		}
	}
}
