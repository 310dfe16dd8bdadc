package release

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Digest is a SHA-256 content digest in the form of the OCI image
// specification, "sha256:" and 64 lower-case hex digits. Other algorithms are
// refused: one algorithm everywhere is easier to reason about. The zero value
// means "none".
type Digest struct{ hex string }

var (
	_ encoding.TextMarshaler   = Digest{}
	_ encoding.TextUnmarshaler = (*Digest)(nil)
)

const digestPrefix = "sha256:"

// ParseDigest reads the text form. It refuses upper-case digits, other
// algorithms and any surrounding text.
func ParseDigest(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		return Digest{}, fmt.Errorf("digest %q: want %s and 64 hex digits", clip(s), digestPrefix)
	}
	if len(digits) != 2*sha256.Size {
		return Digest{}, fmt.Errorf("digest %q: want 64 hex digits, got %d", clip(s), len(digits))
	}
	for i := range len(digits) {
		if c := digits[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("digest %q: %q is not a lower-case hex digit", clip(s), c)
		}
	}
	return Digest{hex: digits}, nil
}

// MustDigest is ParseDigest for constants and tests; it panics on bad input.
func MustDigest(s string) Digest {
	d, err := ParseDigest(s)
	if err != nil {
		panic(err)
	}
	return d
}

// DigestOf hashes bytes that the caller holds.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{hex: hex.EncodeToString(sum[:])}
}

// DigestFromSum makes a Digest from a finished SHA-256 sum.
func DigestFromSum(sum [sha256.Size]byte) Digest { return Digest{hex: hex.EncodeToString(sum[:])} }

// String gives "sha256:<hex>", or "" for the zero value.
func (d Digest) String() string {
	if d.hex == "" {
		return ""
	}
	return digestPrefix + d.hex
}

// Hex gives the 64 hex digits without the algorithm.
func (d Digest) Hex() string { return d.hex }

// Short gives the first 12 hex digits, enough to name a thing to a person.
func (d Digest) Short() string {
	if len(d.hex) < 12 {
		return d.hex
	}
	return d.hex[:12]
}

// IsZero reports whether there is no digest.
func (d Digest) IsZero() bool { return d.hex == "" }

// MarshalText writes the text form; the zero value is the empty string.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form; the empty string is the zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// Subject is a repository and a digest: what everything past the edge is
// about. No constructor takes a tag; only the registry package reads one.
type Subject struct {
	// Repository is the full name with its registry host, without tag or digest.
	Repository string `json:"repository"`
	Digest     Digest `json:"digest"`
}

// NewSubject checks that the repository is a bare name and the digest is set.
func NewSubject(repository string, d Digest) (Subject, error) {
	if repository == "" || strings.ContainsAny(repository, "@ \t\n") {
		return Subject{}, fmt.Errorf("repository %q: want host/path without tag or digest", clip(repository))
	}
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		return Subject{}, fmt.Errorf("repository %q: a subject has no tag", clip(repository))
	}
	if d.IsZero() {
		return Subject{}, errors.New("subject without a digest")
	}
	return Subject{Repository: repository, Digest: d}, nil
}

// ParseSubject reads "repository@sha256:…". A tag beside the digest
// ("name:tag@sha256:…") is dropped: the digest decides.
func ParseSubject(s string) (Subject, error) {
	name, digest, ok := strings.Cut(s, "@")
	if !ok {
		return Subject{}, fmt.Errorf("%q: want repository@sha256:…", clip(s))
	}
	d, err := ParseDigest(digest)
	if err != nil {
		return Subject{}, err
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return NewSubject(name, d)
}

// String gives "repository@sha256:…".
func (s Subject) String() string { return s.Repository + "@" + s.Digest.String() }

// IsZero reports whether the subject is unset.
func (s Subject) IsZero() bool { return s.Repository == "" && s.Digest.IsZero() }

// In names the same bytes in another repository.
func (s Subject) In(repository string) Subject {
	return Subject{Repository: repository, Digest: s.Digest}
}

func clip(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
