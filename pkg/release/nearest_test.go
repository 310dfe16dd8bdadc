package release_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func TestNearest(t *testing.T) {
	known := []string{"name", "registry", "environments", "compose", "onFailure"}
	for key, want := range map[string]string{
		"regsitry": "registry", "Name": "name", "enviroments": "environments",
		"onfailure": "onFailure", "zebra": "", "x": "", "ab": "",
	} {
		if got := release.Nearest(key, known); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}
