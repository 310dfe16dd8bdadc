//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aquasecurity/trivy/pkg/cache"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"

	"github.com/promote-dev/promote/pkg/scan/store"
)

// layers is Trivy's cache of analyses over a store that several processes
// share. Trivy knows a layer by the diff ID that the image's configuration
// claims; here the digests of the bytes belong to its identity too, and only
// what was read whole and verified is kept. Else an image with a false
// configuration could have its own analysis taken for another image's.
type layers struct {
	dir    store.Dir
	image  *image
	claims map[string]string // Trivy's key → key with digests
}

var _ cache.Cache = (*layers)(nil)

func newLayers(dir string, img *image) *layers {
	return &layers{dir: store.Open(dir), image: img, claims: map[string]string{}}
}

// MissingBlobs is asked first, with the layers in the image's order.
func (c *layers) MissingBlobs(_ context.Context, artifactID string, blobIDs []string) (bool, []string, error) {
	claims := c.image.claims()
	if len(blobIDs) != len(claims) {
		return false, nil, fmt.Errorf("%d layers to analyse, the image has %d", len(blobIDs), len(claims))
	}
	var missing []string
	for i, id := range blobIDs {
		c.claims[id] = id + claims[i]
		if _, err := c.GetBlob(context.Background(), id); err != nil {
			missing = append(missing, id)
		}
	}
	_, err := c.GetArtifact(context.Background(), artifactID)
	return err != nil, missing, nil
}

// PutBlob keeps a layer's analysis.
func (c *layers) PutBlob(_ context.Context, blobID string, info ftypes.BlobInfo) error {
	if !c.image.read(info.DiffID) {
		return errors.Join(fmt.Errorf("layer %s was not read whole", info.DiffID), c.image.contradiction())
	}
	return c.put(c.key(blobID), info)
}

func (c *layers) key(blobID string) string { return "layer " + c.claims[blobID] }

// GetBlob gives a layer's analysis.
func (c *layers) GetBlob(_ context.Context, blobID string) (ftypes.BlobInfo, error) {
	var info ftypes.BlobInfo
	return info, c.get(c.key(blobID), &info)
}

// PutArtifact keeps an image configuration's analysis.
func (c *layers) PutArtifact(_ context.Context, artifactID string, info ftypes.ArtifactInfo) error {
	return c.put("image "+artifactID, info)
}

// GetArtifact gives an image configuration's analysis.
func (c *layers) GetArtifact(_ context.Context, artifactID string) (ftypes.ArtifactInfo, error) {
	var info ftypes.ArtifactInfo
	return info, c.get("image "+artifactID, &info)
}

// DeleteBlobs removes analyses.
func (c *layers) DeleteBlobs(_ context.Context, blobIDs []string) error {
	var errs []error
	for _, id := range blobIDs {
		errs = append(errs, c.dir.Delete(c.key(id)))
	}
	return errors.Join(errs...)
}

// Close has nothing to close.
func (c *layers) Close() error { return nil }

// Clear is not for one image to do.
func (c *layers) Clear(context.Context) error { return errors.New("the store is shared") }

func (c *layers) put(key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding an analysis: %w", err)
	}
	return c.dir.Put(key, raw)
}

func (c *layers) get(key string, v any) error {
	raw, ok := c.dir.Get(key)
	if !ok {
		return errors.New("not analysed yet")
	}
	return json.Unmarshal(raw, v)
}
