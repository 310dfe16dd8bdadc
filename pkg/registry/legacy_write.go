package registry

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

const (
	typeConfig       = "application/vnd.oci.image.config.v1+json"
	typeDockerConfig = "application/vnd.docker.container.image.v1+json"
)

// AttachLegacy puts a signature in cosign's older form under the tag
// sha256-<hex>.sig of a subject, after those that stand there, which stay as
// they are. The same signature again changes nothing. The subject must be there.
// What stands under the tag and is not made of signatures only is KindDenied, as
// are more signatures than the limits, and nothing is written then. The tag is
// set last and read back.
//
// Nothing locks a tag: two machines may read it and each write what it found and
// its own. So whoever wrote looks again after a while, and puts what is missing
// there again. A tool that writes once and does not look, as cosign, can still
// undo what was written.
func (c *Client) AttachLegacy(ctx context.Context, s release.Subject, a release.LegacyAttachment) error {
	return wrap(ctx, "attaching a signature of cosign's older form to", s.String(), c.attachLegacy(ctx, s, a))
}

func (c *Client) attachLegacy(ctx context.Context, s release.Subject, a release.LegacyAttachment) error {
	repo, err := subjectRepository(s)
	if err != nil {
		return err
	}
	layer, err := c.legacyLayer(a)
	if err != nil {
		return err
	}
	dst := c.writing(repo)
	if _, err := dst.manifest(ctx, s.Digest.String()); err != nil {
		return err
	}
	tag := release.LegacyTag(s.Digest, a.Kind)
	unlock := c.linking.lock(dst.name() + ":" + tag)
	defer unlock()
	for try := 1; ; try++ {
		start := time.Now()
		present, err := c.addLegacy(ctx, dst, s.Digest, tag, a, layer)
		if err != nil || present {
			return err
		}
		if try > 3*c.limits.Attempts {
			return release.Unavailable("others may be changing that tag: try again", "%s: %s does not keep the signature", dst.name(), tag)
		}
		// For as long as another may need that has read the tag already.
		wait := c.limits.Settle + 3*time.Since(start)/2
		if sleep(ctx, wait+rand.N(wait/2+1)) != nil {
			return ended(ctx, dst.name())
		}
	}
}

// legacyLayer describes a signature as the layer that it becomes.
func (c *Client) legacyLayer(a release.LegacyAttachment) (descriptor, error) {
	d := descriptor{MediaType: a.MediaType, Digest: release.DigestOf(a.Content), Size: int64(len(a.Content)), Annotations: a.Annotations}
	switch {
	case a.Kind != release.LegacySignature || !a.Kind.Takes(a.MediaType) || a.Annotations[release.AnnotationLegacySignature] == "":
		return d, release.Faultf(release.KindInternal, "", "a %s of type %s is no signature", a.Kind, a.MediaType)
	case !a.Digest.IsZero() && a.Digest != d.Digest:
		return d, mismatch("signature to attach", a.Digest, d.Digest)
	case d.Size == 0 || d.Size > c.limits.Attachment:
		return d, release.Denied("", "a signature's content of %d bytes, want 1 to %d", d.Size, c.limits.Attachment)
	}
	return d, nil
}

// addLegacy reports whether a signature stands under its tag, and puts it there
// if it does not.
func (c *Client) addLegacy(ctx context.Context, dst *remote, about release.Digest, tag string, a release.LegacyAttachment, layer descriptor) (present bool, err error) {
	old, err := dst.manifest(ctx, tag)
	if err != nil && !isNotFound(err) {
		if errors.Is(err, errAmbiguous) {
			err = notOurs(dst, tag, "%w", err)
		}
		return false, err
	}
	if err == nil {
		if err := signaturesOnly(dst, tag, old); err != nil {
			return false, err
		}
		if holdsSignature(old, layer) {
			return true, nil
		}
		if n := len(old.body.Layers); n >= c.limits.Attachments {
			return false, release.Denied(floodHint, "%s: %s holds %d signatures, and at most %d are read", dst.name(), tag, n, c.limits.Attachments)
		}
	}
	step := event.Start(ctx, "[attach] signature under %s to %s", tag[strings.LastIndex(tag, "."):], about.Short())
	defer func() { step.Done(err) }()
	m, blobs, err := withSignature(old, a, layer, c.limits)
	if err != nil {
		return false, err
	}
	t := c.newTransfer(ctx, newMemory("signature", m, blobs...), dst, CopyOptions{}, step)
	err = t.move(ctx, tree{root: m, levels: [][]manifest{{m}}}, m.digest.String())
	if failed := t.confirm(); failed != nil {
		return false, failed
	}
	if err != nil {
		return false, err
	}
	return false, dst.writeManifest(ctx, tag, m)
}

// signaturesOnly refuses to touch what cosign did not write.
func signaturesOnly(dst store, tag string, m manifest) error {
	switch {
	case isIndex(m.mediaType):
		return notOurs(dst, tag, "it is an index")
	case len(m.body.Layers) == 0:
		return notOurs(dst, tag, "it holds none")
	}
	for _, l := range m.body.Layers {
		if !release.LegacySignature.Takes(l.MediaType) {
			return notOurs(dst, tag, "a layer is of type %s", printable(l.MediaType, 100))
		}
	}
	return nil
}

func notOurs(dst store, tag, format string, args ...any) error {
	return release.Denied("look at what stands there and who put it there; delete the tag if nobody needs it, or leave sign.legacySignatures out",
		"%s: what stands under %s is not made of signatures, and is left as it is: "+format, append([]any{dst.name(), tag}, args...)...)
}

// holdsSignature reports whether a manifest holds a signature, however else it
// is annotated there.
func holdsSignature(m manifest, layer descriptor) bool {
	return slices.ContainsFunc(m.body.Layers, func(d descriptor) bool {
		return d.Digest == layer.Digest && d.Annotations[release.AnnotationLegacySignature] == layer.Annotations[release.AnnotationLegacySignature]
	})
}

// withSignature makes the manifest that holds one more signature than another,
// which may be the zero one, and all else as it is there.
func withSignature(old manifest, a release.LegacyAttachment, layer descriptor, l Limits) (manifest, []release.Blob, error) {
	top := map[string]json.RawMessage{"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + typeManifest + `"`)}
	var layers []json.RawMessage
	kind := typeConfig
	if old.raw != nil {
		clear(top)
		if err := errors.Join(json.Unmarshal(old.raw, &top), json.Unmarshal(top["layers"], &layers)); err != nil {
			return manifest{}, nil, err
		}
		kind = old.body.Config.MediaType
	}
	raw, err := json.Marshal(layer)
	if err != nil {
		return manifest{}, nil, err
	}
	blobs := []release.Blob{{MediaType: layer.MediaType, Digest: layer.Digest, Bytes: a.Content}}
	if kind == typeConfig || kind == typeDockerConfig {
		config, err := legacyConfig(kind, append(slices.Clone(old.body.Layers), layer))
		if err != nil {
			return manifest{}, nil, err
		}
		blobs = append(blobs, config)
		if top["config"], err = json.Marshal(describeBlob(config)); err != nil {
			return manifest{}, nil, err
		}
	}
	if top["layers"], err = json.Marshal(append(layers, raw)); err != nil {
		return manifest{}, nil, err
	}
	content, err := release.Canonical(top)
	if err != nil {
		return manifest{}, nil, err
	}
	mediaType := typeManifest
	if old.raw != nil {
		mediaType = old.mediaType
	}
	m, err := parse(mediaType, content, l)
	return m, blobs, err
}

// legacyConfig makes the configuration of an image of such layers: tools that
// read it as an image, or add to it, count its layers there. It holds no time.
func legacyConfig(mediaType string, layers []descriptor) (release.Blob, error) {
	ids, history := []string{}, []map[string]string{}
	for _, l := range layers { // not compressed: a layer's digest is that of its content
		ids = append(ids, l.Digest.String())
		history = append(history, map[string]string{"created": "0001-01-01T00:00:00Z"})
	}
	text, err := release.Canonical(map[string]any{"architecture": "", "os": "", "config": map[string]any{}, "history": history,
		"created": "0001-01-01T00:00:00Z", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	return release.Blob{MediaType: mediaType, Digest: release.DigestOf(text), Bytes: text}, err
}
