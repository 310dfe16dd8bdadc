package bench

import (
	"context"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// suite is one without peers: a tool is a function that is told where to.
func suite(t *testing.T, only string, do func(w *World, repository string) error) *Suite {
	t.Helper()
	w, err := NewWorld(filepath.Join(t.TempDir(), "world"), func(string) http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	tool := &Tool{Name: "promote", Ours: true, copy: func(ctx context.Context, src, dst string) (Cost, error) {
		// One request, to be counted.
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.Source.Addr()+"/v2/"+sourceRepository+"/manifests/"+tag, nil)
		if err != nil {
			return Cost{}, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return Cost{}, err
		}
		defer resp.Body.Close()
		_, repository, _ := strings.Cut(strings.TrimSuffix(dst, ":"+tag), "/")
		return Cost{Wall: 1}, do(w, repository)
	}}
	return &Suite{World: w, Tools: func(Case) ([]*Tool, error) { return []*Tool{tool}, nil },
		Options: Options{Only: []string{only}, Delays: []int{0}, Runs: 2, Largest: 20 * kib}}
}

// sameImage makes the image that a suite copies; layers follow from the seed.
func sameImage(t *testing.T, s Spec) *Image {
	t.Helper()
	i, err := NewImage(s, uint64(s.total()))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestSuiteMeasures(t *testing.T) {
	image := sameImage(t, Spec{4, 4 * kib})
	s := suite(t, "B1", func(w *World, repository string) error { return w.Destination.Put(repository, tag, image) })
	told := 0
	s.Found = func(list []Result) error {
		told = len(list)
		return nil
	}
	found, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if told != len(found) {
		t.Errorf("told of %d results, found %d", told, len(found))
	}
	if len(found) != 1 {
		t.Fatalf("%d results, want one", len(found))
	}
	for _, r := range found {
		if r.Milliseconds.Runs != 2 || r.Source.Requests != 1 || r.Destination.Requests != 0 || r.Source.Kinds["GET manifest by tag"] != 1 {
			t.Errorf("got %+v", r)
		}
	}
}

// Whoever says that he copied and has not stops the run.
func TestSuiteChecksCopies(t *testing.T) {
	other := sameImage(t, Spec{4, 5 * kib})
	for name, do := range map[string]func(w *World, repository string) error{
		"nothing":          func(*World, string) error { return nil },
		"another image":    func(w *World, repository string) error { return w.Destination.Put(repository, tag, other) },
		"a wrong place":    func(w *World, repository string) error { return w.Destination.Put("elsewhere", tag, other) },
		"an error instead": func(*World, string) error { return errBusy },
	} {
		if _, err := suite(t, "B1", do).Run(t.Context()); err == nil || strings.Contains(err.Error(), "preparing") {
			t.Errorf("%s was taken for a copy: %v", name, err)
		}
	}
}

// Another manifest, and a blob that is missing or has other bytes, are noticed.
func TestHoldsLooksAtEverything(t *testing.T) {
	s := suite(t, "B3", nil)
	r := s.World.Destination
	image := sameImage(t, Spec{2, 4 * kib})
	if err := r.Put("a", tag, image); err != nil {
		t.Fatal(err)
	}
	for _, deep := range []bool{false, true} {
		if err := r.Holds("a", tag, image, deep); err != nil {
			t.Error(err)
		}
	}
	variant, err := image.Variant()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.PutManifest("a", "another", variant); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"another", "v2"} {
		if r.Holds("a", absent, image, false) == nil {
			t.Errorf("tag %s is taken for the image's, whose blobs are there", absent)
		}
	}
	inner := *r.backend.Load()
	for name, h := range map[string]http.HandlerFunc{
		"missing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"other": func(w http.ResponseWriter, q *http.Request) {
			inner.ServeHTTP(flipping{w}, q)
		},
	} {
		r.Serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasSuffix(q.URL.Path, image.blobs[2].Digest) {
				h(w, q)
				return
			}
			inner.ServeHTTP(w, q)
		}))
		if r.Holds("a", tag, image, true) == nil {
			t.Errorf("a blob that is %s is not noticed", name)
		}
	}
}

type flipping struct{ http.ResponseWriter }

func (f flipping) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	p[0] ^= 1
	return f.ResponseWriter.Write(p)
}

func TestReferrersAreChecked(t *testing.T) {
	r := suite(t, "B4", nil).World.Source
	image := sameImage(t, Spec{1, 4 * kib})
	attached, err := referrers(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Put("a", tag, image); err != nil {
		t.Fatal(err)
	}
	if err := r.Attach("a", image, attached[:1]); err != nil {
		t.Fatal(err)
	}
	if err := r.Lists("a", image, attached); err == nil {
		t.Error("an SBOM that is not there is not missed")
	}
	if err := r.Attach("a", image, attached); err != nil {
		t.Fatal(err)
	}
	if err := r.Lists("a", image, attached); err != nil {
		t.Error(err)
	}
}
