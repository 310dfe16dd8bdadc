package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/release"
)

// BundleOptions are `verify-bundle`. One of Key and the two identities is set.
type BundleOptions struct {
	Bundle      string // file
	Key         string // file
	TrustedRoot string // file; empty: the public instance's
	Offline     bool   // the public instance's is taken as it lies here
	// Identity is a certificate's, or IdentityMatch an expression for all of it;
	// likewise the issuer.
	Identity, IdentityMatch string
	Issuer, IssuerMatch     string
	Artifact                string // file or sha256:HEX
}

// BundleResult is what a bundle proves.
type BundleResult struct {
	Result        string         `json:"result"` // passed
	Artifact      release.Digest `json:"artifact"`
	MediaType     string         `json:"mediaType"`
	PredicateType string         `json:"predicateType,omitempty"`
	Signer        release.Signer `json:"signer"`
	Claims        release.Claims `json:"claims,omitzero"`
	// Time is the earliest at which the signature is proven to have existed.
	Time time.Time `json:"time,omitzero"`
}

// verifyBundleCommand follows the protocol by which the public sigstore
// conformance suite asks clients to verify.
// https://github.com/sigstore/sigstore-conformance/blob/main/docs/cli_protocol.md
func (r *run) verifyBundleCommand() *cli.Command {
	return r.command(command{name: "verify-bundle", usage: "verify one sigstore bundle about a file or digest", arguments: "FILE|sha256:HEX", least: 1, most: 1, offline: true,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "bundle", Usage: "the sigstore bundle, JSON `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "the signer's public key, PEM `FILE`"},
			&cli.StringFlag{Name: "certificate-identity", Usage: "the signer's `IDENTITY`, exactly as the certificate has it"},
			&cli.StringFlag{Name: "certificate-identity-regexp", Usage: "`EXPRESSION` that the whole identity matches"},
			&cli.StringFlag{Name: "certificate-oidc-issuer", Usage: "`URL` of the issuer that vouches for the identity"},
			&cli.StringFlag{Name: "certificate-oidc-issuer-regexp", Usage: "`EXPRESSION` that the whole issuer matches"},
			&cli.StringFlag{Name: "trusted-root", Usage: "trusted_root.json `FILE` (default: the public sigstore instance's)"},
			&cli.BoolFlag{Name: "staging", Usage: "the bundle is of sigstore's staging instance: needs --trusted-root"},
		}, action: r.verifyBundle})
}

func (r *run) verifyBundle(ctx context.Context, c *cli.Context) error {
	o := BundleOptions{Offline: r.offline,
		Bundle: c.String("bundle"), Key: c.String("key"), TrustedRoot: c.String("trusted-root"), Artifact: c.Args().First(),
		Identity: c.String("certificate-identity"), IdentityMatch: c.String("certificate-identity-regexp"),
		Issuer: c.String("certificate-oidc-issuer"), IssuerMatch: c.String("certificate-oidc-issuer-regexp"),
	}
	if err := o.check(c.Bool("staging")); err != nil {
		return err
	}
	result, err := r.wiring.VerifyBundle(ctx, o)
	if err != nil {
		return err
	}
	return r.emit(result, func(w io.Writer) error {
		who := result.Signer.ID
		if result.Signer.Issuer != "" {
			who += " (" + result.Signer.Issuer + ")"
		}
		fmt.Fprintf(w, "verified  %s\nsigner    %s\n", result.Artifact, who)
		if result.PredicateType != "" {
			fmt.Fprintf(w, "type      %s\n", result.PredicateType)
		}
		if !result.Time.IsZero() {
			fmt.Fprintf(w, "time      %s\n", result.Time.Format(time.RFC3339))
		}
		return nil
	})
}

// check refuses combinations that would leave open who must have signed.
func (o BundleOptions) check(staging bool) error {
	identity := o.Identity != "" || o.IdentityMatch != "" || o.Issuer != "" || o.IssuerMatch != ""
	switch {
	case o.Bundle == "":
		return release.Misuse("promote verify-bundle --help", "--bundle is missing")
	case o.Key != "" && identity:
		return release.Misuse("use one", "--key together with --certificate-…")
	case o.Key == "" && ((o.Identity == "") == (o.IdentityMatch == "") || (o.Issuer == "") == (o.IssuerMatch == "")):
		return release.Misuse("--key FILE, or --certificate-identity IDENTITY --certificate-oidc-issuer URL", "it must be said who signed: one key, or one identity and one issuer")
	case staging && o.TrustedRoot == "":
		return release.Misuse("bring the staging instance's trusted_root.json", "--staging needs --trusted-root")
	}
	return nil
}
