package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func TestAPlanIsSavedAtOnceAndOverNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "production.plan")
	first, second := pipeline.SavedPlan{SchemaVersion: 1, Version: "v1"}, pipeline.SavedPlan{SchemaVersion: 1, Version: "v2"}
	for _, plan := range []pipeline.SavedPlan{first, second} {
		saved, err := savePlan(file, encoded{plan})
		if err != nil || saved.File != file {
			t.Fatalf("%+v, %v", saved, err)
		}
		text, err := os.ReadFile(file)
		if err != nil || release.DigestOf(text) != saved.Digest {
			t.Errorf("%s, %v", text, err)
		}
		if read, err := readPlan(file); err != nil || read.Version != plan.Version {
			t.Errorf("%+v, %v", read, err)
		}
	}
	other := filepath.Join(dir, "promote.yaml")
	if err := os.WriteFile(other, []byte("name: agent\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{other, dir} {
		if _, err := savePlan(there, encoded{first}); release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: %v", there, err)
		}
	}
	if text, _ := os.ReadFile(other); string(text) != "name: agent\n" {
		t.Errorf("%s", text)
	}
	if _, err := savePlan(filepath.Join(dir, "no", "plan"), encoded{first}); release.KindOf(err) != release.KindUnavailable {
		t.Error(err)
	}
	if _, err := savePlan(file, encoded{first: errors.New("none")}); err == nil {
		t.Error("nothing was saved as a plan")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// encoded gives the bytes of a plan, or an error.
type encoded struct{ first any }

func (e encoded) Save() ([]byte, error) {
	if err, ok := e.first.(error); ok {
		return nil, err
	}
	return e.first.(pipeline.SavedPlan).Encode()
}

func TestAPlanFileThatCannotBeReadIsAUsageError(t *testing.T) {
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, []byte(planPrefix), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{filepath.Join(dir, "none"): "no such file", dir: "no regular file", cut: "no saved plan", "": "reading the plan"} {
		r, errOut := testRun(t, failing(errors.New("nothing is opened for it")))
		if code := r.main(context.Background(), []string{"to", "production", "--plan=" + file}); code != 2 || !strings.Contains(errOut(), says) {
			t.Errorf("%s: exit %d, %s", file, code, errOut())
		}
	}
}
