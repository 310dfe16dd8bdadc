//go:build engine

package smoke

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func TestAnswersInJSONAndInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int64
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" || r.URL.Path == "/warm" && asked.Add(1) < 3 {
			time.Sleep(120 * time.Millisecond)
		}
		_, _ = io.WriteString(rw, `{"loop":"ok","done":[{"n":3}]}`)
	}
	s := w.mustRun(t, func(o *Options) {
		o.Checks = []Check{
			{Name: "answers", Service: "planner", HTTP: &HTTP{Path: "/health", JSON: map[string]string{"loop": "ok", "done[0].n": "3"}, Within: 5 * time.Second}},
			{Name: "late", Service: "planner", HTTP: &HTTP{Path: "/slow", Within: 50 * time.Millisecond}, Timeout: 300 * time.Millisecond},
			{Name: "warm", Service: "planner", HTTP: &HTTP{Path: "/warm", Within: 80 * time.Millisecond}, Timeout: 30 * time.Second},
			{Name: "stuck", Service: "planner", HTTP: &HTTP{Path: "/", JSON: map[string]string{"loop": "late"}}, Timeout: 50 * time.Millisecond},
			{Name: "absent", Service: "planner", HTTP: &HTTP{Path: "/", JSON: map[string]string{"done[1]": ""}}, Timeout: 50 * time.Millisecond},
		}
	})
	want(t, s, "answers", release.Passed, "answered /health after")
	want(t, s, "late", release.Failed, "GET /slow answered 200 after 1", "want within 50ms")
	want(t, s, "warm", release.Passed) // the answer that passes counts
	want(t, s, "stuck", release.Failed, "GET /: loop is ok, want late")
	want(t, s, "absent", release.Failed, "the answer has no done[1]")
	if c := find(t, s, "late"); c.Service != "planner" || c.Seconds < 0.1 {
		t.Errorf("check %+v", c)
	}
}

func TestLogMustNotSayUntilTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var stopped atomic.Bool
	w.stop = func(string) int { stopped.Store(true); return 0 }
	w.logs = func(string) []byte {
		if stopped.Load() {
			return []byte("ready\nTraceback (most recent call last)\n")
		}
		return []byte("ready\n")
	}
	s := w.mustRun(t, func(o *Options) {
		o.Checks = []Check{{Name: "quiet", Service: "planner", LogNot: "(?i)traceback"}, {Name: "calm", Service: "planner", LogNot: "panic"}}
	})
	want(t, s, "quiet", release.Failed, "logged Traceback")
	want(t, s, "calm", release.Passed, "no line of the log matches panic")
}

// scripts makes a project with executable scripts.
func scripts(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestScriptsAreToldWhereEverythingIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := scripts(t, map[string]string{
		"story": `[ -z "$(cat)" ] && echo "$KEEP $PROMOTE_SMOKE_CHECK $PROMOTE_SMOKE_PROJECT $PROMOTE_PORT_PLANNER_8080 $PROMOTE_RELEASE" && pwd`,
		"fails": `echo no such agent >&2; exit 3`,
		"hangs": `echo waiting; sleep 300 & sleep 300`,
		"leaves": `sleep 300 &
echo started`,
	})
	s := w.mustRun(t, func(o *Options) {
		o.Dir, o.Environ = dir, []string{"PATH=" + os.Getenv("PATH"), "KEEP=it", "PROMOTE_RELEASE=forged"}
		o.Checks = []Check{
			{Name: "story", Script: []string{"story"}, Contains: "127.0.0.1:" + w.port},
			{Name: "wants", Service: "planner", Script: []string{"story"}, Contains: "no such word", Timeout: 50 * time.Millisecond},
			{Name: "fails", Script: []string{"fails"}, Timeout: 50 * time.Millisecond},
			{Name: "hangs", Script: []string{"hangs"}, Timeout: 300 * time.Millisecond},
			{Name: "leaves", Script: []string{"leaves"}},
			{Name: "absent", Script: []string{"absent"}, Timeout: 50 * time.Millisecond},
		}
	})
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "story", release.Passed, "it story "+s.Project, s.Release.String(), real[:20])
	if strings.Contains(find(t, s, "story").Detail, "forged") {
		t.Error("the environment's own PROMOTE_RELEASE wins")
	}
	want(t, s, "wants", release.Failed, `story does not say "no such word"`)
	want(t, s, "fails", release.Failed, "fails gave exit code 3: no such agent")
	want(t, s, "hangs", release.Failed, "hangs did not end in time: waiting")
	want(t, s, "leaves", release.Passed, "started")
	want(t, s, "absent", release.Failed, "absent: ")
}

func TestScriptsAreKilledWithWhatTheyStarted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "alive")
	dir := scripts(t, map[string]string{"spawn": `sh -c 'while true; do date +%N > ` + file + `; sleep 0.02; done' &
while [ ! -s ` + file + ` ]; do sleep 0.01; done
[ "$1" = stay ] && sleep 300
exit 0`})
	r := &run{Options: Options{Dir: dir}}
	for _, argv := range [][]string{{"spawn"}, {"spawn", "stay"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if argv[len(argv)-1] == "stay" {
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		}
		_, _ = r.script(ctx, argv, []string{"PATH=" + os.Getenv("PATH")})
		cancel()
		before, _ := os.ReadFile(file)
		time.Sleep(300 * time.Millisecond)
		if after, _ := os.ReadFile(file); len(before) > 0 && string(before) != string(after) {
			t.Errorf("%q left a process behind", argv)
		}
		_ = os.Remove(file)
	}
}

func TestWhatWasWrittenMustSurvive(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	kept, life := map[string]string{}, ""
	w := newWorld(t)
	forgets := ""
	w.handler = func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen, _ := w.Observe(r.Context(), find2(w))
		for _, c := range seen.Containers {
			if c.Service == "planner" && c.ID != life {
				life = c.ID
				if forgets == "everything" {
					kept = map[string]string{}
				}
			}
		}
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodPost && forgets == "refuses":
			rw.WriteHeader(http.StatusInternalServerError)
		case r.Method == http.MethodPost:
			kept[r.URL.Path] = string(body)
		default:
			fmt.Fprintf(rw, `{"value":%q}`, kept["/learn"])
		}
	}
	keeps := Check{Name: "keeps", Service: "planner", Survives: Recreate, Timeout: 300 * time.Millisecond,
		Write: &Ask{HTTP: &HTTP{Path: "/learn", Method: "POST", Body: "word-{{token}}"}}, HTTP: &HTTP{Path: "/recall", JSON: map[string]string{"value": "word-{{token}}"}}}
	for _, c := range []struct {
		forgets string
		result  release.Result
		words   string
	}{
		{"", release.Passed, "answered /recall, and again after recreate"},
		{"everything", release.Failed, "before recreate it passed, after it: GET /recall: value is , want word-"},
		{"refuses", release.Failed, "writing: POST /learn answered 500"},
	} {
		mu.Lock()
		forgets, kept, life = c.forgets, map[string]string{}, ""
		mu.Unlock()
		s := w.mustRun(t, func(o *Options) { o.Checks = []Check{keeps} })
		want(t, s, "keeps", c.result, c.words)
	}
	var words []string
	for range 2 {
		s := w.mustRun(t, func(o *Options) { o.Checks = []Check{keeps} })
		words = append(words, kept["/learn"])
		if strings.Contains(kept["/learn"], "{{") || s.Result == release.Failed && forgets == "" {
			t.Errorf("wrote %q", kept["/learn"])
		}
	}
	if words[0] != "" && words[0] == words[1] {
		t.Error("two runs write the same word")
	}
}

// find2 names the project that runs now.
func find2(w *world) string {
	owners, _ := w.Owned(context.Background(), release.LabelSmoke)
	for project := range owners {
		return project
	}
	return ""
}

func TestOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	post := &HTTP{Path: "/x", Method: "POST"}
	for words, change := range map[string]func(*Options){
		"want one of http, exec, tcp, log, logNot and script": func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", Log: "a", LogNot: "b"}} },
		"missing closing ]": func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", LogNot: "["}} },
		"want a path such as a.b[0].c": func(o *Options) {
			o.Checks = []Check{{Name: "a", Service: "planner", HTTP: &HTTP{JSON: map[string]string{"a..b": ""}}}}
		},
		"only exec and script have":         func(o *Options) { o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1, Contains: "x"}} },
		"want a program within the project": func(o *Options) { o.Dir, o.Checks = "/x", []Check{{Name: "a", Script: []string{"../sh"}}} },
		`script "x": want a program within`: func(o *Options) { o.Checks = []Check{{Name: "a", Script: []string{"x"}}} },
		`has no service ""`: func(o *Options) {
			o.Dir, o.Checks = "/x", []Check{{Name: "a", Script: []string{"x"}, Survives: Restart}}
		},
		"want survives": func(o *Options) {
			o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1, Write: &Ask{Exec: []string{"x"}}}}
		},
		"write: want one of": func(o *Options) {
			o.Checks = []Check{{Name: "a", Service: "bus", TCP: 1, Survives: Restart, Write: &Ask{}}}
		},
		"smoke.state: want recreate or off":   func(o *Options) { o.State = "keep" },
		"a statement that says why":           func(o *Options) { o.Accept = []Accepted{{Environment: "a", Field: "b"}} },
		`no check is named "x"`:               func(o *Options) { o.Stop = StopTest{Resumed: "x"} },
		"the end of the body is what is held": func(o *Options) { o.Stop = StopTest{Service: "planner", Ask: Ask{HTTP: &HTTP{Path: "/x"}}} },
		"requests: want at most 64":           func(o *Options) { o.Stop = StopTest{Service: "planner", Ask: Ask{HTTP: post}, Requests: 65} },
		"smoke.stop: want http":               func(o *Options) { o.Stop = StopTest{Ask: Ask{Exec: []string{"x"}}} },
		`smoke.stop: the smoke model has no`:  func(o *Options) { o.Stop = StopTest{Service: "x", Ask: Ask{HTTP: post}} },
		"load: script":                        func(o *Options) { o.Memory.Load = Load{Script: []string{"x"}} },
		"want one of http, exec and script":   func(o *Options) { o.Memory.Load = Load{Service: "planner", HTTP: post, Script: []string{"x"}} },
	} {
		_, err := w.run(t, change)
		if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), words) {
			t.Errorf("want %q, got %v", words, err)
		}
	}
}

func TestReachesWhatIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	o.Checks = []Check{{Service: "bus", TCP: 1}, {Service: "bus", Survives: Restart, Exec: []string{"x"}, Write: &Ask{HTTP: &HTTP{Port: 2}}}}
	o.Stop = StopTest{Service: "bus", Ask: Ask{HTTP: &HTTP{Port: 3, Method: "POST"}}}
	if got := o.reaches(); !slices.Equal(got, []reached{{"bus", 1}, {"bus", 2}, {"bus", 3}}) {
		t.Errorf("reaches %v", got)
	}
	if got := isolate(w.workload, "1", o.reaches(), true); !got.Networks[0].Internal || len(got.Services[1].Ports) > 0 {
		t.Errorf("a way out: %+v", got)
	}
}

func TestEverythingSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	mine := Owner(o, time.Now())
	var owners map[string]string
	w.handler = func(_ http.ResponseWriter, r *http.Request) {
		owners, _ = w.Owned(r.Context(), release.LabelSmoke)
	}
	s := w.mustRun(t, func(o *Options) {
		o.Owner = mine
		o.Checks = []Check{{Name: "answers", Service: "planner", HTTP: &HTTP{}}}
	})
	if len(owners) != 1 || owners[s.Project] != mine {
		t.Errorf("owners %q, want %s of %s", owners, mine, s.Project)
	}
}

func TestTheEndsOfLogsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.logs = func(service string) []byte {
		return []byte("starting\n" + strings.Repeat("x", 600) + "\ncanary of " + service + "\n")
	}
	s := w.mustRun(t, func(o *Options) {
		o.State = Off
		o.Memory = MemoryTest{Duration: 300 * time.Millisecond}
		w.memory = func(service string, running time.Duration) int64 {
			if project := find2(w); service == "planner" && running > 50*time.Millisecond {
				seen, _ := w.Observe(context.Background(), project)
				for _, c := range seen.Containers {
					if c.Service == service && c.Health == "healthy" {
						w.Change(c.ID, func(c *release.Container) { c.Health = "unhealthy" })
					}
				}
			}
			return 20 * mib
		}
	})
	want(t, s, "healthy/planner", release.Failed, "unhealthy", "its log ends: ", "canary of planner")
	for _, service := range s.Services {
		if log := service.Log; len(log) != 3 || log[2] != "canary of "+service.Name || len(log[1]) > 510 {
			t.Errorf("log of %s: %q", service.Name, log)
		}
	}
	if strings.Contains(string(s.Predicate), "canary of bus") {
		t.Error("a log is in the evidence")
	}
}

func TestAScriptIsALoadAtItsRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "runs")
	dir := scripts(t, map[string]string{"load": `[ -n "$PROMOTE_PORT_PLANNER_8080" ] && echo x >> ` + file, "broken": "echo no; exit 2"})
	load := func(script string, rate float64) func(*Options) {
		return func(o *Options) {
			o.Dir, o.Environ = dir, []string{"PATH=" + os.Getenv("PATH")}
			o.Memory = MemoryTest{Duration: time.Second, Load: Load{Script: []string{script}, Rate: rate}}
		}
	}
	s := w.mustRun(t, load("load", 5))
	want(t, s, "load", release.Passed, "ran ", "0 failed")
	if runs, _ := os.ReadFile(file); len(runs) < 2*2 || len(runs) > 2*7 {
		t.Errorf("%d runs in a second at 5 a second", len(runs)/2)
	}
	s = w.mustRun(t, load("broken", 5))
	want(t, s, "load", release.Failed, "broken gave exit code 2: no")
}
