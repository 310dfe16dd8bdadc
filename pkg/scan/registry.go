//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	xhttp "github.com/aquasecurity/trivy/pkg/x/http"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/pull"
)

// guarded is Trivy's factory of transports, giving ours.
type guarded struct{ *pull.Guard }

func (g guarded) Build(...xhttp.TransportOption) http.RoundTripper { return g.Guard }

// connection is how one registry is read.
type connection struct {
	ctx     context.Context // carries the guard to where Trivy makes requests
	guard   *pull.Guard
	options ftypes.RegistryOptions
	naming  []name.Option
}

// connect prepares reading from the registry of a reference.
func connect(ctx context.Context, o Options, host string, step *event.Step) (connection, error) {
	transport := pull.NewTransport()
	var err error
	if transport.TLSClientConfig, err = o.TLS(host); err != nil {
		return connection{}, err
	}
	c := connection{guard: pull.NewGuard(ctx, transport, host, throttled(step))}
	c.ctx = xhttp.WithTransport(ctx, guarded{c.guard})
	if o.Insecure(host) {
		c.options.Insecure = true
		c.naming = append(c.naming, name.Insecure)
	}
	user, secret, err := o.Keychain(ctx, host)
	if err != nil {
		return c, release.Unavailable("log in to the registry again", "getting credentials for %s: %w", host, err)
	}
	if user != "" || secret != "" {
		c.options.Credentials = []ftypes.Credential{{Username: user, Password: secret}}
	}
	return c, nil
}

// parse reads a reference, which connect's registry serves.
func (c connection) parse(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference, c.naming...)
	if err != nil {
		return nil, release.Misuse("write host/path, or host/path@sha256:…", "%w", err)
	}
	return ref, nil
}

// hostOf gives the registry host of a reference.
func hostOf(reference string) (string, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", release.Misuse("write host/path, or host/path@sha256:…", "%w", err)
	}
	return ref.Context().RegistryStr(), nil
}

// fault gives the kind of an error that came up while reading from the
// registry: a contradiction is a denial, silence and breakage are not.
func (c connection) fault(op, hint string, err error) error {
	if denial := c.guard.Denial(); denial != nil {
		return denial
	}
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "UNAUTHORIZED") || strings.Contains(text, "DENIED") || strings.Contains(text, "401 ") || strings.Contains(text, "403 "):
		hint = "log in to the registry with an account that may read it"
	case strings.Contains(text, "MANIFEST_UNKNOWN") || strings.Contains(text, "NAME_UNKNOWN") || strings.Contains(text, "404 "):
		hint = "it is not there: check its name"
	}
	return &release.Fault{Kind: release.KindUnavailable, Op: op, Hint: hint, Err: fmt.Errorf("%.500s", text)}
}

// throttled reports a blob's progress in steps that a person can see.
func throttled(step *event.Step) func(part string, current, total int64) {
	const stride = 1 << 20
	var mu sync.Mutex
	last := map[string]int64{}
	return func(part string, current, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if current == total || current-last[part] >= stride {
			last[part] = current
			step.Bytes(part, current, total)
		}
	}
}
