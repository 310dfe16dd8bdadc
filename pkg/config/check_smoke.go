package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	checkPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	methodPattern = regexp.MustCompile(`^[A-Z]{1,20}$`)
)

func (k *checker) smoke() {
	s := k.c.Smoke
	k.files(at("smoke", "files"), s.Files)
	k.positive(at("smoke", "timeout"), s.Timeout)
	k.oneOf(at("smoke", "egress"), s.Egress, []string{"allow", "deny"})
	k.oneOf(at("smoke", "state"), s.State, []string{"recreate", "off"})
	seen := map[string]bool{}
	for i, c := range s.Checks {
		p := at("smoke", "checks").index(i)
		if k.required(p.key("name"), c.Name, "answers") {
			k.matches(p.key("name"), c.Name, checkPattern, "letters, digits, - _ and .")
		}
		k.unique(p.key("name"), c.Name, seen)
		if len(c.Script) == 0 || c.Survives != "" {
			k.required(p.key("service"), c.Service, "planner")
		}
		k.question(p, c)
	}
	k.memory(at("smoke", "memory"), s.Memory)
	k.accepted(at("smoke", "parity", "accept"), s.Parity.Accept)
	k.stopTest(at("smoke", "stop"), s.Stop, seen)
}

func (k *checker) accepted(p path, list []AcceptedDifference) {
	for i, a := range list {
		p := p.index(i)
		if k.required(p.key("environment"), a.Environment, "production") {
			k.oneOf(p.key("environment"), a.Environment, slices.Sorted(maps.Keys(k.c.File.Environments)))
		}
		k.required(p.key("field"), a.Field, "memory")
		k.required(p.key("statement"), a.Statement, "why that is right")
	}
}

func (k *checker) stopTest(p path, s *StopTest, checks map[string]bool) {
	if s == nil {
		return
	}
	if s.HTTP == nil {
		k.fail(p, "write http: {service: planner, path: /task, method: POST}", "expected http, got nothing")
	} else {
		k.required(p.key("http", "service"), s.HTTP.Service, "planner")
		k.request(p.key("http"), &s.HTTP.HTTP)
	}
	if k.number(p.key("requests")) && (s.Requests < 1 || s.Requests > 64) {
		k.fail(p.key("requests"), "", "expected 1 to 64, got %d", s.Requests)
	}
	k.oneOf(p.key("resumed"), s.Resumed, slices.Sorted(maps.Keys(checks)))
}

// kinds counts which of the ways to ask are written.
func (k *checker) kinds(p path, keys ...string) int {
	kinds := 0
	for _, key := range keys {
		if k.given(p.key(key)) {
			kinds++
		}
	}
	return kinds
}

// question checks that a check asks exactly one thing.
func (k *checker) question(p path, c Check) {
	if kinds := k.kinds(p, "http", "exec", "tcp", "log", "logNot", "script"); kinds != 1 {
		k.fail(p, "write http: {path: /health}, for example", "expected one of http, exec, tcp, log, logNot and script, got %d of them", kinds)
	}
	if c.HTTP != nil {
		k.request(p.key("http"), &c.HTTP.HTTP)
		k.positive(p.key("http", "within"), c.HTTP.Within)
	}
	k.command(p.key("exec"), c.Exec)
	k.script(p.key("script"), c.Script)
	k.port(p.key("tcp"), c.TCP)
	for key, text := range map[string]string{"log": c.Log, "logNot": c.LogNot} {
		if _, err := regexp.Compile(text); err != nil {
			k.fail(p.key(key), "", "%w", err)
		}
	}
	if c.Contains != "" && len(c.Exec) == 0 && len(c.Script) == 0 {
		k.fail(p.key("contains"), "for http, write json; for log, the expression itself", "only the output of exec and script can contain something")
	}
	k.oneOf(p.key("survives"), c.Survives, []string{"restart", "recreate"})
	if c.Survives != "" && c.LogNot != "" {
		k.fail(p.key("survives"), "remove it", "a log that must not hold something is looked at when the run ends, not before and after")
	}
	k.positive(p.key("timeout"), c.Timeout)
	k.write(p.key("write"), c)
	if c.Watch != nil && *c.Watch && c.Write != nil {
		k.fail(p.key("watch"), "remove it, or watch another check that reads only", "a check with write is never asked of what runs")
	}
}

// write checks what is done before a check that must survive.
func (k *checker) write(p path, c Check) {
	if c.Write == nil {
		return
	}
	if c.Survives == "" {
		k.fail(p, "write survives: recreate", "nothing is done between writing and reading")
	}
	if kinds := k.kinds(p, "http", "exec", "script"); kinds != 1 {
		k.fail(p, "write http: {path: /learn, method: POST, body: …}, for example", "expected one of http, exec and script, got %d of them", kinds)
	}
	k.request(p.key("http"), c.Write.HTTP)
	k.command(p.key("exec"), c.Write.Exec)
	k.script(p.key("script"), c.Write.Script)
}

func (k *checker) command(p path, argv []string) {
	if k.sequence(p) && (len(argv) == 0 || argv[0] == "") {
		k.fail(p, "write exec: [python3, -m, agent.recall]", "expected a command")
	}
}

// script checks that a program is one of the project's own: what runs on this
// machine is what was reviewed.
func (k *checker) script(p path, argv []string) {
	if !k.sequence(p) {
		return
	}
	if len(argv) == 0 || argv[0] == "" {
		k.fail(p, "write script: [scripts/smoke-story]", "expected a command")
		return
	}
	k.file(p.index(0), argv[0])
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
	if kinds := k.kinds(load, "http", "exec", "script"); kinds > 1 {
		k.fail(load, "keep one of them", "expected one of http, exec and script, got %d of them", kinds)
	}
	if s := m.Load.Script; s != nil {
		if !k.given(load.key("script", "command")) {
			k.fail(load.key("script", "command"), "write command: [scripts/load]", "expected a command")
		}
		k.script(load.key("script", "command"), s.Command)
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

func (k *checker) rest() {
	for name, hook := range map[string]string{"pre-build": k.c.Hooks.PreBuild, "pre-deploy": k.c.Hooks.PreDeploy, "post-deploy": k.c.Hooks.PostDeploy} {
		if hook != "" {
			k.file(at("hooks", name), hook)
		}
	}
	k.notify()
	for i, name := range k.c.Policies {
		if p := at("policies").index(i); k.inside(p, name) {
			k.exists(p, name, true)
		}
	}
	k.ledger()
}

func (k *checker) ledger() {
	l := k.c.Ledger
	if l.Lease < 2*time.Second || l.Lease > time.Hour {
		k.fail(at("ledger", "lease"), "write lease: 15s", "expected a duration from 2s to 1h, got %s", l.Lease)
	}
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
	remote := at("ledger", "git", "remote")
	switch {
	case strings.HasPrefix(l.Git.Remote, "-") || strings.ContainsAny(l.Git.Remote, " \t\n"):
		k.fail(remote, "write origin, or a URL", "expected a remote, got %.80q", l.Git.Remote)
	case passwordInURL.MatchString(l.Git.Remote):
		k.fail(remote, "leave it out, and give it to git: a credential helper, an ssh-agent", "a password or token in the URL")
	}
	k.matches(at("ledger", "git", "branch"), l.Git.Branch, branchPattern, "a branch such as promote-ledger")
	if strings.Contains(l.Git.Branch+"/", ".lock/") {
		k.fail(at("ledger", "git", "branch"), "write branch: promote-ledger", "git keeps names that end with .lock for itself")
	}
}

// branchPattern is narrower than git: words, with single dots and slashes
// between them.
var branchPattern = regexp.MustCompile(`^\w[\w-]*(\.[\w-]+)*(/\w[\w-]*(\.[\w-]+)*)*$`)

var passwordInURL = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]+@|^https?://[^/]+@`)
