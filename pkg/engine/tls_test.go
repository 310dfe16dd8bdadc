package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// authority makes certificates for engines and clients.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.certificate, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate, key
}

// directory writes what DOCKER_CERT_PATH points to: a client's certificate of
// this authority, and the authority that it trusts.
func (a *authority) directory(trusts *authority) string {
	a.t.Helper()
	dir := a.t.TempDir()
	certificate, key := a.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: trusts.certificate.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: certificate.Raw},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return dir
}

// Over TCP both sides show certificates, and the engine's is always verified,
// with or without DOCKER_TLS_VERIFY.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	server := httptest.NewUnstartedServer(&stub{version: "1.41", answers: map[string]string{"GET /info": `{"ServerVersion":"x"}`}})
	certificate, key := ours.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	clients := x509.NewCertPool()
	clients.AddCert(ours.certificate)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	address := "tcp://" + server.Listener.Addr().String()
	cases := map[string]struct {
		directory string
		well      bool
	}{
		"well":              {ours.directory(ours), true},
		"another engine":    {ours.directory(theirs), false},
		"another client":    {theirs.directory(ours), false},
		"no certificate":    {"", false},
		"no such directory": {filepath.Join(t.TempDir(), "x"), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, err := Open(context.Background(), release.Target{Host: address}, Options{Getenv: env(map[string]string{"DOCKER_CERT_PATH": c.directory})})
			if err == nil {
				_, err = h.Info(context.Background())
				_ = h.Close()
			}
			if c.well && err != nil || !c.well && release.KindOf(err) != release.KindUnavailable {
				t.Errorf("%v (%s)", err, release.KindOf(err))
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}
