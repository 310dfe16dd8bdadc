//go:build e2e

package e2e

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke/smoketest"
)

var (
	rounds = flag.Int("rounds", 1, "how often the example's smoke run is made")
	only   = flag.String("variants", "", "a regular expression for the names of the examples to run")
	table  = flag.String("table", "", "a document whose table of variants is brought up to date")
)

// The example passes each time under the demo's full memory test, and with the
// demo's leak it fails each time, for the leak.
func TestTheExampleIsJudgedTheSameEachTime(t *testing.T) {
	s := theStage
	before := s.git(t, "rev-parse", "HEAD")
	defer s.git(t, "reset", "-q", "--hard", before)
	s.rewrite(t, "promote.yaml", shortMemory, fullMemory)
	s.git(t, "commit", "-q", "-a", "-m", "full smoke runs")
	s.must(t, &releaseResult{}, "release")
	rows := map[string]smoketest.Row{}
	examples := smoketest.Examples()
	healthy, leaky := examples[0], examples[1]
	repeat(t, rows, healthy.Name, func() (string, error) {
		o := s.promote(t, "smoke", "-o", "json")
		var result release.Smoke
		if err := json.Unmarshal([]byte(o.stdout), &result); err != nil {
			t.Logf("%s", o.stderr)
			return "", err
		}
		return healthy.Said(result), healthy.Judge(result)
	})
	s.overlay(t, "leak")
	repeat(t, rows, leaky.Name, func() (string, error) {
		o := s.promote(t, "release")
		result := denied(o.stderr)
		if o.code != 3 {
			result.Result = release.Passed
		}
		return leaky.Said(result), leaky.Judge(result)
	})
}

// repeat makes an example's runs, and brings the table up to date after each.
func repeat(t *testing.T, rows map[string]smoketest.Row, name string, one func() (string, error)) {
	t.Helper()
	if !regexp.MustCompile(*only).MatchString(name) {
		return
	}
	var row smoketest.Row
	var took []time.Duration
	for range *rounds {
		begin := time.Now()
		said, err := one()
		took = append(took, time.Since(begin))
		row.Runs++
		if err == nil {
			row.Right++
			row.Said = said
			t.Logf("%s, run %d: %s", name, row.Runs, said)
		} else {
			t.Errorf("%s, run %d: %v", name, row.Runs, err)
		}
		row.Median = slices.Sorted(slices.Values(took))[len(took)/2]
		rows[name] = row
		publish(t, rows)
	}
}

func publish(t *testing.T, rows map[string]smoketest.Row) {
	t.Helper()
	if *table == "" {
		return
	}
	text, err := os.ReadFile(*table)
	if err == nil {
		text, err = smoketest.Update(text, rows)
	}
	if err == nil {
		err = os.WriteFile(*table, text, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

var reason = regexp.MustCompile(`smoke/([a-z]+/[a-z]+|[a-z]+): (.*)`)

// denied reads the failed checks back from what a denial says.
func denied(said string) release.Smoke {
	out := release.Smoke{Result: release.Failed}
	for _, m := range reason.FindAllStringSubmatch(said, -1) {
		out.Checks = append(out.Checks, release.SmokeCheck{Name: m[1], Result: release.Failed, Detail: m[2]})
	}
	return out
}

func (s *stage) rewrite(t *testing.T, file, old, new string) {
	t.Helper()
	path := filepath.Join(s.tree, file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%s does not hold %q once", file, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// overlay commits one of the demo's variants.
func (s *stage) overlay(t *testing.T, name string) {
	t.Helper()
	root := filepath.Join("..", "..", "examples", "agent", "demo", name)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.tree, relative), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	s.git(t, "add", "-A")
	s.git(t, "commit", "-q", "-m", "the "+name+" variant")
}
