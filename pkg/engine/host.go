package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// Options says how to reach an engine.
type Options struct {
	// Keychain gives the credentials for a registry host; empty strings mean
	// none. Nil pulls without credentials.
	Keychain func(ctx context.Context, registryHost string) (user, secret string, err error)
	// Source reads registries for hosts behind ssh whose engine reaches none: it
	// gets a read-only view of the images it lacks. Nil: it has to.
	Source Source
	// SSHConfig is a file for ssh -F; empty is OpenSSH's own choice.
	SSHConfig string
	// Getenv reads the environment; nil is os.Getenv.
	Getenv func(string) string
	// Timeout bounds connecting and every call that does little; 0 is a minute.
	Timeout time.Duration
}

// Host is an engine, reached. It is safe for concurrent use.
type Host struct {
	target  release.Target
	options Options
	address string // as people know it
	client  *client.Client
	tunnel  *tunnel // nil unless the engine is reached over ssh
	views   sync.Mutex
	view    *view // nil until the engine needed one

	cgroups sync.Map // container id → *cgroup
	known   atomic.Pointer[habits]
	memory  atomic.Int64 // of the engine's machine, in bytes; 0 is not asked yet
}

// Open reaches the engine of a target: a local one, or one over tcp:// with
// TLS, or over ssh://. An empty host means what it means to docker: DOCKER_HOST,
// DOCKER_CONTEXT, the current context, the default socket. The engine has
// answered when Open returns. Close ends the ssh process that Open started.
func Open(ctx context.Context, t release.Target, o Options) (*Host, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	a, err := resolveAddress(t.Host, o.Getenv)
	if err != nil {
		return nil, err
	}
	h := &Host{target: t, options: o, address: a.String()}
	if err := h.connect(ctx, a); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) connect(ctx context.Context, a address) error {
	host := a.url
	if strings.HasPrefix(host, "ssh://") {
		if err := h.login(ctx, host); err != nil {
			return err
		}
		host = "unix://" + h.tunnel.socket
	}
	ctx, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	opts := []client.Opt{client.WithHost(host), client.WithUserAgent("promote"), client.WithResponseHook(bound)}
	if a.certificates != "" {
		opts = append(opts, a.tls())
	}
	c, err := client.New(opts...)
	if err != nil {
		return h.fault("connecting to engine", h.address, err)
	}
	h.client = c
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return h.fault("connecting to engine", h.address, err)
	}
	return nil
}

// logins are the ssh connections that are being made. An sshd drops new ones, by
// chance, from the tenth on that has not logged in yet (MaxStartups 10:30:100),
// and the hosts of a fleet often have one jump host.
var logins = make(chan struct{}, 8)

// login starts the host's ssh process when it is its turn.
func (h *Host) login(ctx context.Context, address string) (err error) {
	select {
	case logins <- struct{}{}:
		defer func() { <-logins }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	h.tunnel, err = openTunnel(ctx, address, h.options.SSHConfig)
	return err
}

// Close drops the connections and ends the ssh process.
func (h *Host) Close() error {
	var err error
	if h.client != nil {
		err = h.client.Close()
	}
	if h.view != nil {
		err = errors.Join(err, h.view.close())
	}
	if h.tunnel != nil {
		err = errors.Join(err, h.tunnel.close())
	}
	return err
}

// Name gives the target's name, or its address when it has none.
func (h *Host) Name() string {
	if h.target.Name != "" {
		return h.target.Name
	}
	return h.address
}

// Info asks the engine about itself.
func (h *Host) Info(ctx context.Context) (release.EngineInfo, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return release.EngineInfo{}, h.fault("asking engine", h.Name(), err)
	}
	i := result.Info
	info := release.EngineInfo{
		Version:       i.ServerVersion,
		APIVersion:    h.client.ClientVersion(),
		OS:            i.OSType,
		Architecture:  architecture(i.Architecture),
		CgroupVersion: i.CgroupVersion,
		StorageDriver: i.Driver,
		MemoryLimit:   i.MemoryLimit,
	}
	if info.CgroupVersion == "" { // engines before 20.10 know version 1 only
		info.CgroupVersion = "1"
	}
	for _, pair := range i.DriverStatus {
		if pair[0] == "driver-type" && strings.HasPrefix(pair[1], "io.containerd.snapshotter") {
			info.Containerd = true
		}
	}
	// The engine's clock is compared with ours by the caller; one that cannot
	// be read stays zero.
	info.Time, _ = time.Parse(time.RFC3339Nano, i.SystemTime)
	if h.local() {
		info.FreeDisk = freeDisk(i.DockerRootDir)
	}
	return info, nil
}

// local reports whether the engine shares this machine's files and processes,
// as far as its address tells.
func (h *Host) local() bool { return strings.HasPrefix(h.address, "unix://") }

// Local reports whether containers' own addresses can be expected to be
// reachable from here.
func (h *Host) Local() bool { return h.local() }

// short bounds a call that does little.
func (h *Host) short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, h.options.Timeout, fmt.Errorf("no answer within %s", h.options.Timeout))
}

// architecture translates the kernel's names, which engines report, into those
// of image platforms.
func architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armv7l", "armv6l":
		return "arm"
	case "i686", "i386":
		return "386"
	}
	return machine
}

// freeDisk gives the bytes free under a directory of this machine, or 0.
func freeDisk(dir string) int64 {
	var fs syscall.Statfs_t
	if dir == "" || syscall.Statfs(dir, &fs) != nil {
		return 0
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}
