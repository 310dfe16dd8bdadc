//go:build engine && linux

package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// listening gives every address of this machine that takes TCP connections, as
// the kernel writes them.
func listening(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue // no such protocol here
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if fields := strings.Fields(lines.Text()); len(fields) > 3 && fields[3] == "0A" {
				found[fields[1]] = true
			}
		}
		_ = f.Close()
	}
	return found
}

// spied looks around when the first blob is fetched through a view.
type spied struct {
	elsewhere
	look func(repository string, d release.Digest)
	once *sync.Once
}

func (s spied) OpenBlob(ctx context.Context, repository string, d release.Digest, size int64, progress func(int64)) (io.ReadCloser, error) {
	s.once.Do(func() { s.look(repository, d) })
	return s.elsewhere.OpenBlob(ctx, repository, d, size, progress)
}

// A view is on the host's loopback only, even where its sshd would let it be
// elsewhere, gives nothing to whoever does not know its secret, is not reachable
// on this machine by anybody else, and is gone with the connection.
func TestAViewIsForItsHostOnly(t *testing.T) {
	path := socket(t)
	s := startSSHD(t, "GatewayPorts clientspecified")
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	name := prefix()
	real, _ := enginetest.NewRegistry(t).Push(t, name, enginetest.Image{Version: name})
	registry, _, _ := strings.Cut(real.Repository, "/")
	subject := release.Subject{Repository: "registry.invalid/" + name, Digest: real.Digest}
	var port int
	before := listening(t)
	source := spied{elsewhere{t, registry}, func(repository string, d release.Digest) {
		port = newPort(t, before)
		_, image, _ := strings.Cut(repository, "/")
		for _, ask := range []struct {
			method, path string
			want         int
		}{
			{"GET", "/v2/", 200}, {"GET", "/v2/" + image + "/blobs/" + d.String(), 404}, {"GET", "/v2/_catalog", 404},
			{"GET", "/v2/" + image + "/manifests/" + subject.Digest.String(), 404}, {"PUT", "/v2/" + image + "/manifests/" + subject.Digest.String(), 405},
		} {
			if code := answers(t, port, ask.method, ask.path); code != ask.want {
				t.Errorf("%s %s: %d, want %d", ask.method, ask.path, code, ask.want)
			}
		}
		sockets := 0
		_ = filepath.WalkDir(tmp, func(p string, e fs.DirEntry, _ error) error {
			if info, err := e.Info(); err == nil && info.Mode()&fs.ModeSocket != 0 {
				sockets++
				if dir, err := os.Stat(filepath.Dir(p)); err != nil || dir.Mode().Perm() != 0o700 {
					t.Errorf("others may look into %s: %v", filepath.Dir(p), err)
				}
			}
			return nil
		})
		if sockets < 2 { // the engine's, the view's, ssh's own
			t.Errorf("%d sockets", sockets)
		}
	}, &sync.Once{}}
	h, err := engine.Open(ctx, s.target(path), engine.Options{SSHConfig: s.config("client", "known"), Source: source})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Pull(ctx, subject); err != nil {
		t.Error(err)
	}
	if err := h.RemoveImage(ctx, subject); err != nil {
		t.Error(err)
	}
	if port == 0 {
		t.Fatal("nothing was fetched through a view")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "its port", func() bool { return answers(t, port, "GET", "/v2/") == 0 })
	eventually(t, "its server", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "engine.openView")
	})
	if left, _ := filepath.Glob(filepath.Join(tmp, "promote-ssh-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// eventually fails unless something of a view is gone after a while.
func eventually(t *testing.T, what string, gone func() bool) {
	t.Helper()
	for range 100 {
		if gone() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%s outlived the connection", what)
}

// newPort finds the one port of the loopback that nobody listened on before.
// Others may come and go elsewhere on a machine, so it is told by its answer.
func newPort(t *testing.T, before map[string]bool) int {
	t.Helper()
	found := 0
	for address := range listening(t) {
		if before[address] {
			continue
		}
		host, hex, _ := strings.Cut(address, ":")
		var port int
		if _, err := fmt.Sscanf(hex, "%X", &port); err != nil || answers(t, port, "PUT", "/v2/") != http.StatusMethodNotAllowed {
			continue
		}
		if host != "0100007F" {
			t.Errorf("the view listens on %s", address)
		}
		found = port
	}
	if found == 0 {
		t.Error("no view listens")
	}
	return found
}

// answers gives the code of an answer, 0 if there is none.
func answers(t *testing.T, port int, method, path string) int {
	t.Helper()
	request, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}
