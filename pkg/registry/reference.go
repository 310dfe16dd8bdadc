package registry

import (
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/promote-dev/promote/pkg/release"
)

// repository is a registry host, as people write it, and a path within it.
type repository struct{ host, path string }

func (r repository) String() string { return r.host + "/" + r.path }

// endpoint is the host that serves the registry's API.
func (r repository) endpoint() string { return endpoint(r.host) }

const (
	dockerHub         = "docker.io"
	dockerHubEndpoint = name.DefaultRegistry // index.docker.io
)

func endpoint(host string) string {
	if host == dockerHub {
		return dockerHubEndpoint
	}
	return host
}

// The grammar of the distribution specification; go-containerregistry checks
// the characters only and would let "../" into a URL.
var (
	pathPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

const referenceHint = "write HOST/PATH:TAG or HOST/PATH@sha256:…"

func parseRepository(s string) (repository, error) {
	parsed, err := name.NewRepository(s, name.WeakValidation)
	if err != nil {
		return repository{}, release.Misuse("write HOST/PATH, lower case, without tag or digest", "repository %q: %w", clip(s), err)
	}
	r := repository{host: parsed.RegistryStr(), path: parsed.RepositoryStr()}
	if r.host == dockerHubEndpoint {
		r.host = dockerHub
	}
	if !pathPattern.MatchString(r.path) {
		return repository{}, release.Misuse("write HOST/PATH, lower case, without tag or digest", "repository %q: the path %q is not well-formed", clip(s), clip(r.path))
	}
	return r, nil
}

// reference is what people write: a repository with a tag or a digest.
type reference struct {
	repository
	tag    string         // empty when there is a digest
	digest release.Digest // zero when there is a tag
}

// parseReference reads "name", "name:tag", "name@sha256:…" and
// "name:tag@sha256:…", in which the digest decides. Without either the tag is
// "latest".
func parseReference(s string) (reference, error) {
	base, digest, pinned := strings.Cut(s, "@")
	var ref reference
	if pinned {
		d, err := release.ParseDigest(digest)
		if err != nil {
			return reference{}, release.Misuse(referenceHint, "reference %q: %w", clip(s), err)
		}
		ref.digest = d
	}
	bare, tag := splitTag(base)
	written := len(bare) < len(base)
	if !written && !pinned {
		tag = "latest"
	}
	if (written || tag != "") && !tagPattern.MatchString(tag) {
		return reference{}, release.Misuse(referenceHint, "reference %q: %q is not a tag", clip(s), clip(tag))
	}
	if !strings.Contains(bare, "/") && hostlike(bare, tag) {
		return reference{}, release.Misuse(referenceHint, "reference %q names a registry and no repository", clip(s))
	}
	if !pinned {
		ref.tag = tag
	}
	var err error
	ref.repository, err = parseRepository(bare)
	return ref, err
}

// hostlike reports whether a short name is rather a registry with its port:
// "localhost:5000" would otherwise be an image of Docker Hub.
func hostlike(name, tag string) bool {
	_, err := strconv.ParseUint(tag, 10, 16)
	return Loopback(name) || net.ParseIP(name) != nil || err == nil && strings.Contains(name, ".")
}

func splitTag(s string) (base, tag string) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func checkTag(tag string) error {
	if !tagPattern.MatchString(tag) {
		return release.Misuse("a tag has letters, digits, '.', '_' and '-', at most 128, and begins with neither '.' nor '-'", "tag %q", clip(tag))
	}
	return nil
}

// subjectRepository reads the repository of a subject that a caller made.
func subjectRepository(s release.Subject) (repository, error) {
	if s.Digest.IsZero() {
		return repository{}, release.Misuse(referenceHint, "subject %q has no digest", clip(s.Repository))
	}
	if _, tag := splitTag(s.Repository); tag != "" {
		return repository{}, release.Misuse(referenceHint, "subject %q has a tag", clip(s.Repository))
	}
	return parseRepository(s.Repository)
}

// Loopback reports whether a host, with or without a port, is this machine by
// its name or number: localhost and its subdomains, 127.0.0.0/8, ::1.
func Loopback(host string) bool {
	bare := strings.TrimSuffix(strings.ToLower(hostname(host)), ".")
	if bare == "localhost" || strings.HasSuffix(bare, ".localhost") {
		return true
	}
	ip := net.ParseIP(bare)
	return ip != nil && ip.IsLoopback()
}

// hostname strips the port and the brackets of a host.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
