package smoke

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

var checkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// validate refuses before anything starts what could never work.
func (o Options) validate() error {
	if len(o.Workload.Services) == 0 {
		return misconfigured("the smoke model has no services")
	}
	seen := map[string]bool{}
	for _, c := range o.Checks {
		if !checkName.MatchString(c.Name) || seen[c.Name] {
			return misconfigured("smoke check %q: want a name of its own of letters, digits, - _ and .", c.Name)
		}
		seen[c.Name] = true
		if err := o.validCheck(c); err != nil {
			return misconfigured("smoke check %s: %w", c.Name, err)
		}
	}
	if err := o.validLoad(); err != nil {
		return err
	}
	if o.Memory.Warmup >= o.Memory.Duration && o.Memory.Duration > 0 && !o.Memory.Load.none() {
		return misconfigured("smoke.memory: warmup %s leaves nothing of duration %s", o.Memory.Warmup, o.Memory.Duration)
	}
	if o.State != Recreate && o.State != Off {
		return misconfigured("smoke.state: want %s or %s, got %q", Recreate, Off, o.State)
	}
	for _, a := range o.Accept {
		if a.Environment == "" || a.Field == "" || a.Statement == "" {
			return misconfigured("smoke.parity.accept: want environment, field and a statement that says why, got %+v", a)
		}
	}
	return o.validStop(seen)
}

func (o Options) validLoad() error {
	l := o.Memory.Load
	if l.none() {
		return nil
	}
	if n := count(l.HTTP != nil, len(l.Exec) > 0, len(l.Script) > 0); n != 1 {
		return misconfigured("smoke.memory.load: want one of http, exec and script")
	}
	if len(l.Script) > 0 {
		if err := o.program(l.Script); err != nil {
			return misconfigured("smoke.memory.load: %w", err)
		}
		return nil
	}
	if err := o.target(l.Service, l.HTTP); err != nil {
		return misconfigured("smoke.memory.load: %w", err)
	}
	return nil
}

func (o Options) validStop(checks map[string]bool) error {
	s := o.Stop
	switch {
	case s.Resumed != "" && !checks[s.Resumed]:
		return misconfigured("smoke.stop: no check is named %q", s.Resumed)
	case len(s.Exec) > 0 || len(s.Script) > 0:
		return misconfigured("smoke.stop: want http")
	case s.HTTP == nil:
		return nil
	case s.Requests < 0 || s.Requests > mostRequests:
		return misconfigured("smoke.stop: requests: want at most %d, got %d", mostRequests, s.Requests)
	case !changes(*s.HTTP):
		return misconfigured("smoke.stop: write a body, or method: %s: the end of the body is what is held back", http.MethodPost)
	}
	if err := o.target(s.Service, s.HTTP); err != nil {
		return misconfigured("smoke.stop: %w", err)
	}
	return nil
}

func count(set ...bool) (n int) {
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}

func (o Options) validCheck(c Check) error {
	if n := count(c.HTTP != nil, len(c.Exec) > 0, c.TCP != 0, c.Log != "", c.LogNot != "", len(c.Script) > 0); n != 1 {
		return fmt.Errorf("want one of http, exec, tcp, log, logNot and script")
	}
	if c.Survives != "" && c.Survives != Restart && c.Survives != Recreate {
		return fmt.Errorf("survives: want %s or %s, got %q", Restart, Recreate, c.Survives)
	}
	for _, expression := range []string{c.Log, c.LogNot} {
		if _, err := regexp.Compile(expression); err != nil {
			return err
		}
	}
	if c.TCP < 0 || c.TCP > 65535 {
		return fmt.Errorf("tcp: want a port, got %d", c.TCP)
	}
	if c.Contains != "" && len(c.Exec) == 0 && len(c.Script) == 0 {
		return fmt.Errorf("contains: only exec and script have an output")
	}
	if err := o.validWrite(c); err != nil {
		return err
	}
	if len(c.Script) > 0 {
		if err := o.program(c.Script); err != nil || c.Service == "" && c.Survives == "" {
			return err
		}
	}
	return o.target(c.Service, c.HTTP)
}

func (o Options) validWrite(c Check) error {
	w := c.Write
	switch {
	case w == nil:
		return nil
	case c.Survives == "":
		return fmt.Errorf("write: nothing is done between writing and reading, want survives")
	case count(w.HTTP != nil, len(w.Exec) > 0, len(w.Script) > 0) != 1:
		return fmt.Errorf("write: want one of http, exec and script")
	case len(w.Script) > 0:
		return o.program(w.Script)
	}
	return o.target(c.Service, w.HTTP)
}

// program checks that a script lies in the project.
func (o Options) program(argv []string) error {
	if o.Dir == "" || !filepath.IsLocal(filepath.FromSlash(argv[0])) {
		return fmt.Errorf("script %q: want a program within the project", argv[0])
	}
	return nil
}

// target checks that a service is there, runs on, and has a port if one is needed.
func (o Options) target(name string, h *HTTP) error {
	s, ok := o.Workload.Service(name)
	switch {
	case !ok:
		return fmt.Errorf("the smoke model has no service %q, it has %s", name, strings.Join(serviceNames(o.Workload), ", "))
	case s.OneShot:
		return fmt.Errorf("service %s completes and answers nothing", name)
	case h != nil && h.Path != "" && !strings.HasPrefix(h.Path, "/"):
		return fmt.Errorf("path %q: want it to start with /", h.Path)
	case h != nil && portOf(s, h.Port) == 0:
		return fmt.Errorf("service %s publishes no port; write port", name)
	case h == nil:
		return nil
	}
	for path := range h.JSON {
		if _, err := stepsOf(path); err != nil {
			return fmt.Errorf("json: %w", err)
		}
	}
	return nil
}

func serviceNames(w release.Workload) []string {
	var names []string
	for _, s := range w.Services {
		names = append(names, s.Name)
	}
	return names
}

func misconfigured(format string, args ...any) error {
	return release.Faultf(release.KindConfig, "correct smoke in promote.yaml", format, args...)
}
