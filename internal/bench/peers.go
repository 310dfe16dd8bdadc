package bench

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Programs are the contestants, as paths.
type Programs struct {
	Promote string
	Crane   string
	Regctl  string
	Skopeo  string
	Cosign  string // empty if it was not asked for
	Peers   string // the worker with their libraries
	// For verifying; empty if they were not asked for.
	CosignLibrary string // the worker with cosign's
	Conftest      string
}

// Versions are those of cosign and conftest.
func (p Programs) Versions() (map[string]string, error) {
	cosign, err := version(p.Cosign, cosignModule)
	if err != nil {
		return nil, err
	}
	conftest, err := version(p.Conftest, conftestModule)
	return map[string]string{"cosign": "cosign " + cosign + ", conftest " + conftest}, err
}

const (
	conftestModule  = "github.com/open-policy-agent/conftest"
	conftestVersion = "v0.71.1"
)

// peersDirectory is the module of peers/.
var peersDirectory = filepath.Join("internal", "bench", "peers")

// BuildPeers builds the peers in a directory that may hold an earlier build,
// from the checkout at root. What is missing is an error.
func BuildPeers(ctx context.Context, root, dir string, cosign, evidence bool, log io.Writer) (Programs, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	p := Programs{Promote: filepath.Join(root, "bin", "promote"), Crane: in("crane"), Regctl: in("regctl"), Peers: in("peers")}
	if _, err := os.Stat(p.Promote); err != nil {
		return Programs{}, fmt.Errorf("%w: build it first with scripts/build", err)
	}
	var err error
	if p.Skopeo, err = exec.LookPath("skopeo"); err != nil {
		return Programs{}, fmt.Errorf("%w: install it first with scripts/packages skopeo", err)
	}
	fmt.Fprintln(log, "bench: building crane, regctl and their libraries")
	// As their own releases are built: without our experiments.
	plain := append(os.Environ(), "GOEXPERIMENT=", "GOWORK=off", "CGO_ENABLED=0")
	if err := goBuild(ctx, filepath.Join(root, peersDirectory), plain, "-o", dir+string(filepath.Separator),
		".", "github.com/google/go-containerregistry/cmd/crane", "github.com/regclient/regclient/cmd/regctl"); err != nil {
		return Programs{}, err
	}
	if cosign {
		fmt.Fprintln(log, "bench: building cosign")
		p.Cosign = in("cosign")
		if err := buildCosign(ctx, root, dir, p.Cosign); err != nil {
			return Programs{}, err
		}
	}
	if !evidence {
		return p, nil
	}
	p.CosignLibrary, p.Conftest = in("cosign-library"), in("conftest")
	if err := buildCosignLibrary(ctx, root, dir, p.CosignLibrary); err != nil {
		return Programs{}, err
	}
	if v, err := version(p.Conftest, conftestModule); err == nil && v == conftestVersion {
		return p, nil
	}
	fmt.Fprintln(log, "bench: building conftest")
	install := exec.CommandContext(ctx, "go", "install", conftestModule+"@"+conftestVersion)
	install.Dir, install.Env = dir, append(plain, "GOBIN="+dir, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("building conftest: %w: %s", err, tail(string(out)))
	}
	return p, nil
}

// buildCosignLibrary builds the worker with cosign's library in the module that
// cosign was built in.
func buildCosignLibrary(ctx context.Context, root, dir, binary string) error {
	scratch := filepath.Join(dir, "cosign-module")
	text, err := os.ReadFile(filepath.Join(root, peersDirectory, "cosign", "main.go"))
	if err != nil {
		return err
	}
	worker := filepath.Join(scratch, "worker")
	if err := os.MkdirAll(worker, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(worker, "main.go"), text, 0o644); err != nil {
		return err
	}
	return goBuild(ctx, scratch, append(os.Environ(), "GOFLAGS=", "GOWORK=off"), "-mod=mod", "-tags=cosign", "-o", binary, "./worker")
}

func goBuild(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building peers: go build %s: %w: %s", strings.Join(args, " "), err, tail(string(out)))
	}
	return nil
}

const cosignModule = "github.com/sigstore/cosign/v2"

// buildCosign builds in a module of its own with our versions: the command
// needs modules that the project doesn't, and the cache is warm.
func buildCosign(ctx context.Context, root, dir, binary string) error {
	scratch := filepath.Join(dir, "cosign-module")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		text = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(text, []byte("module scratch"))
		if err := os.WriteFile(filepath.Join(scratch, file), text, 0o644); err != nil {
			return err
		}
	}
	source := "package main\n\nimport _ \"" + cosignModule + "/cmd/cosign/cli\"\n\nfunc main() {}\n"
	if err := os.WriteFile(filepath.Join(scratch, "main.go"), []byte(source), 0o644); err != nil {
		return err
	}
	return goBuild(ctx, scratch, append(os.Environ(), "GOFLAGS=", "GOWORK=off"), "-mod=mod", "-o", binary, cosignModule+"/cmd/cosign")
}

// version is that of the module that a Go program was built from, or of a module
// in it.
func version(program, module string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	if info.Main.Path == module {
		return info.Main.Version, nil
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version, nil
		}
	}
	return "", fmt.Errorf("%s holds no module %s", filepath.Base(program), module)
}
