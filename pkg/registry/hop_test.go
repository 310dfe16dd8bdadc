package registry

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func TestAllowHop(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		origin, to string
		allowed    bool
	}{
		{"ghcr.io", "https://pkg-containers.githubusercontent.com/blob?sig=1", true},
		{"ghcr.io", "https://ghcr.io/token", true},
		{"ghcr.io", "http://ghcr.io/token", false},
		{"ghcr.io", "http://storage.example/blob", false},
		{"ghcr.io", "https://169.254.169.254/latest/meta-data", false},
		{"ghcr.io", "https://127.0.0.1:8080/", false},
		{"ghcr.io", "https://localhost/", false},
		{"ghcr.io", "http://localhost/", false},
		{"ghcr.io", "https://[::1]/", false},
		{"ghcr.io", "https://10.0.0.1/", false},
		{"ghcr.io", "https://0.0.0.0/", false},
		{"ghcr.io", "https://user:password@storage.example/", false},
		{"ghcr.io", "file:///etc/passwd", false},
		{"10.1.2.3:5000", "https://10.1.2.4/blob", true},
		{"10.1.2.3:5000", "https://169.254.169.254/", false},
		{"127.0.0.1:5000", "http://127.0.0.1:5001/blob", true},
		{"127.0.0.1:5000", "https://storage.example/blob", true},
		{"127.0.0.1:5000", "http://storage.example/blob", false},
	} {
		u, err := url.Parse(test.to)
		if err != nil {
			t.Fatal(err)
		}
		err = c.allowHop(test.origin, u)
		if (err == nil) != test.allowed || err != nil && release.KindOf(err) != release.KindDenied {
			t.Errorf("%s → %s: %v", test.origin, test.to, err)
		}
	}
}

func TestSameOwner(t *testing.T) {
	for _, test := range []struct {
		registry, realm string
		same            bool
	}{
		{"index.docker.io", "auth.docker.io", true},
		{"ghcr.io", "ghcr.io", true},
		{"registry.gitlab.com", "gitlab.com", true},
		{"registry.acme.co.uk", "evil.co.uk", false},
		{"acme.github.io", "evil.github.io", false},
		{"ghcr.io", "evil.io", false},
		{"ghcr.io", "ghcr.io.evil.example", false},
		{"127.0.0.1:5000", "127.0.0.1:5001", false},
		{"127.0.0.1:5000", "127.0.0.1:5000", true},
		{"localhost:5000", "localhost:5001", false},
		{"10.0.0.1", "10.0.0.2", false},
	} {
		if got := sameOwner(test.registry, test.realm); got != test.same {
			t.Errorf("%s and %s: %v", test.registry, test.realm, got)
		}
	}
}

func TestParseChallenges(t *testing.T) {
	ch := parseChallenges([]string{`Negotiate`, `Bearer realm="https://auth.example/token",service="a \"b\", c", scope=plain`})
	if ch == nil || ch.scheme != "bearer" || ch.parameters["realm"] != "https://auth.example/token" || ch.parameters["service"] != `a "b", c` || ch.parameters["scope"] != "plain" {
		t.Errorf("got %+v", ch)
	}
	for _, header := range []string{"", "Digest x=y", `Bearer`, `bearer realm="unterminated`, "Basic"} {
		_ = parseChallenges([]string{header}) // no panic
	}
	if parseChallenges([]string{"Digest realm=x"}) != nil {
		t.Error("took a scheme that we don't know")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "999999999": 24 * time.Hour,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}
