package release

import (
	"maps"
	"slices"
	"strings"
)

// KeptReleases is how many releases before the present one keep their images on
// an environment's targets if nothing else is said: the one that a rollback goes
// to, and the one before.
const KeptReleases = 2

// Retention is which images of an environment's targets have to stay.
type Retention struct {
	// Attempted are releases that the environment was promoted to since the
	// deployment before the last, and never ran: nothing needs their images, and
	// no record names them.
	Attempted []Digest
	// Pending are releases that an open record deploys and that nothing ran yet:
	// their images have to stay, and no record names them either.
	Pending []Digest

	old, needed map[Digest]bool // images
}

// Retention says which images of an environment's targets have to stay. Needed
// is, in any environment, since several may share an engine: what runs, the
// releases before it, so many as keep says (below 1 is KeptReleases), and what an
// open record deploys or goes back to.
func (h History) Retention(environment string, keep int) Retention {
	if keep < 1 {
		keep = KeptReleases
	}
	releases, deployed := map[Digest]bool{}, map[Digest]bool{}
	for _, name := range h.environments() {
		for _, d := range h.lately(name, 1+keep) {
			releases[d] = true
		}
		if open, ok := h.Open(name); ok {
			releases[open.Record.Release], releases[open.Record.From] = true, true
		}
	}
	out := Retention{old: map[Digest]bool{}, needed: map[Digest]bool{}}
	for _, e := range h {
		r := e.Record
		if r.Phase != Deployed {
			continue
		}
		deployed[r.Release] = true
		switch {
		case releases[r.Release]:
			r.eachImage(func(d Digest) { out.needed[d] = true })
		case r.Environment == environment:
			r.eachImage(func(d Digest) { out.old[d] = true })
		}
	}
	for d := range releases {
		if !deployed[d] && !d.IsZero() {
			out.Pending = append(out.Pending, d)
		}
	}
	for _, d := range h.attempted(environment) {
		if !releases[d] && !deployed[d] {
			out.Attempted = append(out.Attempted, d)
		}
	}
	return out
}

// Unneeded lists the images that nothing needs any more: those that records
// name, and those of the attempted releases; without those of the pending ones.
// An image that several releases have in common stays as long as one needs it.
func (r Retention) Unneeded(attempted, pending []Digest) []Digest {
	var list []Digest
	for _, d := range slices.AppendSeq(slices.Clone(attempted), maps.Keys(r.old)) {
		if !d.IsZero() && !r.needed[d] && !slices.Contains(pending, d) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b Digest) int { return strings.Compare(a.Hex(), b.Hex()) })
	return slices.Compact(list)
}

func (r Record) eachImage(f func(Digest)) {
	for _, t := range r.Targets {
		for _, s := range t.Running {
			f(s.Digest)
		}
	}
}

// environments lists those that were ever deployed to, or are about to be.
func (h History) environments() []string {
	var list []string
	for _, e := range h {
		if r := e.Record; r.Environment != "" && !slices.Contains(list, r.Environment) {
			list = append(list, r.Environment)
		}
	}
	return list
}

// lately gives the last so many releases that an environment ran, the present
// one first.
func (h History) lately(environment string, most int) []Digest {
	var list []Digest
	for i := len(h) - 1; i >= 0 && len(list) < most; i-- {
		if r := h[i].Record; r.Environment == environment && r.Phase == Deployed && !slices.Contains(list, r.Release) {
			list = append(list, r.Release)
		}
	}
	return list
}

// attempted gives the releases that were to be deployed since the deployment
// before the last.
func (h History) attempted(environment string) []Digest {
	var list []Digest
	deployments := 0
	for i := len(h) - 1; i >= 0; i-- {
		r := h[i].Record
		if r.Environment != environment {
			continue
		}
		if r.Phase == Deployed {
			deployments++
		}
		if deployments < 2 && r.Phase == Intended && !slices.Contains(list, r.Release) {
			list = append(list, r.Release)
		}
	}
	return list
}
