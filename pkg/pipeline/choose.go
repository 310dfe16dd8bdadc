package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// choose settles which release it is about.
func (r *promotion) choose(ctx context.Context) error {
	r.source = r.p.Project.Registry
	digest, err := r.chosen(ctx)
	if err != nil {
		return err
	}
	r.subject = release.Subject{Repository: r.p.Project.Repository(r.source), Digest: digest}
	return nil
}

func (r *promotion) chosen(ctx context.Context) (release.Digest, error) {
	switch {
	case r.options.Release != "":
		return r.named(ctx)
	case r.kind == release.KindRollback && r.options.Restore != nil:
		if d, err := r.releaseOfSnapshots(); err != nil || !d.IsZero() {
			return d, err
		}
		return r.previous()
	case r.kind == release.KindRollback:
		return r.previous()
	case r.kind == release.KindFix:
		return r.current.Record.Release, nil // Drift has read it
	case r.env.After != "":
		return r.releaseOfAfter(ctx)
	case r.options.DryRun:
		return r.p.releaseOfHead(ctx, r.history, r.options.AllowDirty)
	}
	r.forewarn(ctx)
	made, err := r.p.Release(ctx, ReleaseOptions{AllowDirty: r.options.AllowDirty})
	if err != nil {
		return release.Digest{}, err
	}
	r.history, r.checkpoint, err = r.p.Ledger.Read(ctx)
	return made.Release, err
}

// named finds the release that was asked for. Saying which one is no way around
// the environment before: it has to be settled all the same.
func (r *promotion) named(ctx context.Context) (release.Digest, error) {
	digest, err := findRelease(r.history, r.options.Release)
	if err != nil || r.kind != release.KindPromote || r.env.After == "" {
		return digest, err
	}
	if last, ok := r.history.Deployed(r.env.After); ok && last.Record.Release == digest {
		return r.releaseOfAfter(ctx)
	}
	return digest, nil // the order gate says what is wrong with it
}

// forewarn tells whoever is about to make a release that it will not be let in
// now: making it takes minutes.
func (r *promotion) forewarn(ctx context.Context) {
	for _, f := range release.FreezeFactsOf(r.history, r.env.Name, r.p.Now()) {
		event.Warnf(ctx, "%s is frozen until %s by %s: the release is made, and not let in", r.env.Name, f.Until.Format(time.RFC3339), f.By)
	}
	if w := release.WindowFactsOf(r.env.Windows, r.p.Now()); !w.Open {
		event.Warnf(ctx, "%s takes no promotion now: %s; the release is made, and not let in", r.env.Name, w.Why)
	}
}

// releaseOfHead finds HEAD's release without making it.
func (p *Pipeline) releaseOfHead(ctx context.Context, h release.History, allowDirty bool) (release.Digest, error) {
	head, version, err := p.head(ctx, allowDirty)
	if err != nil {
		return release.Digest{}, err
	}
	if e, ok := releasedFrom(h, head, version); ok {
		return e.Record.Release, nil
	}
	return release.Digest{}, release.Unavailable("make it: promote release", "there is no release of %s yet, so its evidence is unknown", version)
}

// previous is the release that ran before the one that runs.
func (r *promotion) previous() (release.Digest, error) {
	if r.current == nil {
		return release.Digest{}, release.Misuse("promote something first", "%s has never been deployed to", r.env.Name)
	}
	for i := len(r.history) - 1; i >= 0; i-- {
		rec := r.history[i].Record
		if rec.Environment == r.env.Name && rec.Phase == release.Deployed && rec.Release != r.current.Record.Release {
			return rec.Release, nil
		}
	}
	return release.Digest{}, release.Misuse("", "%s has run no other release than %s", r.env.Name, r.current.Record.Version)
}

// releaseOfAfter takes the release of the environment before, if that one is
// settled: no open record, every target running it. That its targets do is
// found out beside what follows.
func (r *promotion) releaseOfAfter(ctx context.Context) (release.Digest, error) {
	after := r.env.After
	if open, ok := r.history.Open(after); ok {
		return release.Digest{}, release.Denied("promote resume "+after, "record %d of %s is open: what runs there is not settled", open.Record.Sequence, after)
	}
	last, ok := r.history.Deployed(after)
	if !ok {
		return release.Digest{}, release.Denied("promote --to "+after, "nothing has been deployed to %s, which %s comes after", after, r.env.Name)
	}
	if r.current != nil && r.current.Record.Release == last.Record.Release {
		return last.Record.Release, nil // nothing new to admit
	}
	r.settling = beside(ctx, r, func(ctx context.Context) (struct{}, error) { return struct{}{}, r.settled(ctx, after, last) })
	return last.Record.Release, nil
}

// settled compares what an environment's targets run with its last record.
func (r *promotion) settled(ctx context.Context, name string, last release.Entry) (err error) {
	step := event.Start(ctx, "[observe] %s", name)
	defer func() { step.Done(err) }()
	env, err := r.p.Project.Environment(name)
	if err != nil {
		return err
	}
	doc, err := r.pull(ctx, r.p.Project.Registry, last.Record.Release)
	if err != nil {
		return err
	}
	for _, t := range env.Targets {
		h, err := r.p.Targets.Open(ctx, t)
		if err != nil {
			return err
		}
		reasons, err := r.unlike(ctx, h, env, last.Record.Release, doc)
		_ = h.Close()
		if err != nil {
			return err
		}
		if len(reasons) > 0 {
			return denial(fmt.Sprintf("%s does not run what its record says", name), reasons)
		}
	}
	return nil
}

// pull reads a release in a registry once.
func (r *promotion) pull(ctx context.Context, registry string, d release.Digest) (release.Document, error) {
	s := release.Subject{Repository: r.p.Project.Repository(registry), Digest: d}
	return r.documents.get(s, func() (release.Document, error) { return r.p.Documents.PullRelease(ctx, s) })
}

// platform reads a release's images in a registry for a platform once.
func (r *promotion) platform(ctx context.Context, registry string, d release.Digest, rel release.Release, platform string) (map[string]release.PlatformImage, error) {
	return r.platforms.get(registry+"@"+d.String()+" "+platform, func() (map[string]release.PlatformImage, error) {
		return r.p.platformImages(ctx, rel, registry, platform)
	})
}

// unlike says in what a target does not run what its record says.
func (r *promotion) unlike(ctx context.Context, h Host, env release.Environment, d release.Digest, doc release.Document) ([]release.Reason, error) {
	info, err := h.Info(ctx)
	if err != nil {
		return nil, err
	}
	images, err := r.platform(ctx, r.p.Project.Registry, d, doc.Release, platform(info))
	if err != nil {
		return nil, err
	}
	project, err := projectName(doc.Models[env.Name])
	if err != nil {
		return nil, err
	}
	_, reasons, err := h.Running(ctx, project, images)
	return reasons, err
}

func platform(i release.EngineInfo) string { return i.OS + "/" + i.Architecture }

// findRelease reads a release argument: a digest, a unique prefix of at least
// 12 hex digits, or a unique version.
func findRelease(h release.History, argument string) (release.Digest, error) {
	if d, err := release.ParseDigest(argument); err == nil {
		if _, ok := h.Released(d); ok {
			return d, nil
		}
		return release.Digest{}, release.Misuse("promote log shows the releases", "the ledger knows no release %s", d)
	}
	var found []release.Digest
	for _, e := range h {
		r := e.Record
		prefix := len(argument) >= 12 && len(r.Release.Hex()) == 64 && r.Release.Hex()[:min(64, len(argument))] == argument
		if r.Phase == release.Released && (prefix || r.Version == argument) && !slices.Contains(found, r.Release) {
			found = append(found, r.Release)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return release.Digest{}, release.Misuse("give a digest, at least 12 hex digits of it, or a version; promote log shows them", "no release %q", argument)
	}
	return release.Digest{}, release.Misuse("give the digest", "release %q could be any of %s", argument, found)
}
