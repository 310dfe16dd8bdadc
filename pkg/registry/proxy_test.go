package registry_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// tunnel is an HTTP proxy that wants a password and brings every CONNECT to one
// place.
type tunnel struct {
	host string
	to   string

	mu      sync.Mutex
	asked   []string // "METHOD target authorization"
	answers int      // status instead of a tunnel; 0 is none
}

func newTunnel(t *testing.T, to string) *tunnel {
	p := &tunnel{to: to}
	server := httptest.NewServer(p)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	p.host = strings.TrimPrefix(server.URL, "http://")
	return p
}

func (p *tunnel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
	status := p.answers
	p.mu.Unlock()
	if status != 0 {
		http.Error(w, "you said "+r.Header.Get("Proxy-Authorization"), status)
		return
	}
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		panic(err)
	}
	defer up.Close()
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer down.Close()
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(up, down) }()
	_, _ = io.Copy(down, up)
}

// viaProxy is what the test's own child process does: read a manifest as its
// environment says, and show everything that it sees.
func viaProxy(t *testing.T) {
	ca, err := os.ReadFile(os.Getenv("PROMOTE_TEST_CA"))
	if err != nil {
		t.Fatal(err)
	}
	host := os.Getenv("PROMOTE_TEST_HOST")
	c := clientOf(t, registry.Options{Hosts: map[string]registry.Host{host: {CA: string(ca)}}})
	ctx := event.With(t.Context(), func(e event.Event) { _ = json.NewEncoder(os.Stdout).Encode(e) })
	s, err := c.Resolve(ctx, host+"/app:v1")
	fmt.Printf("resolved %s, %q %v %+v %#v\n", s.Digest, release.KindOf(err), err, err, err)
}

// The proxy of the environment is used for everything but loopback, with its
// password, which is shown nowhere.
func TestProxyOfTheEnvironment(t *testing.T) {
	if os.Getenv("PROMOTE_TEST_HOST") != "" {
		viaProxy(t)
		return
	}
	ca := newAuthority(t)
	s := ca.serve(tls.NoClientCert, "registry.corp.test")
	d := s.Put(t, "app", "v1", registrytest.NewImage(1, 10)).Digest
	file := writeFile(t, t.TempDir()+"/ca.pem", ca.pem, 0o600)
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + canary))
	for _, test := range []struct {
		name, host, proxy, no string
		answers               int
		want, not             string
		connects              int
	}{
		{name: "tunnel", host: "registry.corp.test", proxy: "http://user:" + canary + "@HOST", want: "resolved " + d.String(), connects: 1},
		{name: "loopback", host: s.host, proxy: "http://user:" + canary + "@HOST", want: "resolved " + d.String()},
		{name: "NO_PROXY", host: "registry.corp.test", proxy: "http://user:" + canary + "@HOST", no: "corp.test", want: `"unavailable"`},
		{name: "refused", host: "registry.corp.test", proxy: "http://user:" + canary + "@HOST", answers: 407, want: "answers 407 to CONNECT registry.corp.test:443", connects: 1},
		{name: "broken", host: "registry.corp.test", proxy: "http://user:" + canary + "@HOST", answers: 502, want: "answers 502 to CONNECT", connects: 1},
		{name: "nobody there", host: "registry.corp.test", proxy: "http://user:" + canary + "@127.0.0.1:1", want: `"unavailable"`},
		{name: "malformed", host: "registry.corp.test", proxy: "http://user:" + canary + "%zz@HOST", want: `"unavailable"`}, // Go leaves such a proxy out
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newTunnel(t, s.host)
			p.answers = test.answers
			proxy := strings.ReplaceAll(test.proxy, "HOST", p.host)
			child := exec.Command(os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.count=1")
			child.Env = []string{"HOME=" + t.TempDir(), "HTTPS_PROXY=" + proxy, "HTTP_PROXY=" + proxy, "NO_PROXY=" + test.no, "PROMOTE_TEST_HOST=" + test.host, "PROMOTE_TEST_CA=" + file}
			out, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !bytes.Contains(out, []byte(test.want)) || bytes.Contains(out, []byte(canary)) || bytes.Contains(out, []byte(basic)) {
				t.Errorf("want %q, and no password: %s", test.want, out)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			connects := 0
			for _, asked := range p.asked {
				if asked != "CONNECT registry.corp.test:443 Basic "+basic {
					t.Errorf("the proxy was asked %q", asked)
				}
				connects++
			}
			if (connects > 0) != (test.connects > 0) || test.answers == 0 && connects > 2 {
				t.Errorf("%d tunnels", connects)
			}
		})
	}
}

// A proxy is asked for hops too, and then it is the proxy that decides who is
// reached: its own address may be inside.
func TestHopsThroughAProxy(t *testing.T) {
	p := registrytest.Serve(t, inMemory(true).New(t))
	img := registrytest.NewImage(1, 10)
	p.Put(t, "app", "v1", img)
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "registry.corp.test" {
			w.Header().Set("Location", "http://storage.corp.test"+r.URL.Path)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		status, body := p.Ask(r.Method, r.URL.Path)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	relay.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(relay.Close)
	c := far(t, names(t, nil), "site", nil)
	u, err := url.Parse(relay.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.Proxy(func(*http.Request) (*url.URL, error) { return u, nil })
	if _, err := c.Blob(t.Context(), "registry.corp.test/app", img.Blobs[0].Digest, 1<<20); err != nil {
		t.Error(err)
	}
}
