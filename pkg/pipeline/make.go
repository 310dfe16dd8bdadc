package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ReleaseOptions are the choices of a release run.
type ReleaseOptions struct {
	AllowDirty bool // take a tree with uncommitted changes, marking the version
	DryRun     bool // say what would be done, change nothing
}

// ServiceResult is one service of a ReleaseResult.
type ServiceResult struct {
	Service    string         `json:"service"`
	Repository string         `json:"repository"`
	Digest     release.Digest `json:"digest"`
	Origin     release.Origin `json:"origin"`
}

// RecordResult names a ledger record.
type RecordResult struct {
	Sequence int64          `json:"sequence"`
	Digest   release.Digest `json:"digest"`
}

// ReleaseResult is what `promote release` gives.
type ReleaseResult struct {
	Release    release.Digest            `json:"release"`
	Version    string                    `json:"version"`
	Revision   string                    `json:"revision"`
	Services   []ServiceResult           `json:"services"`
	Dimensions map[string]release.Digest `json:"dimensions"`
	Record     *RecordResult             `json:"record"`
	// Existing is true when the commit's release was there already.
	Existing bool `json:"existing,omitempty"`
}

// making carries one release run from step to step.
type making struct {
	p        *Pipeline
	head     release.Head
	version  string
	compose  map[string]Composition // smoke and each environment
	images   map[string]release.Image
	external map[string]release.Subject
	kept     map[release.Subject][]release.Evidence // evidence that counts and is fresh
	scans    map[release.Digest]release.Scan        // made by this run
	document release.Document
	identity release.Digest
	smoke    *release.Smoke
	acted    map[release.Role][]string // who attested, by name
}

// Release builds, scans, signs and smokes every service of HEAD, then
// assembles, pushes and signs the release and records it. Evidence that is
// there and fresh is not made again, so a run that was interrupted goes on
// where it stopped; where the release is there already, only evidence that is
// gone or too old is made again. A scan or a smoke test that fails is a KindDenied fault,
// and nothing is released.
func (p *Pipeline) Release(ctx context.Context, o ReleaseOptions) (ReleaseResult, error) {
	head, version, err := p.head(ctx, o.AllowDirty)
	if err != nil {
		return ReleaseResult{}, err
	}
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return ReleaseResult{}, err
	}
	if _, err := p.checkRules(history); err != nil {
		return ReleaseResult{}, err
	}
	if found, ok := releasedFrom(history, head, version); ok {
		return p.existing(ctx, found, head, o.DryRun)
	}
	m := &making{p: p, head: head, version: version, images: map[string]release.Image{}, external: map[string]release.Subject{},
		kept: map[release.Subject][]release.Evidence{}, scans: map[release.Digest]release.Scan{}}
	if err := m.load(ctx); err != nil {
		return ReleaseResult{}, err
	}
	if o.DryRun {
		return m.result(nil), nil
	}
	// The table of contents of a release. Keys are opened in sign, not before.
	for _, step := range []func(context.Context) error{
		m.build, m.importExternal, m.scan, m.assemble, m.smokeTest, m.sign, m.push,
	} {
		if err := step(ctx); err != nil {
			return m.result(nil), err
		}
	}
	entry, err := m.record(ctx)
	if err != nil {
		return m.result(nil), err
	}
	return m.result(&RecordResult{Sequence: entry.Record.Sequence, Digest: entry.Digest}), nil
}

// head reads HEAD and says under which version it may be released.
func (p *Pipeline) head(ctx context.Context, allowDirty bool) (release.Head, string, error) {
	head, err := p.Source.Head(ctx)
	if err != nil {
		return head, "", err
	}
	version := head.Version
	if head.Dirty {
		if !allowDirty {
			return head, "", release.Misuse("commit or stash the changes, or use --allow-dirty: such a release goes no further than the first environment",
				"the working tree differs from HEAD:\n  %s", strings.Join(head.Changed, "\n  "))
		}
		version += release.DirtySuffix
	}
	if err := release.CheckVersion(version); err != nil {
		return head, "", release.Misuse("name the git tag so that it can serve as an image tag", "%w", err)
	}
	return head, version, nil
}

// releasedFrom finds the release that was made of a clean commit. A dirty
// tree has no identity to find.
func releasedFrom(h release.History, head release.Head, version string) (release.Entry, bool) {
	if head.Dirty {
		return release.Entry{}, false
	}
	for i := len(h) - 1; i >= 0; i-- {
		if r := h[i].Record; r.Phase == release.Released && r.Revision == head.Revision && r.Version == version {
			return h[i], true
		}
	}
	return release.Entry{}, false
}

func (p *Pipeline) existing(ctx context.Context, e release.Entry, head release.Head, dryRun bool) (ReleaseResult, error) {
	subject := release.Subject{Repository: p.Project.Repository(p.Project.Registry), Digest: e.Record.Release}
	doc, err := p.Documents.PullRelease(ctx, subject)
	if err != nil {
		return ReleaseResult{}, err
	}
	event.Noticef(ctx, "release %s of %s is there already", doc.Release.Version, e.Record.Release)
	out := p.releaseResult(doc.Release, e.Record.Release, &RecordResult{Sequence: e.Record.Sequence, Digest: e.Digest}, true)
	if dryRun {
		return out, nil
	}
	m := &making{p: p, head: head, version: doc.Release.Version, document: doc, identity: e.Record.Release,
		images: map[string]release.Image{}, external: map[string]release.Subject{},
		kept: map[release.Subject][]release.Evidence{}, scans: map[release.Digest]release.Scan{}}
	return out, m.renew(ctx, subject)
}

// renew makes evidence again that is gone or too old, about the very same
// digests. With nothing missing it takes a request or two an image.
func (m *making) renew(ctx context.Context, subject release.Subject) error {
	for _, name := range m.document.Release.ServiceNames() {
		s, err := m.document.Release.Subject(name, m.p.Project.Registry)
		if err != nil {
			return err
		}
		if m.document.Release.Services[name].Origin == release.Built {
			m.images[name] = release.Image{Service: name, Repository: s.Repository, Digest: s.Digest}
		} else {
			m.external[name] = s
		}
	}
	for _, step := range []func(context.Context) error{m.scan, m.rebuild, m.smokeTest} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if m.complete(subject) {
		if lacks, err := m.lacksLegacy(ctx, subject); err != nil || !lacks {
			return err
		}
	}
	if err := m.sign(ctx); err != nil {
		return err
	}
	return m.attestRelease(ctx, subject)
}

// complete reports whether every piece of evidence is there and fresh.
func (m *making) complete(subject release.Subject) bool {
	if len(m.scans) > 0 || m.smoke != nil || !has(m.kept[subject], release.PredicateSignature) {
		return false
	}
	for _, image := range m.images {
		kept := m.kept[image.Subject()]
		if !has(kept, release.PredicateSignature) || !has(kept, release.PredicateProvenance) {
			return false
		}
	}
	return true
}

// lacksLegacy reports whether the release, or an image of it that was built, is
// to have a signature in cosign's older form and has none.
func (m *making) lacksLegacy(ctx context.Context, subject release.Subject) (bool, error) {
	subjects := []release.Subject{subject}
	for _, image := range m.images {
		subjects = append(subjects, image.Subject())
	}
	for _, s := range subjects {
		if lacks, err := m.p.lacksLegacy(ctx, s); err != nil || lacks {
			return lacks, err
		}
	}
	return false, nil
}

// rebuild builds again what has lost its provenance. Only the same digest can
// have it back.
func (m *making) rebuild(ctx context.Context) error {
	for _, name := range sortedKeys(m.images) {
		image := m.images[name]
		if has(m.kept[image.Subject()], release.PredicateProvenance) {
			continue
		}
		if m.compose == nil {
			if err := m.load(ctx); err != nil {
				return err
			}
		}
		again := &making{p: m.p, head: m.head, version: m.version, images: map[string]release.Image{}, compose: m.compose}
		if err := again.build(ctx); err != nil {
			return err
		}
		if got := again.images[name].Digest; got != image.Digest {
			return release.Denied("make a new release: commit and promote release",
				"the provenance of %s is gone, and building it again gives %s: it cannot be vouched for", image.Subject(), got)
		}
		m.images[name] = again.images[name]
	}
	return nil
}

func (p *Pipeline) releaseResult(r release.Release, identity release.Digest, record *RecordResult, existing bool) ReleaseResult {
	out := ReleaseResult{Release: identity, Version: r.Version, Revision: r.Revision, Dimensions: r.Dimensions, Record: record, Existing: existing}
	for _, name := range r.ServiceNames() {
		s := r.Services[name]
		out.Services = append(out.Services, ServiceResult{Service: name, Repository: p.Project.Registry + "/" + s.Path, Digest: s.Digest, Origin: s.Origin})
	}
	return out
}

func (m *making) result(record *RecordResult) ReleaseResult {
	r := m.document.Release
	if r.Version == "" {
		r.Version, r.Revision = m.version, m.head.Revision
	}
	return m.p.releaseResult(r, m.identity, record, false)
}

// load merges the Compose files of smoke and of each environment. A finding
// of the allow-list over a merged model is a denial: such a model would never
// be deployed.
func (m *making) load(ctx context.Context) (err error) {
	step := event.Start(ctx, "[compose] merging the models")
	defer func() { step.Done(err) }()
	m.compose = map[string]Composition{}
	var reasons []release.Reason
	for _, name := range sortedKeys(m.p.Project.Models) {
		c, err := m.p.Models.Load(ctx, m.p.Project.Models[name])
		if err != nil {
			return err
		}
		m.compose[name] = c
		for _, r := range c.Findings {
			r.Message = name + ": " + r.Message
			reasons = append(reasons, r)
		}
	}
	if len(reasons) > 0 {
		return denial("a compose model asks for what a release must not have", reasons)
	}
	return m.sameServices()
}

// sameServices refuses models that differ in their services or sources: what
// smoke tested would not be what production runs.
func (m *making) sameServices() error {
	smoke := m.compose[release.SmokeModel].Sources
	for _, name := range sortedKeys(m.compose) {
		for _, s := range m.compose[name].Sources {
			i := slices.IndexFunc(smoke, func(o release.Source) bool { return o.Service == s.Service })
			if i < 0 || smoke[i].Image != s.Image || (smoke[i].Build == nil) != (s.Build == nil) {
				return &release.Fault{Kind: release.KindConfig, File: s.File, Line: s.Line,
					Hint: "give every service the same build or image in all files: environments differ in settings, not in contents",
					Err:  fmt.Errorf("service %s of %s is not the one that smoke runs", s.Service, name)}
			}
		}
		if len(m.compose[name].Sources) != len(smoke) {
			return release.Faultf(release.KindConfig, "the same services must be in all models", "%s has %d services, smoke has %d", name, len(m.compose[name].Sources), len(smoke))
		}
	}
	if len(smoke) == 0 {
		return release.Faultf(release.KindConfig, "name the compose files under compose.files in promote.yaml", "the models have no services")
	}
	return nil
}

func (m *making) sources() []release.Source { return m.compose[release.SmokeModel].Sources }

// build builds every service with a build section. BuildKit runs them side by
// side and shares the stages.
func (m *making) build(ctx context.Context) error {
	var mu sync.Mutex
	return each(ctx, m.sources(), func(ctx context.Context, s release.Source) error {
		if s.Build == nil {
			return nil
		}
		image, err := m.p.Builder.Build(ctx, BuildRequest{Service: s.Service, Spec: *s.Build, Head: m.head,
			Repository: m.p.Project.Registry + "/" + s.Service, Platforms: m.p.Project.Platforms})
		if err != nil {
			return err
		}
		mu.Lock()
		m.images[s.Service] = image
		mu.Unlock()
		return nil
	})
}

// importExternal copies third-party images by digest into the project's
// registry, so that every environment pulls from the same place.
func (m *making) importExternal(ctx context.Context) error {
	var mu sync.Mutex
	return each(ctx, m.sources(), func(ctx context.Context, s release.Source) (err error) {
		if s.Build != nil {
			return nil
		}
		subject, err := release.ParseSubject(s.Image)
		if err != nil {
			return &release.Fault{Kind: release.KindDenied, File: s.File, Line: s.Line, Hint: "run promote pin",
				Err: fmt.Errorf("image %s of service %s is not pinned by digest", s.Image, s.Service)}
		}
		step := event.Start(ctx, "[copy] %s", s.Service)
		defer func() { step.Done(err) }()
		// The registry expands short names ("redis@sha256:…").
		if subject, err = m.p.Images.Resolve(ctx, subject.String()); err != nil {
			return err
		}
		repository := m.p.Project.Registry + "/" + s.Service
		if err = m.p.Images.Copy(ctx, subject, repository, false); err != nil {
			return err
		}
		mu.Lock()
		m.external[s.Service] = subject.In(repository)
		mu.Unlock()
		return nil
	})
}

// subjects gives every service's image in the project's registry.
func (m *making) subjects() map[string]release.Subject {
	all := map[string]release.Subject{}
	for name, image := range m.images {
		all[name] = image.Subject()
	}
	for name, s := range m.external {
		all[name] = s
	}
	return all
}

func (m *making) origin(s release.Subject) release.Origin {
	for _, image := range m.images {
		if image.Subject() == s {
			return release.Built
		}
	}
	return release.External
}

// scan scans what has no fresh, verified scan yet, then judges all of them
// together, so that a person sees every problem at once.
func (m *making) scan(ctx context.Context) error {
	var reasons []release.Reason
	for _, name := range sortedKeys(m.subjects()) {
		subject := m.subjects()[name]
		kept, err := m.p.freshEvidence(ctx, subject, needed(m.origin(subject))...)
		if err != nil {
			return err
		}
		m.kept[subject] = kept
		if _, done := m.scans[subject.Digest]; done {
			continue
		}
		if has(kept, release.PredicateVulnerability) && has(kept, release.PredicateCycloneDX) {
			event.Start(ctx, "[scan] %s", name).Cached()
			continue
		}
		scan, err := m.p.Scanner.Scan(ctx, subject)
		if err != nil {
			return err
		}
		m.scans[subject.Digest] = scan
		if scan.Result != release.Passed && scan.Result != release.Warned {
			reasons = append(reasons, ScanReasons(name, scan)...)
		}
	}
	if len(reasons) > 0 {
		return denial("the scan found what must not ship", reasons)
	}
	return nil
}

// ScanReasons puts a failed scan's findings into words, worst first.
func ScanReasons(service string, scan release.Scan) []release.Reason {
	var reasons []release.Reason
	for _, f := range scan.Findings {
		if f.Suppressed != "" {
			continue
		}
		r := release.Reason{Rule: "scan/" + f.Class}
		switch {
		case f.Class == "vulnerability" && strings.EqualFold(f.Severity, "critical"):
			r.Message = fmt.Sprintf("%s: %s (%s) in %s %s", service, f.ID, strings.ToLower(f.Severity), f.Package, f.Version)
			r.Fix = "no fixed version is known; replace the package, or waive it in the ignore file with a statement and an expiry"
			if f.FixedIn != "" {
				r.Fix = "update " + f.Package + " to " + f.FixedIn
			}
		case f.Class == "secret":
			r.Message = fmt.Sprintf("%s: secret %s in %s", service, f.ID, path.Clean("/"+f.Path))
			r.Fix = "remove it from every layer, revoke it, and pass it at run time"
		case f.Class == "coverage":
			r.Message = fmt.Sprintf("%s: %s", service, f.Title)
			r.Fix = "use a database that covers it, or waive it under scan.waive with a statement and an expiry"
		default:
			continue
		}
		reasons = append(reasons, r)
	}
	if len(reasons) == 0 {
		reasons = append(reasons, release.Reason{Rule: "scan/threshold", Message: fmt.Sprintf("%s: findings above the threshold: %v", service, scan.Summary)})
	}
	return reasons
}

// assemble makes the release document; its identity is settled here.
func (m *making) assemble(ctx context.Context) error {
	dimensions, err := m.dimensions(ctx)
	if err != nil {
		return err
	}
	r := release.Release{SchemaVersion: 1, Name: m.p.Project.Name, Version: m.version, Revision: m.head.Revision,
		Services: map[string]release.Service{}, Models: map[string]release.Digest{}, Dimensions: dimensions}
	for name, image := range m.images {
		r.Services[name] = release.Service{Path: name, Digest: image.Digest, Origin: release.Built}
	}
	for name, s := range m.external {
		r.Services[name] = release.Service{Path: name, Digest: s.Digest, Origin: release.External}
	}
	doc := release.Document{Models: map[string][]byte{}, Lock: release.Lock{Models: map[string]release.Requirements{}}}
	for name, c := range m.compose {
		doc.Models[name] = c.Model
		doc.Lock.Models[name] = c.Requirements
		r.Models[name] = release.DigestOf(c.Model)
	}
	doc.Release = r
	m.document = doc
	m.identity, err = doc.Identity()
	return err
}

// dimensions gives the digest of each dimension: tracked files by pattern, and
// "compose:KEY" as the values that the models give an environment key.
func (m *making) dimensions(ctx context.Context) (map[string]release.Digest, error) {
	files, keys := map[string][]string{}, map[string][]string{}
	for name, patterns := range m.p.Project.Dimensions {
		for _, p := range patterns {
			if key, ok := strings.CutPrefix(p, "compose:"); ok {
				keys[name] = append(keys[name], key)
			} else {
				files[name] = append(files[name], p)
			}
		}
	}
	digests, err := m.p.Source.Dimensions(ctx, files)
	if err != nil {
		return nil, err
	}
	for name, list := range keys {
		values := map[string]string{}
		for _, key := range list {
			for model, c := range m.compose {
				if err := environmentValues(c.Model, key, model, values); err != nil {
					return nil, err
				}
			}
		}
		if len(values) == 0 {
			return nil, release.Faultf(release.KindConfig, "name an environment key that a service has", "dimension %s: no service has %q", name, list)
		}
		values["files"] = digests[name].String() // a dimension may be files and keys
		raw, err := release.Canonical(values)
		if err != nil {
			return nil, err
		}
		digests[name] = release.DigestOf(raw)
	}
	return digests, nil
}

func environmentValues(model []byte, key, name string, into map[string]string) error {
	var doc struct {
		Services map[string]struct {
			Environment map[string]any `json:"environment"`
		} `json:"services"`
	}
	if err := json.Unmarshal(model, &doc); err != nil {
		return fmt.Errorf("reading the environment of model %s: %w", name, err)
	}
	for service, s := range doc.Services {
		if v, ok := s.Environment[key]; ok {
			into[name+"/"+service+"/"+key] = fmt.Sprint(v)
		}
	}
	return nil
}

// smokeTest runs the release under production's conditions, unless a fresh
// result about this very release is there.
func (m *making) smokeTest(ctx context.Context) error {
	subject := release.Subject{Repository: m.p.Project.Repository(m.p.Project.Registry), Digest: m.identity}
	kept, err := m.p.freshEvidence(ctx, subject, neededOfRelease...)
	if err != nil {
		return err
	}
	m.kept[subject] = kept
	if has(kept, release.PredicateTestResult) {
		event.Start(ctx, "[smoke] %s", m.version).Cached()
		return nil
	}
	smoke, err := m.p.Smoker.Smoke(ctx, smokeRequest(m.identity, m.document, m.subjects()))
	if err != nil {
		return err
	}
	m.smoke = &smoke
	if smoke.Result == release.Passed || smoke.Result == release.Warned {
		return nil
	}
	return denial("the prod-like run failed", SmokeReasons(smoke))
}

// SmokeReasons puts a failed smoke run into words.
func SmokeReasons(s release.Smoke) []release.Reason {
	var reasons []release.Reason
	for _, c := range s.Checks {
		if c.Result == release.Failed || c.Result == release.Unknown {
			reasons = append(reasons, release.Reason{Rule: "smoke/" + c.Name, Message: c.Detail})
		}
	}
	if len(reasons) == 0 {
		reasons = append(reasons, release.Reason{Rule: "smoke/result", Message: "the run gave no passed result"})
	}
	return reasons
}

// push writes the release and its evidence; tags come last.
func (m *making) push(ctx context.Context) (err error) {
	step := event.Start(ctx, "[release] %s", m.version)
	defer func() { step.Done(err) }()
	repository := m.p.Project.Repository(m.p.Project.Registry)
	subject, err := m.p.Documents.PushRelease(ctx, repository, m.document, nil)
	if err != nil {
		return err
	}
	if subject.Digest != m.identity {
		return fmt.Errorf("pushed the release as %s, it is %s", subject.Digest, m.identity)
	}
	if err := m.attestRelease(ctx, subject); err != nil {
		return err
	}
	for name, s := range m.subjects() {
		if s.Repository == m.p.Project.Registry+"/"+name {
			if err := m.p.Images.Tag(ctx, s, m.version); err != nil {
				return err
			}
		}
	}
	for _, tag := range []string{release.Tag(m.identity), m.version} {
		if err := m.p.Images.Tag(ctx, subject, tag); err != nil {
			return err
		}
	}
	return nil
}

func (m *making) record(ctx context.Context) (release.Entry, error) {
	return m.p.append(ctx, release.Record{Phase: release.Released, Release: m.identity, Version: m.version, Revision: m.head.Revision, Acted: m.actors()})
}
