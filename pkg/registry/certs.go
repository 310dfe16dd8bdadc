package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// DefaultCertDirs gives the directories in which people keep certificates by
// registry host, as Docker and the containers tools read them: a directory
// HOST or HOST:PORT with *.crt to trust, and *.cert with its *.key to show.
func DefaultCertDirs() []string { return certDirs(os.Getenv) }

func certDirs(getenv func(string) string) []string {
	dirs := []string{"/etc/docker/certs.d", "/etc/containers/certs.d"}
	home := getenv("HOME")
	add := func(variable, inHome string, elem ...string) {
		base := getenv(variable)
		if base == "" && home != "" {
			base = filepath.Join(home, inHome)
		}
		if base != "" {
			dirs = append(dirs, filepath.Join(append([]string{base}, elem...)...))
		}
	}
	add("DOCKER_CONFIG", ".docker", "certs.d")
	add("XDG_CONFIG_HOME", ".config", "docker", "certs.d")
	add("XDG_CONFIG_HOME", ".config", "containers", "certs.d")
	return dirs
}

const (
	mostCertificate = 1 * mib
	mostCertFiles   = 100
)

// certHost is what may name a directory: no path, no "..".
var certHost = regexp.MustCompile(`^(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)(:[0-9]{1,5})?$`)

// add reads a host's directories. The first error stays; it comes up when the
// host is spoken to.
func (s *settings) add(dirs []string, host string) {
	if !certHost.MatchString(host) {
		return
	}
	names := []string{host}
	if host == dockerHubEndpoint {
		names = append(names, dockerHub)
	}
	// Slices of the settings given stay as they are.
	s.roots, s.client = s.roots[:len(s.roots):len(s.roots)], s.client[:len(s.client):len(s.client)]
	for _, dir := range dirs {
		for _, name := range names {
			if err := s.addDir(filepath.Join(dir, name)); err != nil && s.err == nil {
				s.err = release.Faultf(release.KindConfig, "repair or remove the file, or make it readable for you", "certificates of registry %s: %w", host, err)
			}
		}
	}
}

func (s *settings) addDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // not for us
		return nil
	case err != nil:
		return err
	case len(entries) > mostCertFiles:
		return fmt.Errorf("%s: more than %d files", dir, mostCertFiles)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch base, kind := split(file); kind {
		case ".crt":
			roots, err := readCertificates(file)
			if err != nil {
				return err
			}
			s.roots = append(s.roots, roots...)
		case ".cert":
			pair, err := readPair(file, base+".key")
			if err != nil {
				return err
			}
			s.client = append(s.client, pair)
		}
	}
	return nil
}

func split(file string) (base, extension string) {
	extension = filepath.Ext(file)
	return strings.TrimSuffix(file, extension), extension
}

func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	list, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

func readPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := readSmall(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readSmall(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the key of %s: %w (a CA's certificate ends in .crt)", certFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and its key: %w", certFile, err)
	}
	return pair, nil
}

func readSmall(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, fmt.Errorf("%s is no regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostCertificate+1))
	if err == nil && len(text) > mostCertificate {
		err = fmt.Errorf("%s is longer than %d bytes", file, mostCertificate)
	}
	return text, err
}
