package registry

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// location is one end of a copy, as people write it.
type location struct {
	kind   string     // "" for a registry, "oci", "oci-archive"
	repo   repository // registry
	path   string     // the others
	tag    string
	digest release.Digest
}

const (
	kindDirectory = "oci"
	kindArchive   = "oci-archive"
)

// parseLocation reads a reference, "oci:DIR", or "oci-archive:FILE"; the latter
// two with ":TAG" or "@sha256:…" where wanted.
func parseLocation(s string) (location, error) {
	kind, rest, _ := strings.Cut(s, ":")
	if kind != kindDirectory && kind != kindArchive {
		ref, err := parseReference(s)
		if err != nil {
			return location{}, err
		}
		l := location{repo: ref.repository, tag: ref.tag, digest: ref.digest}
		if _, tag := splitTag(s); tag == "" {
			l.tag = "" // "latest" was not written
		}
		return l, nil
	}
	if strings.HasPrefix(rest, "//") {
		return location{}, release.Misuse("write a registry without "+kind+"://", "%q: want %s:PATH", clip(s), kind)
	}
	l := location{kind: kind}
	if base, digest, ok := strings.Cut(rest, "@"); ok {
		d, err := release.ParseDigest(digest)
		if err != nil {
			return location{}, release.Misuse("write "+kind+":PATH@sha256:…", "%q: %w", clip(s), err)
		}
		rest, l.digest = base, d
	}
	l.path, l.tag = splitTag(rest)
	if l.path == "" || l.tag != "" && !tagPattern.MatchString(l.tag) {
		return location{}, release.Misuse("write "+kind+":PATH or "+kind+":PATH:TAG", "%q", clip(s))
	}
	return l, nil
}

func (l location) String() string {
	if l.kind == "" {
		return l.repo.String()
	}
	return l.kind + ":" + l.path
}

// Transfer is Copy between any two places that people can name: a reference, an
// image layout "oci:DIR[:TAG]", an archive "oci-archive:FILE[:TAG]". A tag of
// the destination is added to o.Tags; without any, the source's tag is kept. A
// layout with one image needs no tag to name it. An archive is written whole or
// not at all, and an existing one is not changed.
func (c *Client) Transfer(ctx context.Context, source, destination string, o CopyOptions) (CopyResult, error) {
	result, err := c.transfer(ctx, source, destination, o)
	return result, wrap(ctx, "copying", clip(source)+" to "+clip(destination), err)
}

func (c *Client) transfer(ctx context.Context, source, destination string, o CopyOptions) (result CopyResult, err error) {
	from, err := parseLocation(source)
	if err != nil {
		return CopyResult{}, err
	}
	to, err := parseLocation(destination)
	if err != nil {
		return CopyResult{}, err
	}
	src, closeSource, err := c.openSource(from)
	if err != nil {
		return CopyResult{}, err
	}
	defer closeSource()
	if from.kind == "" && to.kind == "" && from.digest.IsZero() {
		return c.between(ctx, src, from, to, o)
	}
	d, tag, err := c.rootOf(ctx, src, from)
	if err != nil {
		return CopyResult{}, err
	}
	if err := to.agrees(d); err != nil {
		return CopyResult{}, err
	}
	if to.kind != "" { // nothing is made for what is not there
		if _, err := src.manifest(ctx, d.String()); err != nil {
			return CopyResult{}, err
		}
	}
	o.Tags = destinationTags(o.Tags, to.tag, tag)
	dst, finish, err := c.openDestination(to, src, o.DryRun)
	if err != nil {
		return CopyResult{}, err
	}
	defer func() { err = errors.Join(err, finish(err == nil)) }()
	return c.copyStores(ctx, src, dst, d, o, nil)
}

// between copies a tag from one registry to another: what the destination has
// is asked while the tag is read.
func (c *Client) between(ctx context.Context, src store, from, to location, o CopyOptions) (CopyResult, error) {
	o.Tags = destinationTags(o.Tags, to.tag, cmp.Or(from.tag, "latest"))
	ctx, tally := withTally(ctx)
	dst := c.writing(to.repo).mounting(src)
	var d release.Digest
	var there tagged
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		d, _, err = c.rootOf(gctx, src, from)
		return err
	})
	g.Go(func() (err error) {
		there, err = c.tagged(gctx, dst, o.Tags)
		return err
	})
	if err := g.Wait(); err != nil {
		return CopyResult{}, err
	}
	if err := to.agrees(d); err != nil {
		return CopyResult{}, err
	}
	looked := tally.requests.Load()
	result, err := c.copyStores(ctx, src, dst, d, o, there)
	result.Requests += looked
	return result, err
}

// agrees refuses a destination whose digest is another one than the source's.
func (l location) agrees(d release.Digest) error {
	if l.digest.IsZero() || l.digest == d {
		return nil
	}
	return release.Misuse("leave the digest of the destination out", "the source is %s, the destination would be %s", d, l.digest)
}

func destinationTags(asked []string, written, inherited string) []string {
	tags := slices.Clone(asked)
	if written != "" {
		tags = append([]string{written}, tags...)
	}
	if len(tags) == 0 && inherited != "" {
		tags = []string{inherited}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// rootOf gives the digest that a source's location names, and its tag.
func (c *Client) rootOf(ctx context.Context, src store, l location) (release.Digest, string, error) {
	tag := l.tag
	if !l.digest.IsZero() { // whether it is there is seen when it is needed
		return l.digest, "", nil
	}
	if s, ok := src.(*remote); ok {
		if tag == "" {
			tag = "latest"
		}
		m, err := c.agree(ctx, s, tag)
		return m.digest, tag, err
	}
	if tag == "" {
		tag, d, err := src.(*layout).only()
		return d, tag, err
	}
	d, err := src.digest(ctx, tag)
	return d, tag, err
}

// only gives the one image of a layout, and its tag if it has one that another
// place can take over. Several names of one image are no tag.
func (s *layout) only() (string, release.Digest, error) {
	list, _, err := s.entries()
	if err != nil {
		return "", release.Digest{}, err
	}
	images := map[release.Digest]bool{}
	var one release.Digest
	var names []string
	for _, d := range list {
		name := d.Annotations[refAnnotation]
		if strings.HasPrefix(name, "sha256-") { // a list of referrers, or a tag of cosign's
			continue
		}
		one, images[d.Digest] = d.Digest, true
		names = append(names, printable(name, 60))
	}
	switch {
	case len(images) == 0:
		return "", release.Digest{}, release.Unavailable("check the path", "%s: no image: %w", s.label, ErrNotFound)
	case len(images) > 1:
		return "", release.Digest{}, release.Misuse("say which one: "+s.label+":TAG or @sha256:…", "%s holds %d images: %s", s.label, len(images), strings.Join(names, ", "))
	case len(names) > 1:
		return "", one, nil
	}
	return tagOf(names[0]), one, nil
}

// tagOf gives the tag of a name in a layout: some tools write whole references.
func tagOf(name string) string {
	if _, tag := splitTag(name); tag != "" {
		name = tag
	}
	if !tagPattern.MatchString(name) {
		return ""
	}
	return name
}

func (c *Client) openSource(l location) (store, func(), error) {
	switch l.kind {
	case "":
		return c.reading(l.repo), func() {}, nil
	case kindDirectory:
		root, err := os.OpenRoot(l.path)
		if err != nil {
			return nil, nil, missing(err, l)
		}
		return &layout{label: l.String(), files: directory{root}, limits: c.limits}, func() { root.Close() }, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, nil, missing(err, l)
	}
	a, err := readArchive(f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return &layout{label: l.String(), files: a, limits: c.limits}, func() { f.Close() }, nil
}

func missing(err error, l location) error {
	if errors.Is(err, fs.ErrNotExist) {
		return release.Misuse("check the path", "%s does not exist: %w", l, ErrNotFound)
	}
	return release.Unavailable(diskHint, "%s: %w", l, err)
}

// openDestination opens where a copy goes; finish ends it, keeping what was
// written only if the copy went well.
func (c *Client) openDestination(l location, src store, dryRun bool) (dst store, finish func(ok bool) error, err error) {
	none := func(bool) error { return nil }
	if l.kind == "" {
		return c.writing(l.repo).mounting(src), none, nil
	}
	_, err = os.Stat(l.path)
	exists := err == nil
	if dryRun && !exists {
		return &memory{label: l.String()}, none, nil
	}
	if l.kind == kindArchive {
		if exists {
			s, done, err := c.openSource(l)
			return s, func(bool) error { done(); return nil }, err
		}
		return c.createArchive(l)
	}
	if !dryRun {
		if err := os.MkdirAll(l.path, 0o755); err != nil {
			return nil, nil, release.Unavailable(diskHint, "%w", err)
		}
	}
	root, err := os.OpenRoot(l.path)
	if err != nil {
		return nil, nil, release.Unavailable(diskHint, "%w", err)
	}
	return &layout{label: l.String(), files: directory{root}, limits: c.limits}, func(bool) error { return root.Close() }, nil
}

// createArchive writes beside the archive's place and moves it there when it is
// complete.
func (c *Client) createArchive(l location) (store, func(ok bool) error, error) {
	f, err := os.CreateTemp(filepath.Dir(l.path), filepath.Base(l.path)+".partial-*")
	if err != nil {
		return nil, nil, release.Unavailable(diskHint, "%w", err)
	}
	a := newArchive(f)
	finish := func(ok bool) error {
		var err error
		if ok {
			err = a.finish()
		}
		err = errors.Join(err, f.Close())
		if !ok || err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		// Temporary files are private; an archive is made to be handed on.
		return errors.Join(os.Chmod(f.Name(), 0o644), os.Rename(f.Name(), l.path))
	}
	return &layout{label: l.String(), files: a, limits: c.limits}, finish, nil
}
