//go:build engine

package wire

import (
	"io"
	"log"
	"path/filepath"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// What is signed in cosign's older form, beside a bundle or alone, is signed
// once, verifies in the registry, and in layouts and archives where no bundle
// went along.
func TestLegacySignatures(t *testing.T) {
	for name, options := range map[string][]ggcr.Option{"referrers API": {ggcr.WithReferrersSupport(true)}, "fallback tag": nil} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, "ops", "stranger")
			p := registrytest.Serve(t, ggcr.New(append(options, ggcr.Logger(log.New(io.Discard, "", 0)))...))
			s := p.Put(t, "agent/planner", "v1", registrytest.NewImage(1, 100))
			ops := o.pipeline("ops", "")
			sign := func(p *pipeline.Pipeline, existing bool) {
				t.Helper()
				if got, err := p.Sign(t.Context(), s.String(), false); err != nil || got.Existing != existing {
					t.Errorf("got %+v, %v", got, err)
				}
			}
			client := registrytest.NewClient(t, registry.Limits{})
			older := func(want int) {
				t.Helper()
				if list, err := client.LegacyAttachments(t.Context(), s); err != nil || len(list) != want {
					t.Errorf("%d signatures in the older form, %v, want %d", len(list), err, want)
				}
			}
			sign(ops, false)
			older(0)
			o.legacy = true
			ops = o.pipeline("ops", "")
			sign(ops, true)
			older(1)
			p.Forget()
			sign(ops, true)
			older(1)
			if len(p.Writes()) != 0 {
				t.Errorf("signing again wrote %v", p.Writes())
			}
			verifiesAnywhere(t, o, client, p, s)
		})
	}
}

func verifiesAnywhere(t *testing.T, o *office, client *registry.Client, p *registrytest.Proxy, s release.Subject) {
	t.Helper()
	alone := p.Put(t, "agent/alone", "v1", registrytest.NewImage(1, 100)) // the same image, no bundle
	list, err := client.LegacyAttachments(t.Context(), s)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := client.AttachLegacy(t.Context(), alone, list[0]); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	places := []string{s.String(), alone.String()}
	for i, place := range []string{"oci:" + filepath.Join(dir, "layout"), "oci-archive:" + filepath.Join(dir, "image.tar")} {
		if _, err := client.Transfer(t.Context(), places[1], place, registry.CopyOptions{Referrers: true}); err != nil {
			t.Fatal(i, err)
		}
		places = append(places, place)
	}
	ops, stranger := o.pipeline("ops", ""), o.pipeline("stranger", "")
	for _, place := range places {
		got, err := ops.Verify(t.Context(), place)
		if err != nil || got.Result != "passed" {
			t.Errorf("%s: %+v, %v", place, got, err)
		}
		if got, err := stranger.Verify(t.Context(), place); release.KindOf(err) != release.KindDenied || got.Result == "passed" {
			t.Errorf("%s for a stranger: %+v, %v", place, got, err)
		}
	}
}
