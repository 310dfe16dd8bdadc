package registry_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// names is a resolver that knows these names only; a name may have several
// addresses, separated by spaces.
func names(t *testing.T, known map[string]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := answerName(buffer[:n], known); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerName(raw []byte, known map[string]string) []byte {
	var m dnsmessage.Message
	if m.Unpack(raw) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: true, RecursionAvailable: true}
	m.Additionals = nil
	list, ok := known[strings.TrimSuffix(q.Name.String(), ".")]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range strings.Fields(list) {
		a := netip.MustParseAddr(text)
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// far is a client for which 127.0.0.1 is as far away as it says.
func far(t *testing.T, resolver *net.Resolver, as string, credentials registrytest.Credentials) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Options{Keychain: credentials, Limits: registrytest.FastLimits(), PlainHTTP: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	c.Pretend(resolver, map[string]string{"127.0.0.1": as, "127.0.0.2": "site"})
	return c
}

func port(host string) string { return host[strings.LastIndexByte(host, ':'):] }

// A name that leads further inside than the registry is itself is refused,
// whatever asks us to go there. It is never connected to.
func TestNamesThatLeadInside(t *testing.T) {
	p := registrytest.Serve(t, inMemory(true).New(t))
	img := registrytest.NewImage(1, 100)
	s := p.Put(t, "app", "v1", img)
	addresses := map[string]string{
		"registry.corp.test": "127.0.0.1",
		"storage.corp.test":  "127.0.0.1",
		"private.corp.test":  "10.1.2.3",
		"metadata.corp.test": "169.254.169.254",
		"machine.corp.test":  "127.0.0.9",
		"any.corp.test":      "0.0.0.0",
		"group.corp.test":    "224.0.0.1",
		"shared.corp.test":   "100.100.100.200",
		"six.corp.test":      "::1",
		"unique.corp.test":   "fd00:ec2::254",
		"mapped.corp.test":   "::ffff:169.254.169.254",
		"nat64.corp.test":    "64:ff9b::a9fe:a9fe",
		"two.corp.test":      "10.1.2.3 127.0.0.9",
	}
	resolver := names(t, addresses)
	origin := "registry.corp.test" + port(p.Host)
	about := release.Subject{Repository: origin + "/app", Digest: s.Digest}
	inside := func(t *testing.T, err error, address string) {
		t.Helper()
		if release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), origin) || !strings.Contains(err.Error(), address) {
			t.Errorf("got %q: %v", release.KindOf(err), err)
		}
	}
	for name, address := range addresses {
		shown := strings.TrimPrefix(address, "::ffff:")
		if strings.Contains(address, " ") {
			shown = "sends us to http://" + name
		}
		for _, test := range []struct {
			what string
			run  func(t *testing.T, c *registry.Client) error
		}{
			{"redirect", func(t *testing.T, c *registry.Client) error {
				p.OnTimes(1, "GET", "/blobs/", registrytest.Answer(307, nil, "Location", "http://"+name+port(p.Host)+"/v2/app/blobs/"+img.Blobs[0].Digest.String()))
				_, err := c.Blob(t.Context(), about.Repository, img.Blobs[0].Digest, 1<<20)
				return err
			}},
			{"token server", func(t *testing.T, c *registry.Client) error {
				p.OnTimes(1, "GET", "/manifests/", registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="http://`+name+port(p.Host)+`/token"`))
				p.OnTimes(1, "GET", "^/token", registrytest.Answer(200, []byte(`{"token":"t"}`)))
				_, _, err := c.Manifest(t.Context(), about)
				return err
			}},
			{"upload", func(t *testing.T, c *registry.Client) error {
				p.OnTimes(1, "POST", "/blobs/uploads/", registrytest.Answer(202, nil, "Location", "http://"+name+port(p.Host)+"/v2/app/blobs/uploads/1"))
				p.OnTimes(1, "PUT", "/blobs/uploads/1", registrytest.Swallow())
				return c.PushBlob(t.Context(), about.Repository, registrytest.NewBlob("x/y", []byte(name)))
			}},
		} {
			t.Run(test.what+" to "+name, func(t *testing.T) {
				err := test.run(t, far(t, resolver, "outside", registrytest.Credentials{origin: {Username: "alice", Password: "secret"}}))
				if address != "127.0.0.1" {
					inside(t, err, shown)
				} else if release.KindOf(err) == release.KindDenied || err != nil && test.what != "upload" { // which nobody keeps here
					t.Errorf("a public address is refused: %v", err)
				}
			})
		}
	}
	t.Run("registry of this network", func(t *testing.T) {
		c := far(t, resolver, "site", nil)
		to := func(name string) error {
			p.OnTimes(1, "GET", "/blobs/", registrytest.Answer(307, nil, "Location", "http://"+name+port(p.Host)+"/v2/app/blobs/"+img.Blobs[0].Digest.String()))
			_, err := c.Blob(t.Context(), about.Repository, img.Blobs[0].Digest, 1<<20)
			return err
		}
		if err := to("storage.corp.test"); err != nil {
			t.Errorf("its own network is refused: %v", err)
		}
		inside(t, to("machine.corp.test"), "127.0.0.9")
		inside(t, to("metadata.corp.test"), "169.254.169.254")
	})
}

// A connection that was made to a configured registry is not in the pool of
// those that another registry sends us over.
func TestHopsHaveTheirOwnConnections(t *testing.T) {
	backend := inMemory(true).New(t)
	var asked atomic.Int64
	inner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		backend.ServeHTTP(w, r)
	}))
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	inner.Listener.Close()
	inner.Listener = listener
	inner.Config.ErrorLog = log.New(io.Discard, "", 0)
	inner.Start()
	t.Cleanup(inner.Close)

	p := registrytest.Serve(t, backend)
	img := registrytest.NewImage(1, 100)
	p.Put(t, "app", "v1", img)
	c := far(t, names(t, map[string]string{"registry.corp.test": "127.0.0.1", "inner.corp.test": "127.0.0.2"}), "outside", nil)
	within := "inner.corp.test" + port(listener.Addr().String())
	if _, err := c.Blob(t.Context(), within+"/app", img.Blobs[0].Digest, 1<<20); err != nil { // the connection is kept
		t.Fatalf("a registry of this network, asked for by the user: %v", err)
	}
	before := asked.Load()
	p.On("GET", "/blobs/", registrytest.Answer(307, nil, "Location", fmt.Sprintf("http://%s/v2/app/blobs/%s", within, img.Blobs[0].Digest)))
	_, err = c.Blob(t.Context(), "registry.corp.test"+port(p.Host)+"/app", img.Blobs[0].Digest, 1<<20)
	if release.KindOf(err) != release.KindDenied || asked.Load() != before {
		t.Errorf("got %v, and %d requests arrived", err, asked.Load()-before)
	}
}
