//go:build engine

package sign

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// An image that was copied with its evidence verifies where it arrives, with
// stock cosign: by bundles, and by what cosign wrote before them.
func TestCopiedImageVerifies(t *testing.T) {
	cosigns := stockCosigns(t)
	api := []ggcr.Option{ggcr.WithReferrersSupport(true)}
	for way, ends := range map[string]struct {
		source, destination []ggcr.Option
		through             string
	}{
		"referrers API to fallback tag":             {api, nil, ""},
		"fallback tag to referrers API, archive":    {nil, api, "oci-archive"},
		"referrers API to referrers API, directory": {api, api, "oci"},
	} {
		t.Run(way, func(t *testing.T) {
			t.Run("bundles", func(t *testing.T) {
				s := newStand(t, ends.source...)
				statements := map[string]release.Statement{"cyclonedx": types["cyclonedx"], "vuln": types["vuln"]}
				s.attach(t, release.NewStatement(s.subject, release.PredicateSignature, nil))
				for _, st := range statements {
					s.attach(t, release.NewStatement(s.subject, st.PredicateType, st.Predicate))
				}
				s.copied(t, ends.through, ends.destination, func(at stand) error {
					for _, cosign := range cosigns {
						if err := at.accepts(t, cosign, "cosign.pub", "verify"); err != nil {
							return err
						}
						for kind := range statements {
							if err := at.accepts(t, cosign, "cosign.pub", "verify-attestation", "--type", kind); err != nil {
								return err
							}
						}
					}
					return nil
				})
			})
			t.Run("cosign's tags", func(t *testing.T) {
				s := newStand(t, ends.source...)
				for _, args := range [][]string{{"sign"}, {"attest", "--type", "vuln", "--predicate", "vuln.json"}} {
					args = append(args, "--key", "cosign.key", "--yes", "--tlog-upload=false", "--new-bundle-format=false", s.image.String())
					if out, err := s.run(t, cosigns[0], args...); err != nil {
						t.Fatalf("cosign %s: %v: %s", strings.Join(args, " "), err, tail([]byte(out)))
					}
				}
				s.copied(t, ends.through, ends.destination, func(at stand) error {
					for _, cosign := range cosigns {
						for _, command := range [][]string{{"verify"}, {"verify-attestation", "--type", "vuln"}} {
							args := append(command, "--key", "cosign.pub", "--insecure-ignore-tlog=true", "--new-bundle-format=false", at.image.String())
							if out, err := at.run(t, cosign, args...); err != nil {
								return fmt.Errorf("cosign %s: %w: %s", strings.Join(args, " "), err, tail([]byte(out)))
							}
						}
					}
					return nil
				})
			})
		})
	}
}

// copied copies a stand's image to another registry, without its evidence and
// then with it: only then it verifies there.
func (s stand) copied(t *testing.T, through string, destination []ggcr.Option, verify func(stand) error) {
	t.Helper()
	b := registrytest.Serve(t, ggcr.New(append(destination, ggcr.Logger(log.New(io.Discard, "", 0)))...))
	c := registrytest.NewClient(t, registry.Limits{})
	there := s
	there.subject = s.subject.In(b.Host + "/copied/planner")
	image, err := name.NewDigest(there.subject.String())
	check(t, err)
	there.image = image

	if _, err := c.Copy(t.Context(), s.subject, there.subject.Repository, registry.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if verify(there) == nil {
		t.Fatal("cosign verifies before the evidence is there")
	}
	places := []string{s.subject.String(), there.subject.Repository + ":1"}
	if through != "" {
		places = []string{s.subject.String(), through + ":" + filepath.Join(t.TempDir(), "image") + ":1", there.subject.Repository + ":1"}
	}
	for i := range places[1:] {
		if _, err := c.Transfer(t.Context(), places[i], places[i+1], registry.CopyOptions{Referrers: true}); err != nil {
			t.Fatal(err)
		}
	}
	check(t, verify(there))
	if status, _ := b.Ask(http.MethodGet, "/v2/copied/planner/manifests/1"); status != http.StatusOK {
		t.Errorf("the tag: %d", status)
	}
	_, stranger := generated(t)
	check(t, os.WriteFile(filepath.Join(s.dir, "cosign.pub"), stranger, 0o600))
	if verify(there) == nil {
		t.Error("cosign verifies the copy with another key")
	}
}
