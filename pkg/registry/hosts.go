package registry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Host says how one registry host is spoken to. The zero value is what holds
// for every host. Nothing here can make wrong bytes right: they are hashed
// wherever they come from.
type Host struct {
	// PlainHTTP says whether the host is spoken to without TLS. Nil means: on
	// loopback only, and not even there when certificates are given.
	PlainHTTP *bool `json:"plainHTTP,omitempty"`
	// CA holds certificates in PEM that are trusted for this host, and for where
	// it sends us, beside the system's.
	CA string `json:"ca,omitempty"`
	// Certificates are shown to this host when it asks who we are, and to no
	// other.
	Certificates []tls.Certificate `json:"-"`
	// Mirrors, as HOST or HOST/PATH, are asked first for what has a digest; the
	// origin's path is appended to theirs. Tags, lists of referrers and writes
	// never go to a mirror.
	Mirrors []string `json:"mirrors,omitempty"`
	// ManifestFirst says whether the registry may be asked what it validates, so
	// that copies offer manifests before their blobs where it is proven to be
	// safe. Nil is yes, if Options.Capabilities remembers the answer.
	ManifestFirst *bool `json:"manifestFirst,omitempty"`
}

// settings are what is in force for a host.
type settings struct {
	plain   *bool
	roots   []*x509.Certificate
	client  []tls.Certificate
	mirrors []repository // whose path may be empty
	careful bool         // never asked what it validates
	err     error        // of reading certificates
}

// own reports whether the host has certificates of its own.
func (s *settings) own() bool { return len(s.roots) > 0 || len(s.client) > 0 }

// mostHosts bounds what is remembered about hosts: redirects can name any number.
const mostHosts = 1000

// configure takes over what the caller says about hosts.
func (c *Client) configure(hosts map[string]Host) error {
	c.given, c.hosts = map[string]*settings{}, map[string]*settings{}
	for host, h := range hosts {
		fail := func(err error) error {
			return release.Faultf(release.KindConfig, "repair the settings of the registry", "registry %s: %w", clip(host), err)
		}
		s, err := h.settings()
		if err != nil {
			return fail(err)
		}
		key := strings.ToLower(endpoint(host))
		if c.given[key] != nil {
			return fail(errors.New("its settings are given twice"))
		}
		c.given[key] = s
	}
	return nil
}

func (h Host) settings() (*settings, error) {
	s := &settings{plain: h.PlainHTTP, client: h.Certificates, careful: h.ManifestFirst != nil && !*h.ManifestFirst}
	if h.CA != "" {
		roots, err := parseCertificates([]byte(h.CA))
		if err != nil {
			return nil, err
		}
		s.roots = roots
	}
	if h.PlainHTTP != nil && *h.PlainHTTP && s.own() {
		return nil, errors.New("certificates are of no use without TLS")
	}
	for _, m := range h.Mirrors {
		mirror, err := parseMirror(m)
		if err != nil {
			return nil, err
		}
		s.mirrors = append(s.mirrors, mirror)
	}
	return s, nil
}

// parseMirror reads HOST or HOST/PATH.
func parseMirror(text string) (repository, error) {
	host, path, _ := strings.Cut(strings.TrimSuffix(text, "/"), "/")
	if strings.Contains(text, "@") {
		return repository{}, errors.New("a mirror is HOST or HOST/PATH, without credentials") // which are not repeated
	}
	r, err := parseRepository(strings.TrimSuffix(text, "/") + "/any")
	if err != nil || r.host != host || !hostWithDot(host) {
		return repository{}, errors.New("mirror " + printable(clip(text), 200) + " is not HOST or HOST/PATH")
	}
	return repository{r.host, path}, nil
}

func hostWithDot(host string) bool { return strings.ContainsAny(host, ".:") || Loopback(host) }

// parseCertificates reads PEM with nothing but certificates in it.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		switch {
		case block == nil && len(list) == 0:
			return nil, errors.New("no certificate in PEM form")
		case block == nil:
			return list, nil
		case block.Type != "CERTIFICATE":
			return nil, errors.New("not a certificate: " + printable(block.Type, 40))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
}

// host gives what is in force for an endpoint: what the caller gave, and what
// lies in the directories of certificates.
func (c *Client) host(endpoint string) *settings {
	key := strings.ToLower(endpoint)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.hosts[key]; s != nil {
		return s
	}
	s := &settings{}
	if given := c.given[key]; given != nil {
		*s = *given
	}
	if s.plain == nil || !*s.plain {
		s.add(c.certDirs, key)
	}
	if len(c.hosts) < mostHosts {
		c.hosts[key] = s
	}
	return s
}

// PlainHTTP reports whether a host, with its port, is spoken to without TLS.
func (c *Client) PlainHTTP(host string) bool {
	host = endpoint(host)
	s := c.host(host)
	switch {
	case s.plain != nil:
		return *s.plain
	case s.own() || s.err != nil:
		return false
	}
	return c.plainHTTP(host)
}
