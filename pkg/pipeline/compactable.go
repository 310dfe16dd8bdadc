package pipeline

import (
	"cmp"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Why records stay.
const (
	staysAlways     = "the first record, trust, freezes, exceptions, break-glass and compactions"
	staysYoung      = "younger than --older-than"
	staysValid      = "approvals that hold"
	staysOpen       = "attempts that nothing has closed"
	staysDeployment = "the last deployments of each environment"
	staysSince      = "what was tried since the last deployment"
	staysWayBack    = "what a rollback goes to"
	staysSnapshot   = "snapshots that targets may still have"
	staysLast       = "the last of their kind"
	staysRelease    = "about releases that other records here are about"
	staysNext       = "more than one record can name: they go the next time"
)

// staysOrder is in what order that is told.
var staysOrder = []string{staysAlways, staysYoung, staysValid, staysOpen, staysDeployment, staysSince, staysWayBack, staysSnapshot, staysLast, staysRelease, staysNext}

// keeping finds out which records stay. An attempt, that is an intent, what
// closes it, and what took it over, stays or goes as a whole. So does all that
// tells where a release has been and who acted for it.
type keeping struct {
	h       release.History
	why     map[int64]string // of those that stay, by sequence
	attempt map[int64]int64  // the first intent of the attempt that a record belongs to
	parts   map[int64][]int64
}

// compactable gives the records that may go: older than before, and of no use
// to any decision, rollback, restored snapshot or look at what runs that other
// records are about. snapshots is how many of a volume each environment keeps.
func compactable(h release.History, now, before time.Time, deployments int, snapshots map[string]int) (gone release.Ranges, why map[int64]string) {
	k := &keeping{h: h, why: map[int64]string{}, attempt: map[int64]int64{}, parts: map[int64][]int64{}}
	k.group()
	k.single(now, before)
	k.open()
	k.environments(deployments)
	k.snapshots(snapshots)
	for {
		for n := -1; n != len(k.why); { // what stays because of others that stay
			n = len(k.why)
			k.releases()
		}
		gone = nil
		for _, e := range h {
			if n := e.Record.Sequence; !e.Stub() && k.why[n] == "" {
				gone = gone.And(n)
			}
		}
		if len(gone) <= mostRanges {
			return gone, k.why
		}
		for _, e := range h[gone[mostRanges].From:] {
			k.keep(e, staysNext)
		}
	}
}

// mostRanges bounds what one record names.
var mostRanges = 5000

// keep says that a record stays, and its attempt with it.
func (k *keeping) keep(e release.Entry, why string) {
	n := e.Record.Sequence
	if e.Stub() || k.why[n] != "" {
		return
	}
	k.why[n] = why
	if first, ok := k.attempt[n]; ok {
		for _, part := range k.parts[first] {
			if k.why[part] == "" {
				k.why[part] = why
			}
		}
	}
}

// group finds the attempts.
func (k *keeping) group() {
	for _, e := range k.h {
		r := e.Record
		first, part := r.Sequence, r.Phase == release.Intended
		for _, of := range []*int64{r.Resumes, r.Intent} {
			if of != nil {
				if before, ok := k.attempt[*of]; ok {
					first, part = before, true
				}
			}
		}
		if part {
			k.attempt[r.Sequence] = first
			k.parts[first] = append(k.parts[first], r.Sequence)
		}
	}
}

// single keeps what stays for its own sake.
func (k *keeping) single(now, before time.Time) {
	for i, e := range k.h {
		switch r := e.Record; {
		case i == 0 || r.Phase.Stays():
			k.keep(e, staysAlways)
		case !r.Time.Before(before):
			k.keep(e, staysYoung)
		case r.Phase == release.Approved && now.Before(r.Until):
			k.keep(e, staysValid)
		}
	}
}

// open keeps the attempts that nothing has closed.
func (k *keeping) open() {
	closed := map[int64]bool{}
	for _, e := range k.h {
		if r := e.Record; r.Intent != nil && (r.Phase == release.Deployed || r.Phase == release.RolledBack) {
			closed[k.attempt[r.Sequence]] = true
		}
	}
	for _, e := range k.h {
		if first, ok := k.attempt[e.Record.Sequence]; ok && !closed[first] {
			k.keep(e, staysOpen)
		}
	}
}

// environments keeps, of each, the last deployments, what was tried since, what
// a rollback goes to, and the last record of each kind.
func (k *keeping) environments(deployments int) {
	type kind struct {
		environment, kind string
		phase             release.Phase
	}
	count, wayBack, last := map[string]int{}, map[string]bool{}, map[kind]bool{}
	newest := map[string]release.Digest{}
	for i := len(k.h) - 1; i >= 0; i-- {
		e := k.h[i]
		r := e.Record
		env := r.Environment
		switch r.Phase {
		case release.Deployed:
			if count[env] == 0 {
				newest[env] = r.Release
			}
			if count[env]++; count[env] <= deployments {
				k.keep(e, staysDeployment)
			}
			if !wayBack[env] && r.Release != newest[env] {
				wayBack[env] = true
				k.keep(e, staysWayBack)
			}
		case release.Intended, release.FailedPhase, release.RolledBack:
			if count[env] == 0 {
				k.keep(e, staysSince)
			}
		}
		if is := (kind{env, r.Kind, r.Phase}); !e.Stub() && !last[is] {
			last[is] = true
			k.keep(e, staysLast)
		}
	}
}

// mostSnapshots is how many snapshots of a volume count where the configuration
// says nothing any more.
const mostSnapshots = 5

// snapshots keeps what tells of snapshots that targets may still have, since one
// that the ledger does not know is not restored: of each volume so many as are
// kept, and the newest one of the release that a rollback goes to.
func (k *keeping) snapshots(most map[string]int) {
	type volume struct{ environment, target, key string }
	count, wayBack, seen := map[volume]int{}, map[volume]bool{}, map[string]bool{}
	for i := len(k.h) - 1; i >= 0; i-- {
		e := k.h[i]
		env := e.Record.Environment
		for _, t := range e.Record.Targets {
			for _, s := range t.Snapshots {
				of, name := volume{env, t.Name, s.Key}, t.Name+" "+s.Name
				if seen[name] {
					continue
				}
				seen[name] = true
				back := s.Release == k.previous(env) && !wayBack[of]
				wayBack[of] = wayBack[of] || back
				if count[of]++; back || count[of] <= cmp.Or(most[env], mostSnapshots) {
					k.keep(e, staysSnapshot)
				}
			}
		}
	}
}

// previous is the release that an environment ran before the present one.
func (k *keeping) previous(environment string) release.Digest {
	now, ok := k.h.Deployed(environment)
	for i := len(k.h) - 1; ok && i >= 0; i-- {
		if r := k.h[i].Record; r.Environment == environment && r.Phase == release.Deployed && r.Release != now.Record.Release {
			return r.Release
		}
	}
	return release.Digest{}
}

// releases keeps what is told about each release that a record which stays is
// about: its releases and approvals, and the last record of each phase,
// environment and signer; and the last decision about it.
func (k *keeping) releases() {
	live := map[release.Digest]bool{}
	for _, e := range k.h {
		if k.why[e.Record.Sequence] != "" && !e.Record.Release.IsZero() {
			live[e.Record.Release] = true
		}
	}
	type act struct {
		about       release.Digest
		environment string
		phase       release.Phase
		signer      string
	}
	seen := map[act]bool{}
	for i := len(k.h) - 1; i >= 0; i-- {
		e := k.h[i]
		r := e.Record
		if e.Stub() || !live[r.Release] {
			continue
		}
		is, decided := act{r.Release, r.Environment, r.Phase, e.Signer.Name}, act{r.Release, r.Environment, "", ""}
		if r.Phase == release.Released || r.Phase == release.Approved || !seen[is] || r.Decision != nil && !seen[decided] {
			k.keep(e, staysRelease)
		}
		seen[is] = true
		if r.Decision != nil {
			seen[decided] = true
		}
	}
}
