//go:build engine && linux

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// sshd is an ssh server on loopback with keys of its own.
type sshd struct {
	t       *testing.T
	dir     string
	port    int
	process *os.Process
}

func (s *sshd) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sshd) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sshd) keygen(name string) string {
	s.t.Helper()
	if said, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path(name)).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, said)
	}
	raw, err := os.ReadFile(s.path(name) + ".pub")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// startSSHD serves until the test ends, and knows one client key. Lines are more
// for its configuration.
func startSSHD(t *testing.T, lines ...string) *sshd {
	t.Helper()
	server, err := exec.LookPath("sshd")
	if err != nil {
		server = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(server); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no sshd, or not root: %v", err)
		}
		t.Skip("needs sshd and root")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{t: t, dir: t.TempDir(), port: listener.Addr().(*net.TCPAddr).Port}
	_ = listener.Close()
	host := s.keygen("host")
	s.write("authorized", s.keygen("client")+"\n")
	s.keygen("stranger")
	s.write("known", fmt.Sprintf("[127.0.0.1]:%d %s\n", s.port, host))
	s.write("sshd_config", fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin yes\nAllowStreamLocalForwarding yes\n",
		s.port, s.path("host"), s.path("authorized"))+strings.Join(append(lines, ""), "\n"))
	cmd := exec.Command(server, "-D", "-f", s.path("sshd_config"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	t.Cleanup(func() { _ = s.process.Kill(); _ = cmd.Wait() })
	for range 200 {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			_ = conn.Close()
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("sshd does not listen")
	return nil
}

// config writes a client configuration and gives its path.
func (s *sshd) config(identity, known string, more ...string) string {
	lines := append([]string{"IdentityFile " + s.path(identity), "IdentitiesOnly yes", "UserKnownHostsFile " + s.path(known), "GlobalKnownHostsFile /dev/null", "IdentityAgent none"}, more...)
	s.write("config", strings.Join(lines, "\n")+"\n")
	return s.path("config")
}

// socket is the engine's, which the tests reach without ssh, too.
func socket(t *testing.T) string {
	t.Helper()
	open(t)
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return path
	}
	return "/var/run/docker.sock"
}

func (s *sshd) target(path string) release.Target {
	return release.Target{Name: "prod-1", Host: fmt.Sprintf("ssh://root@127.0.0.1:%d%s", s.port, path)}
}

// sshProcesses counts our children that are ssh.
func sshProcesses(t *testing.T) []int {
	t.Helper()
	var found []int
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		name, rest, _ := strings.Cut(string(raw), ") ")
		if fields := strings.Fields(rest); strings.HasSuffix(name, "(ssh") && len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, pid)
		}
	}
	return found
}

func TestOverSSH(t *testing.T) {
	path := socket(t)
	s := startSSHD(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := engine.Open(ctx, s.target(path), engine.Options{SSHConfig: s.config("client", "known")})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := h.Observe(ctx, "nobody"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	processes := sshProcesses(t)
	if len(processes) != 1 {
		t.Fatalf("%d ssh processes for 20 requests at once, want 1", len(processes))
	}
	// Ctrl-C in the terminal goes to the group of whoever stands in front.
	if group, err := syscall.Getpgid(processes[0]); err != nil || group == syscall.Getpgrp() {
		t.Errorf("ssh is in our process group: %d, %v", group, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if n := len(sshProcesses(t)); n != 0 {
		t.Errorf("%d ssh processes after Close", n)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "promote-ssh-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Nothing is trusted at first sight, and every refusal says what to do.
func TestSSHRefusals(t *testing.T) {
	path := socket(t)
	s := startSSHD(t)
	known, err := os.ReadFile(s.path("known"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := os.ReadFile(s.path("stranger.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("empty", "")
	s.write("changed", fmt.Sprintf("[127.0.0.1]:%d %s", s.port, stranger))
	s.write("revoked", "@revoked "+string(known))
	cases := []struct {
		name, identity, known, path string
		text, hint                  string
	}{
		{"unknown host key", "client", "empty", path, "key is unknown", "known_hosts"},
		{"changed host key", "client", "changed", path, "not the one in known_hosts", "between you and the host"},
		{"revoked host key", "client", "revoked", path, "revoked", "administrator"},
		{"no account", "stranger", "known", path, "Permission denied", "authorized_keys"},
		{"no engine behind it", "client", "known", "/run/nobody.sock", "", "engine running on the host"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			_, err := engine.Open(context.Background(), s.target(c.path), engine.Options{SSHConfig: s.config(c.identity, c.known), Timeout: 20 * time.Second})
			var f *release.Fault
			if !errors.As(err, &f) || f.Kind != release.KindUnavailable || !strings.Contains(err.Error(), c.text) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%v, %+v", err, f)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
			if n := len(sshProcesses(t)); n != 0 {
				t.Errorf("%d ssh processes left", n)
			}
		})
	}
}

// Many hosts behind one sshd, as behind a jump host, all get in, though it drops
// every connection beyond the ninth that has not logged in yet.
func TestManyHostsBehindOneSSHD(t *testing.T) {
	path := socket(t)
	s := startSSHD(t, "MaxStartups 10:100:10")
	options := engine.Options{SSHConfig: s.config("client", "known")}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var wait sync.WaitGroup
	for range 30 {
		wait.Go(func() {
			h, err := engine.Open(ctx, s.target(path), options)
			if err != nil {
				t.Error(err)
				return
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := len(sshProcesses(t)); n != 0 {
		t.Errorf("%d ssh processes left", n)
	}
}

// A connection that is cut says so, promptly, and not that the engine is ill.
func TestSSHIsCut(t *testing.T) {
	path := socket(t)
	s := startSSHD(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := engine.Open(ctx, s.target(path), engine.Options{SSHConfig: s.config("client", "known")})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, pid := range sshProcesses(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := h.Observe(ctx, "nobody"); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "ssh://") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
}

// A killed promote leaves no ssh process behind. The test binary plays promote.
func TestSSHEndsWithUs(t *testing.T) {
	if config := os.Getenv("ENGINE_TEST_SSH_CONFIG"); config != "" {
		if _, err := engine.Open(context.Background(), release.Target{Host: os.Getenv("ENGINE_TEST_SSH_HOST")}, engine.Options{SSHConfig: config}); err != nil {
			t.Fatal(err)
		}
		for _, pid := range sshProcesses(t) {
			fmt.Printf("ssh %d\n", pid)
		}
		time.Sleep(time.Minute)
		return
	}
	path := socket(t)
	s := startSSHD(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestSSHEndsWithUs$")
	cmd.Env = append(os.Environ(), "ENGINE_TEST_SSH_CONFIG="+s.config("client", "known"), "ENGINE_TEST_SSH_HOST="+s.target(path).Host, "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "ssh %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for range 100 {
		if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("ssh %d outlived its parent", pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// elsewhere reads a registry under another name than images have: one that no
// engine can look up.
type elsewhere struct {
	t        *testing.T
	registry string
}

func (e elsewhere) get(repository, kind string, d release.Digest) (*http.Response, error) {
	_, path, _ := strings.Cut(repository, "/")
	response, err := http.Get("http://" + e.registry + "/v2/" + path + "/" + kind + "/" + d.String())
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		err = fmt.Errorf("%s %s: %s", kind, d, response.Status)
	}
	return response, err
}

func (e elsewhere) Manifest(_ context.Context, s release.Subject) (string, []byte, error) {
	response, err := e.get(s.Repository, "manifests", s.Digest)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return release.MediaTypeManifest, raw, err
}

func (e elsewhere) OpenBlob(_ context.Context, repository string, d release.Digest, _ int64, _ func(int64)) (io.ReadCloser, error) {
	response, err := e.get(repository, "blobs", d)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// An engine that cannot even look the registry up gets the image over ssh, and
// runs it as if it came from there.
func TestAViewOverSSH(t *testing.T) {
	path := socket(t)
	s := startSSHD(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := prefix()
	real, platform := enginetest.NewRegistry(t).Push(t, name, enginetest.Image{Version: name})
	registry, _, _ := strings.Cut(real.Repository, "/")
	subject := release.Subject{Repository: "registry.invalid/" + name, Digest: real.Digest}
	options := engine.Options{SSHConfig: s.config("client", "known"), Source: elsewhere{t, registry}}
	for range 2 { // the second connection finds what the first one left
		h, err := engine.Open(ctx, s.target(path), options)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Pull(ctx, subject); err != nil {
			t.Fatal(err)
		}
		id, present, err := h.ImageID(ctx, subject)
		if err != nil || !present || id != platform.Config.String() && id != platform.Manifest.String() {
			t.Errorf("image %s, present %t, %v; want %+v", id, present, err, platform)
		}
		container, err := h.Create(ctx, name, release.ServiceSpec{Name: "planner", Image: subject}, name+"-planner-1", nil)
		if err == nil {
			err = h.Start(ctx, container)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(sshProcesses(t)); n != 1 {
			t.Errorf("%d ssh processes", n)
		}
		if _, err := h.RemoveLabelled(ctx, release.LabelProject+"="+name); err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		options.Source = nil
	}
	h, err := engine.Open(ctx, s.target(path), options)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.RemoveImage(ctx, subject); err != nil {
		t.Error(err)
	}
	if _, present, err := h.ImageID(ctx, subject); present || err != nil {
		t.Errorf("still there: %t %v", present, err)
	}
	if err := h.Pull(ctx, subject); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("without a view: %v", err)
	}
}
