package smoke

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// fakeMachine has two processes, 7 and the zombie 8, and one whose name is a trap.
func fakeMachine(t *testing.T) machine {
	t.Helper()
	root := t.TempDir()
	tail := func(state, start string) string {
		return ") " + state + strings.Repeat(" 0", 18) + " " + start + " 1 2\n"
	}
	for name, content := range map[string]string{
		"machine-id": "0123456789abcdef0123456789abcdef\n", "proc/sys/kernel/random/boot_id": "aabbccdd-0000-0000-0000-000000000000\n",
		"proc/7/stat": "7 (promote" + tail("S", "4711"), "proc/8/stat": "8 (promote" + tail("Z", "4712"), "proc/9/stat": "9 (a) S 1 2 (x" + tail("R", "4713"),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "proc/self/ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pid:[4026531836]", filepath.Join(root, "proc/self/ns/pid")); err != nil {
		t.Fatal(err)
	}
	return machineAt(filepath.Join(root, "machine-id"), filepath.Join(root, "proc"))
}

func TestOwnerTellsTheLivingFromTheDead(t *testing.T) {
	t.Parallel()
	m := fakeMachine(t)
	now := time.Unix(1_800_000_000, 0)
	mine := m.owner(7, now.Add(time.Hour))
	if f := strings.Split(mine, "/"); len(f) != 6 || f[1] != "aabbccdd" || f[2] != "4026531836" || f[3] != "7" || f[4] != "4711" || f[5] != "1800003600" || len(f[0]) != 12 || strings.Contains(mine, "0123456789ab") {
		t.Fatalf("owner %s", mine)
	}
	set := func(i int, value string) string {
		f := strings.Split(mine, "/")
		f[i] = value
		return strings.Join(f, "/")
	}
	past, future := "1799999999", "1800000001"
	for name, c := range map[string]struct {
		owner string
		m     machine
		want  bool
	}{
		"lives":                            {mine, m, false},
		"lives past its time":              {set(5, past), m, false},
		"is gone":                          {set(3, "12"), m, true},
		"is gone before its time":          {strings.Replace(set(3, "12"), "1800003600", future, 1), m, true},
		"is only remains":                  {strings.Replace(set(3, "8"), "4711", "4712", 1), m, true},
		"another process of that number":   {set(4, "1"), m, true},
		"a name with parentheses":          {strings.Replace(set(3, "9"), "4711", "4713", 1), m, false},
		"before the machine was restarted": {set(1, "00000000"), m, true},
		"another machine, in time":         {set(0, "ffffffffffff"), m, false},
		"another machine, out of time":     {strings.Replace(set(0, "ffffffffffff"), "1800003600", past, 1), m, true},
		"another machine of its own boot":  {strings.Replace(set(0, "ffffffffffff"), "aabbccdd", "00000000", 1), m, false},
		"another process namespace":        {strings.Replace(set(2, "1"), "/7/", "/12/", 1), m, false},
		"another namespace, out of time":   {strings.Replace(set(2, "1"), "1800003600", past, 1), m, true},
		"a machine without an id":          {set(3, "12"), machine{boot: m.boot, namespace: m.namespace, proc: m.proc}, false},
		"a process whose start is unknown": {set(4, "-"), m, false},
		"an owner without a machine":       {set(0, "-"), m, false},
	} {
		if got, err := c.m.stale(c.owner, now); err != nil || got != c.want {
			t.Errorf("%s: %s is over: %v %v, want %v", name, c.owner, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "x", "a/b/c/d/e/f", "a/b/c/1/e/f", "1/2/3/4/5/6/7"} {
		if _, err := m.stale(bad, now); err == nil {
			t.Errorf("%q is no owner", bad)
		}
	}
}

func TestOwnerOfThisProcess(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if over, err := thisMachine().stale(Owner(Options{}, now), now); err != nil || over {
		t.Errorf("this run is over: %v %v", over, err)
	}
	m := thisMachine()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	owner := m.owner(cmd.Process.Pid, now.Add(time.Hour))
	if over, _ := m.stale(owner, now); over {
		t.Error("a process that runs is over")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if over, _ := m.stale(owner, now); !over && m.id != "" {
		t.Error("a killed process is alive")
	}
	o := Options{Timeout: time.Minute, Memory: MemoryTest{Duration: time.Hour}, Checks: []Check{{Timeout: time.Hour}}}
	if d := o.longest(); d < 3*time.Hour+slack {
		t.Errorf("a run may take %s", d)
	}
}

// sweeping is an engine with leftovers.
type sweeping struct {
	owners map[string]string
	now    time.Time
	broken map[string]bool
	downed []string
}

func (s *sweeping) Owned(_ context.Context, label string) (map[string]string, error) {
	if label != release.LabelSmoke {
		return nil, errors.New(label)
	}
	return s.owners, nil
}

func (s *sweeping) Info(context.Context) (release.EngineInfo, error) {
	return release.EngineInfo{Time: s.now}, nil
}

func (s *sweeping) Down(_ context.Context, project string) error {
	if s.broken[project] {
		return errors.New("busy")
	}
	s.downed = append(s.downed, project)
	return nil
}

func TestSweep(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-24 * time.Hour) // the engine's clock, not ours
	foreign := func(d time.Duration) string {
		m := machine{id: "ffffffffffff", boot: "00000000", namespace: "1", proc: "/proc"}
		return m.owner(os.Getpid(), now.Add(d))
	}
	s := &sweeping{now: now, broken: map[string]bool{"d-smoke-4": true}, owners: map[string]string{
		"a-smoke-1": Owner(Options{}, now), "b-smoke-2": foreign(time.Minute), "c-smoke-3": foreign(-time.Minute), "d-smoke-4": foreign(-time.Minute),
		"e-smoke-5": foreign(-time.Minute), "f-smoke-6": "", "production": foreign(-time.Minute),
	}}
	removed, err := Sweep(context.Background(), s)
	if want := []string{"c-smoke-3", "e-smoke-5"}; !slices.Equal(removed, want) || !slices.Equal(s.downed, want) {
		t.Errorf("removed %q, took down %q", removed, s.downed)
	}
	if err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	left, err := Leftovers(context.Background(), s, true)
	if want := []string{"c-smoke-3", "d-smoke-4", "e-smoke-5", "f-smoke-6"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("leftovers %q %v", left, err)
	}
}
