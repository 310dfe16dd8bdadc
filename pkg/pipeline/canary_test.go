package pipeline_test

import (
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// A canary is asked the checks of watch when it is ready and when its pause is
// over. One that fails is undone, and no other host is touched.
func TestACanaryIsAskedItsChecks(t *testing.T) {
	check := func(result string) []release.WatchedCheck {
		return []release.WatchedCheck{{Name: "recalls", Service: "planner", Result: result, Detail: "it said hunter2"}}
	}
	for name, c := range map[string]struct {
		looks     []string // what the check says at each
		held      bool
		onFailure string
		kind      release.Kind
	}{
		"well":              {looks: []string{"passed", "passed"}, held: true},
		"skipped":           {looks: []string{"skipped", "skipped"}, held: true},
		"nobody knows":      {looks: []string{"unknown", "unknown"}, held: true},
		"fails when ready":  {looks: []string{"failed"}, kind: release.KindRolledBack},
		"fails at the end":  {looks: []string{"passed", "failed"}, held: true, kind: release.KindRolledBack},
		"fails and is kept": {looks: []string{"failed"}, onFailure: "stop", kind: release.KindBroken},
	} {
		w, p := fleet(t, 2, release.Strategy{Canary: 1, Pause: pause})
		if c.onFailure != "" {
			p.Project.Environments[1].OnFailure = c.onFailure
		}
		h, asked := w.hosts["h1"], 0
		h.looking = func() {
			h.checks = check(c.looks[min(asked, len(c.looks)-1)])
			asked++
		}
		_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
		if release.KindOf(err) != c.kind || asked != len(c.looks) {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
		if held := len(w.does("h1 held")) > 0; held != c.held {
			t.Errorf("%s: held: %t", name, held)
		}
		if c.kind == "" {
			continue
		}
		if !strings.Contains(err.Error(), `the canary fails the check "recalls" of planner`) || len(w.does("h2 runs")) != 0 {
			t.Errorf("%s: %v, %q", name, err, w.journal)
		}
		if undone := h.running["planner"] == w.version(t, "v1"); undone != (c.onFailure == "") {
			t.Errorf("%s: undone: %t", name, undone)
		}
		last := w.lastRecord()
		for _, text := range []string{last.Reason, last.Targets[0].Message} {
			if strings.Contains(text, "hunter2") {
				t.Errorf("%s: what a service said is recorded: %s", name, text)
			}
		}
	}
}
