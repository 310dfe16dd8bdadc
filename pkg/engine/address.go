package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// address is where an engine listens, and with which certificates.
type address struct {
	url          string // unix://, tcp:// or ssh://
	certificates string // a directory with ca.pem, cert.pem and key.pem; empty is none
}

// String gives the address without a password.
func (a address) String() string {
	u, err := url.Parse(a.url)
	if err != nil {
		return a.url
	}
	return u.Redacted()
}

func (a address) tls() client.Opt {
	in := func(name string) string { return filepath.Join(a.certificates, name) }
	return client.WithTLSClientConfig(in("ca.pem"), in("cert.pem"), in("key.pem"))
}

// resolveAddress follows docker's order: the address given, DOCKER_HOST,
// DOCKER_CONTEXT, the configuration's current context, the default socket.
func resolveAddress(given string, getenv func(string) string) (address, error) {
	a := address{url: given}
	if a.url == "" {
		a.url = getenv(client.EnvOverrideHost)
	}
	if a.url == "" {
		var err error
		if a, err = contextAddress(getenv); err != nil {
			return address{}, err
		}
	} else {
		a.certificates = certificateDir(getenv)
	}
	return a, checkAddress(&a)
}

// certificateDir is where the environment says that TLS certificates lie.
func certificateDir(getenv func(string) string) string {
	if dir := getenv(client.EnvOverrideCertPath); dir != "" {
		return dir
	}
	if getenv(client.EnvTLSVerify) != "" {
		return configDir(getenv)
	}
	return ""
}

func configDir(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), ".docker")
}

// checkAddress refuses what could not be right, and plain TCP to another
// machine: whoever reaches an engine owns its host.
func checkAddress(a *address) error {
	u, err := url.Parse(a.url)
	if err != nil {
		return release.Faultf(release.KindConfig, "write unix:///path, tcp://host:port or ssh://user@host", "engine address %q: %w", a.url, err)
	}
	switch u.Scheme {
	case "unix":
		a.certificates = ""
		return nil
	case "ssh":
		a.certificates = ""
		_, err := parseSSH(a.url)
		return err
	case "tcp", "http", "https":
		a.url = "tcp://" + u.Host
		if a.certificates == "" && !loopback(u.Hostname()) {
			return release.Faultf(release.KindConfig, "use ssh://, or set DOCKER_CERT_PATH to a directory with ca.pem, cert.pem and key.pem",
				"engine address %q: plain TCP to another machine gives that machine away to anyone on the way", a.url)
		}
		return nil
	}
	return release.Faultf(release.KindConfig, "write unix:///path, tcp://host:port or ssh://user@host", "engine address %q: unknown scheme", a.url)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// contextAddress reads docker's context store.
func contextAddress(getenv func(string) string) (address, error) {
	dir := configDir(getenv)
	name := getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct {
			CurrentContext string `json:"currentContext"`
		}
		if err := readJSON(filepath.Join(dir, "config.json"), &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return address{}, release.Faultf(release.KindConfig, "repair the file, or set DOCKER_HOST", "reading docker's configuration: %w", err)
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return address{url: client.DefaultDockerHost, certificates: certificateDir(getenv)}, nil
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	var meta struct {
		Endpoints map[string]struct {
			Host string `json:"Host"`
		} `json:"Endpoints"`
	}
	if err := readJSON(filepath.Join(dir, "contexts", "meta", id, "meta.json"), &meta); err != nil {
		return address{}, release.Faultf(release.KindConfig, "docker context ls shows the contexts there are; unset DOCKER_CONTEXT or name one of them", "docker context %q: %w", name, err)
	}
	a := address{url: meta.Endpoints["docker"].Host}
	if a.url == "" {
		a.url = client.DefaultDockerHost
	}
	certificates := filepath.Join(dir, "contexts", "tls", id, "docker")
	if _, err := os.Stat(certificates); err == nil {
		a.certificates = certificates
	}
	return a, nil
}

func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 4<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
