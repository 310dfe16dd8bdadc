package release

import (
	"slices"
	"strings"
	"time"
)

// Known is everything that facts are made of. Only Evidence that counts is
// relied on; the rest is local knowledge: the configuration, the ledger, what
// was read from manifests by digest.
type Known struct {
	// Kind is promote, rollback or fix; empty is promote. For the last two
	// the limits on age do not reject a scan: going back must not wait for a
	// scanner. The ages are in the facts.
	Kind        string
	Environment Environment
	Digest      Digest // the release's
	Release     Release
	Trust       Trust
	// Evidence is about the release and about its services' images, verified
	// or not, in any order.
	Evidence []Evidence
	// Images are each service's platform images.
	Images map[string][]PlatformImage
	// Users are the services' users in the environment's model, where it sets
	// one; else the image's counts.
	Users map[string]string
	// Unpinned are external services whose image the Compose files name
	// without a digest.
	Unpinned []string
	History  History
	Models   []ModelFinding
	// Matches are fresh scans of this very decision, by service.
	Matches    map[string]Scan
	Limits     Limits
	Producible bool
	// Configuration is the digest of the configuration in force; Promoter is who
	// promotes, by name, if that is known.
	Configuration Digest
	Promoter      string
	Resumed       bool
	Now           time.Time
}

// GatherFacts reduces what is known to what policies judge. It never fails:
// whatever cannot be relied on is absent or unverified in the result, with the
// reason.
//
// Where several attestations of a kind are about one subject, the best one
// counts. Bad evidence can be stripped by whoever holds the registry, so it
// must not be what a denial rests on; what a newer database knows comes in by
// Matches, which nobody can strip.
func GatherFacts(k Known) Facts {
	if k.Kind == "" {
		k.Kind = KindPromote
	}
	f := Facts{
		Kind:        k.Kind,
		Environment: EnvironmentFacts{Name: k.Environment.Name, After: k.Environment.After, First: k.Environment.After == ""},
		Release: ReleaseFacts{
			Digest: k.Digest, Name: k.Release.Name, Version: k.Release.Version, Revision: k.Release.Revision,
			Dirty: strings.HasSuffix(k.Release.Version, DirtySuffix),
		},
		Trust: k.Trust.Mode(), Services: []ServiceFacts{}, Models: []ModelFinding{},
		Limits: k.Limits, Producible: k.Producible,
		History: HistoryFactsOf(k.History, k.Environment, k.Digest, k.Now),
		Smoke:   gatherSmoke(k),
		Freezes: FreezeFactsOf(k.History, k.Environment.Name, k.Now),
		Window:  WindowFactsOf(k.Environment.Windows, k.Now),
		Resumed: k.Resumed,
	}
	f.Approvals = Ballot{
		History: k.History, Environment: k.Environment, Release: k.Digest, Trust: k.Trust, Configuration: k.Configuration,
		Evidence: k.Evidence, Promoter: k.Promoter, Now: k.Now,
	}.Count()
	f.Models = append(f.Models, k.Models...)
	for _, name := range k.Release.ServiceNames() {
		f.Services = append(f.Services, gatherService(k, name))
	}
	return f
}

// scanLimits are the limits that decide whether a scan counts.
func (k Known) scanLimits() Limits {
	limits := k.Limits
	if k.Kind == KindRollback || k.Kind == KindFix {
		limits.MaxAgeSeconds = noLimit
	}
	return limits
}

// noLimit is longer than anything is old, and short enough for a Duration.
const noLimit = int64(200 * 365 * 24 * time.Hour / time.Second)

func gatherService(k Known, name string) ServiceFacts {
	s := k.Release.Services[name]
	evidence := about(k.Evidence, s.Digest)
	facts := ServiceFacts{
		Name: name, Origin: string(s.Origin), Repository: k.Environment.Registry + "/" + s.Path, Digest: s.Digest,
		Pinned: s.Origin == Built || !slices.Contains(k.Unpinned, name),
		Config: configOf(k, name),
		Match:  MatchFacts{Findings: []Finding{}, Database: DatabaseFacts{Covers: []string{}}},
	}
	facts.Signature = best(k.Trust, evidence, PredicateSignature, absent("signature"), func(ev Evidence) (Proof, Proof, int64) {
		p, _ := FactsFromSignature(ev, s.Digest)
		return p, p, 0
	})
	facts.Provenance = best(k.Trust, evidence, PredicateProvenance, ProvenanceFacts{Proof: absent("provenance"), Bases: []Base{}},
		func(ev Evidence) (ProvenanceFacts, Proof, int64) {
			p, _ := FactsFromProvenance(ev, s.Digest)
			return p, p.Proof, quality(p.Revision == k.Release.Revision) + quality(allPinned(p.Bases))
		})
	facts.Scan = best(k.Trust, evidence, PredicateVulnerability, noScan(),
		func(ev Evidence) (ScanFacts, Proof, int64) {
			p, _ := FactsFromScan(ev, s.Digest, k.scanLimits(), k.Now)
			return p, p.Proof, scanQuality(p)
		})
	facts.SBOM = best(k.Trust, evidence, PredicateCycloneDX, SBOMFacts{Proof: absent("SBOM")},
		func(ev Evidence) (SBOMFacts, Proof, int64) {
			p, _ := FactsFromSBOM(ev, s.Digest)
			return p, p.Proof, int64(p.Components)
		})
	if scan, ok := k.Matches[name]; ok && scan.Subject.Digest == s.Digest {
		facts.Match = MatchFrom(scan, k.Limits, k.Now)
	}
	return facts
}

func gatherSmoke(k Known) SmokeFacts {
	return best(k.Trust, about(k.Evidence, k.Digest), PredicateTestResult, noSmoke(absent("smoke result")),
		func(ev Evidence) (SmokeFacts, Proof, int64) {
			p, _ := FactsFromSmoke(ev, k.Digest, k.Now)
			return p, p.Proof, (passing(p.Result)&quality(memoryHeld(p.Services)))<<62 - p.AgeSeconds
		})
}

func noScan() ScanFacts {
	return ScanFacts{
		Proof: absent("scan"), Summary: map[string]int{}, Findings: []Finding{}, Waived: []Finding{},
		Database: DatabaseFacts{Covers: []string{}},
	}
}

// about picks the evidence about a digest.
func about(evidence []Evidence, d Digest) []Evidence {
	var list []Evidence
	for _, ev := range evidence {
		if ev.Subject.Digest == d && !d.IsZero() {
			list = append(list, ev)
		}
	}
	return list
}

// best reads each attestation of a type and keeps the one to rely on: verified
// before not, then by quality, then by digest, so that the order in which a
// registry lists them changes nothing. Without any it gives none.
//
// Where a role's threshold is n, each party counts with the best it said, and
// the n-th of them is kept: what it says, n distinct parties say at least.
func best[F any](trust Trust, evidence []Evidence, predicateType string, none F, read func(Evidence) (F, Proof, int64)) F {
	type candidate struct {
		ev      Evidence
		facts   F
		proof   Proof
		quality int64
	}
	var list []candidate
	for _, ev := range evidence {
		if ev.PredicateType == predicateType {
			facts, proof, quality := read(ev)
			list = append(list, candidate{ev, facts, proof, quality})
		}
	}
	if len(list) == 0 {
		return none
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		switch {
		case better(a.proof, a.quality, b.proof, b.quality):
			return -1
		case better(b.proof, b.quality, a.proof, a.quality):
			return 1
		}
		return 0
	})
	role, _ := RoleOf(predicateType)
	need := trust.Threshold(role)
	if need == 1 || !list[0].proof.Verified {
		return list[0].facts
	}
	var signers []Signer
	for _, c := range list {
		if !c.proof.Verified {
			break
		}
		signers = append(signers, c.ev.Signer)
		if len(Distinct(signers, role)) == need {
			return c.facts
		}
	}
	few := list[0].ev
	few.Verified, few.Reason = false, TooFew(signers, role, need)
	facts, _, _ := read(few)
	return facts
}

func better(p Proof, quality int64, than Proof, thanQuality int64) bool {
	switch {
	case p.Verified != than.Verified:
		return p.Verified
	case quality != thanQuality:
		return quality > thanQuality
	}
	return p.Evidence.String() < than.Evidence.String()
}

func quality(good bool) int64 {
	if good {
		return 1
	}
	return 0
}

// scanQuality prefers a scan that passes, then the newest database and scan.
func scanQuality(f ScanFacts) int64 {
	return passing(f.Result)<<62 - f.Database.AgeSeconds<<8 - f.AgeSeconds
}

func passing(result string) int64 {
	return quality(result == Passed.String() || result == Warned.String())
}

// memoryHeld reports whether every service stayed alive and within its limit.
func memoryHeld(services []SmokeService) bool {
	return !slices.ContainsFunc(services, func(s SmokeService) bool {
		return !s.Healthy || s.OOMKilled || s.Memory.Limit > 0 && s.Memory.Peak > s.Memory.Limit
	})
}

func allPinned(list []Base) bool {
	return !slices.ContainsFunc(list, func(b Base) bool { return !b.Pinned })
}

// configOf says how a service runs on the platform that is worst off.
func configOf(k Known, service string) ConfigFacts {
	images := k.Images[service]
	c := ConfigFacts{Known: len(images) > 0, NonRoot: len(images) > 0, Healthcheck: len(images) > 0}
	for i, image := range images {
		user := image.User
		if set, ok := k.Users[service]; ok && set != "" {
			user = set
		}
		if i == 0 || IsRoot(user) {
			c.User = user
		}
		c.NonRoot = c.NonRoot && !IsRoot(user)
		c.Healthcheck = c.Healthcheck && image.Healthcheck
	}
	return c
}

// IsRoot reports whether a user of an image or a service is root: unset, 0 or
// root, with or without a group.
func IsRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	name = strings.TrimSpace(name)
	return name == "root" || strings.Trim(name, "0") == ""
}

// HistoryFactsOf says where a release has been, from the ledger's records.
func HistoryFactsOf(h History, environment Environment, d Digest, now time.Time) HistoryFacts {
	facts := HistoryFacts{RequiredSoakSeconds: seconds(environment.Soak)}
	if d.IsZero() {
		return facts
	}
	_, facts.Released = h.Released(d)
	for _, e := range h {
		facts.RanHere = facts.RanHere || e.Record.Phase == Deployed && e.Record.Environment == environment.Name && e.Record.Release == d
	}
	if environment.After == "" {
		return facts
	}
	_, facts.AfterOpen = h.Open(environment.After)
	last, ok := h.Deployed(environment.After)
	if !ok || last.Record.Release != d {
		return facts
	}
	facts.DeployedToAfter = true
	if !facts.AfterOpen {
		facts.SoakSeconds = undisturbed(h, last, now)
	}
	return facts
}

// undisturbed is for how many seconds an environment has run what its last
// deployed record says, with nothing else tried there since: what failed or was
// undone begins the time anew, unless it touched no target. Of claimed times
// the latest counts, and one from the future has not soaked at all.
func undisturbed(h History, last Entry, now time.Time) int64 {
	since := last.Record.Time
	for _, e := range h {
		r := e.Record
		disturbs := r.Phase == FailedPhase || r.Phase == RolledBack && touched(r)
		if r.Environment == last.Record.Environment && r.Sequence > last.Record.Sequence && disturbs && r.Time.After(since) {
			since = r.Time
		}
	}
	return max(0, int64(now.Sub(since)/time.Second))
}

// touched reports whether the attempt that a record closes may have changed a
// target.
func touched(r Record) bool {
	return len(r.Targets) == 0 || slices.ContainsFunc(r.Targets, func(t TargetStatus) bool {
		return t.Status != "skipped" && t.Status != "unreachable"
	})
}
