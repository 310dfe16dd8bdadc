package engine

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// LabelCheckpoint is on every checkpoint; its value is the name.
const LabelCheckpoint = "dev.promote.checkpoint"

const (
	labelGeneration = "dev.promote.checkpoint.generation" // counts up
	labelText       = "dev.promote.checkpoint.text"
	mostCheckpoint  = 256 << 10
)

// checkpoint is one kept text: an empty volume whose labels hold it. Labels of
// a volume cannot be changed, and nothing but a prune of all volumes removes
// one by the way.
type checkpoint struct {
	volume     string
	generation int64
	text       string
}

// SaveCheckpoint keeps a text under a name on the target. The new text is
// there before the old one goes, so that a kill in between loses nothing.
func (h *Host) SaveCheckpoint(ctx context.Context, name, text string) error {
	if len(text) > mostCheckpoint {
		return release.Faultf(release.KindInternal, "", "saving checkpoint %s: %d bytes are more than %d", name, len(text), mostCheckpoint)
	}
	old, err := h.checkpoints(ctx, name)
	if err != nil {
		return err
	}
	next := int64(1)
	if len(old) > 0 {
		if old[0].text == text { // older ones are what a kill left in between
			return h.forget(ctx, old[1:])
		}
		next = old[0].generation + 1
	}
	generation := strconv.FormatInt(next, 10)
	short, cancel := h.short(ctx)
	defer cancel()
	_, err = h.client.VolumeCreate(short, client.VolumeCreateOptions{
		Name:   "promote-checkpoint-" + name + "-" + generation,
		Labels: map[string]string{LabelCheckpoint: name, labelGeneration: generation, labelText: text},
	})
	if err != nil {
		return h.fault("saving checkpoint", name, err)
	}
	kept, err := h.ReadCheckpoint(ctx, name)
	if err != nil {
		return err
	}
	if kept != text {
		return release.Unavailable("another promotion writes to this target at the same time; try again", "saving checkpoint %s on %s: it reads back as another text", name, h.Name())
	}
	return h.forget(ctx, old)
}

func (h *Host) forget(ctx context.Context, list []checkpoint) error {
	for _, c := range list {
		if err := h.RemoveVolume(ctx, c.volume); err != nil {
			return err
		}
	}
	return nil
}

// ReadCheckpoint gives the newest text kept under a name, or "" if there is none.
func (h *Host) ReadCheckpoint(ctx context.Context, name string) (string, error) {
	kept, err := h.checkpoints(ctx, name)
	if err != nil || len(kept) == 0 {
		return "", err
	}
	return kept[0].text, nil
}

// checkpoints lists what is kept under a name, newest first.
func (h *Host) checkpoints(ctx context.Context, name string) ([]checkpoint, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.VolumeList(ctx, client.VolumeListOptions{Filters: client.Filters{}.Add("label", LabelCheckpoint+"="+name)})
	if err != nil {
		return nil, h.fault("reading checkpoint", name, err)
	}
	var list []checkpoint
	for _, v := range result.Items {
		n, err := strconv.ParseInt(v.Labels[labelGeneration], 10, 64)
		if err != nil {
			return nil, release.Faultf(release.KindIntegrity, "look at it with docker volume inspect "+v.Name, "reading checkpoint %s on %s: volume %s has no generation", name, h.Name(), v.Name)
		}
		list = append(list, checkpoint{volume: v.Name, generation: n, text: v.Labels[labelText]})
	}
	slices.SortFunc(list, func(a, b checkpoint) int { return cmp.Compare(b.generation, a.generation) })
	return list, nil
}
