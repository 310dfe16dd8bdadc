package registry

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// helperTime is the most time a credential helper has; some of them ask a
// cloud service.
const helperTime = 30 * time.Second

var helperPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// runHelper asks docker-credential-NAME for a server's credentials, as
// https://github.com/docker/docker-credential-helpers describes.
func runHelper(ctx context.Context, helper, server string) (Credential, error) {
	if !helperPattern.MatchString(helper) {
		return Credential{}, release.Faultf(release.KindConfig, "repair credHelpers or credsStore of the Docker configuration", "credential helper %q: not a name", clip(helper))
	}
	program := "docker-credential-" + helper
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.WaitDelay = time.Second
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return Credential{}, release.Faultf(release.KindConfig, "install "+program+", or take it out of the Docker configuration", "credentials for %s: %w", server, err)
	case err != nil:
		// Helpers say so on stdout, with status 1.
		if strings.Contains(string(stdout.kept), "credentials not found") {
			return Credential{}, nil
		}
		return Credential{}, release.Unavailable("run `echo "+server+" | "+program+" get` to see why", "credentials for %s: %s: %w: %s", server, program, err, printable(string(stderr.kept), 300))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(stdout.kept, &answer); err != nil {
		return Credential{}, release.Unavailable("", "credentials for %s: the answer of %s is not JSON", server, program)
	}
	if answer.Username == "<token>" {
		return Credential{IdentityToken: answer.Secret}, nil
	}
	return Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// capped keeps the first bytes of what a program prints.
type capped struct{ kept []byte }

func (c *capped) Write(p []byte) (int, error) {
	room := 64*kib - len(c.kept)
	c.kept = append(c.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
