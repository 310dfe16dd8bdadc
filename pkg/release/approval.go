package release

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Approvals is how many distinct parties must have approved a release for an
// environment.
type Approvals struct {
	Required int `json:"required,omitempty"`
	// NotBy are roles: whoever acted in one of them for the release does not
	// count.
	NotBy []Role `json:"notBy,omitempty"`
}

// How long an approval holds: at most, and where nobody says.
const (
	MaxApproval     = 30 * 24 * time.Hour
	DefaultApproval = 7 * 24 * time.Hour
)

// ApprovalFacts is who agreed to the release for this environment.
type ApprovalFacts struct {
	Required int      `json:"required"`
	NotBy    []string `json:"notBy"` // roles
	// Given are the distinct parties whose approval counts, by name.
	Given []string `json:"given"`
	// Approvers are those who could still add theirs, by name.
	Approvers []string `json:"approvers"`
	// Votes are the approvals of the release for this environment, the newest
	// first; at most MaxFindings of them, those that count before others.
	Votes []Vote `json:"votes"`
}

// Vote is one approval.
type Vote struct {
	Name     string    `json:"name"`     // of the party that signed it; empty if nobody is known by it
	Sequence int64     `json:"sequence"` // of its record
	Record   Digest    `json:"record"`
	Until    time.Time `json:"until"`
	Counts   bool      `json:"counts"`
	Reason   string    `json:"reason"` // why it does not count; empty if it does
}

// Ballot is everything that approvals of one release for one environment are
// judged by.
type Ballot struct {
	History     History
	Environment Environment
	Release     Digest
	Trust       Trust
	// Configuration is the digest of the configuration in force.
	Configuration Digest
	// Evidence is about the release and its services: whoever signed what
	// counts has acted in its role.
	Evidence []Evidence
	// Promoter is who promotes now, by name; empty if that is not known.
	Promoter string
	Now      time.Time
}

// Count judges every approval. One counts if an approver signed it who is one
// still, for this very release, environment and configuration, if it is not
// over, and if it is nobody's own: not of whoever recorded the release or
// promotes it, nor of whoever acted for it in a role of NotBy. Names count,
// not keys.
func (b Ballot) Count() ApprovalFacts {
	rule := b.Environment.Approvals
	facts := ApprovalFacts{Required: rule.Required, NotBy: []string{}, Given: []string{}, Approvers: []string{}, Votes: []Vote{}}
	for _, role := range rule.NotBy {
		facts.NotBy = append(facts.NotBy, string(role))
	}
	banned := b.Banned()
	for _, e := range slices.Backward(b.History) {
		if r := e.Record; r.Phase != Approved || r.Environment != b.Environment.Name || r.Release != b.Release || b.Release.IsZero() {
			continue
		}
		facts.Votes = append(facts.Votes, b.vote(e, banned))
	}
	for _, v := range facts.Votes {
		if v.Counts {
			facts.Given = append(facts.Given, v.Name)
		}
	}
	slices.Sort(facts.Given)
	facts.Given = append([]string{}, slices.Compact(facts.Given)...)
	facts.Approvers = append(facts.Approvers, b.approvers(banned, facts.Given)...)
	slices.SortStableFunc(facts.Votes, func(x, y Vote) int { return cmp.Compare(quality(y.Counts), quality(x.Counts)) })
	facts.Votes = facts.Votes[:min(len(facts.Votes), MaxFindings)]
	return facts
}

func (b Ballot) vote(e Entry, banned map[string]string) Vote {
	r := e.Record
	name, holds := b.Trust.Holds(e.Signer, Approver, r.Time)
	v := Vote{Name: cmp.Or(name, e.Signer.Name), Sequence: r.Sequence, Record: e.Digest, Until: r.Until}
	switch why, own := banned[name]; {
	case !holds || name == "":
		v.Reason = fmt.Sprintf("%s is no approver, or not any more", cmp.Or(e.Signer.Name, "whoever signed it"))
	case r.Configuration != b.Configuration:
		v.Reason = fmt.Sprintf("it was given under another configuration (%s, now %s)", cmp.Or(r.Configuration.Short(), "none"), b.Configuration.Short())
	case r.Until.IsZero() || r.Until.Sub(r.Time) > MaxApproval+clockSkew:
		v.Reason = fmt.Sprintf("it does not end within %d days", MaxApproval/(24*time.Hour))
	case r.Time.Sub(b.Now) > clockSkew:
		v.Reason = "it is of " + r.Time.Format(time.RFC3339) + ", which is ahead of this machine's clock"
	case !b.Now.Before(r.Until):
		v.Reason = "it ended at " + r.Until.Format(time.RFC3339)
	case own:
		v.Reason = why
	default:
		v.Counts = true
	}
	return v
}

// Banned says, by name, who may not approve the release, and why.
func (b Ballot) Banned() map[string]string {
	banned := map[string]string{}
	for name, roles := range b.acted() {
		for _, role := range b.Environment.Approvals.NotBy {
			if slices.Contains(roles, role) {
				banned[name] = fmt.Sprintf("%s acted as %s for the release, and notBy has that role", name, role)
			}
		}
	}
	for _, e := range b.History {
		if e.Record.Phase == Released && e.Record.Release == b.Release && e.Signer.Name != "" {
			banned[e.Signer.Name] = fmt.Sprintf("%s made the release (record %d): nobody approves their own", e.Signer.Name, e.Record.Sequence)
		}
	}
	if b.Promoter != "" {
		banned[b.Promoter] = b.Promoter + " promotes it: nobody approves their own"
	}
	return banned
}

// acted gives the roles in which parties acted for the release, by name: what
// they attested about it, and what they recorded of it. Approvals of it for
// other environments count as acting, too.
func (b Ballot) acted() map[string][]Role {
	acted := map[string][]Role{}
	add := func(name string, role Role) {
		if name != "" && !slices.Contains(acted[name], role) {
			acted[name] = append(acted[name], role)
		}
	}
	for _, ev := range b.Evidence {
		if role, known := RoleOf(ev.PredicateType); known && ev.Counts(ev.PredicateType) {
			add(ev.Signer.Name, role)
		}
	}
	for _, e := range b.History {
		r := e.Record
		if r.Release != b.Release || b.Release.IsZero() {
			continue
		}
		for role, names := range r.Acted {
			for _, name := range names {
				add(name, role)
			}
		}
		switch r.Phase {
		case Approved:
			if r.Environment != b.Environment.Name {
				add(e.Signer.Name, Approver)
			}
		case Released, Intended, Deployed, RolledBack, FailedPhase, DeniedPhase:
			add(e.Signer.Name, Promoter)
		case BreakGlassed:
			add(e.Signer.Name, BreakGlass)
		}
	}
	return acted
}

// approvers gives who could still approve.
func (b Ballot) approvers(banned map[string]string, given []string) []string {
	names := map[string]bool{}
	for _, p := range b.Trust.Roles[Approver] {
		_, own := banned[p.Name]
		if b.Trust.State(p, b.Now) == PartyValid && !own && !slices.Contains(given, p.Name) {
			names[p.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Missing is how many approvals more it takes.
func (f ApprovalFacts) Missing() int { return max(0, f.Required-len(f.Given)) }

// String puts the count into words: "1 of 2 (alice)".
func (f ApprovalFacts) String() string {
	s := fmt.Sprintf("%d of %d", len(f.Given), f.Required)
	if len(f.Given) > 0 {
		s += " (" + strings.Join(f.Given, ", ") + ")"
	}
	return s
}
