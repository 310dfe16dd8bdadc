//go:build engine && linux

package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/worker"
)

// asCommand makes this test's program the real command.
const asCommand = "WIRE_TEST_IS_PROMOTE"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" || len(os.Args) == 3 && os.Args[1] == worker.Command {
		os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, New()))
	}
	os.Exit(m.Run())
}

// canary is a secret in all forms in which it might get out.
type canary struct {
	name  string
	forms []string
}

func newCanary(name, secret string) canary {
	c := canary{name, []string{secret, strings.Trim(fmt.Sprintf("%q", secret), `"`), url.QueryEscape(secret), url.PathEscape(secret),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret)))}}
	for before := range 3 { // inside something longer, base64 depends on where it begins
		padded := append(make([]byte, before), secret...)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			c.forms = append(c.forms, text[[]int{0, 2, 3}[before]:len(text)-1])
		}
	}
	return c
}

// aviary is a set of canaries and where they were seen.
type aviary struct {
	t   *testing.T
	all []canary
	mu  sync.Mutex
	got map[string]bool
}

func (a *aviary) plant(name string) (secret string) {
	secret = "s3cr/t+" + rand.Text() + "~" + name
	a.all = append(a.all, newCanary(name, secret))
	return secret
}

// look reports each canary that a text holds, but the one that belongs there.
func (a *aviary) look(where string, text []byte, but string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.all {
		for _, form := range c.forms {
			at := bytes.Index(text, []byte(form))
			if at < 0 || c.name == but || a.got[where+c.name] {
				continue
			}
			a.got[where+c.name] = true
			a.t.Errorf("%s holds the %s: …%q…", where, c.name, text[max(0, at-80):min(len(text), at+len(form)+20)])
		}
	}
}

// lookBelow looks at every file of a directory, its name included.
func (a *aviary) lookBelow(dir string) (files int) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		files++
		a.look("file "+strings.TrimPrefix(path, dir), append([]byte(path+"\n"), text...), "")
		return err
	})
	if err != nil {
		a.t.Error(err)
	}
	return files
}

// watch looks at every process of this machine until it is stopped: at what it
// was called with, and at what is in the environment of workers, by kind.
func (a *aviary) watch() (seen func(kind string) bool, stop func()) {
	var mu sync.Mutex
	kinds := map[string]bool{}
	done, ended := make(chan struct{}), make(chan struct{})
	self, _ := os.Executable()
	go func() {
		defer close(ended)
		for {
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range lines {
				line, _ := os.ReadFile(path) // a process may be gone
				a.look("the command line of a process", line, "")
				words := strings.Split(string(line), "\x00")
				if len(words) < 3 || words[0] != self || words[1] != worker.Command {
					continue
				}
				environ, err := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
				if err != nil || len(environ) == 0 {
					continue
				}
				a.look("the environment of the "+words[2]+" process", environ, "")
				mu.Lock()
				kinds[words[2]] = true
				mu.Unlock()
			}
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func(kind string) bool { mu.Lock(); defer mu.Unlock(); return kinds[kind] }, sync.OnceFunc(func() { close(done); <-ended })
}

// keyWithCanaries is an encrypted key in cosign's format: its text, and its
// number in the forms in which it might be written.
func (a *aviary) keyWithCanaries(passphrase string) string {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	sealed, err := encrypted.Encrypt(der, []byte(passphrase))
	if err != nil {
		a.t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: sealed}))
	number, err := key.ECDH()
	if err != nil {
		a.t.Fatal(err)
	}
	bare := newCanary("private key", string(number.Bytes()))
	bare.forms = append(bare.forms, new(big.Int).SetBytes(number.Bytes()).String())
	a.all = append(a.all, bare, canary{"encrypted key", strings.Split(text, "\n")[3:5]})
	return text
}

// token is an identity token for a while. Its claims are no secret; its
// signature makes it one.
func (a *aviary) token() string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	head := part(map[string]string{"alg": "ES256"}) + "." + part(map[string]any{
		"iss": "https://accounts.example.com", "sub": "ci@example.com", "email": "ci@example.com", "email_verified": true, "aud": "sigstore", "exp": time.Now().Add(time.Hour).Unix()})
	signature := base64.RawURLEncoding.EncodeToString([]byte(a.plant("identity token")))
	a.all = append(a.all, newCanary("identity token as it is", signature))
	return head + "." + signature
}

// house is a project with secrets in every variable and file that promote
// reads, and with services that give away what they are sent.
type house struct {
	*aviary
	dir, state, home string
	environ          []string
	registry         *gossip
}

// command starts the real program.
func (h *house) command(environ []string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	// A shell that lets cores be written, for as much as the kernel is asked.
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -c unlimited; exec "$0" "$@"`, self}, args...)...)
	cmd.Dir = h.dir
	cmd.Env = append(append(h.environ[:len(h.environ):len(h.environ)], asCommand+"=1"), environ...)
	var out, err2 bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err2
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd, &out, &err2
}

// end waits for a program and looks at what it said.
func (h *house) end(cmd *exec.Cmd, out, err2 *bytes.Buffer) syscall.WaitStatus {
	h.t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	name := strings.Join(cmd.Args[4:], " ")
	h.look("standard output of "+name, out.Bytes(), "")
	h.look("standard error of "+name, err2.Bytes(), "")
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// promote runs the real program to its end, which must be with one of the codes.
func (h *house) promote(want int, environ []string, args ...string) {
	h.t.Helper()
	cmd, out, err2 := h.command(environ, args...)
	if status := h.end(cmd, out, err2); status.ExitStatus() != want {
		h.t.Errorf("promote %s: exit %d, want %d\n%s%s", strings.Join(args, " "), status.ExitStatus(), want, out, err2)
	}
}

// children runs the real program until it has started a process of a kind,
// which hangs, and ends it.
func (h *house) children(kind string, seen func(string) bool, args ...string) {
	h.t.Helper()
	cmd, out, err2 := h.command(nil, args...)
	for deadline := time.Now().Add(time.Minute); !seen(kind) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cmd.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	status := h.end(cmd, out, err2)
	if !seen(kind) {
		h.t.Errorf("promote %s started no %s process: exit %d\n%s", strings.Join(args, " "), kind, status.ExitStatus(), err2)
	}
}

// No secret gets out of the program: not into what it says, writes, sends or
// starts, whether it succeeds or fails, and whoever tells it back to itself.
func TestCanaries(t *testing.T) {
	h := newHouse(t)
	seen, stop := h.watch()
	defer stop()
	image := h.registry.addr + "/agent/planner:v1"
	predicate := filepath.Join(h.dir, "predicate.json")
	if err := os.WriteFile(predicate, []byte(`{"a":"predicate"}`), 0o600); err != nil {
		t.Fatal(err)
	}

	h.promote(0, nil, "sign", image, "--debug", "-o", "json", "--progress", "rawjson")
	h.promote(0, nil, "attest", image, "--type", "slsaprovenance1", "--predicate", predicate)
	h.promote(0, nil, "verify", image, "--debug")
	h.promote(0, nil, "verify", image, "-o", "json")
	h.promote(0, nil, "log", "-o", "json")
	h.promote(0, nil, "copy", image, h.registry.addr+"/elsewhere/planner:v1", "--debug")
	h.promote(0, nil, "keys", "public", "env://PROMOTE_KEY")
	h.promote(0, nil, "keys", "generate", filepath.Join(h.state, "another.key"))
	h.promote(0, nil, "trust", "accept", "--reason", "again", "--debug")

	// Refusals, by services that say what they were told.
	for _, how := range [][]string{nil, {"--debug"}, {"-o", "json"}, {"--progress", "rawjson", "--debug"}} {
		on := func(args ...string) []string { return append(args, how...) }
		h.promote(2, []string{"COSIGN_PASSWORD=" + h.plant("wrong passphrase")}, on("sign", image)...)
		h.promote(1, nil, on("sign", h.registry.addr+"/echo/planner:v1")...)
		h.promote(1, nil, on("copy", image, h.registry.addr+"/echo/planner:v1")...)
		h.promote(3, nil, on("-c", "keyless.yaml", "sign", h.registry.addr+"/agent/unsigned:v1")...)
		h.promote(1, nil, on("-c", "vault.yaml", "sign", image)...)
		h.promote(2, nil, on("--offline", "verify", image)...)
	}

	h.children("build", seen, "release", "--progress", "rawjson")
	h.children("scan", seen, "scan", image, "--debug")
	h.children("smoke", seen, "smoke", h.release(), "--debug")

	// A record that a webhook is told of, which answers with what it was told.
	h.promote(0, nil, "-c", "changed.yaml", "trust", "accept", "--reason", "one more environment", "--debug")
	if kept, _ := filepath.Glob(filepath.Join(h.home, ".local/state/promote/notify/agent-*.jsonl")); len(kept) != 1 {
		t.Errorf("messages that a webhook refused are kept in %q", kept)
	}

	h.crash(t)
	stop()
	h.look("what reached the registry", h.registry.heard(), "")
	for what, dir := range map[string]string{"project and ledger": h.dir, "caches and state": h.state, "home": h.home} {
		if n := h.lookBelow(dir); n == 0 && dir != h.home {
			t.Errorf("%s: no file to look at", what)
		}
	}
}

// crash aborts the program while its key is open. It must leave no core, and
// what the runtime says must hold nothing.
func (h *house) crash(t *testing.T) {
	t.Helper()
	reached := h.registry.hang("/v2/agent/hanging/manifests/sha256")
	cmd, out, err2 := h.command([]string{"GOTRACEBACK=crash"}, "sign", h.registry.addr+"/agent/hanging:v1")
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Error("the signature is never sent")
	}
	limits, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if !strings.Contains(string(limits), "Max core file size        0 ") {
		t.Errorf("a core may be written:\n%s", limits)
	}
	_ = cmd.Process.Signal(syscall.SIGABRT)
	status := h.end(cmd, out, err2)
	if !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
		t.Errorf("ended by %v, with a core: %v\n%s", status.Signal(), status.CoreDump(), err2)
	}
	if !strings.Contains(err2.String(), "goroutine ") {
		t.Errorf("the runtime says nothing:\n%s", err2)
	}
	if cores, _ := filepath.Glob(filepath.Join(h.dir, "core*")); len(cores) > 0 {
		t.Errorf("cores: %v", cores)
	}
}
