//go:build e2e && linux

package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a host of its own, as far as anybody can tell over ssh: an sshd with
// its own host key, a network that leads nowhere, and an engine that shares
// nothing with another one but the kernel.
type machine struct {
	f      *fleet
	name   string
	kind   string // which engine, as scripts/run-engine calls it; empty is the installed one
	run    string // sockets, short enough for the kernel
	data   string // what the engine keeps
	port   int
	door   net.Listener // nil while it is down
	engine *exec.Cmd
}

// fleet is several machines, and an ssh that knows them.
type fleet struct {
	t    *testing.T
	dir  string // keys and configuration
	all  map[string]*machine
	path string // PATH with an ssh of ours in front
}

var engines = flag.String("engines", "", "`ENGINE,…` of the hosts one after the other, as scripts/run-engine calls them, \"own\" for the installed one; empty is that for all")

// newFleet starts machines and takes them down with the test. One whose name ends
// in "-small" has little disk. The last one is reached through the first, as
// through a jump host.
func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("engines are started by root only")
		}
		t.Skip("engines are started by root only")
	}
	runtime.LockOSThread() // the engines end with the thread that started them
	f := &fleet{t: t, dir: t.TempDir(), all: map[string]*machine{}}
	f.check(os.MkdirAll("/run/sshd", 0o755))
	f.write("authorized", f.keygen("client")+"\n", 0o600)
	config := fmt.Sprintf("IdentityFile %s\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile %s\nGlobalKnownHostsFile /dev/null\n", f.at("client"), f.at("known"))
	known, ready := "", make(chan error)
	kinds := strings.Split(*engines, ",")
	if *engines != "" && len(kinds) != len(names) {
		t.Fatalf("-engines %s: there are %d hosts", *engines, len(names))
	}
	for i, name := range names {
		m := f.machine(name, strings.TrimPrefix(kinds[min(i, len(kinds)-1)], "own"))
		f.all[name] = m
		known += name + " " + f.keygen(name) + "\n"
		m.serve(name)
		config += fmt.Sprintf("Host %s\n  HostName 127.0.0.1\n  Port %d\n  HostKeyAlias %s\n", name, m.port, name)
		if i > 0 && i == len(names)-1 {
			config += "  ProxyJump root@" + names[0] + "\n"
		}
		go func() { ready <- m.answers() }()
	}
	f.write("known", known, 0o600)
	f.write("config", config, 0o600)
	f.check(os.Mkdir(f.at("bin"), 0o755))
	f.write("bin/ssh", "#!/bin/sh\nexec "+f.program("ssh")+" -F "+f.at("config")+" \"$@\"\n", 0o755)
	f.path = "PATH=" + f.at("bin") + ":" + os.Getenv("PATH")
	for range names {
		f.check(<-ready)
	}
	for _, name := range names {
		t.Logf("%s runs engine %s", name, f.all[name].docker("version", "--format", "{{.Server.Version}} (API {{.Server.APIVersion}})"))
	}
	first, last := f.all[names[0]], f.all[names[len(names)-1]]
	first.reaches(fmt.Sprintf("127.0.0.1:%d", last.port))
	return f
}

func (f *fleet) at(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	f.check(os.WriteFile(f.at(name), []byte(text), mode))
}

func (f *fleet) keygen(name string) string {
	f.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f.at(name)).CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(f.at(name + ".pub"))
	f.check(err)
	return strings.TrimSpace(string(raw))
}

// program finds one that must be there; PATH need not name where daemons lie.
func (f *fleet) program(name string) string {
	f.t.Helper()
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path := filepath.Join(dir, name); syscall.Access(path, 1) == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	f.check(err)
	return path
}

// machine starts an engine.
func (f *fleet) machine(name, kind string) *machine {
	f.t.Helper()
	m := &machine{f: f, name: name, kind: kind}
	var err error
	m.run, err = os.MkdirTemp("/run", "promote-host-")
	f.check(err)
	f.t.Cleanup(func() { _ = os.RemoveAll(m.run) })
	// Beside the other engine's: overlays cannot be stacked as one may please.
	m.data, err = os.MkdirTemp(filepath.Dir(docker(f.t, "info", "--format", "{{.DockerRootDir}}")), "promote-host-")
	f.check(err)
	f.t.Cleanup(func() { _ = os.RemoveAll(m.data) })
	if strings.HasSuffix(name, "-small") {
		f.check(syscall.Mount("tmpfs", m.data, "tmpfs", 0, "size=1g"))
		f.t.Cleanup(func() { _ = syscall.Unmount(m.data, syscall.MNT_DETACH) })
	}
	command := slices.Concat([]string{f.program("unshare"), "-n", "sh", "-c", `ip link set lo up && exec "$0" "$@"`}, m.program(), []string{
		"--host", "unix://" + m.socket(),
		"--data-root", filepath.Join(m.data, "d"), "--exec-root", filepath.Join(m.run, "x"), "--pidfile", filepath.Join(m.run, "pid"),
		"--max-download-attempts", "1", // a full disk does not get better by waiting
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"})
	m.engine = exec.Command(command[0], command[1:]...)
	log, err := os.Create(filepath.Join(m.run, "dockerd.log"))
	f.check(err)
	defer log.Close()
	m.engine.Stdout, m.engine.Stderr = log, log
	m.engine.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // it ends with us, too
	f.check(m.engine.Start())
	f.t.Cleanup(m.stopEngine)
	f.t.Cleanup(m.empty)
	return m
}

// program is the engine, with a configuration that says nothing.
func (m *machine) program() []string {
	m.f.t.Helper()
	if m.kind != "" {
		script, err := filepath.Abs("../../scripts/run-engine")
		m.f.check(err)
		return []string{script, m.kind, m.run, m.data, "--"}
	}
	config := filepath.Join(m.run, "daemon.json")
	m.f.check(os.WriteFile(config, []byte("{}\n"), 0o600))
	return []string{m.f.program("dockerd"), "--config-file", config}
}

// stopEngine asks it to end, and insists.
func (m *machine) stopEngine() {
	_ = m.engine.Process.Signal(syscall.SIGTERM)
	insist := time.AfterFunc(20*time.Second, func() { _ = m.engine.Process.Kill() })
	defer insist.Stop()
	_ = m.engine.Wait()
}

func (m *machine) socket() string { return filepath.Join(m.run, "docker.sock") }

// host is the machine's address in promote.yaml.
func (m *machine) host() string { return "ssh://root@" + m.name + m.socket() }

// reaches lets the machine's loopback lead to an address of this one's, such as
// a registry.
func (m *machine) reaches(address string) {
	m.f.t.Helper()
	opened := make(chan net.Listener, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.engine.Process.Pid))
		if err == nil {
			defer network.Close()
			err = unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		}
		var there net.Listener
		if err == nil {
			there, err = net.Listen("tcp", address)
		}
		if err != nil {
			failed <- err
			return
		}
		opened <- there
	}()
	select {
	case err := <-failed:
		m.f.t.Fatal(err)
	case there := <-opened:
		m.f.t.Cleanup(func() { _ = there.Close() })
		go forward(there, address)
	}
}

// forward connects whoever comes with an address.
func forward(there net.Listener, address string) {
	for {
		conn, err := there.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			to, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer to.Close()
			go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
			_, _ = io.Copy(conn, to)
		}()
	}
}

// serve lets the machine be reached, with a host key: each connection gets an
// sshd of its own, as from inetd, in the machine's network.
func (m *machine) serve(key string) {
	m.f.t.Helper()
	m.f.write(m.name+".sshd", fmt.Sprintf("HostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin yes\n",
		m.f.at(key), m.f.at("authorized")), 0o600)
	door, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", m.port)) // the first time any, then that one
	m.f.check(err)
	m.door, m.port = door, door.Addr().(*net.TCPAddr).Port
	m.f.t.Cleanup(m.down)
	command := []string{m.f.program("nsenter"), "-t", fmt.Sprint(m.engine.Process.Pid), "-n", m.f.program("sshd"), "-i", "-f", m.f.at(m.name + ".sshd")}
	go func() {
		for {
			conn, err := door.Accept()
			if err != nil {
				return // it is down
			}
			if file, err := conn.(*net.TCPConn).File(); err == nil {
				sshd := exec.Command(command[0], command[1:]...)
				sshd.Stdin, sshd.Stdout = file, file
				if sshd.Start() == nil {
					go func() { _ = sshd.Wait() }() // it ends with the connection
				}
				_ = file.Close()
			}
			_ = conn.Close()
		}
	}()
}

// down lets nobody in any more.
func (m *machine) down() { _ = m.door.Close() }

// answers waits for the engine.
func (m *machine) answers() error {
	for range 600 {
		if _, err := m.ask("version"); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(m.run, "dockerd.log"))
	return fmt.Errorf("%s: the engine does not answer: %s", m.name, log[max(0, len(log)-2000):])
}

// ask runs docker against the machine, beside ssh.
func (m *machine) ask(args ...string) (string, error) {
	return dockerOutput(context.Background(), append([]string{"-H", "unix://" + m.socket()}, args...)...)
}

func (m *machine) docker(args ...string) string {
	m.f.t.Helper()
	out, err := m.ask(args...)
	if err != nil {
		m.f.t.Fatalf("%s: %v", m.name, err)
	}
	return out
}

// container is one that stands for a service, as its engine tells.
type container struct {
	id, started, image, ref string
	up                      bool
	volumes                 string
}

// called reports whether the container's image is named by a digest: as it is in
// the registry, or as one that came through a view.
func (c container) called(digest string) bool {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	return ok && (strings.HasSuffix(c.ref, "@"+digest) || strings.HasSuffix(c.ref, ":promote-"+hex))
}

// containers lists those that stand for a service, by its name: none that wait
// for being removed.
func (m *machine) containers() map[string]container {
	m.f.t.Helper()
	all := map[string]container{}
	ids := strings.Fields(m.docker("ps", "-aq", "--filter", "label=com.docker.compose.service"))
	if len(ids) == 0 {
		return all
	}
	format := `{{index .Config.Labels "com.docker.compose.service"}} {{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Running}} {{.Image}} {{.Config.Image}}{{range .Mounts}}{{if eq .Type "volume"}} {{.Name}}{{end}}{{end}}`
	for line := range strings.Lines(m.docker(append([]string{"inspect", "--format", format}, ids...)...)) {
		if f := strings.Fields(line); !strings.Contains(f[1], ".promote-") {
			all[f[0]] = container{id: f[2], started: f[3], up: f[4] == "true", image: f[5], ref: f[6], volumes: strings.Join(f[7:], " ")}
		}
	}
	return all
}

// empty removes what runs there: without its engine it would go on.
func (m *machine) empty() {
	if list, err := m.ask("ps", "-aq"); err == nil && list != "" {
		_, _ = m.ask(append([]string{"rm", "-fv"}, strings.Fields(list)...)...)
	}
	_, _ = m.ask("network", "prune", "-f")
}

// fill leaves no room on the machine's disk, until the function it gives is
// called.
func (m *machine) fill() (free func()) {
	m.f.t.Helper()
	path := filepath.Join(m.data, "filler")
	file, err := os.Create(path)
	m.f.check(err)
	defer file.Close()
	size := int64(0)
	for {
		var disk syscall.Statfs_t
		m.f.check(syscall.Statfs(m.data, &disk))
		room := int64(disk.Bavail) * disk.Bsize
		if room == 0 {
			return func() { m.f.check(os.Remove(path)) }
		}
		m.f.check(syscall.Fallocate(int(file.Fd()), 0, size, room))
		size += room
	}
}

// when does something to a container of a service when the next one is started.
// It gives what to wait for.
func (m *machine) when(service string, act ...string) (done chan struct{}) {
	m.f.t.Helper()
	cmd := exec.Command("docker", "-H", "unix://"+m.socket(), "events", "--since", fmt.Sprint(time.Now().Unix()),
		"--filter", "event=start", "--filter", "label=com.docker.compose.service="+service, "--format", "{{.ID}}")
	out, err := cmd.StdoutPipe()
	m.f.check(err)
	m.f.check(cmd.Start())
	done = make(chan struct{})
	go func() {
		defer close(done)
		var id string
		if _, err := fmt.Fscanln(out, &id); err == nil {
			_, _ = m.ask(append(act, id)...)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	m.f.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return done
}
