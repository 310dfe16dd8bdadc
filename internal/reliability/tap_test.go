package reliability

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tapped gives a tap before a server that counts what reaches it.
func tapped(t *testing.T) (*Tap, func(agent, path string) (string, error), *int) {
	t.Helper()
	reached := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		fmt.Fprintf(w, "%s %s", r.Host, r.URL.Path)
	}))
	t.Cleanup(s.Close)
	socket := "unix:" + filepath.Join(t.TempDir(), "s")
	direct, err := NewTap(socket, strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	tap, err := NewTap("127.0.0.1:0", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tap.Close() })
	return tap, func(agent, path string) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+tap.Addr()+path, nil)
		if err != nil {
			return "", err
		}
		r.Header.Set("User-Agent", agent)
		answer, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return string(body), err
	}, &reached
}

func TestATapCountsTheProgramsRequests(t *testing.T) {
	tap, get, _ := tapped(t)
	if _, err := get("promote", "/v2/"); err != nil {
		t.Fatal(err)
	}
	tap.Count()
	for agent, path := range map[string]string{"promote": "/v2/app/manifests/sha256:1", "docker/20.10": "/v2/app/blobs/sha256:1"} {
		if body, err := get(agent, path); err != nil || body != tap.Addr()+" "+path {
			t.Errorf("%q, %v", body, err)
		}
	}
	if seen := tap.Stop(); !slices.Equal(seen, []string{"GET manifest by digest"}) {
		t.Errorf("seen %q", seen)
	}
}

// Struck before, a request never reaches the server; after, it does, and its
// answer does not come back.
func TestATapStrikes(t *testing.T) {
	for _, after := range []bool{false, true} {
		tap, get, reached := tapped(t)
		what := ""
		tap.Strike(2, after, func(w string) { what = w })
		for i, wantErr := range []bool{false, true, false} {
			if _, err := get("promote", fmt.Sprintf("/v1.41/containers/%d/json", i)); (err != nil) != wantErr {
				t.Errorf("after %t, request %d: %v", after, i+1, err)
			}
		}
		want := 2
		if after {
			want = 3
		}
		if what != "GET /containers/…/json" || *reached != want {
			t.Errorf("after %t: struck %q, %d requests reached the server, want %d", after, what, *reached, want)
		}
		_ = tap.Close()
	}
}

func TestOperations(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/":                                    "GET /v2/",
		"/v2/a/manifests/v1":                      "GET manifest by tag",
		"/v2/a/b/blobs/sha256:00":                 "GET blob",
		"/v2/a/blobs/uploads/":                    "GET blob upload",
		"/v2/a/blobs/uploads/?mount=sha256:1":     "GET blob mount",
		"/v2/a/referrers/sha256:00":               "GET referrers",
		"/v1.41/containers/create":                "GET /containers/create",
		"/v1.41/containers/json":                  "GET /containers/json",
		"/v1.41/containers/abc/start":             "GET /containers/…/start",
		"/v1.41/containers/abc/json":              "GET /containers/…/json",
		"/v1.41/images/json":                      "GET /images/json",
		"/v1.41/images/127.0.0.1:5000/a/b/json":   "GET /images/…/json",
		"/v1.41/images/127.0.0.1:5000/create":     "GET /images/create",
		"/v1.41/volumes/create":                   "GET /volumes/create",
		"/v1.41/networks/abc":                     "GET /networks/…",
		"/_ping":                                  "GET /_ping",
		"/info":                                   "GET /info",
		"/v1.41/volumes":                          "GET /volumes",
		"/v1.41/events":                           "GET /events",
		"/v1.41/containers/promote-x/json?size=1": "GET /containers/…/json",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := operation("GET", u); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
