package engine

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// defaultSocket is where an engine listens on the host behind ssh, unless the
// address has a path.
const defaultSocket = "/var/run/docker.sock"

// tunnel is one ssh process that forwards a local socket to a host's engine.
// All connections of a Host go through it, so that a host sees one login and
// not one for each request.
type tunnel struct {
	address string
	ssh     string // the program
	dir     string // holds the sockets
	socket  string
	process *os.Process
	said    func() string // what ssh wrote to stderr
	done    chan struct{} // closed when the process ended
	once    sync.Once
}

// sshAddress is a parsed ssh://[user@]host[:port][/socket].
type sshAddress struct{ user, host, port, socket string }

func parseSSH(address string) (sshAddress, error) {
	const hint = "write ssh://user@host, ssh://user@host:port or ssh://user@host/path/of/docker.sock; everything else belongs into ~/.ssh/config"
	bad := func(why string) (sshAddress, error) {
		return sshAddress{}, release.Faultf(release.KindConfig, hint, "engine address %q: %s", address, why)
	}
	u, err := url.Parse(address)
	if err != nil {
		return bad("cannot be read")
	}
	a := sshAddress{user: u.User.Username(), host: u.Hostname(), port: u.Port(), socket: u.Path}
	if a.socket == "" || a.socket == "/" {
		a.socket = defaultSocket
	}
	_, secret := u.User.Password()
	switch {
	case secret:
		return bad("a password does not belong here; ssh takes keys from the agent")
	case a.host == "":
		return bad("no host")
	case u.RawQuery != "" || u.Fragment != "":
		return bad("a query means nothing here")
	// ssh would take a leading dash for an option.
	case strings.HasPrefix(a.host, "-") || strings.HasPrefix(a.user, "-"):
		return bad("a name cannot begin with a dash")
	case strings.ContainsAny(a.socket, ":\n"):
		return bad("a socket's path cannot hold a colon")
	}
	return a, nil
}

// arguments are those of ssh. It never asks, never trusts a new key, and ends
// when the forwarding cannot be set up; the user's configuration, agent and
// jump hosts are honoured. Our process is the connection and ends with us: it
// shares nobody's, and its own control socket is for us, to forward more later.
func (a sshAddress) arguments(config, socket, control string) []string {
	args := []string{"-N", "-T", "-a", "-x", "-M", "-S", control}
	if config != "" {
		args = append(args, "-F", config)
	}
	for _, option := range []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ExitOnForwardFailure=yes",
		"ConnectTimeout=15", "ServerAliveInterval=10", "ServerAliveCountMax=3", "PermitLocalCommand=no", "ControlPersist=no",
	} {
		args = append(args, "-o", option)
	}
	args = append(args, "-L", socket+":"+a.socket)
	if a.user != "" {
		args = append(args, "-l", a.user)
	}
	if a.port != "" {
		args = append(args, "-p", a.port)
	}
	return append(args, "--", a.host)
}

// openTunnel starts ssh and returns when its local socket takes connections.
func openTunnel(ctx context.Context, address, config string) (*tunnel, error) {
	a, err := parseSSH(address)
	if err != nil {
		return nil, err
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return nil, release.Unavailable("install the OpenSSH client (apt-get install openssh-client)", "connecting to %s: %w", address, err)
	}
	dir, err := os.MkdirTemp(socketDir(), "promote-ssh-") // 0700: nobody else may use the socket
	if err != nil {
		return nil, release.Unavailable("free space in the temporary directory, or set TMPDIR", "connecting to %s: %w", address, err)
	}
	t := &tunnel{address: address, ssh: ssh, dir: dir, socket: filepath.Join(dir, "engine.sock"), done: make(chan struct{})}
	cmd := exec.Command(ssh, a.arguments(config, t.socket, t.control())...)
	cmd.SysProcAttr = detached() // Ctrl-C in the terminal is for us, not for ssh
	stderr := &tail{most: 4096}
	cmd.Stderr, t.said = stderr, stderr.String
	if err := t.start(cmd); err != nil {
		return nil, errors.Join(release.Unavailable("run the ssh command by hand", "starting ssh to %s: %w", address, err), os.RemoveAll(dir))
	}
	if err := t.ready(ctx); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// control is the socket by which the ssh process takes orders.
func (t *tunnel) control() string { return filepath.Join(t.dir, "ctl") }

// socketDir is the temporary directory, unless its path is so long that the
// path of a socket in it would not fit into the kernel's 108 bytes. ssh first
// binds another name, longer by 17.
func socketDir() string {
	const most = 108 - len("/promote-ssh-1234567890/engine.sock") - 18
	if dir := os.TempDir(); len(dir) <= most {
		return dir
	}
	return "/tmp"
}

// start runs the process from a thread that stays for as long as the process
// does: the kernel ends it when the thread that started it ends, which must
// mean that we ended.
func (t *tunnel) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		t.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended stands in what it said
		close(t.done)
	}()
	return <-started
}

// ready waits until ssh listens on the socket, which it does after it has
// logged in.
func (t *tunnel) ready(ctx context.Context) error {
	var dialer net.Dialer
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		conn, err := dialer.DialContext(ctx, "unix", t.socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-t.done:
			return t.broken()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return release.Unavailable("check the network and the host's sshd: ssh -v "+t.address, "connecting to %s: ssh did not log in in time: %s", t.address, oneLine(t.said()))
		case <-time.After(pause):
		}
	}
}

// broken says why the connection is no more, or nil while it stands.
func (t *tunnel) broken() error {
	select {
	case <-t.done:
		return sshFault(t.address, t.said())
	default:
		return nil
	}
}

// close ends the ssh process and removes the socket.
func (t *tunnel) close() error {
	var err error
	t.once.Do(func() {
		if t.process != nil {
			_ = t.process.Signal(os.Interrupt) // it may have ended already
			select {
			case <-t.done:
			case <-time.After(2 * time.Second):
				_ = t.process.Kill()
				<-t.done
			}
		}
		err = os.RemoveAll(t.dir)
	})
	return err
}

// sshFault reads what ssh said when it gave up.
func sshFault(address, said string) error {
	text := oneLine(said)
	hint := "try it by hand: ssh " + strings.TrimPrefix(address, "ssh://")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(said, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("REVOKED HOST KEY", "marked as revoked", "is revoked"):
		text = "the host's key is revoked: " + text
		hint = "do not use this host until its administrator has given it a new key"
	case has("REMOTE HOST IDENTIFICATION HAS CHANGED"):
		text = "the host's key is not the one in known_hosts: " + text
		hint = "somebody may be between you and the host. Compare the key with the host's console; if the change is meant, ssh-keygen -R the host and add the new key"
	case has("Host key verification failed", "host key is known"):
		text = "the host's key is unknown: " + text
		hint = "get the host's key from its administrator or its console and add it to ~/.ssh/known_hosts; a key seen for the first time is not trusted"
	case has("Permission denied"):
		hint = "no key of yours opens that account: look at ssh-add -l and at the account's authorized_keys"
	case has("Could not resolve", "No route to host", "Connection refused", "timed out", "Connection closed", "not responding"):
		hint = "the host does not answer: check its name, the network and its sshd"
	}
	return release.Unavailable(hint, "connecting to %s: %s", address, text)
}

func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if s == "" {
		return "ssh said nothing"
	}
	return clip(s, 600)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	most int
	buf  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - t.most; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.buf.String())
}

// Bytes gives a copy of what was kept.
func (t *tail) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf.Bytes())
}
