package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// authority makes the certificate of a CA, in PEM.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestRegistryHosts(t *testing.T) {
	dir, ca := project(t), authority(t)
	outside := filepath.Join(t.TempDir(), "ca.pem")
	for file, text := range map[string]string{filepath.Join(dir, "keys", "ca.pem"): "# ours\n" + ca, outside: ca + ca} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte(minimal+`registries:
  registry.acme.dev:5000: {ca: keys/ca.pem, mirrors: [mirror.acme.dev, "127.0.0.1:5001/hub/x"]}
  registry.lan: {plainHTTP: true}
  localhost:5000: {plainHTTP: false}
  docker.io: {ca: `+outside+`}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r := c.RegistrySettings()
	if r["registry.acme.dev:5000"].CA != "# ours\n"+ca || r["docker.io"].CA != ca+ca || r["registry.lan"].CA != "" || len(r) != 4 {
		t.Error("CAs are not those of the files")
	}
	alone, err := LoadRegistrySettings(path)
	if err != nil || !reflect.DeepEqual(alone, r) {
		t.Errorf("alone they are %+v, %v", alone, err)
	}
	if m := r["registry.acme.dev:5000"].Mirrors; len(m) != 2 || m[1] != "127.0.0.1:5001/hub/x" {
		t.Errorf("mirrors %q", m)
	}
	if !*r["registry.lan"].PlainHTTP || *r["localhost:5000"].PlainHTTP || r["docker.io"].PlainHTTP != nil {
		t.Errorf("got %+v", r)
	}
	// They are no rules: what they say can make reading fail, and nothing pass.
	if bare := sound(t, minimal); bare.Digest() != c.Digest() {
		t.Error("registries change the digest of the rules")
	}
}

func TestMistakesInRegistries(t *testing.T) {
	dir, ca := project(t), authority(t)
	path := filepath.Join(dir, FileName)
	for name, text := range map[string]string{
		"ca.pem": ca, "empty.pem": "", "both.pem": ca + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"request.pem": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
		"bad.pem":     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"large.pem":   ca + strings.Repeat("\n", maxCA),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := func(s string) string { return "registries:\n  ghcr.io: {" + s + "}\n" }
	for _, c := range []struct{ text, want string }{
		{"registeries: {}\n", `3:1: unknown key "registeries", did you mean "registries"?`},
		{"registries:\n", `3:1: registries: no value`},
		{"registries: [ghcr.io]\n", `3:13: registries: expected a mapping, got a list`},
		{host("plainHttp: true"), `4:13: unknown key "plainHttp" in registries.ghcr.io, did you mean "plainHTTP"?`},
		{host("password: canary"), `4:13: unknown key "password" in registries.ghcr.io`},
		{host("plainHTTP: yes please"), `4:24: registries.ghcr.io.plainHTTP: expected true or false, got "yes please"`},
		{host("plainHTTP: true, ca: ca.pem"), `4:34: registries.ghcr.io.ca: a certificate is of no use without TLS`},
		{host("ca: absent.pem"), `4:17: registries.ghcr.io.ca: absent.pem: no such file or directory`},
		{host("ca: keys"), `4:17: registries.ghcr.io.ca: keys: no regular file`},
		{host("ca: empty.pem"), `4:17: registries.ghcr.io.ca: empty.pem: no certificate in PEM form`},
		{host("ca: both.pem"), `4:17: registries.ghcr.io.ca: both.pem: this is a private key; name the CA's certificate`},
		{host("ca: request.pem"), `4:17: registries.ghcr.io.ca: request.pem: expected certificates, got "CERTIFICATE REQUEST"`},
		{host("ca: bad.pem"), `4:17: registries.ghcr.io.ca: bad.pem: x509: malformed certificate`},
		{host("ca: large.pem"), `4:17: registries.ghcr.io.ca: large.pem: larger than 1048576 bytes`},
		{host("mirrors: mirror.dev"), `4:22: registries.ghcr.io.mirrors: expected a list, got "mirror.dev"`},
		{host("mirrors: ['user:canary@mirror.dev']"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got credentials or a digest`},
		{host("mirrors: ['https://user:canary@mirror.dev']"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got credentials or a digest`},
		{host("mirrors: ['https://mirror.dev']"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got the URL "https://mirror.dev"`},
		{host("mirrors: [mirror]"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got "mirror"`},
		{host("mirrors: [mirror.dev/a:b]"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got "mirror.dev/a:b"`},
		{host("mirrors: [mirror.dev/../a]"), `4:23: registries.ghcr.io.mirrors[0]: expected HOST or HOST/PATH, such as mirror.acme.dev/hub, got "mirror.dev/../a"`},
		{host("mirrors: [GHCR.io]"), `4:23: registries.ghcr.io.mirrors[0]: GHCR.io is no mirror of itself`},
		{host("mirrors: [a.dev, a.dev]"), `4:30: registries.ghcr.io.mirrors[1]: "a.dev" is taken already`},
		{"registries: {'user:canary@ghcr.io': {plainHTTP: true}}\n", `3:14: registries: a key holds credentials`},
		{"registries: {'https://ghcr.io': {plainHTTP: true}}\n", `3:14: registries: expected a host with its port, such as registry.acme.dev:5000, got the URL "https://ghcr.io"`},
		{"registries: {ghcr.io/acme: {plainHTTP: true}}\n", `3:14: registries: expected a host with its port, such as registry.acme.dev:5000, got "ghcr.io/acme" with a path`},
		{"registries: {ghcr: {plainHTTP: true}}\n", `3:14: registries: expected a host with its port, such as registry.acme.dev:5000, got "ghcr"`},
		{"registries: {index.docker.io: {plainHTTP: true}}\n", `3:14: registries: "index.docker.io" is called docker.io in references`},
		{"registries: {GHCR.io: {plainHTTP: true}, ghcr.io: {plainHTTP: true}}\n", `3:51: registries.ghcr.io: "ghcr.io" is taken already`},
	} {
		if err := os.WriteFile(path, []byte(minimal+c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil {
			t.Errorf("accepted:\n%s", c.text)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), path+":"); got != c.want || release.KindOf(err) != release.KindConfig {
			t.Errorf("%s\ngot  %s\nwant %s", c.text, got, c.want)
		}
		if _, alone := LoadRegistrySettings(path); !strings.HasPrefix(c.text, "registeries") && (alone == nil || alone.Error() != err.Error()) {
			t.Errorf("%s\nalone it is %v", c.text, alone)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("a credential is repeated: %v", err)
		}
	}
}

// Commands that only reach registries don't need the rest of the file.
func TestRegistrySettingsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for text, hosts := range map[string]int{"name: x\n": 0, "nmae: [\"\"]\nregistries: {a.dev: {plainHTTP: true}}\nsign: {key: absent.key}\n": 1} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadRegistrySettings(path); err != nil || len(got) != hosts {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if _, err := LoadRegistrySettings(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("an absent file is read")
	}
}
