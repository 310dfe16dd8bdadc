//go:build engine

package sign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// The programs that the tests check against, each built from its module, once:
// they are kept in the user's cache under their versions. These are the newest
// that the Go version of go.mod builds.
var (
	cosign3         = thirdParty{"cosign", "github.com/sigstore/cosign/v3", "v3.1.3", "/cmd/cosign"}
	fulcioServer    = thirdParty{"fulcio", "github.com/sigstore/fulcio", "v1.8.8", ""}
	timestampServer = thirdParty{"timestamp-server", "github.com/sigstore/timestamp-authority/v2", "v2.1.3", "/cmd/timestamp-server"}
	rekor1Server    = thirdParty{"rekor-server", "github.com/sigstore/rekor", "v1.5.4", "/cmd/rekor-server"}
	rekor2Server    = thirdParty{"rekor-tiles", "github.com/sigstore/rekor-tiles/v2", "v2.3.0", "/cmd/rekor-server/posix"}
	ctServer        = thirdParty{"ct_server", "github.com/google/certificate-transparency-go", "v1.3.3", "/trillian/ctfe/ct_server"}
	// trillmem keeps the trees of Rekor's first version and of the certificate
	// log in memory; its source is testdata/trillmem, with this module's versions.
	trillmem = thirdParty{"trillmem", "github.com/google/trillian", "v1.7.3", ""}
)

// thirdParty is a program of a third party.
type thirdParty struct{ name, module, version, dir string }

// built gives the program's path, and builds it if it is not there.
func (p thirdParty) built(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	check(t, err)
	version := p.version
	if p == trillmem {
		source, err := os.ReadFile("testdata/trillmem/main.go")
		check(t, err)
		version += "-" + release.DigestOf(source).Hex()[:12]
	}
	dir := filepath.Join(cache, "promote-test-tools", p.name+"-"+version+"-"+runtime.Version())
	binary := filepath.Join(dir, p.name)
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	check(t, os.MkdirAll(dir, 0o755))
	made, err := p.build(t)
	if err != nil {
		missing(t, "cannot build %s %s from its module: %v", p.name, p.version, err)
	}
	check(t, os.Rename(made, binary))
	return binary
}

func (p thirdParty) build(t *testing.T) (string, error) {
	t.Helper()
	cache, err := os.UserCacheDir()
	check(t, err)
	// Beside where it will be, so that it can be renamed.
	scratch, err := os.MkdirTemp(filepath.Join(cache, "promote-test-tools"), "build-")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(scratch) })
	run := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = scratch
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOBIN="+scratch)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("go %s: %w: %s", args[0], err, tail(out))
		}
		return nil
	}
	if p != trillmem {
		where := p.module + p.dir
		// A program is called as its directory.
		return filepath.Join(scratch, filepath.Base(withoutMajor(where))), run("install", where+"@"+p.version)
	}
	source, err := os.ReadFile("testdata/trillmem/main.go")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(scratch, "main.go"), source, 0o600))
	check(t, os.WriteFile(filepath.Join(scratch, "go.mod"), []byte("module trillmem\n\ngo 1.26\n\nrequire "+p.module+" "+p.version+"\n"), 0o600))
	if err := run("mod", "tidy"); err != nil {
		return "", err
	}
	return filepath.Join(scratch, "trillmem"), run("build", "-o", "trillmem", ".")
}

// withoutMajor takes a major version's directory off the end of a path.
func withoutMajor(path string) string {
	if base := filepath.Base(path); len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		return filepath.Dir(path)
	}
	return path
}
