package smoke

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// run is one run under way.
type run struct {
	Options
	workload release.Workload
	token    string // a random word of this run
	monitor  *monitor
	client   *http.Client
	// reach connects to the services' ports; nil is as this machine does.
	reach    func(ctx context.Context, network, address string) (net.Conn, error)
	result   release.Smoke
	begun    time.Time // when the memory test began
	steady   time.Time // when its warm-up was over
	measured bool      // the memory test was made
	fates    []fate    // of the volumes of services that were moved
	confined confinements
	vouched  map[string]bool     // services that answered while the engine had not asked
	words    map[string]string   // the last words of services that fared badly
	said     map[string][]string // the end of each service's log
}

// teardownTime bounds taking everything down, also after ctx has ended.
const teardownTime = time.Minute

// Run runs the workload once and says what it saw: a check for each claim,
// with names such as "healthy/planner", "memory/planner" and the configured
// ones. Everything it made is gone when it returns, whatever happened.
//
// An application that fails is a result that is failed. An error means that
// the run could not be made or judged: KindConfig for options that could never
// work, KindUnavailable for an engine that does not answer, KindInterrupted
// when ctx is cancelled.
func Run(ctx context.Context, o Options) (release.Smoke, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return release.Smoke{}, err
	}
	id := newID()
	r := &run{Options: o, token: newID(), vouched: map[string]bool{}, client: newClient(4)}
	r.workload = isolate(o.Workload, id, o.reaches(), o.DenyEgress)
	if o.Owner != "" {
		r.workload.Labels[release.LabelOwner] = o.Owner
	}
	defer r.client.CloseIdleConnections()
	r.monitor = newMonitor(o.Engine, r.workload, o.Interval)
	r.result = release.Smoke{Release: o.Release, Project: r.workload.Project, Started: time.Now().UTC()}
	err := r.all(ctx)
	if down := r.teardown(ctx); down != nil {
		event.Warnf(ctx, "taking down %s failed, promote clean removes what is left: %v", r.workload.Project, down)
	}
	if err != nil {
		return release.Smoke{}, err
	}
	return r.finish()
}

// all is what a run does, in order.
func (r *run) all(ctx context.Context) error {
	r.parity()
	watching, stop := context.WithCancel(ctx)
	wait, err := r.monitor.follow(watching)
	if err != nil {
		stop()
		return err
	}
	defer wait()
	defer stop()
	ready, sniffed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sniffed)
		r.sniff(watching, ready)
	}()
	defer func() { stop(); <-sniffed }()
	up, err := r.start(ctx)
	close(ready)
	if err != nil {
		return err
	}
	r.sayings(ctx)
	if err := r.confine(ctx); err != nil {
		return err
	}
	if up {
		for _, phase := range []func(context.Context) error{r.checks, r.memoryTest} {
			if err := phase(ctx); err != nil {
				return err
			}
		}
	}
	if err := r.monitor.refresh(ctx); err != nil {
		return err
	}
	if err := r.confine(ctx); err != nil {
		return err
	}
	r.vouch(ctx)
	r.listen(ctx)
	r.judge(up)
	if up {
		if err := r.stop(ctx); err != nil {
			return err
		}
		return r.quiet(ctx)
	}
	return nil
}

// start brings everything up; up is false when the application did not come.
func (r *run) start(ctx context.Context) (up bool, err error) {
	step := event.Start(ctx, "[smoke] start %s", r.workload.Project)
	defer func() { step.Done(err) }()
	bounded, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	begin := time.Now()
	if failure := r.Runner.Up(bounded, r.workload); failure != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err := r.monitor.refresh(ctx); err != nil {
			return false, err // the engine, not the application
		}
		unwell, err := r.unwell(ctx)
		if err != nil {
			return false, err
		}
		if unwell == "" && bounded.Err() != nil {
			unwell = r.late(ctx)
		}
		if unwell == "" {
			return false, asError(failure)
		}
		r.add("start", release.Failed, "%s", unwell)
		return false, nil
	}
	r.add("start", release.Passed, "all services were well after %s", round(time.Since(begin)))
	return true, r.monitor.refresh(ctx)
}

// asError gives what is no failure of the application a kind.
func asError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && release.KindOf(err) != release.KindConfig {
		return release.Unavailable("raise smoke.timeout if images are large and the network is slow", "starting the smoke run: %w", err)
	}
	return err
}

// unwell says what is wrong with the first service that is not well; "" if it
// is none, or only some that wait.
func (r *run) unwell(ctx context.Context) (string, error) {
	seen, err := r.Engine.Observe(ctx, r.workload.Project)
	if err != nil {
		return "", err
	}
	for _, s := range r.workload.Services {
		for _, c := range seen.Containers {
			if text := ailment(c, s.OneShot); c.Service == s.Name && text != "" {
				return fmt.Sprintf("service %s %s", s.Name, r.ended(ctx, c, text)), nil
			}
		}
	}
	return "", nil
}

// ended adds to an ailment what the container said last. One that was started
// anew meanwhile has another exit code now, and its log may have begun again:
// then what was kept when it ended counts.
func (r *run) ended(ctx context.Context, c release.Container, ailment string) string {
	exits := r.monitor.get(c.Service).exits
	if c.State != "running" || c.Restarts == 0 || len(exits) == 0 {
		return ailment + r.monitor.lastWords(ctx, c.ID)
	}
	last := exits[len(exits)-1]
	if !strings.Contains(last, endOfLog) {
		last += r.monitor.lastWords(ctx, c.ID)
	}
	return fmt.Sprintf("was restarted %d times, last %s", c.Restarts, last)
}

// late says which service used up the time for starting.
func (r *run) late(ctx context.Context) string {
	for _, s := range r.workload.Services {
		switch l := r.monitor.get(s.Name); {
		case l.last.Health == "starting":
			return fmt.Sprintf("service %s was not healthy after %s%s", s.Name, r.Timeout, r.monitor.lastWords(ctx, l.id))
		case s.OneShot && l.last.State == "running":
			return fmt.Sprintf("service %s had not completed after %s%s", s.Name, r.Timeout, r.monitor.lastWords(ctx, l.id))
		}
	}
	return ""
}

// ailment says what is wrong with a container; "" if nothing is.
func ailment(c release.Container, oneShot bool) string {
	switch {
	case c.OOMKilled:
		return fmt.Sprintf("was killed for want of memory under its limit of %s", release.FormatSize(c.Memory))
	case c.State == "exited" && !(oneShot && c.ExitCode == 0), c.State == "dead":
		return fmt.Sprintf("ended with exit code %d", c.ExitCode)
	case c.State == "restarting", c.Restarts > 0:
		return fmt.Sprintf("was restarted %d times, last exit code %d", max(c.Restarts, 1), c.ExitCode)
	case c.Health == "unhealthy":
		return "is unhealthy: " + oneLine(c.HealthLog)
	}
	return ""
}

func (r *run) teardown(ctx context.Context) (err error) {
	step := event.Start(ctx, "[smoke] take down %s", r.workload.Project)
	defer func() { step.Done(err) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardownTime)
	defer cancel()
	return r.Runner.Down(ctx, r.workload.Project)
}

// keptLines and keptWidth bound what is kept of a log for people.
const (
	keptLines = 100
	keptWidth = 500
)

// listen reads the end of every log, for whoever has to find out what happened.
func (r *run) listen(ctx context.Context) {
	r.words, r.said = map[string]string{}, map[string][]string{}
	for _, s := range r.workload.Services {
		l := r.monitor.get(s.Name)
		if l.id == "" {
			continue
		}
		if l.ailing() {
			r.words[s.Name] = r.monitor.lastWords(ctx, l.id)
		}
		raw, err := r.Engine.Logs(ctx, l.id, keptLines)
		if err != nil {
			continue
		}
		for line := range strings.Lines(strings.ToValidUTF8(string(raw), "?")) {
			line = strings.TrimRight(line, "\r\n")
			if len(line) > keptWidth {
				line = strings.ToValidUTF8(line[:keptWidth], "") + "…"
			}
			r.said[s.Name] = append(r.said[s.Name], line)
		}
	}
}

func (r *run) add(name string, result release.Result, format string, args ...any) {
	c := release.SmokeCheck{Name: name, Result: result, Detail: fmt.Sprintf(format, args...)}
	if _, rest, ok := strings.Cut(name, "/"); ok { // "healthy/planner", "state/planner/memory"
		service, _, _ := strings.Cut(rest, "/")
		if _, there := r.workload.Service(service); there {
			c.Service = service
		}
	}
	r.result.Checks = append(r.result.Checks, c)
}

// finish closes the result: it is as good as its worst check.
func (r *run) finish() (release.Smoke, error) {
	r.result.Finished = time.Now().UTC()
	for i, s := range r.result.Services {
		r.result.Services[i].Marks = r.marks(r.monitor.get(s.Name))
	}
	r.result.Result = release.Failed
	if len(r.result.Checks) > 0 {
		r.result.Result = release.Passed
		for _, c := range r.result.Checks {
			r.result.Result = min(r.result.Result, c.Result)
		}
	}
	configuration := map[string]release.Digest{}
	for _, s := range r.workload.Services {
		configuration["image/"+s.Name] = s.Image.Digest
	}
	maps.Copy(configuration, r.Configuration)
	predicate, err := release.SmokePredicate(r.result, configuration)
	if err != nil {
		return release.Smoke{}, err
	}
	r.result.Predicate = predicate
	return r.result, nil
}
