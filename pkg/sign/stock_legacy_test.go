//go:build engine

package sign

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	media "github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/promote-dev/promote/pkg/release"
)

// What was before bundles, both ways: .sig and .att.
func inTheOlderForm(t *testing.T, cosigns []string) {
	for _, cosign := range cosigns {
		version := cosignVersion(t, cosign)
		var older []string // v3 writes and reads it only when told to
		if !strings.HasPrefix(version, "v2") {
			older = []string{"--new-bundle-format=false"}
		}
		t.Run(version+" verifies ours", func(t *testing.T) {
			s := newStand(t, ggcr.WithReferrersSupport(true))
			verify := append([]string{"verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", s.image.String()}, older...)
			if _, err := s.run(t, cosign, verify...); err == nil {
				t.Error("cosign verifies what is not signed")
			}
			a, err := s.key.SignLegacy(t.Context(), s.subject)
			check(t, err)
			image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(a.Content, media.MediaType(a.MediaType)), Annotations: a.Annotations})
			check(t, err)
			check(t, remote.Write(s.image.Context().Tag(release.LegacyTag(s.subject.Digest, a.Kind)), image))
			if out, err := s.run(t, cosign, verify...); err != nil {
				t.Errorf("%v: %s", err, tail([]byte(out)))
			}
		})
		t.Run(version+" is verified by us", func(t *testing.T) {
			s := newStand(t, ggcr.WithReferrersSupport(true))
			for _, args := range [][]string{
				{"sign", "--key", "cosign.key", "--yes", "--tlog-upload=false", s.image.String()},
				{"attest", "--key", "cosign.key", "--yes", "--tlog-upload=false", "--type", "vuln", "--predicate", "vuln.json", s.image.String()},
			} {
				if args = append(args, older...); len(older) > 0 {
					args = append(args, "--use-signing-config=false")
				}
				if out, err := s.run(t, cosign, args...); err != nil {
					t.Fatalf("cosign %s: %v: %s", strings.Join(args, " "), err, tail([]byte(out)))
				}
			}
			v, err := NewVerifier(TrustOf(s.key.PublicPEM(), "ci"))
			check(t, err)
			found := map[string]bool{}
			for _, e := range v.VerifyLegacy(t.Context(), s.subject, s.older(t)) {
				if !e.Verified {
					t.Errorf("%s: %s", e.PredicateType, e.Reason)
				}
				found[e.PredicateType] = e.Verified
			}
			if !found[release.PredicateSignature] || !found[release.PredicateVulnerability] {
				t.Errorf("found %v", found)
			}
		})
	}
}

// older reads what stands under cosign's tags.
func (s stand) older(t *testing.T) []release.LegacyAttachment {
	t.Helper()
	var list []release.LegacyAttachment
	for _, kind := range []release.LegacyKind{release.LegacySignature, release.LegacyAttestation} {
		image, err := remote.Image(s.image.Context().Tag(release.LegacyTag(s.subject.Digest, kind)))
		check(t, err)
		raw, err := image.RawManifest()
		check(t, err)
		var manifest struct {
			Layers []struct {
				MediaType   string            `json:"mediaType"`
				Annotations map[string]string `json:"annotations"`
			} `json:"layers"`
		}
		check(t, json.Unmarshal(raw, &manifest))
		layers, err := image.Layers()
		check(t, err)
		for i, layer := range layers {
			r, err := layer.Compressed()
			check(t, err)
			text, err := io.ReadAll(r)
			check(t, err)
			list = append(list, release.LegacyAttachment{Kind: kind, MediaType: manifest.Layers[i].MediaType, Digest: release.DigestOf(text), Content: text, Annotations: manifest.Layers[i].Annotations})
		}
	}
	return list
}
