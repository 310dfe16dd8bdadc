//go:build cosign

// Command cosign verifies with cosign's library what a registry has about an
// image, as it is told to on standard input, like the worker beside it. It is
// built in a module with the versions of cosign's command.
package main

import (
	"bufio"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"
	sigs "github.com/sigstore/cosign/v2/pkg/signature"
	"github.com/sigstore/sigstore-go/pkg/root"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o struct {
			Source string `json:"source"`
			Target string `json:"target"` // the directory with cosign.pub and trusted_root.json
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, "cosign:", err)
			os.Exit(2)
		}
		begun := time.Now()
		err := verify(context.Background(), o.Source, o.Target)
		d := struct {
			Nanoseconds int64  `json:"nanoseconds"`
			Error       string `json:"error,omitempty"`
		}{Nanoseconds: time.Since(begun).Nanoseconds()}
		if err != nil {
			d.Error = err.Error()
		}
		raw, err := json.Marshal(d)
		if err != nil {
			os.Exit(2)
		}
		fmt.Printf("%s\n", raw)
	}
}

func verify(ctx context.Context, image, dir string) error {
	ref, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	trusted, err := root.NewTrustedRootFromPath(dir + "/trusted_root.json")
	if err != nil {
		return err
	}
	key, err := sigs.PublicKeyFromKeyRefWithHashAlgo(ctx, dir+"/cosign.pub", crypto.SHA256)
	if err != nil {
		return err
	}
	found, _, err := cosign.VerifyImageAttestations(ctx, ref, &cosign.CheckOpts{
		RegistryClientOpts: []ociremote.Option{ociremote.WithRemoteOptions(remote.WithContext(ctx))},
		SigVerifier:        key, TrustedMaterial: trusted, IgnoreTlog: true, NewBundleFormat: true,
		ClaimVerifier: cosign.IntotoSubjectClaimVerifier,
	})
	if err == nil && len(found) != 6 {
		err = fmt.Errorf("%d attestations are verified, want 6", len(found))
	}
	return err
}
