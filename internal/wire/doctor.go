package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan"
)

// checkTime bounds each of doctor's checks.
const checkTime = 20 * time.Second

// doctor lists what can be checked; without a configuration, only the machine.
func doctor(c *config.Config) []cli.Check {
	checks := []cli.Check{
		{Name: "git", Run: checkGit},
		{Name: "engine", Run: func(ctx context.Context) (string, error) {
			return checkEngine(ctx, release.Target{Name: "this machine"})
		}},
		{Name: "buildkit", Run: checkBuildKit},
	}
	if c == nil {
		return bounded(checks)
	}
	checks = append(checks,
		cli.Check{Name: "supported", Run: func(context.Context) (string, error) {
			return "every configured key is acted on", errors.Join(c.Inactive(), c.CheckLedger(os.Getenv("CI") == "true"))
		}},
		cli.Check{Name: "registry", Run: func(ctx context.Context) (string, error) { return checkRegistry(ctx, c) }},
		cli.Check{Name: "database", Run: func(ctx context.Context) (string, error) { return checkDatabase(ctx, c) }},
		cli.Check{Name: "key", Run: func(ctx context.Context) (string, error) { return checkKey(ctx, c) }},
		cli.Check{Name: "ledger", Run: func(ctx context.Context) (string, error) { return checkLedger(ctx, c) }},
	)
	for _, env := range c.Environments() {
		for _, t := range env.Targets {
			if t.Host == "" {
				continue // looked at above
			}
			checks = append(checks, cli.Check{Name: env.Name + "/" + t.Name, Run: func(ctx context.Context) (string, error) { return checkEngine(ctx, t) }})
		}
	}
	return bounded(checks)
}

// bounded gives every check its time.
func bounded(checks []cli.Check) []cli.Check {
	for i, c := range checks {
		checks[i].Run = func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			defer cancel()
			return c.Run(ctx)
		}
	}
	return checks
}

func checkGit(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "--version").Output()
	if err != nil {
		return "", release.Unavailable("install git", "running git: %w", err)
	}
	return string(out), nil
}

func checkEngine(ctx context.Context, t release.Target) (string, error) {
	h, err := engine.Open(ctx, t, engine.Options{})
	if err != nil {
		return "", err
	}
	defer h.Close()
	info, err := h.Info(ctx)
	if err != nil {
		return "", err
	}
	if !info.MemoryLimit {
		return "", release.Faultf(release.KindFindings, "boot the kernel with the memory cgroup, for example cgroup_enable=memory", "the engine cannot limit memory")
	}
	return fmt.Sprintf("%s, API %s, cgroup v%s", info.Version, info.APIVersion, info.CgroupVersion), nil
}

func checkBuildKit(ctx context.Context) (string, error) {
	d, err := build.Reach(ctx, os.Getenv("BUILDKIT_HOST"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s", d.Version, d.Address), nil
}

func checkRegistry(ctx context.Context, c *config.Config) (string, error) {
	client, err := openRegistry(registryHosts(c.RegistrySettings()))
	if err != nil {
		return "", err
	}
	// An empty repository is a fine answer.
	tags, err := client.Tags(ctx, c.Registry+"/"+c.Name)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return "", err
	}
	return fmt.Sprintf("%s answers, %d tags of releases", c.Registry, len(tags)), nil
}

func checkDatabase(ctx context.Context, c *config.Config) (string, error) {
	cache, err := cacheDir("scan")
	if err != nil {
		return "", err
	}
	client, err := openRegistry(registryHosts(c.RegistrySettings()))
	if err != nil {
		return "", err
	}
	db, err := scan.UpdateDatabase(ctx, scan.Options{CacheDir: cache, Registry: client,
		Database: scan.DatabaseRef{Repository: c.Scan.Database.Repository, MaxAge: c.Scan.MaxAge}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("of %s, covers %d ecosystems and distributions", db.UpdatedAt.Format(time.DateTime), len(db.Covers)), nil
}

func checkKey(ctx context.Context, c *config.Config) (string, error) {
	k := &keyring{config: c}
	defer k.close()
	if err := k.openTrust(ctx); err != nil {
		return "", err
	}
	if c.Sign.Key == "" {
		return "an identity, certified by " + c.Sign.Keyless.Fulcio + ", trust: " + k.trust.Mode(), nil
	}
	key, err := k.open(ctx)
	if err != nil {
		return "", err
	}
	party := k.party(key)
	if len(party.Roles) == 0 {
		return "", release.Faultf(release.KindFindings, "name its public half under trust, or use a key that is named there", "the key %s has no role", key.Fingerprint())
	}
	return fmt.Sprintf("%s as %q, %d roles, trust: %s", key.Fingerprint(), party.Name, len(party.Roles), k.trust.Mode()), nil
}

func checkLedger(ctx context.Context, c *config.Config) (string, error) {
	k := &keyring{config: c}
	defer k.close()
	if err := k.openTrust(ctx); err != nil {
		return "", err
	}
	log, err := openLedger(ctx, c, k)
	if err != nil {
		return "", err
	}
	history, _, err := log.Read(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d records, verified", len(history)), nil
}
