package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
)

// RegistryHost says how one registry host is reached. Credentials are found
// where docker login leaves them, never here.
type RegistryHost struct {
	// Speak to it without TLS, or with TLS though it is on loopback. Default:
	// plain HTTP on loopback only, where there is no certificate for the host.
	PlainHTTP *bool `yaml:"plainHTTP"`
	// A file with certificates in PEM that are trusted for this host, beside the
	// system's. Those in Docker's and Podman's certs.d are trusted too.
	CA string `yaml:"ca"`
	// Asked first for manifests and layers, by digest, as HOST or HOST/PATH.
	// Tags, lists of evidence and pushes never go there.
	Mirrors []string `yaml:"mirrors"`
	// Copies offer a manifest before its blobs where that is proven to be safe:
	// once a day the registry is asked with a manifest whose blobs do not exist.
	// false asks nothing and looks for each blob. Default: true.
	ManifestFirst *bool `yaml:"manifestFirst"`
}

// RegistrySettings are a RegistryHost with the contents of its CA file as they
// were when the configuration was loaded.
type RegistrySettings struct {
	PlainHTTP *bool
	CA        string // PEM; empty for none
	Mirrors   []string

	ManifestFirst *bool
}

// RegistrySettings gives the settings of registry hosts, by host; nil for none.
func (c *Config) RegistrySettings() map[string]RegistrySettings {
	if len(c.Registries) == 0 {
		return nil
	}
	list := map[string]RegistrySettings{}
	for host, r := range c.Registries {
		list[host] = RegistrySettings{PlainHTTP: r.PlainHTTP, CA: c.authorities[r.CA], Mirrors: r.Mirrors, ManifestFirst: r.ManifestFirst}
	}
	return list
}

// LoadRegistrySettings reads the section registries alone, for commands that
// need nothing else of the file: what is wrong elsewhere in it is not reported.
func LoadRegistrySettings(path string) (map[string]RegistrySettings, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	root, err := yamlpos.ReadFile(path)
	if err != nil {
		return nil, err
	}
	section := &yamlpos.Node{Position: root.Position, Kind: yamlpos.Mapping}
	if pair, ok := root.Entry("registries"); ok {
		section.Pairs = []yamlpos.Pair{pair}
	}
	c := &Config{path: path, root: section, authorities: map[string]string{}}
	k := checker{c: c}
	k.decoded(yamlpos.Decode(section, &c.File))
	k.nothing(section, nil)
	k.registries()
	return c.RegistrySettings(), k.result()
}

// maxCA bounds a file of certificates; the bundle of a whole system is about
// 250 KiB.
const maxCA = 1 << 20

func readCA(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", withoutPath(err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return "", errors.New("no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCA+1))
	switch {
	case err != nil:
		return "", withoutPath(err)
	case len(text) > maxCA:
		return "", fmt.Errorf("larger than %d bytes", maxCA)
	}
	return string(text), checkCA(text)
}

// checkCA wants certificates and nothing else.
func checkCA(text []byte) error {
	for n := 0; ; n++ {
		var block *pem.Block
		block, text = pem.Decode(text)
		switch {
		case block == nil && n == 0:
			return errors.New("no certificate in PEM form")
		case block == nil:
			return nil
		case strings.Contains(block.Type, "PRIVATE"):
			return errors.New("this is a private key; name the CA's certificate")
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("expected certificates, got %.40q", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
	}
}

const loginHint = "log in with `docker login`; " + FileName + " never holds credentials"

func (k *checker) registries() {
	seen := map[string]bool{}
	for _, host := range slices.Sorted(maps.Keys(k.c.Registries)) {
		p := at("registries", host)
		if !k.registryHost(p, host) {
			continue
		}
		k.unique(p, strings.ToLower(host), seen)
		r := k.c.Registries[host]
		if r.CA != "" {
			k.authority(p.key("ca"), r.CA)
		}
		if r.CA != "" && r.PlainHTTP != nil && *r.PlainHTTP {
			k.fail(p.key("ca"), "keep one of ca and plainHTTP", "a certificate is of no use without TLS")
		}
		mirrors := map[string]bool{}
		for i, m := range r.Mirrors {
			k.mirror(p.key("mirrors").index(i), host, m)
			k.unique(p.key("mirrors").index(i), m, mirrors)
		}
	}
}

// registryHost checks a key of registries: a host, as it stands in references.
func (k *checker) registryHost(p path, host string) bool {
	pair, _ := k.c.root.Get("registries").Entry(host)
	refuse := func(hint, format string, args ...any) bool {
		k.errs = append(k.errs, pair.Key.Faultf(hint, "registries: "+format, args...))
		return false
	}
	const want = "a host with its port, such as registry.acme.dev:5000"
	bare, _, hasPath := strings.Cut(host, "/")
	switch {
	case strings.Contains(host, "@"):
		return refuse(loginHint, "a key holds credentials")
	case strings.Contains(host, "://"):
		return refuse("remove the scheme", "expected %s, got the URL %.120q", want, host)
	case hasPath:
		return refuse("write "+bare, "expected %s, got %.120q with a path", want, host)
	case strings.EqualFold(host, "index.docker.io"), strings.EqualFold(host, "registry-1.docker.io"):
		return refuse("write docker.io", "%.120q is called docker.io in references", host)
	case !hostname.MatchString(host) || !strings.ContainsAny(host, ".:[") && host != "localhost":
		return refuse("write it as it stands in references", "expected %s, got %.120q", want, host)
	}
	return true
}

func (k *checker) authority(p path, name string) {
	text, err := readCA(k.c.Abs(name))
	if err != nil {
		k.fail(p, "name a file with the CA's certificate in PEM; the path is relative to "+FileName, "%.200s: %w", name, err)
		return
	}
	k.c.authorities[name] = text
}

func (k *checker) mirror(p path, of, value string) {
	const want = "HOST or HOST/PATH, such as mirror.acme.dev/hub"
	host, rest, hasPath := strings.Cut(value, "/")
	switch {
	case strings.Contains(value, "@"): // not repeated
		k.fail(p, loginHint, "expected %s, got credentials or a digest", want)
	case strings.Contains(value, "://"):
		k.fail(p, "remove the scheme", "expected %s, got the URL %.120q", want, value)
	case !hostname.MatchString(host) || !strings.ContainsAny(host, ".:[") && host != "localhost" ||
		hasPath && !pathRest.MatchString(rest) || len(value) > 200:
		k.fail(p, "write "+want, "expected %s, got %.120q", want, value)
	case strings.EqualFold(value, of):
		k.fail(p, "remove it", "%s is no mirror of itself", value)
	}
}
