package config

import (
	"regexp"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

var (
	checkPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	methodPattern = regexp.MustCompile(`^[A-Z]{1,20}$`)
)

func (k *checker) smoke() {
	s := k.c.Smoke
	k.files(at("smoke", "files"), s.Files)
	k.positive(at("smoke", "timeout"), s.Timeout)
	seen := map[string]bool{}
	for i, c := range s.Checks {
		p := at("smoke", "checks").index(i)
		if k.required(p.key("name"), c.Name, "answers") {
			k.matches(p.key("name"), c.Name, checkPattern, "letters, digits, - _ and .")
		}
		k.unique(p.key("name"), c.Name, seen)
		k.required(p.key("service"), c.Service, "planner")
		k.question(p, c)
	}
	k.memory(at("smoke", "memory"), s.Memory)
}

// question checks that a check asks exactly one thing.
func (k *checker) question(p path, c Check) {
	kinds := 0
	for _, key := range []string{"http", "exec", "tcp", "log"} {
		if k.given(p.key(key)) {
			kinds++
		}
	}
	if kinds != 1 {
		k.fail(p, "write http: {path: /health}, for example", "expected one of http, exec, tcp and log, got %d of them", kinds)
	}
	k.request(p.key("http"), c.HTTP)
	if k.sequence(p.key("exec")) && (len(c.Exec) == 0 || c.Exec[0] == "") {
		k.fail(p.key("exec"), "write exec: [python3, -m, agent.recall]", "expected a command")
	}
	k.port(p.key("tcp"), c.TCP)
	if _, err := regexp.Compile(c.Log); err != nil {
		k.fail(p.key("log"), "", "%w", err)
	}
	k.oneOf(p.key("survives"), c.Survives, []string{"restart", "recreate"})
	k.positive(p.key("timeout"), c.Timeout)
}

func (k *checker) request(p path, h *HTTP) {
	if h == nil {
		return
	}
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		k.fail(p.key("path"), "write /"+h.Path, "expected a path that starts with /, got %.120q", h.Path)
	}
	k.matches(p.key("method"), h.Method, methodPattern, "a method such as GET or POST")
	if k.number(p.key("status")) && (h.Status < 100 || h.Status > 599) {
		k.fail(p.key("status"), "", "expected a status from 100 to 599, got %d", h.Status)
	}
	k.port(p.key("port"), h.Port)
}

func (k *checker) port(p path, port int) {
	if k.number(p) && (port < 1 || port > 65535) {
		k.fail(p, "", "expected a port from 1 to 65535, got %d", port)
	}
}

func (k *checker) memory(p path, m Memory) {
	if m.Duration < 0 {
		k.fail(p.key("duration"), "0s leaves the memory test out", "expected a duration, got %s", m.Duration)
	}
	if m.Warmup < 0 || m.Duration > 0 && m.Warmup >= m.Duration {
		k.fail(p.key("warmup"), "", "the warm-up of %s leaves nothing of the duration of %s", m.Warmup, m.Duration)
	}
	if m.MaxPercentOfLimit < 1 || m.MaxPercentOfLimit > 100 {
		k.fail(p.key("maxPercentOfLimit"), "", "expected 1 to 100, got %g", m.MaxPercentOfLimit)
	}
	k.positive(p.key("horizon"), m.Horizon)
	load := p.key("load")
	if m.Load.HTTP != nil && m.Load.Exec != nil {
		k.fail(load, "keep one of them", "expected http or exec, got both")
	}
	if h := m.Load.HTTP; h != nil {
		k.required(load.key("http", "service"), h.Service, "planner")
		k.request(load.key("http"), &h.HTTP)
		if h.Concurrency < 1 && k.number(load.key("http", "concurrency")) {
			k.fail(load.key("http", "concurrency"), "", "expected at least 1, got %d", h.Concurrency)
		}
	}
	if e := m.Load.Exec; e != nil {
		k.required(load.key("exec", "service"), e.Service, "executor")
		if len(e.Command) == 0 && (!k.given(load.key("exec", "command")) || k.sequence(load.key("exec", "command"))) {
			k.fail(load.key("exec", "command"), "write command: [python3, -m, agent.busy]", "expected a command")
		}
	}
}

// phases are what notifications may be about.
var phases = []string{
	string(release.Released), string(release.Intended), string(release.Deployed), string(release.RolledBack),
	string(release.FailedPhase), string(release.DeniedPhase), string(release.Approved), string(release.Frozen),
	string(release.Unfrozen), string(release.Exception), string(release.BreakGlassed), string(release.TrustChanged),
	string(release.Watched),
}

func (k *checker) rest() {
	for name, hook := range map[string]string{"pre-build": k.c.Hooks.PreBuild, "pre-deploy": k.c.Hooks.PreDeploy, "post-deploy": k.c.Hooks.PostDeploy} {
		if hook != "" {
			k.file(at("hooks", name), hook)
		}
	}
	for i, n := range k.c.Notify {
		p := at("notify").index(i)
		if name, ok := strings.CutPrefix(n.Webhook, "env://"); k.required(p.key("webhook"), n.Webhook, "env://PROMOTE_WEBHOOK") && (!ok || !keyPattern.MatchString(name)) {
			k.fail(p.key("webhook"), secretHint+". Write env://PROMOTE_WEBHOOK", "expected the variable that holds the URL, as env://NAME")
		}
		for j, phase := range n.On {
			k.oneOf(p.key("on").index(j), phase, phases)
		}
	}
	for i, name := range k.c.Policies {
		if p := at("policies").index(i); k.inside(p, name) {
			k.exists(p, name, true)
		}
	}
	k.ledger()
}

func (k *checker) ledger() {
	l := k.c.Ledger
	if k.given(at("ledger", "file")) {
		if l.File.Path == "" {
			k.fail(at("ledger", "file"), "write file: .promote/ledger", "expected a directory")
		}
		if l.Git != nil {
			k.fail(at("ledger"), "keep one of them", "expected file or git, got both")
		}
	}
	if l.Git == nil {
		return
	}
	if strings.HasPrefix(l.Git.Remote, "-") || strings.ContainsAny(l.Git.Remote, " \t\n") {
		k.fail(at("ledger", "git", "remote"), "write origin, or a URL", "expected a remote, got %.80q", l.Git.Remote)
	}
	k.matches(at("ledger", "git", "branch"), l.Git.Branch, branchPattern, "a branch such as promote-ledger")
}

var branchPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`)
