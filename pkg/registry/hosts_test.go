package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// authority is a CA of somebody's own.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key, a.pem, _ = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: "own CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) make(template *x509.Certificate) (cert *x509.Certificate, key *ecdsa.PrivateKey, certPEM, keyPEM string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return cert, key, block("CERTIFICATE", der), block("PRIVATE KEY", private)
}

// client makes a certificate that a client shows, with its key.
func (a *authority) client() (certPEM, keyPEM string) {
	_, _, certPEM, keyPEM = a.make(&x509.Certificate{Subject: pkix.Name{CommonName: "promote"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return certPEM, keyPEM
}

// secured is a registry with TLS that remembers who showed a certificate.
type secured struct {
	*registrytest.Proxy
	host  string
	mu    sync.Mutex
	shown []string // the client's name, "" for none, by request
}

func (s *secured) forget() (shown []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown, s.shown = s.shown, nil
	return shown
}

func (a *authority) serve(auth tls.ClientAuthType, names ...string) *secured {
	a.t.Helper()
	_, _, certPEM, keyPEM := a.make(&x509.Certificate{DNSNames: append(names, "localhost"), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		a.t.Fatal(err)
	}
	s := &secured{Proxy: registrytest.Serve(a.t, inMemory(true).New(a.t))}
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Proxy.Host})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := ""
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		s.mu.Lock()
		s.shown = append(s.shown, name)
		s.mu.Unlock()
		behind.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: auth, ClientCAs: pool}
	server.StartTLS()
	a.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.host = strings.TrimPrefix(server.URL, "https://")
	return s
}

// put writes a file of certs.d.
func put(t *testing.T, dir, host, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func clientOf(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()
	o.Limits = registrytest.FastLimits()
	if o.Keychain == nil {
		o.Keychain = registrytest.Credentials{}
	}
	if o.CertDirs == nil {
		o.CertDirs = []string{}
	}
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOwnCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	a := ca.serve(tls.NoClientCert)
	d := a.Put(t, "app", "v1", registrytest.NewImage(1, 10)).Digest
	read := func(c *registry.Client, host string) error {
		_, _, err := c.Manifest(t.Context(), release.Subject{Repository: host + "/app", Digest: d})
		return err
	}
	t.Run("certs.d", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, a.host, "ca.crt", "a comment\n"+ca.pem)
		if err := read(clientOf(t, registry.Options{CertDirs: []string{filepath.Join(dir, "absent"), dir}}), a.host); err != nil {
			t.Errorf("on loopback, where certificates mean TLS: %v", err)
		}
	})
	t.Run("settings", func(t *testing.T) {
		if err := read(clientOf(t, registry.Options{Hosts: map[string]registry.Host{a.host: {CA: ca.pem}}}), a.host); err != nil {
			t.Error(err)
		}
	})
	t.Run("another CA", func(t *testing.T) {
		err := read(clientOf(t, registry.Options{Hosts: map[string]registry.Host{a.host: {CA: other.pem}}}), a.host)
		if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another host", func(t *testing.T) {
		yes := false
		b := ca.serve(tls.NoClientCert)
		b.Put(t, "app", "v1", registrytest.NewImage(1, 10))
		c := clientOf(t, registry.Options{Hosts: map[string]registry.Host{a.host: {CA: ca.pem}, b.host: {PlainHTTP: &yes}}})
		if err := read(c, b.host); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("the CA of one host is trusted for another: %v", err)
		}
		if err := read(c, a.host); err != nil {
			t.Error(err)
		}
	})
}

// A client's certificate is for one host: not for those to which it sends us,
// though its CA is trusted there.
func TestClientCertificatesStayHome(t *testing.T) {
	ca := newAuthority(t)
	a, b := ca.serve(tls.RequireAndVerifyClientCert), ca.serve(tls.VerifyClientCertIfGiven)
	img := registrytest.NewImage(1, 10)
	d := a.Put(t, "app", "v1", img).Digest
	b.Put(t, "app", "v1", img)
	certPEM, keyPEM := ca.client()
	dir := t.TempDir()
	put(t, dir, a.host, "ca.crt", ca.pem)
	bare := clientOf(t, registry.Options{CertDirs: []string{dir}})
	if _, _, err := bare.Manifest(t.Context(), release.Subject{Repository: a.host + "/app", Digest: d}); release.KindOf(err) != release.KindUnavailable {
		t.Fatalf("without a certificate: %v", err)
	}
	for _, host := range []string{a.host, b.host} {
		put(t, dir, host, "ca.crt", ca.pem)
		put(t, dir, host, "client.cert", certPEM)
		put(t, dir, host, "client.key", keyPEM)
	}
	c := clientOf(t, registry.Options{CertDirs: []string{dir}})
	if _, err := c.Blob(t.Context(), b.host+"/app", img.Blobs[0].Digest, 1<<20); err != nil {
		t.Fatal(err)
	}
	if shown := b.forget(); fmt.Sprint(shown) != "[promote]" {
		t.Errorf("directly it was shown %q", shown)
	}
	a.On("GET", "/blobs/", registrytest.Answer(307, nil, "Location", "https://"+b.host+"/v2/app/blobs/"+img.Blobs[0].Digest.String()))
	if _, err := c.Blob(t.Context(), a.host+"/app", img.Blobs[0].Digest, 1<<20); err != nil {
		t.Fatal(err)
	}
	if shown := b.forget(); len(shown) != 1 || shown[0] != "" {
		t.Errorf("along a redirect it was shown %q", shown)
	}
	if shown := a.forget(); strings.Join(shown, "") != "promote" {
		t.Errorf("its own host was shown %q", shown)
	}
}

func TestBadCertificates(t *testing.T) {
	ca := newAuthority(t)
	certPEM, keyPEM := ca.client()
	_, strange := ca.client()
	for name, files := range map[string]map[string]string{
		"no certificate":   {"ca.crt": "hello"},
		"a key for a CA":   {"ca.crt": keyPEM},
		"no key":           {"client.cert": certPEM},
		"another key":      {"client.cert": certPEM, "client.key": strange},
		"broken":           {"ca.crt": strings.Replace(ca.pem, "M", "A", 3)},
		"something longer": {"ca.crt": ca.pem + strings.Repeat("\n", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range files {
				put(t, dir, "ghcr.io", file, content)
			}
			c := clientOf(t, registry.Options{CertDirs: []string{dir}})
			_, err := c.Resolve(t.Context(), "ghcr.io/acme/app:v1")
			if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), filepath.Join(dir, "ghcr.io")) || strings.Contains(err.Error(), "PRIVATE KEY-") {
				t.Errorf("got %q: %v", release.KindOf(err), err)
			}
		})
	}
	dir := t.TempDir()
	put(t, dir, "ghcr.io", "README", "not looked at")
	if err := syscall.Mkfifo(filepath.Join(dir, "ghcr.io", "ca.crt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clientOf(t, registry.Options{CertDirs: []string{dir}}).HostError("ghcr.io"); release.KindOf(err) != release.KindConfig {
		t.Errorf("a pipe: %v", err)
	}
	// A host's name reads nothing but its directory.
	put(t, dir, ".", "evil.crt", "not a certificate")
	for _, host := range []string{"..", ".", "", "a/../..", "%2e%2e"} {
		if err := clientOf(t, registry.Options{CertDirs: []string{filepath.Join(dir, "ghcr.io"), dir}}).HostError(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	ca, yes := newAuthority(t), true
	_, keyPEM := ca.client()
	for name, h := range map[string]registry.Host{
		"plain with a CA":        {PlainHTTP: &yes, CA: ca.pem},
		"no certificate":         {CA: "x"},
		"a key":                  {CA: keyPEM},
		"mirror with a password": {Mirrors: []string{"user:canary@mirror.example"}},
		"mirror as a URL":        {Mirrors: []string{"https://mirror.example"}},
		"mirror without a dot":   {Mirrors: []string{"mirror"}},
		"mirror with a tag":      {Mirrors: []string{"mirror.example/a:b"}},
		"mirror with ..":         {Mirrors: []string{"mirror.example/../a"}},
		"empty mirror":           {Mirrors: []string{""}},
	} {
		_, err := registry.New(registry.Options{Hosts: map[string]registry.Host{"ghcr.io": h}})
		if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), "ghcr.io") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := registry.New(registry.Options{Hosts: map[string]registry.Host{"docker.io": {}, "index.docker.io": {}}}); release.KindOf(err) != release.KindConfig {
		t.Errorf("one host twice: %v", err)
	}
}

func TestPlainHTTP(t *testing.T) {
	yes, no, dir := true, false, t.TempDir()
	ca := newAuthority(t)
	put(t, dir, "localhost:5003", "ca.crt", ca.pem)
	put(t, dir, "registry.lan", "ca.crt", ca.pem)
	c := clientOf(t, registry.Options{CertDirs: []string{dir}, Hosts: map[string]registry.Host{
		"registry.lan": {PlainHTTP: &yes}, "Other.lan:5000": {PlainHTTP: &yes}, "localhost:5001": {PlainHTTP: &no}, "localhost:5002": {CA: ca.pem},
	}})
	for host, want := range map[string]bool{
		"ghcr.io": false, "10.0.0.1:5000": false, "localhost": true, "127.0.0.1:5000": true, "[::1]:5000": true, "LOCALHOST.:80": true,
		"registry.lan": true, "registry.lan:443": false, "other.lan:5000": true, "other.lan": false,
		"localhost:5001": false, "localhost:5002": false, "localhost:5003": false, "localhost:5004": true,
	} {
		if got := c.PlainHTTP(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}
