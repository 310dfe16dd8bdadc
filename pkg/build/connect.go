package build

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	// The ways to reach a daemon besides sockets.
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"

	"github.com/promote-dev/promote/pkg/release"
)

// DefaultAddresses are tried in order when no address is configured.
var DefaultAddresses = []string{
	"unix:///run/promote/buildkitd.sock", // started by scripts/setup
	"unix:///run/buildkit/buildkitd.sock",
}

// How long a daemon may take to say that it is there.
const answerTimeout = 10 * time.Second

// Daemon is a BuildKit daemon that answered.
type Daemon struct {
	Address   string
	Version   string
	Platforms []string // what it can build, its own first
}

// Reach finds the daemon that Image would use. A daemon that does not answer
// is KindUnavailable.
func Reach(ctx context.Context, address string) (Daemon, error) {
	d, c, err := connect(ctx, address)
	if err != nil {
		return Daemon{}, err
	}
	return d, c.Close()
}

func connect(ctx context.Context, address string) (Daemon, *client.Client, error) {
	addresses := DefaultAddresses
	if address != "" {
		addresses = []string{address}
	}
	var tried []string
	for _, a := range addresses {
		d, c, err := dial(ctx, a)
		if err == nil {
			return d, c, nil
		}
		if ctx.Err() != nil {
			return Daemon{}, nil, ctx.Err()
		}
		tried = append(tried, a+": "+dialMessage(err))
	}
	return Daemon{}, nil, &release.Fault{Kind: release.KindUnavailable, Op: "reaching BuildKit", Err: errors.New(strings.Join(tried, "; ")),
		Hint: "run scripts/setup (or make demo) to start a private buildkitd, or set BUILDKIT_HOST to a running one; " +
			"`docker buildx create --driver docker-container --bootstrap` starts one at docker-container://buildx_buildkit_NAME0"}
}

// dial connects and asks the daemon what it is.
func dial(ctx context.Context, address string) (Daemon, *client.Client, error) {
	if !strings.Contains(address, "://") {
		return Daemon{}, nil, errors.New("want an address such as unix:///run/buildkit/buildkitd.sock")
	}
	c, err := client.New(ctx, address)
	if err != nil {
		return Daemon{}, nil, err
	}
	d, err := describeDaemon(ctx, c)
	if err != nil {
		c.Close()
		return Daemon{}, nil, err
	}
	d.Address = address
	return d, c, nil
}

var dialing = regexp.MustCompile(`Error while dialing: (.*?)"?$`)

// dialMessage drops what gRPC puts around the reason.
func dialMessage(err error) string {
	if m := dialing.FindStringSubmatch(err.Error()); m != nil {
		return m[1]
	}
	return err.Error()
}

func describeDaemon(ctx context.Context, c *client.Client) (Daemon, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	info, err := c.Info(ctx)
	if err != nil {
		return Daemon{}, err
	}
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return Daemon{}, err
	}
	d := Daemon{Version: info.BuildkitVersion.Version}
	if len(workers) == 0 || len(workers[0].Platforms) == 0 {
		return Daemon{}, errors.New("it has no worker")
	}
	for _, p := range workers[0].Platforms { // the default worker comes first, and builds
		d.Platforms = append(d.Platforms, platforms.Format(platforms.Normalize(p)))
	}
	return d, nil
}
