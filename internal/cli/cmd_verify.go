package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func (r *run) verifyCommand() *cli.Command {
	return r.command(command{name: "verify", usage: "show and judge every attestation about an image or a release; also in oci:DIR and oci-archive:FILE",
		arguments: "REF", least: 1, most: 1, offline: true, action: r.verify})
}

func (r *run) verify(ctx context.Context, c *cli.Context) error {
	argument := c.Args().First()
	return r.withPipeline(ctx, func(p *pipeline.Pipeline) error {
		result, err := p.Verify(ctx, argument)
		return r.emitWith(err, result, func(w io.Writer) error { return printVerification(w, result) })
	})
}

func printVerification(w io.Writer, v pipeline.Verification) error {
	if v.Subject.Digest.IsZero() {
		return nil // nothing was found to speak of
	}
	if err := printSubject(w, "", v, v.Result); err != nil {
		return err
	}
	for _, s := range v.Services {
		fmt.Fprintln(w)
		if err := printSubject(w, fmt.Sprintf("%s (%s)", s.Service, s.Origin), s.Verification, serviceResult(s)); err != nil {
			return err
		}
	}
	return nil
}

// serviceResult: nobody here signs what somebody else built.
func serviceResult(s pipeline.ServiceVerification) string {
	if s.Origin == release.External && !s.Threshold.Met() {
		return "external, needs no signature"
	}
	return s.Result
}

func printSubject(w io.Writer, name string, v pipeline.Verification, result string) error {
	if name != "" {
		fmt.Fprintf(w, "service  %s\n", name)
	}
	fmt.Fprintf(w, "subject  %s\nresult   %s\n", v.Subject, result)
	if v.Threshold.Required > 1 {
		fmt.Fprintf(w, "signed   by %d of %d: %s\n", len(v.Threshold.Signers), v.Threshold.Required, ui.Clean(strings.Join(v.Threshold.Signers, ", ")))
	}
	if len(v.Attestations) == 0 {
		_, err := fmt.Fprintln(w, "no attestations")
		return err
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, a := range v.Attestations {
		verdict, when := "verified", ""
		if !a.Verified {
			verdict = "NOT VERIFIED"
		}
		if !a.Time.IsZero() {
			when = a.Time.Format(time.RFC3339)
		}
		rows = append(rows, []string{dash(a.Signer), dash(a.Issuer), dash(a.Role), dash(release.PredicateName(a.PredicateType)), dash(when), verdict, a.Reason})
	}
	return ui.Table(w, []string{"SIGNER", "ISSUER", "ROLE", "TYPE", "TIME", "RESULT", "REASON"}, rows)
}

// dash keeps an empty cell from looking like the next one's.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
