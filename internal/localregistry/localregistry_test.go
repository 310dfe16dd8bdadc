//go:build engine

package localregistry_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/promote-dev/promote/internal/localregistry"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

const serveRoot = "LOCALREGISTRY_TEST_ROOT"

// TestMain lets the test binary be a registry's process.
func TestMain(m *testing.M) {
	root := os.Getenv(serveRoot)
	if root == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := localregistry.Run(ctx, localregistry.Options{Root: root, Log: os.Stderr}, func(string) {}); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func serve(t testing.TB, root string) *localregistry.Server {
	t.Helper()
	s, err := localregistry.Serve(t.Context(), localregistry.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// handler lets a registry that listens somewhere be a backend of the kit.
func handler(addr string) http.Handler {
	return httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
}

func TestContract(t *testing.T) {
	registrytest.Contract(t, registrytest.Backend{
		Mounts:    true,
		Validates: true,
		New:       func(t testing.TB) http.Handler { return handler(serve(t, t.TempDir()).Addr()) },
	})
}

func TestLogsGoNowhereElse(t *testing.T) {
	var global bytes.Buffer
	logrus.SetOutput(&global)
	defer logrus.SetOutput(os.Stderr)
	var own bytes.Buffer
	s, err := localregistry.Serve(t.Context(), localregistry.Options{Root: t.TempDir(), Log: &own})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v2/", "/v2/app/manifests/v1", "/v2/app/tags/list"} {
		resp, err := http.Get("http://" + s.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if global.Len() > 0 {
		t.Errorf("the global logger got %q", global.String())
	}
	if !strings.Contains(own.String(), "manifest unknown") {
		t.Errorf("the registry's own log lacks the error: %q", own.String())
	}
}

func TestOneProcessAtATime(t *testing.T) {
	root := t.TempDir()
	s := serve(t, root)
	_, err := localregistry.Serve(t.Context(), localregistry.Options{Root: root})
	if release.KindOf(err) != release.KindUsage || !strings.Contains(err.Error(), s.Addr()) {
		t.Errorf("serving twice: %v, want the address of the one that runs", err)
	}
	addr, pid, ok := localregistry.Running(t.Context(), root)
	if addr != s.Addr() || pid != os.Getpid() || !ok {
		t.Errorf("running: %s %d %v", addr, pid, ok)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := localregistry.Running(t.Context(), root); ok {
		t.Error("still running after Close")
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "nonsense"} {
		s, err := localregistry.Serve(t.Context(), localregistry.Options{Root: t.TempDir(), Addr: addr})
		if release.KindOf(err) != release.KindUsage {
			t.Errorf("%s: got %v, want a usage error", addr, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := localregistry.Serve(ctx, localregistry.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}

// What one process stored, another serves; what a killed one had received in
// part is gone.
func TestProcesses(t *testing.T) {
	root := t.TempDir()
	t.Setenv(serveRoot, root)
	start := func() string {
		addr, err := localregistry.Start(t.Context(), root, os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Cleanup(func() {
		if err := localregistry.Stop(context.Background(), root); err != nil {
			t.Error(err)
		}
	})
	first := start()
	if again := start(); again != first {
		t.Errorf("started at %s, then at %s", first, again)
	}
	img := registrytest.NewImage(1, 5000, 10)
	p := registrytest.Serve(t, handler(first))
	subject := p.Put(t, "app", "v1", img)
	partial(t, first, root)

	_, pid, _ := localregistry.Running(t.Context(), root)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitForEnd(t, root)
	second := start()
	if left, _ := filepath.Glob(filepath.Join(root, "docker/registry/v2/repositories/app/_uploads/*")); len(left) > 0 {
		t.Errorf("left of broken uploads: %q", left)
	}
	q := registrytest.Serve(t, handler(second))
	q.Whole(t, "app", img)
	got, err := registrytest.NewClient(t, registry.Limits{}).Resolve(t.Context(), q.Host+"/app:v1")
	if err != nil || got.Digest != subject.Digest {
		t.Errorf("got %s, %v", got, err)
	}
}

// partial leaves an upload behind that nobody completes.
func partial(t *testing.T, addr, root string) {
	t.Helper()
	resp, err := http.Post("http://"+addr+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r, _ := http.NewRequest(http.MethodPatch, resp.Header.Get("Location"), strings.NewReader("half of it"))
	if resp, err = http.DefaultClient.Do(r); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if left, _ := filepath.Glob(filepath.Join(root, "docker/registry/v2/repositories/app/_uploads/*")); len(left) == 0 {
		t.Fatal("there is no upload to be cleared away")
	}
}

func waitForEnd(t *testing.T, root string) {
	t.Helper()
	for range 500 {
		if _, _, ok := localregistry.Running(t.Context(), root); !ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the killed process still serves")
}

func TestStartOfAProgramThatFails(t *testing.T) {
	root := t.TempDir()
	_, err := localregistry.Start(t.Context(), root, "/bin/sh", "-c", "echo no registry here; exit 3")
	if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "no registry here") {
		t.Errorf("got %v, want what the program said", err)
	}
	_, err = localregistry.Start(t.Context(), root, filepath.Join(root, "absent"))
	if release.KindOf(err) != release.KindUnavailable || errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
