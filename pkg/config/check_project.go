package config

import (
	"fmt"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*$`)
	platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`)
	keyPattern      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

const maxName = 63

func (k *checker) project() {
	if k.required(at("name"), k.c.Name, "openclaw") {
		k.name(at("name"), k.c.Name)
	}
	if k.required(at("registry"), k.c.Registry, "ghcr.io/acme/openclaw") {
		k.repository(at("registry"), k.c.Registry)
	}
	if len(k.c.Compose.Files) == 0 {
		k.fail(at("compose", "files"), "", "expected at least one file")
	}
	k.files(at("compose", "files"), k.c.Compose.Files)
	k.files(at("compose", "development"), k.c.Compose.Development)
	for i, name := range k.c.Compose.Development {
		if slices.Contains(k.c.Compose.Files, name) {
			k.fail(at("compose", "development").index(i), "remove it from one of the two", "%s is in compose.files too: development files are never promoted", name)
		}
	}
}

func (k *checker) name(p path, name string) {
	if len(name) > maxName {
		k.fail(p, "", "expected at most %d characters, got %d", maxName, len(name))
		return
	}
	k.matches(p, name, namePattern, "lower-case letters and digits, with . _ - between them")
}

// component is one part of a repository's path, as the OCI distribution
// specification has it; host is a host with a port.
var (
	component = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	hostname  = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
	pathRest  = regexp.MustCompile(`^` + component + `(?:/` + component + `)*$`)
)

// repository checks a repository's name: its host, then its path, no tag, no
// digest, no scheme.
func (k *checker) repository(p path, value string) {
	const want = "host/path, such as ghcr.io/acme/openclaw"
	switch {
	case strings.Contains(value, "://"):
		k.fail(p, "remove the scheme", "expected %s, got the URL %.120q", want, value)
		return
	case strings.Contains(value, "@"):
		k.fail(p, "remove what follows the @", "expected %s, got %.120q with a digest or a user", want, value)
		return
	}
	host, rest, hasPath := strings.Cut(value, "/")
	tail := value[strings.LastIndexByte(value, '/')+1:]
	switch {
	case hasPath && strings.Contains(tail, ":"):
		k.fail(p, "remove the tag: promote names images by digest", "expected a repository without a tag, got %.120q", value)
	case !hostname.MatchString(host) || hasPath && !pathRest.MatchString(rest) || len(value) > 200:
		k.fail(p, "write "+want, "expected %s, got %.120q", want, value)
	case !strings.ContainsAny(host, ".:[") && host != "localhost":
		k.fail(p, "write docker.io/"+value+" if Docker Hub is meant", "%.120q names no host", value)
	case !hasPath && !strings.ContainsAny(host, ".[") && !strings.HasPrefix(host, "localhost"):
		k.fail(p, "write "+want, "%.120q looks like an image with a tag", value)
	}
}

func (k *checker) build() {
	b := k.c.Build
	if len(b.Platforms) == 0 {
		k.fail(at("build", "platforms"), "", "expected at least one platform")
	}
	seen := map[string]bool{}
	for i, platform := range b.Platforms {
		p := at("build", "platforms").index(i)
		k.matches(p, platform, platformPattern, "os/arch, such as linux/amd64")
		k.unique(p, platform, seen)
	}
	for i, tag := range b.Tags {
		if err := checkTag(tag); err != nil {
			k.fail(at("build", "tags").index(i), "known fields: .Version, .Commit, .ShortCommit", "%w", err)
		}
	}
	for i, cache := range b.Cache {
		p := at("build", "cache").index(i)
		kind, repository, named := strings.Cut(cache, "=")
		k.oneOf(p, kind, []string{"registry"})
		if named && kind == "registry" {
			k.repository(p, repository)
		}
	}
}

// tagField is what a tag may hold besides text. It has the form of Go's
// templates and is nothing more: a template could run for ever.
var tagField = regexp.MustCompile(`\{\{ *\.([A-Za-z]*) *\}\}`)

// checkTag tries a tag on a sample.
func checkTag(text string) error {
	sample := map[string]string{"Version": "1.2.3", "Commit": strings.Repeat("0", 40), "ShortCommit": "0000000"}
	unknown := ""
	tag := tagField.ReplaceAllStringFunc(text, func(field string) string {
		name := tagField.FindStringSubmatch(field)[1]
		if sample[name] == "" {
			unknown = name
		}
		return sample[name]
	})
	if unknown != "" {
		return fmt.Errorf("unknown field .%s", unknown)
	}
	if err := release.CheckVersion(tag); err != nil {
		return fmt.Errorf("not a tag: %w", err)
	}
	return nil
}

func (k *checker) dimensions() {
	for name, patterns := range k.c.Dimensions {
		p := at("dimensions", name)
		k.name(p, name)
		if name == "code" {
			k.fail(p, "choose another name", "code is everything that no dimension names")
		}
		if len(patterns) == 0 {
			k.fail(p, "", "expected at least one pattern")
		}
		for i, pattern := range patterns {
			k.pattern(p.index(i), pattern)
		}
	}
}

func (k *checker) pattern(p path, pattern string) {
	if key, ok := strings.CutPrefix(pattern, "compose:"); ok {
		if !keyPattern.MatchString(key) {
			k.fail(p, "write compose:LLM_MODEL", "expected an environment key behind compose:, got %.60q", key)
		}
		return
	}
	if !k.inside(p, pattern) {
		return
	}
	for part := range strings.SplitSeq(pattern, "/") {
		if _, err := pathpkg.Match(part, ""); err != nil {
			k.fail(p, "write it as prompts/** or skills/*.md", "pattern %.80q: %w", pattern, err)
			return
		}
	}
}

func (k *checker) scan() {
	s := k.c.Scan
	k.oneOf(at("scan", "failOn"), s.FailOn, []string{"unknown", "low", "medium", "high", "critical"})
	if p := at("scan", "ignoreFile"); k.given(p) {
		k.file(p, s.IgnoreFile)
	}
	k.files(at("scan", "vex"), s.VEX)
	k.positive(at("scan", "maxAge"), s.MaxAge)
	if repository := s.Database.Repository; repository != "" {
		k.repository(at("scan", "database", "repository"), withoutTag(repository))
	}
	seen := map[string]bool{}
	for i, w := range s.Waive {
		p := at("scan", "waive").index(i)
		k.required(p.key("distribution"), strings.TrimSpace(w.Distribution), "debian 12")
		k.required(p.key("statement"), strings.TrimSpace(w.Statement), "why it is acceptable")
		if w.Expires.IsZero() && !k.given(p.key("expires")) {
			k.fail(p.key("expires"), "write expires: 2027-01-31", "expected a day, got nothing")
		}
		k.unique(p, w.Distribution, seen)
	}
}

// withoutTag drops the tag or digest that a database's repository may have.
func withoutTag(s string) string {
	s, _, _ = strings.Cut(s, "@")
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') && strings.Contains(s, "/") {
		s = s[:i]
	}
	return s
}
