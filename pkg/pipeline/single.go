package pipeline

import (
	"context"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// BuildResult is what `build` gives.
type BuildResult struct {
	Images []release.Image `json:"images"`
}

// Build builds and pushes every service of HEAD once. A dry run only merges
// the models and reads HEAD.
func (p *Pipeline) Build(ctx context.Context, o ReleaseOptions) (BuildResult, error) {
	out := BuildResult{Images: []release.Image{}}
	head, version, err := p.head(ctx, o.AllowDirty)
	if err != nil {
		return out, err
	}
	m := &making{p: p, head: head, version: version, images: map[string]release.Image{}}
	if err := m.load(ctx); err != nil || o.DryRun {
		return out, err
	}
	if err := m.build(ctx); err != nil {
		return out, err
	}
	for _, name := range sortedKeys(m.images) {
		image := m.images[name]
		image.Provenance = nil // evidence is signed and attached, not printed
		out.Images = append(out.Images, image)
	}
	return out, nil
}

// Scan scans the image that a reference names. A result that is not passed or
// warned comes with a KindDenied fault.
func (p *Pipeline) Scan(ctx context.Context, reference string) (release.Scan, error) {
	subject, err := p.Images.Resolve(ctx, reference)
	if err != nil {
		return release.Scan{Result: release.Unknown}, err
	}
	scan, err := p.Scanner.Scan(ctx, subject)
	if err != nil {
		return release.Scan{Subject: subject, Result: release.Unknown}, err
	}
	scan.Predicate, scan.SBOM = nil, nil
	if scan.Result < release.Warned {
		return scan, denial("the scan found what must not ship", ScanReasons(subject.Repository, scan))
	}
	return scan, nil
}

// Smoke runs a release under production's conditions; without an argument
// HEAD's. The result is shown, not recorded: `release` makes the evidence.
func (p *Pipeline) Smoke(ctx context.Context, argument string) (release.Smoke, error) {
	history, _, err := p.Ledger.Read(ctx)
	if err != nil {
		return release.Smoke{}, err
	}
	var digest release.Digest
	if argument == "" {
		digest, err = p.releaseOfHead(ctx, history, true)
	} else {
		digest, err = findRelease(history, argument)
	}
	if err != nil {
		return release.Smoke{}, err
	}
	doc, err := p.Documents.PullRelease(ctx, release.Subject{Repository: p.Project.Repository(p.Project.Registry), Digest: digest})
	if err != nil {
		return release.Smoke{}, err
	}
	images := map[string]release.Subject{}
	for _, name := range doc.Release.ServiceNames() {
		if images[name], err = doc.Release.Subject(name, p.Project.Registry); err != nil {
			return release.Smoke{}, err
		}
	}
	result, err := p.Smoker.Smoke(ctx, smokeRequest(digest, doc, images))
	if err != nil {
		return result, err
	}
	result.Predicate = nil
	if result.Result < release.Warned {
		return result, denial("the prod-like run failed", SmokeReasons(result))
	}
	event.Noticef(ctx, "this run is no evidence; promote release signs its own")
	return result, nil
}
