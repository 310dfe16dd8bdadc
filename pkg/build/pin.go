package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// PinMode says what Pin does.
type PinMode string

// The modes of Pin.
const (
	// PinWrite adds digests where they are missing and applies the map. What
	// is pinned already stays.
	PinWrite PinMode = "write"
	// PinCheck changes nothing and needs no network: it lists what is not pinned.
	PinCheck PinMode = "check"
	// PinUpdate resolves every tag again, pinned or not.
	PinUpdate PinMode = "update"
)

// PinOptions says which files to pin and how.
type PinOptions struct {
	// Dir is the project's directory. Files are relative to it; nil finds
	// Dockerfiles and Compose files up to two directories deep.
	Dir   string
	Files []string
	Mode  PinMode
	// Map replaces repositories: the key is any familiar form ("python",
	// "docker.io/library/python"), the value a repository, with a tag if
	// another one than the written tag is meant ("127.0.0.1:5000/base/python:3").
	Map map[string]string
	// Resolve gives the digest that a reference with a tag stands for now.
	// Not called by PinCheck.
	Resolve func(ctx context.Context, ref string) (release.Subject, error)
	// DryRun resolves and reports, and writes nothing.
	DryRun bool
}

// PinChange is one reference that was rewritten.
type PinChange struct {
	File string `json:"file"` // relative to Dir
	Line int    `json:"line"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Unpinned is one reference without a digest, or with one that is malformed.
type Unpinned struct {
	File      string `json:"file"`
	Line      int    `json:"line"`
	Reference string `json:"reference"`
	Message   string `json:"message"`
	Fix       string `json:"fix"`
}

// PinResult is what Pin did and what it could not do.
type PinResult struct {
	Files    []string    `json:"files"` // that were looked at
	Changes  []PinChange `json:"changes"`
	Unpinned []Unpinned  `json:"unpinned"`
}

// Err is nil when everything is pinned, else a KindDenied fault that names the
// first place and counts the others.
func (r PinResult) Err() error {
	if len(r.Unpinned) == 0 {
		return nil
	}
	u := r.Unpinned[0]
	f := release.Denied(u.Fix, "%s: %s", u.Reference, u.Message)
	if more := len(r.Unpinned) - 1; more > 0 {
		f = release.Denied(u.Fix, "%s: %s (and %d more unpinned references)", u.Reference, u.Message, more)
	}
	f.File, f.Line = u.File, u.Line
	return f
}

// Pin makes every image reference of the files "name:tag@sha256:…" on one
// line, or checks that they are: FROM, the ARG defaults that a FROM is made
// of, COPY --from, RUN --mount=from, the syntax directive, and image: in
// Compose files. Stages, scratch and images that the project builds itself
// stay as they are. Every byte but the reference is kept, files are replaced
// atomically, and none is written when a reference cannot be resolved.
//
// What cannot be pinned in place is in the result; see PinResult.Err. Errors
// are KindConfig for files that cannot be read, with their line, and whatever
// kind Resolve gives.
func Pin(ctx context.Context, o PinOptions) (PinResult, error) {
	p, err := newPinner(o)
	if err != nil {
		return PinResult{}, err
	}
	files, err := p.read()
	if err != nil {
		return PinResult{}, err
	}
	for _, f := range files {
		p.result.Files = append(p.result.Files, f.name)
		if err := p.file(ctx, f); err != nil {
			return PinResult{}, err
		}
	}
	if err := p.errs.Or(); err != nil {
		return PinResult{}, err
	}
	if o.DryRun {
		return p.result, nil
	}
	for _, f := range files {
		if err := f.write(); err != nil {
			return p.result, err
		}
	}
	return p.result, nil
}

type pinner struct {
	PinOptions
	result   PinResult
	errs     release.Errors
	resolved map[string]release.Digest
}

func newPinner(o PinOptions) (*pinner, error) {
	switch o.Mode {
	case PinWrite, PinUpdate:
		if o.Resolve == nil {
			return nil, errors.New("pinning: no way to resolve references")
		}
	case PinCheck:
	default:
		return nil, fmt.Errorf("pinning: unknown mode %q", o.Mode)
	}
	p := &pinner{PinOptions: o, resolved: map[string]release.Digest{}}
	p.Map = map[string]string{}
	for _, from := range slices.Sorted(maps.Keys(o.Map)) {
		to := o.Map[from]
		name, err := canonicalRepository(from)
		if err == nil {
			err = checkMapped(to)
		}
		if err != nil {
			return nil, release.Misuse("write --map FROM=TO, for example docker.io/library/python=registry.acme.dev/mirror/python",
				"--map %s=%s: %w", from, to, err)
		}
		p.Map[name] = to
	}
	return p, nil
}

func checkMapped(to string) error {
	if splitWritten(to).digest != "" {
		return fmt.Errorf("%q: want a repository, not a digest", to)
	}
	return checkReference(to)
}

// read reads and parses all files before anything is resolved.
func (p *pinner) read() ([]*pinFile, error) {
	names := p.Files
	if names == nil {
		var err error
		if names, err = discover(p.Dir); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, release.Faultf(release.KindConfig, "run it in the project's directory, or name the files",
			"no Dockerfile or Compose file in %s", p.Dir)
	}
	var files []*pinFile
	var errs release.Errors
	for _, name := range names {
		f, err := readPinFile(p.Dir, name)
		var list release.Errors
		var fault *release.Fault
		switch {
		case errors.As(err, &list):
			errs = append(errs, list...)
		case errors.As(err, &fault):
			errs = append(errs, fault)
		case err != nil:
			return nil, err
		default:
			files = append(files, f)
		}
	}
	if err := errs.Or(); err != nil {
		return nil, err
	}
	skipOwnImages(files)
	return files, nil
}

// file decides about each reference of one file.
func (p *pinner) file(ctx context.Context, f *pinFile) error {
	seen := map[yamlpos.Span]bool{} // an ARG or an anchor may be used more than once
	for _, u := range f.uses {
		if u.span != (yamlpos.Span{}) {
			if seen[u.span] {
				continue
			}
			seen[u.span] = true
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.Mode == PinCheck {
			p.check(f, u)
			continue
		}
		p.pin(ctx, f, u)
	}
	return nil
}

func (p *pinner) unpinned(f *pinFile, u use, fix, format string, args ...any) {
	p.result.Unpinned = append(p.result.Unpinned, Unpinned{
		File: f.name, Line: u.line, Reference: u.text, Message: fmt.Sprintf(format, args...), Fix: fix})
}

func (p *pinner) check(f *pinFile, u use) {
	w, digest := splitWritten(u.text), u.digest()
	switch {
	case digest == "" && u.cannot != "":
		p.unpinned(f, u, handFix, "%s is not pinned: %s", u.what, u.cannot)
	case digest == "":
		p.unpinned(f, u, "run `promote pin`", "%s is not pinned to a digest", u.what)
	default:
		if _, err := release.ParseDigest(digest); err != nil {
			p.unpinned(f, u, "run `promote pin --update`", "%s: %v", u.what, err)
		} else if !hasVariable(w.repository+w.tag) && checkReference(u.text) != nil {
			p.unpinned(f, u, handFix, "%s: %v", u.what, checkReference(u.text))
		}
	}
}

const handFix = "write name:tag@sha256:… there by hand"

// pin gives one reference its digest.
func (p *pinner) pin(ctx context.Context, f *pinFile, u use) {
	next, ok := p.next(f, u)
	if !ok {
		return
	}
	digest, err := p.resolve(ctx, next.lookup)
	if err != nil {
		p.fail(f, u, err)
		return
	}
	next.text.digest = digest.String()
	if to := next.text.String(); to != u.text {
		p.result.Changes = append(p.result.Changes, PinChange{File: f.name, Line: u.line, From: u.text, To: to})
		f.edits = append(f.edits, yamlpos.Edit{Span: u.span, Text: to})
	}
}

// target is what a reference becomes: its text without a digest, and the
// reference to look that digest up by.
type target struct {
	text   written
	lookup string
}

// next works out what a reference becomes; false when there is nothing to do
// or nothing can be done, which is then in the result.
func (p *pinner) next(f *pinFile, u use) (target, bool) {
	now := splitWritten(u.text)
	if now.digest == "" && u.digest() != "" {
		u.cannot = "a variable holds its digest"
	}
	if u.cannot != "" {
		if u.digest() == "" {
			p.unpinned(f, u, handFix, "%s cannot be pinned in place: %s", u.what, u.cannot)
		}
		return target{}, false
	}
	if u.value == "" {
		if now.digest == "" {
			p.unpinned(f, u, handFix, "%s uses a variable without a default", u.what)
		}
		return target{}, false
	}
	value := splitWritten(u.value)
	value.digest = ""
	name, err := canonicalRepository(value.repository)
	if err != nil {
		p.fail(f, u, &release.Fault{Kind: release.KindConfig, Err: err, Hint: "correct the reference"})
		return target{}, false
	}
	to, mapped := p.Map[name]
	switch {
	case mapped && hasVariable(now.repository):
		p.unpinned(f, u, handFix, "%s names its repository by a variable, so --map cannot replace it", u.what)
		return target{}, false
	case mapped:
		return mapTo(to, now, value), true
	case now.digest != "" && (p.Mode == PinWrite || now.tag == ""):
		return target{}, false
	}
	return keep(now, value), true
}

func mapTo(to string, now, value written) target {
	w := splitWritten(to)
	if w.tag != "" {
		return target{text: w, lookup: w.String()}
	}
	next := keep(now, value)
	next.text.repository = w.repository
	next.lookup = w.repository + ":" + splitWritten(next.lookup).tag
	return next
}

// keep is the same reference without its digest. Without a tag it gets the one
// that is meant, so that tools which update pins know what to follow.
func keep(now, value written) target {
	now.digest = ""
	if now.tag == "" {
		now.tag, value.tag = "latest", "latest"
	}
	return target{text: now, lookup: value.String()}
}

func (p *pinner) resolve(ctx context.Context, ref string) (digest release.Digest, err error) {
	if d, ok := p.resolved[ref]; ok {
		return d, nil
	}
	step := event.Start(ctx, "[pin] %s", ref)
	defer func() { step.Done(err) }()
	s, err := p.Resolve(ctx, ref)
	if err == nil && s.Digest.IsZero() {
		err = fmt.Errorf("resolving %s: no digest", ref)
	}
	if err != nil {
		return release.Digest{}, err
	}
	p.resolved[ref] = s.Digest
	return s.Digest, nil
}

// fail keeps an error with its place; all are reported together.
func (p *pinner) fail(f *pinFile, u use, err error) {
	fault := &release.Fault{Kind: release.KindOf(err), Op: "pinning", Subject: u.text, Err: err, File: f.name, Line: u.line}
	var cause *release.Fault
	if errors.As(err, &cause) {
		fault.Hint = cause.Hint
	}
	p.errs = append(p.errs, fault)
}

// path gives a file's path for reading and writing.
func path(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}
