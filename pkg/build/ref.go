package build

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"github.com/promote-dev/promote/pkg/release"
)

// written is an image reference as it stands in a file, cut into its parts. It
// may hold variables; the parts keep them as they are written.
type written struct {
	repository string // "python", "ghcr.io/acme/${NAME}"
	tag        string // without colon; may be empty
	digest     string // "sha256:…"; may be empty
}

// splitWritten cuts name[:tag][@digest], not looking inside of ${…}.
func splitWritten(s string) written {
	var w written
	depth, slash, colon, at := 0, -1, -1, -1
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '{' && i > 0 && s[i-1] == '$':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth > 0:
		case c == '/' && at < 0:
			slash = i
		case c == ':' && at < 0:
			colon = i
		case c == '@' && at < 0:
			at = i
		}
	}
	name := s
	if at >= 0 {
		name, w.digest = s[:at], s[at+1:]
	}
	if colon > slash {
		name, w.tag = name[:colon], name[colon+1:]
	}
	w.repository = name
	return w
}

func (w written) String() string {
	s := w.repository
	if w.tag != "" {
		s += ":" + w.tag
	}
	if w.digest != "" {
		s += "@" + w.digest
	}
	return s
}

// canonicalRepository gives the full name of a repository: "python" is
// docker.io/library/python. A tag or digest is an error.
func canonicalRepository(s string) (string, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return "", fmt.Errorf("repository %q: %w", s, err)
	}
	if !reference.IsNameOnly(named) {
		return "", fmt.Errorf("repository %q: want a name without tag or digest", s)
	}
	return named.Name(), nil
}

// checkReference says what is wrong with a reference without variables.
func checkReference(s string) error {
	if _, err := reference.ParseNormalizedNamed(s); err != nil {
		return err
	}
	if w := splitWritten(s); w.digest != "" {
		if _, err := release.ParseDigest(w.digest); err != nil {
			return err
		}
	}
	return nil
}

// hostOf gives the registry host of a repository.
func hostOf(repository string) (string, error) {
	named, err := reference.ParseNormalizedNamed(repository)
	if err != nil {
		return "", fmt.Errorf("repository %q: %w", repository, err)
	}
	return reference.Domain(named), nil
}

func hasVariable(s string) bool { return strings.Contains(s, "$") }
