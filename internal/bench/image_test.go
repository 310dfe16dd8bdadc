package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"testing"
)

// What a blob's descriptor says is what it holds, each time it is read, and
// another seed gives other layers.
func TestImagesAreWhatTheySay(t *testing.T) {
	spec := Spec{Layers: 2, Bytes: 100_000}
	i, err := NewImage(spec, 1)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(i.Manifest, &m); err != nil || len(m.Layers) != 2 || digest(i.Manifest) != i.Digest {
		t.Fatalf("manifest %s: %v", i.Manifest, err)
	}
	for _, b := range i.blobs {
		for range 2 {
			content, err := io.ReadAll(b.open())
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(content)
			if int64(len(content)) != b.Size || "sha256:"+hex.EncodeToString(sum[:]) != b.Digest {
				t.Errorf("%s of %d bytes holds %d others", b.Digest, b.Size, len(content))
			}
		}
	}
	if size := m.Layers[0].Size; size < spec.Bytes || size > spec.Bytes+4*kib {
		t.Errorf("a layer has %d bytes", size)
	}
	other, err := NewImage(spec, 2)
	if err != nil {
		t.Fatal(err)
	}
	variant, err := i.Variant()
	if err != nil {
		t.Fatal(err)
	}
	if other.blobs[1].Digest == i.blobs[1].Digest || variant.Digest == i.Digest || variant.blobs[1].Digest != i.blobs[1].Digest {
		t.Error("another seed gives the same layer, or a variant the same manifest or other layers")
	}
}
