package registry_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

func bundleOf(text string) release.Attachment {
	raw := []byte(`{"mediaType":"` + release.MediaTypeBundle + `","content":"` + text + `"}`)
	return release.Attachment{Digest: release.DigestOf(raw), PredicateType: release.PredicateProvenance, Bundle: raw}
}

// Two machines attach at once where the list is a tag. Both read it before
// either writes, and the second write comes when the first has been answered,
// and read again if it is read at once. Both entries are there in the end.
func TestAttachAtOnce(t *testing.T) {
	t.Parallel()
	p := registrytest.Serve(t, inMemory(false).New(t))
	s := p.Put(t, "app", "v1", registrytest.NewImage(1, 10))
	list := "/v2/app/manifests/sha256-" + s.Digest.Hex()

	var reads sync.WaitGroup
	reads.Add(2)
	p.OnTimes(2, http.MethodGet, list, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		reads.Done()
	})
	first, again := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.OnTimes(1, http.MethodPut, list, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-first
		select {
		case <-again:
		case <-time.After(100 * time.Millisecond):
		}
		next.ServeHTTP(w, r)
	})
	p.OnTimes(1, http.MethodPut, list, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		reads.Wait()
		next.ServeHTTP(w, r)
		p.On(http.MethodGet, list, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(w, r)
			once.Do(func() { close(again) })
		})
		close(first)
	})

	limits := registrytest.FastLimits()
	limits.Settle = 500 * time.Millisecond
	all := []release.Attachment{bundleOf("one"), bundleOf("two")}
	var machines sync.WaitGroup
	for _, a := range all {
		c := registrytest.NewClient(t, limits)
		machines.Go(func() {
			if err := c.Attach(t.Context(), s, a); err != nil {
				t.Error(err)
			}
		})
	}
	machines.Wait()
	got, err := registrytest.NewClient(t, registry.Limits{}).Attachments(t.Context(), s)
	if err != nil || len(got) != 2 {
		t.Fatalf("got %d attachments, %v, want both", len(got), err)
	}
	for _, a := range all {
		if !slices.ContainsFunc(got, func(g release.Attachment) bool { return g.Digest == a.Digest }) {
			t.Errorf("%s is lost", a.Digest)
		}
	}
}

// Whoever loses every time is told.
func TestAttachLosesEveryTime(t *testing.T) {
	for name, action := range map[string]registrytest.Action{
		"nothing is kept": registrytest.Swallow(),
		"refused":         registrytest.Answer(http.StatusForbidden, nil),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := registrytest.Serve(t, inMemory(false).New(t))
			s := p.Put(t, "app", "v1", registrytest.NewImage(1, 10))
			p.On(http.MethodPut, "/v2/app/manifests/sha256-", action)
			limits := registrytest.FastLimits()
			limits.Settle = time.Millisecond
			c := registrytest.NewClient(t, limits)
			if err := c.Attach(t.Context(), s, bundleOf("one")); release.KindOf(err) != release.KindUnavailable {
				t.Errorf("got %v, want unavailable", err)
			}
			if n := len(p.Writes()); n > 30 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// What answers for a referrers API without being one is none: the tag counts.
func TestNotAReferrersAPI(t *testing.T) {
	index := []byte(`{"schemaVersion":2,"mediaType":"` + release.MediaTypeIndex + `","manifests":[]}`)
	for name, action := range map[string]registrytest.Action{
		"a page for people":  registrytest.Answer(http.StatusOK, []byte("<html>welcome</html>"), "Content-Type", "text/html"),
		"a list of no type":  registrytest.Answer(http.StatusOK, index, "Content-Type", "application/json"),
		"an empty answer":    registrytest.Answer(http.StatusOK, nil),
		"not found":          registrytest.Answer(http.StatusNotFound, []byte("<html>"), "Content-Type", "text/html"),
		"not allowed":        registrytest.Answer(http.StatusMethodNotAllowed, nil),
		"a manifest instead": registrytest.Answer(http.StatusOK, index, "Content-Type", release.MediaTypeManifest),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			h.src = registrytest.Serve(t, inMemory(false).New(t))
			s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
			h.src.On(http.MethodGet, "/referrers/", action)
			if err := h.c.Attach(t.Context(), s, bundleOf("one")); err != nil {
				t.Fatal(err)
			}
			if got, err := h.c.Attachments(t.Context(), s); err != nil || len(got) != 1 {
				t.Errorf("got %v, %v", got, err)
			}
			if got, err := h.c.Copy(t.Context(), s, h.dst.Host+"/dst", registry.CopyOptions{Referrers: true}); err != nil || got.Referrers != 1 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for name, action := range map[string]registrytest.Action{
		"a page is missing":    registrytest.Answer(http.StatusNotFound, nil),
		"a page is for people": registrytest.Answer(http.StatusOK, []byte("<html>"), "Content-Type", "text/html"),
		"a page is broken":     registrytest.Answer(http.StatusOK, []byte(`{"manifests":[`), "Content-Type", release.MediaTypeIndex),
		"a page goes nowhere":  registrytest.Answer(http.StatusOK, index, "Content-Type", release.MediaTypeIndex, "Link", `<?page=2>; rel="next"`),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			s := h.src.Put(t, "src", "v1", registrytest.NewImage(1, 10))
			h.src.On(http.MethodGet, "/referrers/", registrytest.Answer(http.StatusOK, index, "Content-Type", release.MediaTypeIndex, "Link", `<?page=2>; rel="next"`))
			h.src.On(http.MethodGet, "/referrers/.*page=2", action)
			want := release.KindUnavailable
			if name == "a page goes nowhere" {
				want = release.KindDenied
			}
			h.refuses(t, s, want)
			if _, err := h.c.Attachments(t.Context(), s); release.KindOf(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}
