package examples_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/promote-dev/promote/examples"
)

func TestTheStackIsComplete(t *testing.T) {
	for _, name := range []string{
		"Dockerfile", ".dockerignore", "promote.yaml", "compose.yaml", "compose.dev.yml",
		"compose.prod-like.yml", "compose.staging.yml", "compose.prod.yml",
		"agent/planner.py", "agent/__init__.py", "prompts/plan.md", "skills/count.md",
	} {
		if content := read(t, name); len(content) == 0 && name != "agent/__init__.py" {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestEveryVariantBreaksTheStackInItsWay(t *testing.T) {
	for variant, file := range map[string]string{
		"leak":       "agent/window.py",
		"vulnerable": "agent/vendor/langchain-0.0.200.dist-info/METADATA",
		"secret":     "agent/deploy_key.pem",
	} {
		broken := read(t, "demo/"+variant+"/"+file)
		sound, err := fs.ReadFile(examples.Agent(), file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Equal(sound, broken) {
			t.Errorf("%s leaves %s as it is", variant, file)
		}
	}
}

// The committed tree must be promotable: every image by digest.
func TestEveryImageIsPinned(t *testing.T) {
	for file, keyword := range map[string]string{"Dockerfile": "FROM ", "compose.yaml": "image: "} {
		pinned := 0
		for line := range strings.Lines(string(read(t, file))) {
			reference, found := strings.CutPrefix(strings.TrimSpace(line), keyword)
			if !found || !strings.Contains(reference, ":") {
				continue // a stage that builds on another
			}
			if !strings.Contains(reference, "@sha256:") {
				t.Errorf("%s: %q has no digest", file, reference)
			}
			pinned++
		}
		if pinned == 0 {
			t.Errorf("%s: no image found", file)
		}
	}
}

// What is promoted mounts nothing of a host; only development does.
func TestOnlyDevelopmentMountsTheWorkTree(t *testing.T) {
	files, err := fs.Glob(examples.Agent(), "compose*")
	if err != nil || len(files) != 5 {
		t.Fatalf("compose files: %v (%v)", files, err)
	}
	for _, file := range files {
		binds := strings.Contains(string(read(t, file)), "type: bind")
		if development := file == "compose.dev.yml"; binds != development {
			t.Errorf("%s: bind mounts %v", file, binds)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := fs.ReadFile(examples.Agent(), name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
