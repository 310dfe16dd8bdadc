package sign

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// maxKey bounds a key file: an encrypted RSA key of 8192 bits is about 10 KiB.
const maxKey = 64 << 10

// schemeOf gives what a key reference begins with: "pkcs11", "env", "awskms", …,
// and "" for a path.
func schemeOf(ref string) string {
	if strings.HasPrefix(ref, "pkcs11:") {
		return "pkcs11"
	}
	scheme, _, isURI := strings.Cut(ref, "://")
	if !isURI {
		return ""
	}
	return scheme
}

// readKey gives the text that a path or env://NAME names, and how to call its
// place in messages.
func readKey(ref string) (source string, text []byte, err error) {
	if ref == "" {
		return "", nil, release.Faultf(release.KindConfig, "set sign.key in promote.yaml, or "+makeKey, "opening key: no key is named")
	}
	if name, ok := strings.CutPrefix(ref, "env://"); ok {
		return readEnvironment(name)
	}
	return readFile(ref)
}

func readEnvironment(name string) (string, []byte, error) {
	source := "env://" + envelope.Tidy(name)
	value, set := os.LookupEnv(name)
	switch {
	case !set || strings.TrimSpace(value) == "":
		return "", nil, release.Faultf(release.KindConfig, fmt.Sprintf("put the private key's PEM text into %s", envelope.Tidy(name)),
			"opening key %s: the variable is not set", source)
	case len(value) > maxKey:
		return "", nil, tooLong(source)
	}
	return source, []byte(value), nil
}

func readFile(path string) (string, []byte, error) {
	fault := func(err error) (string, []byte, error) {
		var inner *fs.PathError
		if errors.As(err, &inner) { // the path is said once
			err = inner.Err
		}
		return "", nil, release.Faultf(release.KindConfig, "check sign.key, or --key where it was given; "+makeKey, "opening key %s: %w", path, err)
	}
	// Looked at first, because opening a named pipe waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return fault(err)
	}
	if !info.Mode().IsRegular() {
		return fault(errors.New("not a regular file"))
	}
	f, err := os.Open(path)
	if err != nil {
		return fault(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return fault(err)
	}
	if len(text) > maxKey {
		return "", nil, tooLong(path)
	}
	return path, text, nil
}

func tooLong(source string) error {
	return release.Faultf(release.KindConfig, makeKey, "opening key %s: longer than %d bytes, that is no key", source, maxKey)
}
