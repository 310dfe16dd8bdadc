//go:build engine

package localregistry_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

// tool finds a program; without it the test is skipped, but fails in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	missing(t, err)
	return path
}

func missing(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func run(t *testing.T, stdin []byte, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A Docker engine pushes to the registry and pulls from a copy in it, and both
// sides name the same digest.
func TestEnginePushesAndPulls(t *testing.T) {
	docker := tool(t, "docker")
	if out, err := exec.Command(docker, "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("no engine: %s", out))
	}
	s := serve(t, t.TempDir())
	pushed, copied := s.Addr()+"/localregistry/src", s.Addr()+"/localregistry/dst"
	t.Cleanup(func() {
		_ = exec.Command(docker, "image", "rm", pushed+":v1", copied+":v1").Run()
	})
	run(t, layer(t), docker, "image", "import", "-", pushed+":v1")
	run(t, nil, docker, "push", "--quiet", pushed+":v1")

	c := registrytest.NewClient(t, registry.Limits{})
	subject, err := c.Resolve(t.Context(), pushed+":v1")
	if err != nil {
		t.Fatal(err)
	}
	if digests := run(t, nil, docker, "image", "inspect", "--format", "{{.RepoDigests}}", pushed+":v1"); !strings.Contains(digests, subject.String()) {
		t.Errorf("the engine pushed %s, we read %s", digests, subject)
	}
	if _, err := c.Copy(t.Context(), subject, copied, registry.CopyOptions{Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	run(t, nil, docker, "image", "rm", pushed+":v1")
	run(t, nil, docker, "pull", "--quiet", subject.In(copied).String())
	run(t, nil, docker, "pull", "--quiet", copied+":v1")
	if digests := run(t, nil, docker, "image", "inspect", "--format", "{{.RepoDigests}}", copied+":v1"); !strings.Contains(digests, subject.In(copied).String()) {
		t.Errorf("the engine pulled %s, want %s", digests, subject.In(copied))
	}
}

// skopeo reads what we write, and we read what it writes.
func TestSkopeoReadsLayouts(t *testing.T) {
	skopeo := tool(t, "skopeo")
	s := serve(t, t.TempDir())
	p := registrytest.Serve(t, handler(s.Addr()))
	subject := p.Put(t, "app", "v1", registrytest.NewImage(1, 1000, 20))
	c := registrytest.NewClient(t, registry.Limits{})
	dir := t.TempDir()
	for _, kind := range []string{"oci", "oci-archive"} {
		ours, theirs := kind+":"+filepath.Join(dir, "ours-"+kind)+":v1", kind+":"+filepath.Join(dir, "theirs-"+kind)+":v1"
		if _, err := c.Transfer(t.Context(), subject.String(), ours, registry.CopyOptions{}); err != nil {
			t.Fatal(err)
		}
		if digest := run(t, nil, skopeo, "inspect", "--format", "{{.Digest}}", ours); digest != subject.Digest.String() {
			t.Errorf("%s: skopeo sees %s", kind, digest)
		}
		run(t, nil, skopeo, "copy", "--quiet", "--preserve-digests", ours, theirs)
		got, err := c.Transfer(t.Context(), theirs, s.Addr()+"/back-"+kind+":v1", registry.CopyOptions{})
		if err != nil || got.Digest != subject.Digest {
			t.Errorf("%s: got %+v, %v", kind, got, err)
		}
		if digest := run(t, nil, skopeo, "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+s.Addr()+"/back-"+kind+":v1"); digest != subject.Digest.String() {
			t.Errorf("%s: skopeo sees %s", kind, digest)
		}
	}
}

// layer is a file system with one file.
func layer(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	content := registrytest.Random(uint64(os.Getpid()), 1000)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
