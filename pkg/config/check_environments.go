package config

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

func (k *checker) environments() {
	names := slices.Sorted(maps.Keys(k.c.File.Environments))
	for _, name := range names {
		k.environment(at("environments", name), name, k.c.File.Environments[name])
	}
	k.order(names)
}

func (k *checker) environment(p path, name string, e Environment) {
	k.name(p, name)
	if name == release.SmokeModel {
		k.fail(p, "choose another name", "%s is the name of the prod-like run", name)
	}
	k.files(p.key("files"), e.Files)
	for i, file := range e.Files {
		if slices.Contains(k.c.Compose.Development, file) {
			k.fail(p.key("files").index(i), "copy what is needed of it", "%s is for development: it is never promoted", file)
		}
	}
	if k.given(p.key("registry")) {
		k.repository(p.key("registry"), e.Registry)
	}
	if k.sequence(p.key("targets")) && len(e.Targets) == 0 {
		k.fail(p.key("targets"), "remove it if this machine is meant", "expected at least one target")
	}
	k.targets(p.key("targets"), e.Targets)
	k.positive(p.key("soak"), e.Soak)
	k.approvals(p.key("approvals"), e.Approvals)
	if len(e.Windows) > maxWindows {
		k.fail(p.key("windows"), "put spans of one kind together: Mon,Wed 09:00-16:00", "expected at most %d windows, got %d", maxWindows, len(e.Windows))
	}
	for i, w := range e.Windows {
		k.window(p.key("windows").index(i), w)
	}
	k.strategy(p.key("strategy"), e)
	k.snapshots(p.key("snapshots"), e.Snapshots)
	if e.KeepReleases < 1 && k.number(p.key("keepReleases")) {
		k.fail(p.key("keepReleases"), "a rollback needs the images of the release before", "expected at least 1, got %d", e.KeepReleases)
	}
}

// maxWindows bounds what each look for the next opening goes through.
const maxWindows = 50

// order checks that the environments form a tree: one first, and every other
// one behind one that exists. Without a first one there is a cycle.
func (k *checker) order(names []string) {
	var first []string
	for _, name := range names {
		after := k.c.File.Environments[name].After
		p := at("environments", name, "after")
		switch {
		case after == "" && !k.given(p):
			first = append(first, name)
		case after == "":
		case !slices.Contains(names, after):
			message := fmt.Sprintf("no environment %.60q", after)
			if near := release.Nearest(after, names); near != "" {
				message += fmt.Sprintf(", did you mean %q?", near)
			}
			k.fail(p, "known environments: "+strings.Join(names, ", "), "%s", message)
		case k.cycle(name):
			k.fail(p, "remove one after of them; the first environment has none", "%s comes after itself", name)
		}
	}
	for _, name := range first[min(1, len(first)):] {
		k.fail(at("environments", name), "write after: "+first[0]+", or the environment that it follows",
			"%s and %s have no after: expected exactly one first environment", first[0], name)
	}
}

// cycle reports whether following after leads back to an environment.
func (k *checker) cycle(name string) bool {
	at := name
	for range k.c.File.Environments {
		if at = k.c.File.Environments[at].After; at == name {
			return true
		}
	}
	return false
}

func (k *checker) targets(p path, targets []Target) {
	names, hosts := map[string]bool{}, map[string]bool{}
	for i, t := range targets {
		at := p.index(i)
		if k.required(at.key("name"), t.Name, "prod-1") {
			k.name(at.key("name"), t.Name)
		}
		k.unique(at.key("name"), t.Name, names)
		k.host(at.key("host"), t.Host)
		if hosts[t.Host] {
			k.fail(at, "remove one of them", "two targets are the same engine")
		}
		hosts[t.Host] = true
	}
}

func (k *checker) host(p path, host string) {
	const want = "ssh://user@host, unix:///path or tcp://host:port"
	if host == "" {
		return
	}
	u, err := url.Parse(host)
	if err != nil {
		k.fail(p, "write "+want, "expected %s, got %.120q", want, host)
		return
	}
	_, password := u.User.Password()
	switch {
	case u.Scheme != "unix" && u.Scheme != "ssh" && u.Scheme != "tcp":
		k.fail(p, "write "+want, "expected %s, got %.120q", want, u.Redacted())
	case password:
		k.fail(p, secretHint, "the address holds a password")
	case u.Scheme == "unix" && (u.Host != "" || !filepath.IsAbs(u.Path)):
		k.fail(p, "write unix:///run/docker.sock", "expected an absolute path behind unix://, got %.120q", host)
	case u.Scheme != "unix" && u.Hostname() == "":
		k.fail(p, "write "+want, "%.120q names no host", host)
	case u.Scheme == "tcp" && u.Port() == "":
		k.fail(p, "write tcp://"+u.Hostname()+":2376", "%.120q names no port", host)
	}
}

func (k *checker) approvals(p path, a Approvals) {
	if a.Required < 0 {
		k.fail(p.key("required"), "", "expected zero or more, got %d", a.Required)
	}
	seen := map[string]bool{}
	for i, role := range a.NotBy {
		k.oneOf(p.key("notBy").index(i), role, roleNames)
		k.unique(p.key("notBy").index(i), role, seen)
	}
	if a.Required == 0 {
		return
	}
	names := k.approvers()
	if len(names) < a.Required {
		k.fail(p.key("required"), "name them under trust.approver, or lower it", "%d approvers must agree and trust names %d", a.Required, len(names))
	}
}

// approvers are the distinct names that trust gives the role, here or in its
// file.
func (k *checker) approvers() map[string]bool {
	names := map[string]bool{}
	if k.c.trustFile != nil {
		for _, party := range k.c.trustFile.File.Roles[release.Approver] {
			names[party.Name] = true
		}
	}
	if t := k.c.File.Trust; t != nil && t.Approver != nil {
		for _, party := range t.Approver.Of {
			names[party.Name] = true
		}
	}
	return names
}

func (k *checker) window(p path, w Window) {
	span := w.Allow + w.Deny
	if (w.Allow == "") == (w.Deny == "") {
		k.fail(p, `write allow: "Mon-Thu 09:00-16:00"`, "expected one of allow and deny")
	} else if _, err := release.NewWindow(false, span, ""); err != nil {
		key := "allow"
		if w.Deny != "" {
			key = "deny"
		}
		k.fail(p.key(key), `write it as "Mon-Thu 09:00-16:00"`, "%w", err)
	}
	if _, err := release.NewWindow(false, "00:00-24:00", w.Zone); err != nil {
		k.fail(p.key("zone"), "write Europe/Berlin or UTC", "%w", err)
	}
}

func (k *checker) strategy(p path, e Environment) {
	s := e.Strategy
	k.oneOf(p.key("onFailure"), s.OnFailure, []string{onFailureRollback, onFailureStop})
	k.positive(p.key("pause"), s.Pause)
	if s.Pause > 0 && s.Canary == 0 && (!k.given(p.key("canary")) || k.number(p.key("canary"))) {
		k.fail(p.key("pause"), "write canary: 1", "a pause is for canaries, and there are none")
	}
	if s.Canary < 0 || s.Canary > 0 && s.Canary >= len(e.Targets) {
		k.fail(p.key("canary"), "", "expected fewer canaries than the %d targets, got %d", len(e.Targets), s.Canary)
	}
	if s.Parallel < 1 && k.number(p.key("parallel")) {
		k.fail(p.key("parallel"), "", "expected at least 1, got %d", s.Parallel)
	}
}

func (k *checker) snapshots(p path, s *Snapshots) {
	if s == nil {
		return
	}
	if len(s.Volumes) == 0 && (!k.given(p.key("volumes")) || k.sequence(p.key("volumes"))) {
		k.fail(p.key("volumes"), "name them as in the Compose model", "expected at least one volume")
	}
	seen := map[string]bool{}
	for i, volume := range s.Volumes {
		k.unique(p.key("volumes").index(i), volume, seen)
	}
	if k.required(p.key("encryptTo"), s.EncryptTo, "keys/backup.pub") {
		k.exists(p.key("encryptTo"), s.EncryptTo, false)
	}
	if s.Keep < 1 && k.number(p.key("keep")) {
		k.fail(p.key("keep"), "", "expected at least 1, got %d", s.Keep)
	}
}
