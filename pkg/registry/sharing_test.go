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

// hold makes a registry keep the answer to lists until it is let go.
func hold(t *testing.T, p *registrytest.Proxy) (letGo func()) {
	t.Helper()
	gate := make(chan struct{})
	letGo = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(letGo)
	p.On("GET", "/referrers/", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
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
	letGo := hold(t, p)
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

// Who gives up takes nobody along, not even who asked first; when all have, the
// registry is left alone.
func TestWhoLeavesTakesNobodyAlong(t *testing.T) {
	p, s := six(t, true)
	letGo := hold(t, p)
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
