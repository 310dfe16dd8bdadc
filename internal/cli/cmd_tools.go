package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) toolCommands() []*cli.Command {
	return []*cli.Command{
		r.command(command{name: "copy", usage: "copy images with their evidence, byte for byte; also oci:DIR and oci-archive:FILE", arguments: "SRC DST", least: 2, most: 2,
			flags: []cli.Flag{&cli.BoolFlag{Name: "referrers", Value: true, Usage: "signatures, attestations and SBOMs too, and what is about them (default true)"}, dryRunFlag()}, action: r.copy}),
		r.command(command{name: "pin", usage: "write or verify name:tag@sha256:… in Dockerfiles and Compose files", arguments: "[FILE...]", most: 1000,
			flags: []cli.Flag{
				&cli.BoolFlag{Name: "check", Usage: "only verify; exit 3 where a digest is missing"},
				&cli.BoolFlag{Name: "update", Usage: "move every digest to what its tag names now"},
				&cli.StringSliceFlag{Name: "map", Usage: "`FROM=TO`: take images of repository FROM from TO; repeatable"},
				dryRunFlag(),
			}, action: r.pin}),
		r.verifyBundleCommand(),
		{Name: "keys", Usage: "make a signing key, show its public half", HideHelpCommand: true, Subcommands: []*cli.Command{
			r.command(command{name: "generate", usage: "a P-256 key in cosign's format; COSIGN_PASSWORD encrypts it", arguments: "FILE", least: 1, most: 1, offline: true, action: r.keys(true)}),
			r.command(command{name: "public", usage: "the public half of a key", arguments: "KEY", least: 1, most: 1, offline: true, action: r.keys(false)}),
		}},
		r.trustCommand(),
		{Name: "db", Usage: "the vulnerability database", HideHelpCommand: true, Subcommands: []*cli.Command{
			r.command(command{name: "build", usage: "build the demo's database from the advisories in this binary and push it", arguments: "REPOSITORY", least: 1, most: 1, action: r.database}),
		}},
	}
}

func (r *run) copy(ctx context.Context, c *cli.Context) error {
	registries, err := r.registries()
	if err != nil {
		return err
	}
	result, err := r.wiring.Copy(ctx, CopyOptions{Source: c.Args().Get(0), Destination: c.Args().Get(1), Referrers: c.Bool("referrers"), DryRun: c.Bool("dry-run"), Registries: registries})
	if err != nil {
		return err
	}
	return r.emit(result, func(w io.Writer) error { return printCopy(w, result) })
}

func printCopy(w io.Writer, c CopyResult) error {
	if c.Unchanged {
		_, err := fmt.Fprintf(w, "nothing to copy: %s serves %s already\n", c.Destination, c.Digest)
		return errors.Join(err, printKept(w, c.Kept))
	}
	verb, sent := "copied", "sent"
	if c.DryRun {
		verb, sent = "would copy", "to send"
	}
	fmt.Fprintf(w, "%s %s to %s\n", verb, c.Source, c.Destination)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("digest", "%s", c.Digest)
	if len(c.Tags) > 0 {
		line("tags", "%s", strings.Join(c.Tags, ", "))
	}
	line(sent, "%s in %s, %d mounted, %d there already", units.BytesSize(float64(c.Bytes)), count(c.Blobs, "blob"), c.Mounted, c.Present)
	line("manifests", "%d, of which %s", c.Manifests, count(c.Referrers, "referrer"))
	if c.Legacy > 0 {
		line("cosign", "%s", count(c.Legacy, "tag"))
	}
	if c.Foreign > 0 {
		line("foreign", "%s that the source does not hold either", count(c.Foreign, "layer"))
	}
	_, err := fmt.Fprintf(w, "%-9s %d\n", "requests", c.Requests)
	return errors.Join(err, printKept(w, c.Kept))
}

// printKept names the tags under which the source's evidence was not put.
func printKept(w io.Writer, tags []string) (err error) {
	for _, tag := range tags {
		_, failed := fmt.Fprintf(w, "kept      %s, which the destination has with something else\n", tag)
		err = errors.Join(err, failed)
	}
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *run) pin(ctx context.Context, c *cli.Context) error {
	mapping := map[string]string{}
	for _, pair := range c.StringSlice("map") {
		from, to, ok := strings.Cut(pair, "=")
		if !ok || from == "" || to == "" {
			return release.Misuse("--map docker.io/library/python=registry.example.com/python", "--map %q", pair)
		}
		mapping[from] = to
	}
	if c.Bool("check") && c.Bool("update") {
		return release.Misuse("use one", "--check together with --update")
	}
	registries, err := r.registries()
	if err != nil {
		return err
	}
	result, err := r.wiring.Pin(ctx, PinOptions{Dir: r.dir, Files: c.Args().Slice(), Check: c.Bool("check"), Update: c.Bool("update"), DryRun: c.Bool("dry-run"), Map: mapping, Registries: registries})
	return r.emitWith(err, result, func(w io.Writer) error {
		for _, u := range result.Unpinned {
			fmt.Fprintf(w, "%s:%d: %s has no digest\n", u.File, u.Line, u.From)
		}
		for _, change := range result.Changes {
			fmt.Fprintf(w, "%s:%d: %s\n%*s→ %s\n", change.File, change.Line, change.From, len(change.File)+2, "", change.To)
		}
		if len(result.Unpinned)+len(result.Changes) == 0 {
			fmt.Fprintln(w, "every reference is pinned")
		}
		return nil
	})
}

func (r *run) keys(generate bool) func(context.Context, *cli.Context) error {
	return func(ctx context.Context, c *cli.Context) error {
		if key := c.Args().First(); r.offline && config.IsService(key) {
			return release.Misuse("leave --offline out", "the key service of %s is asked over the network", key)
		}
		result, err := r.wiring.Keys(ctx, KeyOptions{Generate: generate, Key: c.Args().First()})
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error {
			if !generate {
				_, err := io.WriteString(w, result.PublicKey)
				return err
			}
			return ui.Table(w, []string{"KEY", "PUBLIC", "FINGERPRINT"}, [][]string{{result.Private, result.Public, result.Fingerprint}})
		})
	}
}

// databaseResult is what `db build` gives.
type databaseResult struct {
	Repository string         `json:"repository"`
	Digest     release.Digest `json:"digest"`
}

func (r *run) database(ctx context.Context, c *cli.Context) error {
	digest, err := r.wiring.Database(ctx, c.Args().First())
	if err != nil {
		return err
	}
	return r.emit(databaseResult{c.Args().First(), digest}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s@%s\n", c.Args().First(), digest)
		return err
	})
}
