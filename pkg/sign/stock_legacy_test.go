//go:build engine

package sign

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
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
		for where, options := range map[string][]ggcr.Option{"referrers API": {ggcr.WithReferrersSupport(true)}, "fallback tag": nil} {
			t.Run(version+" verifies ours, "+where, func(t *testing.T) { verifiesOlder(t, cosign, older, newStand(t, options...)) })
		}
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
			for _, e := range v.VerifyLegacy(t.Context(), s.subject, s.older(t, release.LegacySignature, release.LegacyAttestation)) {
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

// verifiesOlder signs beside a bundle, before and after cosign signs with
// another key under the same tag: everybody's signature stays.
func verifiesOlder(t *testing.T, cosign string, older []string, s stand) {
	client := registrytest.NewClient(t, registry.Limits{})
	attach := func() {
		t.Helper()
		a, err := s.key.SignLegacy(t.Context(), s.subject)
		check(t, err)
		check(t, client.AttachLegacy(t.Context(), s.subject, a))
	}
	verify := func(key string) error {
		args := append([]string{"verify", "--key", key, "--insecure-ignore-tlog=true", s.image.String()}, older...)
		out, err := s.run(t, cosign, args...)
		if err != nil {
			return fmt.Errorf("cosign %s: %w: %s", strings.Join(args, " "), err, tail([]byte(out)))
		}
		return nil
	}
	private, public := generated(t)
	check(t, os.WriteFile(filepath.Join(s.dir, "theirs.key"), private, 0o600))
	check(t, os.WriteFile(filepath.Join(s.dir, "theirs.pub"), public, 0o600))
	sign := append([]string{"sign", "--key", "theirs.key", "--yes", "--tlog-upload=false", s.image.String()}, older...)
	if len(older) > 0 {
		sign = append(sign, "--use-signing-config=false")
	}

	if verify("cosign.pub") == nil {
		t.Error("cosign verifies what is not signed")
	}
	attach()
	check(t, verify("cosign.pub"))
	if verify("theirs.pub") == nil {
		t.Error("cosign verifies our signature with another key")
	}
	if out, err := s.run(t, cosign, sign...); err != nil {
		t.Fatalf("cosign %s: %v: %s", strings.Join(sign, " "), err, tail([]byte(out)))
	}
	attach()
	s.key = generatedKey(t, s.dir)
	attach()
	for _, key := range []string{"cosign.pub", "theirs.pub", "third.pub"} {
		check(t, verify(key))
	}
	if n := len(s.older(t, release.LegacySignature)); n != 3 {
		t.Errorf("%d signatures, want three", n)
	}
}

// generatedKey makes another key, whose public half is third.pub.
func generatedKey(t *testing.T, dir string) *Key {
	t.Helper()
	private, public := generated(t)
	check(t, os.WriteFile(filepath.Join(dir, "third.key"), private, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "third.pub"), public, 0o600))
	key, err := LoadKey(t.Context(), filepath.Join(dir, "third.key"), given(passphrase))
	check(t, err)
	t.Cleanup(key.Close)
	return key
}

// older reads what stands under cosign's tags.
func (s stand) older(t *testing.T, kinds ...release.LegacyKind) []release.LegacyAttachment {
	t.Helper()
	var list []release.LegacyAttachment
	for _, kind := range kinds {
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
