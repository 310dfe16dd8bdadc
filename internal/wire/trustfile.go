package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// checkSigned wants a trust file signed by its owners before anything is judged
// by it. That says nothing about whether it may replace the one before it: the
// ledger does.
func (k *keyring) checkSigned() error {
	signed, _, err := trustFile(k.config)
	if signed == nil || err != nil && !(k.options.Unsigned && errors.Is(err, errUnsigned)) {
		return err
	}
	k.signed = signed
	return nil
}

// errUnsigned is that too few owners signed a trust file.
var errUnsigned = errors.New("too few of its owners signed it")

// trustFile says who signed the trust file that a configuration names, and who
// did so in vain. There being none gives nil.
func trustFile(c *config.Config) (*pipeline.TrustFile, *release.SignedTrust, error) {
	path, signed := c.TrustFile()
	if signed == nil {
		return nil, nil, nil
	}
	names, reasons, err := sign.TrustSigners(*signed, time.Now())
	if err != nil {
		return nil, signed, inFile(c, path, err)
	}
	out := &pipeline.TrustFile{Path: path, Version: signed.File.Version, Signers: append([]string{}, names...), Needed: signed.File.Trust().Threshold(release.Owner)}
	if err := sign.EnoughSigned(*signed, names, reasons); err != nil {
		err.Err = fmt.Errorf("%w: %w", errUnsigned, err.Err)
		return out, signed, inFile(c, path, err)
	}
	return out, signed, nil
}

// inFile says which file an error is about.
func inFile(c *config.Config, path string, err error) error {
	fault := &release.Fault{Kind: release.KindConfig, File: c.Abs(path), Err: err}
	var inner *release.Fault
	if errors.As(err, &inner) {
		fault.Hint, fault.Err = inner.Hint, inner.Err
	}
	return fault
}

// signTrust adds the signature of an owner whom the trust file names. A key of
// anybody else adds none, and that is no error: owners of the version before it
// agree in the ledger.
func signTrust(ctx context.Context, c *config.Config, o cli.SignTrustOptions) (cli.SignTrustResult, error) {
	state, signed, err := trustFile(c)
	if state == nil || err != nil && !errors.Is(err, errUnsigned) {
		return cli.SignTrustResult{}, err
	}
	out := cli.SignTrustResult{TrustFile: *state}
	if o.Key == "" && c.Sign.Key == "" {
		return out, nil // an identity signs no file
	}
	keys := &keyring{config: c, options: cli.PipelineOptions{Key: o.Key}}
	defer keys.close()
	key, err := keys.open(ctx)
	if err != nil {
		return out, err
	}
	party, err := sign.PartyOf(signed.File.Trust(), key)
	if err != nil || !party.Has(release.Owner) || slices.Contains(state.Signers, party.Name) {
		return out, nil //nolint:nilerr // whoever is nobody in the file signs nothing
	}
	out.Signer = party.Name
	if o.DryRun {
		return out, nil
	}
	next, err := key.SignTrust(ctx, *signed)
	if err != nil {
		return out, err
	}
	names, _, err := sign.TrustSigners(next, time.Now())
	if err != nil {
		return out, fmt.Errorf("signing %s: %w", state.Path, err)
	}
	edit, err := c.Resigned(next)
	if err == nil {
		err = edit.Write()
	}
	if err != nil {
		return out, err
	}
	out.Signers = names
	return out, nil
}
