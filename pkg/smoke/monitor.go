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
	highWater int64
	cache     int64
	fds       int64 // the most seen, -1 is unknown
	tasks     int64
	taskLimit int64
	unhealthy string
	signals   int      // that the engine sent to it
	exits     []string // that nobody asked for
	restarts  int
	last      release.Container
	samples   []sample
	started   []time.Time // when its process began anew, for telling lives apart
	history   history     // of all its lives, for a picture
	marks     []moment
}

// silence is for how long the engine may fail to answer.
const silence = 15 * time.Second

func newMonitor(e Engine, w release.Workload, interval time.Duration) *monitor {
	m := &monitor{engine: e, project: w.Project, interval: interval, services: map[string]*life{}, trouble: make(chan struct{})}
	for _, s := range w.Services {
		m.services[s.Name] = &life{name: s.Name, oneShot: s.OneShot, limit: s.MemoryLimit, oomKills: -1, fds: -1, tasks: -1}
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
	if e.Action == "kill" {
		l.signals++
	}
	if l.moved || e.Time.Before(l.calm) {
		return
	}
	switch {
	case e.Action == "oom":
		l.oom = true
		l.mark(e.Time, release.MarkOOM, "the engine says so")
		m.alarm()
	case e.Action == "die" && !(l.oneShot && e.ExitCode == 0):
		l.mark(e.Time, release.MarkExit, fmt.Sprintf("exit code %d", e.ExitCode))
		l.exits = append(l.exits, fmt.Sprintf("exit code %d%s", e.ExitCode, note))
		m.alarm()
	case strings.HasPrefix(e.Action, "health_status: unhealthy") && !m.excused:
		l.unhealthy = "it became unhealthy"
		l.mark(e.Time, release.MarkUnhealthy, "")
	}
}

// alarm says that there is nothing more to wait for. m.mu is held.
func (m *monitor) alarm() {
	if !m.troubled {
		m.troubled = true
		close(m.trouble)
	}
}

const endOfLog = "; its log ends: "

// lastWords gives the end of a container's log for a message.
func (m *monitor) lastWords(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	raw, err := m.engine.Logs(ctx, id, 5)
	if err != nil {
		return "; its log could not be read: " + oneLine(err.Error())
	}
	lines := strings.TrimSpace(strings.ToValidUTF8(string(raw), "?"))
	if lines == "" {
		return ""
	}
	const most = 600
	if len(lines) > most {
		lines = "…" + strings.ToValidUTF8(lines[len(lines)-most:], "")
	}
	return endOfLog + strings.Join(strings.Split(lines, "\n"), " | ")
}

// How often to look, where the run's options don't say: at memory, as often as
// a short peak needs where the kernel is asked and as often as engines publish
// it elsewhere; at the state of the container, which costs two calls.
const (
	kernelInterval = 100 * time.Millisecond
	engineInterval = time.Second
	stateInterval  = time.Second
)

// watch samples one service until ctx ends.
func (m *monitor) watch(ctx context.Context, name string) {
	every := m.interval
	if every <= 0 {
		every = kernelInterval
	}
	answered := time.Now()
	var stated time.Time
	for next := time.Now().Add(every); ; next = m.due(next, every) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		state := time.Since(stated) >= min(stateInterval, 3*every)
		if state {
			stated = time.Now()
		}
		kernel, err := m.look(ctx, name, state)
		if m.interval <= 0 && err == nil {
			every = kernelInterval
			if !kernel {
				every = engineInterval
			}
		}
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

// due gives the time of the next look: in step, but what was missed is not
// made up for.
func (m *monitor) due(last time.Time, every time.Duration) time.Time {
	next := last.Add(every)
	if now := time.Now(); next.Before(now) {
		return now
	}
	return next
}

// look samples a service's memory and, if asked, its state. kernel is false
// when memory was told by the engine, which is not quick.
func (m *monitor) look(ctx context.Context, name string, state bool) (kernel bool, err error) {
	m.mu.Lock()
	id, oneShot, moved := m.services[name].id, m.services[name].oneShot, m.services[name].moved
	m.mu.Unlock()
	if id == "" || moved {
		return true, nil
	}
	if state {
		c, err := m.engine.Inspect(ctx, id)
		if err != nil {
			return true, m.gone(name, id, err)
		}
		m.seen(name, c)
		if c.State != "running" {
			return true, nil
		}
	}
	if oneShot {
		return false, nil
	}
	u, err := m.engine.Usage(ctx, id)
	if err != nil {
		return true, m.gone(name, id, err)
	}
	m.sampled(name, id, u)
	return u.Kernel, nil
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
	if c.Restarts > l.restarts {
		l.mark(time.Now(), release.MarkRestart, "")
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
	s := sampleOf(u, time.Now())
	l.samples = append(l.samples, s)
	l.history.add(s.at, u.Memory)
	l.peak, l.cache = max(l.peak, u.Memory), max(l.cache, u.Cache)
	l.highWater = max(l.highWater, u.HighWater, u.Memory+u.Cache)
	l.fds, l.tasks, l.taskLimit = max(l.fds, u.FDs), max(l.tasks, u.Tasks), u.TaskLimit
	if u.OOMKills > max(l.oomKills, 0) {
		l.mark(s.at, release.MarkOOM, "the kernel killed a process")
		l.oom = true
		m.alarm()
	}
	l.oomKills = max(l.oomKills, u.OOMKills)
}

// sampleOf keeps what a judgement needs. Growth is told from what only the
// program can give back; an engine that does not tell it apart leaves all of the
// working set.
func sampleOf(u release.Usage, when time.Time) sample {
	own := u.Anonymous
	if own <= 0 {
		own = u.Memory
	}
	return sample{at: when, bytes: own, other: max(0, u.Memory-own), fds: u.FDs, tasks: u.Tasks, periods: u.Periods, throttled: u.Throttled}
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
	l.history.stretches = slices.Clone(l.history.stretches)
	l.marks = slices.Clone(l.marks)
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
