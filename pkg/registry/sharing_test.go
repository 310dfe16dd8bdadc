package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// six is a subject with six attestations.
func six(t *testing.T, referrers bool) (*registrytest.Proxy, release.Subject) {
	t.Helper()
	p := registrytest.Serve(t, inMemory(referrers).New(t))
	c := registrytest.NewClient(t, registrytest.FastLimits())
	s := p.Put(t, "app", "v1", registrytest.NewImage(1, 100))
	for i := range 6 {
		if err := c.Attach(t.Context(), s, release.Attachment{PredicateType: release.PredicateCycloneDX, Bundle: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	p.Forget()
	return p, s
}

func sixOf(t *testing.T, c *registry.Client, s release.Subject) {
	t.Helper()
	if list, err := c.Attachments(t.Context(), s); err != nil || len(list) != 6 {
		t.Fatalf("got %d, %v", len(list), err)
	}
}

// B5: cold, the list, six manifests and six bundles; warm, the list alone. The
// fallback tag costs one request more, for the API that is not there.
func TestRequestsForSixAttestations(t *testing.T) {
	for referrers, listing := range map[bool]int{true: 1, false: 2} {
		t.Run(fmt.Sprintf("API %v", referrers), func(t *testing.T) {
			p, s := six(t, referrers)
			c := registrytest.NewClient(t, registrytest.FastLimits())
			for _, want := range []int{listing + 12, listing, listing} {
				p.Forget()
				sixOf(t, c, s)
				if got := p.Requests(); len(got) != want {
					t.Errorf("%d requests, want %d: %v", len(got), want, got)
				}
			}
			// What is new is seen, at the price of what is new.
			if err := c.Attach(t.Context(), s, release.Attachment{Bundle: []byte(`{"n":"new"}`)}); err != nil {
				t.Fatal(err)
			}
			list, err := c.Attachments(t.Context(), s)
			if err != nil || len(list) != 7 {
				t.Errorf("got %d, %v", len(list), err)
			}
		})
	}
}

// hold makes a registry keep an answer until it is let go.
func hold(t *testing.T, p *registrytest.Proxy, what string) (letGo func()) {
	t.Helper()
	gate := make(chan struct{})
	letGo = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(letGo)
	p.On("GET", what, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-gate:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	return letGo
}

func waitFor(t *testing.T, c *registry.Client, s release.Subject, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); c.Waiting(s) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want %d", c.Waiting(s), n)
		}
	}
}

// B15: a hundred at once cost the registry what one does.
func TestAHundredAtOnceAskOnce(t *testing.T) {
	p, s := six(t, true)
	letGo := hold(t, p, "/referrers/")
	c := registrytest.NewClient(t, registrytest.FastLimits())
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			list, err := c.Attachments(t.Context(), s)
			if err != nil || len(list) != 6 {
				t.Errorf("got %d, %v", len(list), err)
				return
			}
			list[0] = release.Attachment{} // each has a list of its own
		})
	}
	waitFor(t, c, s, 100)
	letGo()
	group.Wait()
	if got := p.Requests(); len(got) != 13 {
		t.Errorf("%d requests, want 13: %v", len(got), got)
	}
}

// So do a hundred who ask whether a digest is there.
func TestAHundredResolveOnce(t *testing.T) {
	p, s := six(t, true)
	c := registrytest.NewClient(t, registrytest.FastLimits())
	letGo := hold(t, p, "/manifests/sha256:")
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			if got, err := c.Resolve(t.Context(), s.String()); err != nil || got != s {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	for deadline := time.Now().Add(30 * time.Second); c.Resolving(s) != 100; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", c.Resolving(s))
		}
	}
	letGo()
	group.Wait()
	if got := p.Requests(); len(got) != 1 {
		t.Errorf("%d requests, want 1: %v", len(got), got)
	}
	if _, err := c.Resolve(t.Context(), s.String()); err != nil || len(p.Requests()) != 2 {
		t.Errorf("who asks later asks again: %v, %v", err, p.Requests())
	}
}

// A registry that had no referrers API is asked for it and for the tag at the
// same time; a list that it has by now is the one that counts.
func TestTheTagIsReadBesideAnAPIThatIsNotThere(t *testing.T) {
	p, s := six(t, false)
	c := registrytest.NewClient(t, registrytest.FastLimits())
	sixOf(t, c, s)
	tagged := make(chan struct{})
	p.On("GET", "/manifests/sha256-", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		close(tagged)
		next.ServeHTTP(w, r)
	})
	p.OnTimes(1, "GET", "/referrers/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		await(t, tagged, "the tag is read after the API only")
		next.ServeHTTP(w, r)
	})
	sixOf(t, c, s)
	tagged = make(chan struct{})
	p.On("GET", "/referrers/", registrytest.Answer(http.StatusOK, []byte(`{"schemaVersion":2,"manifests":[]}`), "Content-Type", release.MediaTypeIndex))
	if list, err := c.Attachments(t.Context(), s); err != nil || len(list) != 0 {
		t.Errorf("got %d, %v, want what the API lists", len(list), err)
	}
}

// Who gives up takes nobody along, not even who asked first; when all have, the
// registry is left alone.
func TestWhoLeavesTakesNobodyAlong(t *testing.T) {
	p, s := six(t, true)
	letGo := hold(t, p, "/referrers/")
	c := registrytest.NewClient(t, registrytest.FastLimits())
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := c.Attachments(first, s); left <- err }()
	waitFor(t, c, s, 1)
	stayed := make(chan error)
	go func() { _, err := c.Attachments(t.Context(), s); stayed <- err }()
	waitFor(t, c, s, 2)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left got %v", err)
	}
	letGo()
	if err := <-stayed; err != nil {
		t.Errorf("who stayed got %v", err)
	}

	p, s = six(t, true)
	asked, over := make(chan struct{}), make(chan struct{})
	p.On("GET", "/referrers/", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		close(asked)
		<-r.Context().Done()
		close(over)
	})
	only, leave := context.WithCancel(t.Context())
	go func() { _, err := c.Attachments(only, s); left <- err }()
	await(t, asked, "the registry was not asked")
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	await(t, over, "the registry is still asked")
}

func await(t *testing.T, c <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second): // before any limit of the client ends it
		t.Fatal(otherwise)
	}
}

// An error is not kept: whoever asks afterwards asks again.
func TestErrorsAreNotKept(t *testing.T) {
	p, s := six(t, true)
	c := registrytest.NewClient(t, registrytest.FastLimits())
	p.OnTimes(1, "GET", "/referrers/", registrytest.Answer(403, nil))
	if _, err := c.Attachments(t.Context(), s); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v", err)
	}
	sixOf(t, c, s)
}
