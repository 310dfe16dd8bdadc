package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// maxPredicate is the most bytes of a predicate: a large SBOM, or scan.
const maxPredicate = 16 << 20

func keyFlag() cli.Flag {
	return &cli.StringFlag{Name: "key", Usage: "sign with this `KEY` instead of sign.key: a file, env://NAME or a key service's URI"}
}

func (r *run) attestCommand() *cli.Command {
	return r.command(command{name: "attest", usage: "sign a predicate about an image or a release, and attach it", arguments: "REF", least: 1, most: 1,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "type", Usage: "predicate `TYPE`: " + release.PredicateNames() + ", or its URI"},
			&cli.StringFlag{Name: "predicate", Usage: "`FILE` with the predicate, a JSON object; - is standard input"},
			keyFlag(), dryRunFlag(),
		}, action: r.attest})
}

func (r *run) attest(ctx context.Context, c *cli.Context) error {
	for _, name := range []string{"type", "predicate"} {
		if c.String(name) == "" {
			return release.Misuse("promote attest REF --type vuln --predicate scan.json", "promote attest needs --%s", name)
		}
	}
	body, err := r.predicate(c.String("predicate"))
	if err != nil {
		return err
	}
	o := pipeline.AttestOptions{Reference: c.Args().First(), Type: c.String("type"), Predicate: body, DryRun: c.Bool("dry-run")}
	return r.withKey(ctx, c.String("key"), func(p *pipeline.Pipeline) error {
		result, err := p.Attest(ctx, o)
		if err != nil {
			return err
		}
		return r.emit(result, func(w io.Writer) error { return printAttest(w, result) })
	})
}

// predicate reads a file from here, or standard input.
func (r *run) predicate(name string) ([]byte, error) {
	var in io.Reader = r.std.In
	if name != "-" {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.dir, path)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, release.Misuse("--predicate takes a file, or - for standard input", "reading the predicate: %w", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, maxPredicate+1))
	switch {
	case err != nil:
		return nil, release.Misuse("--predicate takes a file, or - for standard input", "reading the predicate: %w", err)
	case len(body) > maxPredicate:
		return nil, release.Misuse("attest what gates read of it", "the predicate has more than %d bytes", maxPredicate)
	}
	return body, nil
}

func printAttest(w io.Writer, a pipeline.AttestResult) error {
	verb := "attested"
	switch {
	case a.Existing:
		verb = "attested already"
	case a.DryRun:
		verb = "would attest"
	}
	_, err := fmt.Fprintf(w, "%s: %s about %s, by %s (%s)\n", verb, release.PredicateName(a.PredicateType), a.Subject, a.Signer.Name, a.Signer.ID)
	return err
}
