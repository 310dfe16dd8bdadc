package examples_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/examples"
)

func TestWriteAgentGivesAStackThatBuilds(t *testing.T) {
	directory := t.TempDir()
	if err := examples.WriteAgent(directory); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"Dockerfile", ".dockerignore", "promote.yaml", "compose.yaml", "compose.dev.yml",
		"compose.prod-like.yml", "compose.staging.yml", "compose.prod.yml",
		"agent/planner.py", "agent/__init__.py", "prompts/plan.md", "skills/count.md",
	} {
		if _, err := os.Stat(filepath.Join(directory, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(directory, "demo")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the demo's overlays are part of the stack: %v", err)
	}
}

func TestOverlaysChangeTheStack(t *testing.T) {
	for name, file := range map[string]string{
		"leak":       "agent/window.py",
		"vulnerable": "agent/vendor/langchain-0.0.200.dist-info/METADATA",
		"secret":     "agent/deploy_key.pem",
	} {
		directory := t.TempDir()
		if err := examples.WriteAgent(directory); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(filepath.Join(directory, file))
		if err := examples.Overlay(directory, name); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil || string(before) == string(after) {
			t.Errorf("%s leaves %s as it was (%v)", name, file, err)
		}
	}
	if err := examples.Overlay(t.TempDir(), "nonsense"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown overlay: %v", err)
	}
}

// The committed tree must be promotable: every image by digest, no host path
// in what is promoted.
func TestTheStackIsPinnedAndKeepsToItself(t *testing.T) {
	directory := t.TempDir()
	if err := examples.WriteAgent(directory); err != nil {
		t.Fatal(err)
	}
	for file, keyword := range map[string]string{"Dockerfile": "FROM ", "compose.yaml": "image: "} {
		content, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			t.Fatal(err)
		}
		pinned := 0
		for line := range strings.Lines(string(content)) {
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
	promoted, err := filepath.Glob(filepath.Join(directory, "compose*"))
	if err != nil || len(promoted) != 5 {
		t.Fatalf("compose files: %v (%v)", promoted, err)
	}
	for _, file := range promoted {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "type: bind") != strings.HasSuffix(file, "compose.dev.yml") {
			t.Errorf("%s: only the development file mounts the work tree", file)
		}
	}
}
