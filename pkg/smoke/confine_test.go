//go:build engine

package smoke

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func TestConfinement(t *testing.T) {
	t.Parallel()
	process := func(uid int64, command string) release.Process {
		return release.Process{PID: 7, UID: uid, Name: "probe", Command: command, NoNewPrivileges: true}
	}
	seen := func(c release.Confinement) func(w *world) {
		return func(w *world) {
			w.OnConfinement = func(of release.Container) release.Confinement {
				if of.Service != "planner" {
					return release.Confinement{Known: true, RootReadOnly: true}
				}
				return c
			}
		}
	}
	writable := func(w *world) { w.change("planner", func(s *release.ServiceSpec) { s.ReadOnly = false }) }
	for name, c := range map[string]struct {
		prepare []func(w *world)
		options func(*Options)
		check   string
		result  release.Result
		words   string
	}{
		"as declared":        {[]func(*world){seen(release.Confinement{})}, nil, "unprivileged/planner", release.Passed, "runs as user 1000, as declared"},
		"as the kernel says": {[]func(*world){seen(release.Confinement{Known: true, RootReadOnly: true, Processes: []release.Process{process(1000, "run")}})}, nil, "unprivileged/planner", release.Passed, "runs as user 1000"},
		"a child is root": {[]func(*world){seen(release.Confinement{Known: true, RootReadOnly: true, Processes: []release.Process{process(1000, "run"), process(0, "su")}})}, nil,
			"unprivileged/planner", release.Failed, "its process probe runs as root, declared is user 1000"},
		"declared root": {[]func(*world){func(w *world) { w.change("planner", func(s *release.ServiceSpec) { s.User = "0:0" }) }}, nil, "unprivileged/planner", release.Warned, "runs as root"},
		"the image's user overruled": {[]func(*world){func(w *world) { w.change("planner", func(s *release.ServiceSpec) { s.User = "root" }) }},
			func(o *Options) { o.ImageUsers = map[string]string{"planner": "65532"} }, "unprivileged/planner", release.Failed, "runs as root, and its image is made for user 65532"},
		"an image for root": {[]func(*world){func(w *world) { w.change("planner", func(s *release.ServiceSpec) { s.User = "root" }) }},
			func(o *Options) { o.ImageUsers = map[string]string{"planner": "0"} }, "unprivileged/planner", release.Warned, "runs as root"},
		"read-only":               {nil, nil, "readonly/planner", release.Passed, "its root file system is read-only"},
		"read-only as declared":   {[]func(*world){seen(release.Confinement{})}, nil, "readonly/planner", release.Passed, "read-only, as declared"},
		"not read-only after all": {[]func(*world){seen(release.Confinement{Known: true})}, nil, "readonly/planner", release.Failed, "is to be read-only, and can be written"},
		"writable":                {[]func(*world){writable}, nil, "readonly/planner", release.Warned, "can be written"},
		"no new privileges":       {nil, nil, "newprivileges/planner", release.Passed, "no process may gain privileges"},
		"new privileges": {[]func(*world){func(w *world) { w.change("planner", func(s *release.ServiceSpec) { s.SecurityOpt = nil }) }}, nil,
			"newprivileges/planner", release.Warned, "may gain privileges"},
		"new privileges after all": {[]func(*world){seen(release.Confinement{Known: true, RootReadOnly: true, Processes: []release.Process{{UID: 1000, Name: "sudo"}}})}, nil,
			"newprivileges/planner", release.Failed, "its process sudo may gain privileges"},
		"writes nothing": {[]func(*world){writable}, nil, "writes/planner", release.Passed, "nothing was written"},
		"writes": {[]func(*world){writable, seen(release.Confinement{Known: true, Written: []string{"/srv/a", "/srv/b", "/srv/c", "/srv/d", "/memory"}})}, nil,
			"writes/planner", release.Warned, "wrote /srv/a, /srv/b, /srv/c and 1 more outside its volumes"},
		"writes what it may not later": {[]func(*world){writable, seen(release.Confinement{Known: true, Written: []string{"/srv/cache.db"}})},
			func(o *Options) {
				o.Environments = []string{"production"}
				o.Parity = []release.Difference{{Environment: "production", Service: "planner", Field: "readOnly", Grave: true}}
			}, "writes/planner", release.Failed, "wrote /srv/cache.db outside its volumes, where a later environment"},
		"installs nothing":  {nil, nil, "installs/planner", release.Passed, "no package manager"},
		"installs":          {[]func(*world){seen(release.Confinement{Known: true, RootReadOnly: true, Processes: []release.Process{process(1000, "pip install x")}})}, nil, "installs/planner", release.Failed, "the process pip install x"},
		"has installed":     {[]func(*world){writable, seen(release.Confinement{Known: true, Written: []string{"/usr/lib/python3/site-packages/x.py"}})}, nil, "installs/planner", release.Failed, "it wrote /usr/lib/python3/site-packages/x.py"},
		"says it installed": {[]func(*world){func(w *world) { w.logs = func(string) []byte { return []byte("starting\nadded 42 packages in 3s\n") } }}, nil, "installs/planner", release.Failed, "its log says added 42 packages"},
		"says it much later": {[]func(*world){func(w *world) {
			w.logs = func(string) []byte { return []byte(strings.Repeat("line\n", 300) + "added 42 packages in 3s\n") }
		}}, nil, "installs/planner", release.Passed, "no package manager"},
		"without a way out": {nil, func(o *Options) { o.DenyEgress = true }, "offline/planner", release.Passed, "started without a way out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, prepare := range c.prepare {
				prepare(w)
			}
			s := w.mustRun(t, c.options)
			want(t, s, c.check, c.result, c.words)
			if s := w.mustRun(t, nil); has(s, "offline/planner") {
				t.Error("claims to have been offline")
			}
		})
	}
}

func TestAShortInstallationWhileStartingIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var looks atomic.Int64
	w.OnConfinement = func(of release.Container) release.Confinement {
		c := release.Confinement{Known: true, RootReadOnly: true}
		if of.Service == "bus" && looks.Add(1) == 1 {
			c.Processes = []release.Process{{UID: 1000, NoNewPrivileges: true, Name: "pip", Command: "pip install x"}}
		}
		return c
	}
	o := w.options()
	o.Runner = slow{w}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want(t, s, "installs/bus", release.Failed, "pip install x")
	want(t, s, "installs/planner", release.Passed)
}

// Asking what was written costs an engine a walk over all of a container's
// files: that is no question for every moment.
func TestWhatWasWrittenIsAskedRarely(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var walks, looks atomic.Int64
	w.Before = func(op, _ string) error {
		switch op {
		case "confinement":
			walks.Add(1)
		case "processes":
			looks.Add(1)
		}
		return nil
	}
	o := w.options()
	o.Runner = slow{w}
	s, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(2 * len(s.Services)); walks.Load() == 0 || walks.Load() > most || looks.Load() < 3 {
		t.Errorf("asked %d times what was written by %d services (at most %d), and looked %d times at processes", walks.Load(), len(s.Services), most, looks.Load())
	}
}

// slow takes its time until everything is up.
type slow struct{ *world }

func (s slow) Up(ctx context.Context, w release.Workload) error {
	err := s.world.Up(ctx, w)
	time.Sleep(4 * starting)
	return err
}
