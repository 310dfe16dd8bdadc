package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Reaches reports whether Dial has a way to what listens on the engine's
// machine and in its containers: none over tcp://.
func (h *Host) Reaches() bool { return h.local() || h.tunnel != nil }

// Dial connects to an address as the engine's machine sees it: its loopback, or
// a container's. Over ssh that goes through the connection that there is, which
// takes a connection before it knows whether anything listens there.
// errors.ErrUnsupported is in the chain of the error where there is no way.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	switch {
	case h.tunnel != nil:
		socket, err := h.tunnel.lead(ctx, address)
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, "unix", socket)
	case h.local():
		return dialer.DialContext(ctx, network, address)
	}
	return nil, fmt.Errorf("connecting to %s behind %s: %w", address, h.Name(), errors.ErrUnsupported)
}

// lead lets a socket of ours lead to an address of the host, until the tunnel
// is closed.
func (t *tunnel) lead(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	socket := filepath.Join(t.dir, "p"+rand.Text()[:5]+".sock")
	cmd := exec.CommandContext(ctx, t.ssh, "-F", "none", "-S", t.control(), "-O", "forward", "-L", socket+":"+address, "--", "host")
	said := tail{most: 4096}
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return "", release.Unavailable("let the host's sshd forward connections (AllowTcpForwarding yes or local)",
			"reaching %s on %s: %s", address, t.address, oneLine(said.String()))
	}
	return socket, nil
}
