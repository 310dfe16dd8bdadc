package deploy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

const (
	labelReplaces = "dev.promote.replaces" // the id of the container that this one replaces
	labelOneShot  = "dev.promote.oneshot"  // "true" on containers that are meant to end

	composeOneOff    = "com.docker.compose.oneoff"
	composeDependsOn = "com.docker.compose.depends_on"

	oldMark    = ".promote-old-"    // replaced; waits for Undo or Clean
	newMark    = ".promote-new-"    // made beside the one that it replaces, and not ready yet
	undoneMark = ".promote-undone-" // made by an attempt that is undone; about to go
)

// Attempt names one try at deploying: the intended record's sequence, and its
// digest where it is known, so that two ledgers' attempts are never confused.
type Attempt struct {
	Sequence int64
	Record   release.Digest
}

// Label is what containers carry under release.LabelSequence: "17", or
// "17-<12 hex>" with a record's digest.
func (a Attempt) Label() string {
	text := strconv.FormatInt(a.Sequence, 10)
	if !a.Record.IsZero() {
		text += "-" + a.Record.Short()
	}
	return text
}

// oldName is the name that a replaced container waits under.
func (a Attempt) oldName(name string) string { return name + oldMark + a.Label() }

// newName is the name that a container has until it is ready, where the one that
// it replaces runs on so long.
func (a Attempt) newName(name string) string { return name + newMark + a.Label() }

// begun reports whether a container was made by the attempt beside the one that
// it replaces, and the name it is to have.
func (a Attempt) begun(c release.Container) (name string, ok bool) {
	name, label, ok := strings.Cut(c.Name, newMark)
	return name, ok && label == a.Label()
}

// made reports whether a container was made by the attempt and stands under
// its own name.
func (a Attempt) made(c release.Container) bool {
	return !isAside(c) && c.Labels[release.LabelSequence] == a.Label()
}

// undone reports whether the attempt made a container and has given it up.
func (a Attempt) undone(c release.Container) bool {
	_, label, ok := strings.Cut(c.Name, undoneMark)
	return ok && label == a.Label()
}

// kept reports whether a container was put aside by the attempt, and the name
// it had before.
func (a Attempt) kept(c release.Container) (name string, ok bool) {
	name, label, ok := strings.Cut(c.Name, oldMark)
	return name, ok && label == a.Label()
}

// isAside reports whether a container was put aside by any attempt, or does not
// stand for its service yet.
func isAside(c release.Container) bool {
	return strings.Contains(c.Name, oldMark) || strings.Contains(c.Name, undoneMark) || strings.Contains(c.Name, newMark)
}

// isOneShot reports whether a container is meant to end by itself.
func isOneShot(c release.Container, w release.Workload) bool {
	s, ok := w.Service(c.Service)
	return c.Labels[labelOneShot] == "true" || ok && s.OneShot
}

// current lists a project's containers that stand for a service: not those put
// aside, nor those of `docker compose run`.
func current(seen release.Observed) []release.Container {
	var list []release.Container
	for _, c := range seen.Containers {
		if c.Service != "" && !isAside(c) && c.Labels[composeOneOff] != "True" {
			list = append(list, c)
		}
	}
	return list
}

// standing gives the container of a service, preferring the one with its name.
func standing(seen release.Observed, s release.ServiceSpec, project string) (release.Container, bool) {
	var found []release.Container
	for _, c := range current(seen) {
		if c.Service == s.Name {
			found = append(found, c)
		}
	}
	for _, c := range found {
		if c.Name == containerName(s, project) {
			return c, true
		}
	}
	if len(found) > 0 {
		return found[0], true
	}
	return release.Container{}, false
}

func containerName(s release.ServiceSpec, project string) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return project + "-" + s.Name + "-1"
}

// inOrder sorts containers so that each comes after those it depends on, as
// Compose's label says; a cycle is broken anywhere.
func inOrder(list []release.Container) []release.Container {
	byService := map[string][]release.Container{}
	for _, c := range list {
		byService[c.Service] = append(byService[c.Service], c)
	}
	var out []release.Container
	done := map[string]bool{}
	var visit func(service string)
	visit = func(service string) {
		if done[service] {
			return
		}
		done[service] = true
		for _, c := range byService[service] {
			for _, dependency := range dependencies(c) {
				visit(dependency)
			}
		}
		out = append(out, byService[service]...)
	}
	for _, c := range list {
		visit(c.Service)
	}
	return out
}

// dependencies reads Compose's label: "service:condition:restart,…".
func dependencies(c release.Container) []string {
	var names []string
	for part := range strings.SplitSeq(c.Labels[composeDependsOn], ",") {
		if name, _, _ := strings.Cut(part, ":"); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
