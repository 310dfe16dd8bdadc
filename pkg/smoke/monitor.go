package smoke

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// monitor follows a project's containers for the whole run: by the engine's
// events, and by looking, so that a lost event costs no truth.
type monitor struct {
	engine   Engine
	project  string
	interval time.Duration

	mu       sync.Mutex
	services map[string]*life
	trouble  chan struct{} // closed when something happened that fails the run
	troubled bool
	excused  bool  // somebody's health may suffer from what is done to another
	lost     error // the engine stopped answering
}

// life is what was seen of one service.
type life struct {
	name    string
	oneShot bool
	id      string // of its container now
	calm    time.Time
	moved   bool // it is being restarted, replaced or stopped on purpose

	limit     int64
	peak      int64
	oom       bool
	oomKills  int64 // of processes in its cgroup, -1 is unknown
	unhealthy string
	exits     []string // that nobody asked for
	restarts  int
	last      release.Container
	samples   []sample
	started   []time.Time // when its process began anew, for telling lives apart
}

// silence is for how long the engine may fail to answer.
const silence = 15 * time.Second

func newMonitor(e Engine, w release.Workload, interval time.Duration) *monitor {
	m := &monitor{engine: e, project: w.Project, interval: interval, services: map[string]*life{}, trouble: make(chan struct{})}
	for _, s := range w.Services {
		m.services[s.Name] = &life{name: s.Name, oneShot: s.OneShot, limit: s.MemoryLimit, oomKills: -1}
	}
	return m
}

// follow subscribes to the events and starts sampling; both end with ctx.
func (m *monitor) follow(ctx context.Context) (wait func(), err error) {
	events, err := m.engine.Events(ctx, m.project)
	if err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	group.Go(func() {
		for e := range events {
			m.event(ctx, e)
		}
	})
	for name := range m.services {
		group.Go(func() { m.watch(ctx, name) })
	}
	return group.Wait, nil
}

func (m *monitor) event(ctx context.Context, e release.ContainerEvent) {
	var note string
	if e.Action == "die" && e.ExitCode != 0 {
		note = m.lastWords(ctx, e.Container)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.services[e.Service]
	if !ok {
		return
	}
	if e.Action == "start" {
		l.id = e.Container
	}
	if l.moved || e.Time.Before(l.calm) {
		return
	}
	switch {
	case e.Action == "oom":
		l.oom = true
		m.alarm()
	case e.Action == "die" && !(l.oneShot && e.ExitCode == 0):
		l.exits = append(l.exits, fmt.Sprintf("exit code %d%s", e.ExitCode, note))
		m.alarm()
	case strings.HasPrefix(e.Action, "health_status: unhealthy") && !m.excused:
		l.unhealthy = "it became unhealthy"
	}
}

// alarm says that there is nothing more to wait for. m.mu is held.
func (m *monitor) alarm() {
	if !m.troubled {
		m.troubled = true
		close(m.trouble)
	}
}

// lastWords gives the end of a container's log for a message.
func (m *monitor) lastWords(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	raw, err := m.engine.Logs(ctx, id, 5)
	if err != nil {
		return ""
	}
	lines := strings.TrimSpace(strings.ToValidUTF8(string(raw), "?"))
	if lines == "" {
		return ""
	}
	const most = 600
	if len(lines) > most {
		lines = "…" + strings.ToValidUTF8(lines[len(lines)-most:], "")
	}
	return "; its log ends: " + strings.Join(strings.Split(lines, "\n"), " | ")
}

// watch samples one service until ctx ends.
func (m *monitor) watch(ctx context.Context, name string) {
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	answered := time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := m.look(ctx, name, n%3 == 0)
		switch {
		case err == nil:
			answered = time.Now()
		case ctx.Err() == nil && time.Since(answered) > silence:
			m.mu.Lock()
			m.lost = err
			m.alarm()
			m.mu.Unlock()
			return
		}
	}
}

// look samples a service's memory and, if asked, its state.
func (m *monitor) look(ctx context.Context, name string, state bool) error {
	m.mu.Lock()
	id, oneShot, moved := m.services[name].id, m.services[name].oneShot, m.services[name].moved
	m.mu.Unlock()
	if id == "" || moved {
		return nil
	}
	if state {
		c, err := m.engine.Inspect(ctx, id)
		if err != nil {
			return m.gone(name, id, err)
		}
		m.seen(name, c)
		if c.State != "running" {
			return nil
		}
	}
	if oneShot {
		return nil
	}
	u, err := m.engine.Usage(ctx, id)
	if err != nil {
		return m.gone(name, id, err)
	}
	m.sampled(name, id, u)
	return nil
}

// gone forgives a failure to look at a container that was replaced meanwhile.
func (m *monitor) gone(name, id string, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.services[name]; l.moved || l.id != id {
		return nil
	}
	return err
}

func (m *monitor) seen(name string, c release.Container) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.services[name]
	if l.moved || l.id != c.ID {
		return
	}
	l.last = c
	if c.Memory > 0 {
		l.limit = c.Memory
	}
	l.restarts = max(l.restarts, c.Restarts)
	if c.OOMKilled {
		l.oom = true
	}
	if c.Health == "unhealthy" && !m.excused {
		l.unhealthy = "it is unhealthy"
		if c.HealthLog != "" {
			l.unhealthy += "; its last health check: " + oneLine(c.HealthLog)
		}
	}
	if l.oom || l.restarts > 0 {
		m.alarm()
	}
	if n := len(l.started); !c.Started.IsZero() && (n == 0 || !l.started[n-1].Equal(c.Started)) {
		l.started = append(l.started, c.Started)
	}
}

func (m *monitor) sampled(name, id string, u release.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.services[name]
	if l.moved || l.id != id || u.Memory <= 0 { // none is what a stopped container has
		return
	}
	when := time.Now()
	l.samples = append(l.samples, sample{when, u.Memory})
	l.peak = max(l.peak, u.Memory)
	if u.OOMKills > 0 {
		l.oom = true
		m.alarm()
	}
	l.oomKills = max(l.oomKills, u.OOMKills)
}

// refresh learns which container each service has now, and how it is.
func (m *monitor) refresh(ctx context.Context) error {
	seen, err := m.engine.Observe(ctx, m.project)
	if err != nil {
		return err
	}
	for _, c := range seen.Containers {
		m.mu.Lock()
		l, ok := m.services[c.Service]
		if ok {
			l.id = c.ID
		}
		m.mu.Unlock()
		if ok {
			m.seen(c.Service, c)
		}
	}
	return nil
}

// get copies what was seen of a service.
func (m *monitor) get(name string) life {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := *m.services[name]
	l.samples = slices.Clone(l.samples)
	l.exits = slices.Clone(l.exits)
	l.started = slices.Clone(l.started)
	return l
}

func (m *monitor) id(name string) string { return m.get(name).id }

func (m *monitor) alarmed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.troubled
}

func (m *monitor) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
