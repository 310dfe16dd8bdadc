package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// acceptResult is what `trust accept` gives.
type acceptResult struct {
	pipeline.AcceptResult
	File *SignTrustResult `json:"file,omitempty"`
}

// trustAccept signs the trust file, where there is one and the key is one of its
// owners', and records the agreement in the ledger.
func (r *run) trustAccept(ctx context.Context, c *cli.Context) error {
	key, dryRun := c.String("key"), c.Bool("dry-run")
	file, err := r.signTrust(ctx, SignTrustOptions{Key: config.KeyFrom(r.dir, key), DryRun: dryRun})
	if err != nil {
		return err
	}
	return r.withTrust(ctx, key, func(p *pipeline.Pipeline) error {
		result, err := p.TrustAccept(ctx, pipeline.AcceptOptions{Reason: c.String("reason"), DryRun: dryRun})
		out := acceptResult{result, file}
		if file != nil && file.Signer != "" && release.KindOf(err) == release.KindDenied {
			// An owner of the new version only: the signature is all there is to give.
			return r.emit(out, func(w io.Writer) error {
				printSigned(w, file, dryRun)
				_, err := fmt.Fprintln(w, "the owners whom the ledger's pinned version names accept it, too: promote trust accept --key KEY")
				return err
			})
		}
		if err != nil {
			return err
		}
		return r.emit(out, func(w io.Writer) error {
			printSigned(w, file, dryRun)
			return printAccept(w, result)
		})
	})
}

// withTrust is withKey for those who look at a trust file or sign it: it need
// not be signed by enough owners yet.
func (r *run) withTrust(ctx context.Context, key string, f func(*pipeline.Pipeline) error) error {
	c, err := r.load()
	if err != nil {
		return err
	}
	p, closePipeline, err := r.wiring.Pipeline(ctx, c, PipelineOptions{Offline: r.offline, Key: config.KeyFrom(r.dir, key), Unsigned: true})
	if err != nil {
		return err
	}
	defer closePipeline()
	return f(p)
}

// signTrust gives nil where no trust file is.
func (r *run) signTrust(ctx context.Context, o SignTrustOptions) (*SignTrustResult, error) {
	c, err := r.load()
	if err != nil {
		return nil, err
	}
	if name, _ := c.TrustFile(); name == "" {
		return nil, nil
	}
	result, err := r.wiring.SignTrust(ctx, c, o)
	return &result, err
}

func printSigned(w io.Writer, file *SignTrustResult, dryRun bool) {
	if file == nil {
		return
	}
	if file.Signer != "" {
		word := "signed"
		if dryRun {
			word = "would sign"
		}
		fmt.Fprintf(w, "%s %s %s\n", file.Signer, word, file.Path)
	}
	fmt.Fprintf(w, "%s: version %d, signed by %s (%d needed)\n", file.Path, file.Version, orNobody(file.Signers), file.Needed)
}

// writeTrustFile writes the trust in force as a trust file that nobody signed.
func writeTrustFile(w io.Writer, t release.Trust) error {
	signed, err := release.SealTrust(release.TrustFileOf(t, t.Version+1))
	if err != nil {
		return err
	}
	text, err := signed.Encode()
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func printAccept(w io.Writer, a pipeline.AcceptResult) error {
	for _, line := range a.Changes {
		fmt.Fprintln(w, line)
	}
	var err error
	switch {
	case a.Existing && a.InForce:
		_, err = fmt.Fprintln(w, "nothing to accept: the ledger pins these rules, or its first record will")
	case a.DryRun:
		_, err = fmt.Fprintf(w, "%s would accept rules %s in place of %s; %d of %d owners agreed so far\n", a.Signer, a.Rules.Short(), a.Pinned.Short(), len(a.Agreed), a.Needed)
	case a.InForce:
		_, err = fmt.Fprintf(w, "in force: rules %s in place of %s, agreed by %s\n", a.Rules.Short(), a.Pinned.Short(), strings.Join(a.Agreed, ", "))
	case len(a.Agreed) >= a.Needed:
		_, err = fmt.Fprintln(w, "the owners agreed; an owner or a promoter of the new version confirms it: promote trust accept --key KEY")
	default:
		_, err = fmt.Fprintf(w, "%d of %d owners agreed: %s; the others: promote trust accept --key KEY\n", len(a.Agreed), a.Needed, strings.Join(a.Agreed, ", "))
	}
	return err
}
