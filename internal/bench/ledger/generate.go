package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

const origin = "promote/bench"

// secret is the key of everybody here; it protects nothing.
var secret = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

type envelope struct {
	Payload     string      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig string `json:"sig"`
}

// authenticated is DSSE's encoding of what is signed.
func authenticated(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

func sign(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
	sig := ed25519.Sign(secret, authenticated(payloadType, payload))
	return json.Marshal(envelope{base64.StdEncoding.EncodeToString(payload), payloadType, []signature{{base64.StdEncoding.EncodeToString(sig)}}})
}

var party = release.Signer{Name: "bench", ID: "sha256:bench", Roles: []release.Role{release.Promoter, release.Owner}}

func verify(raw []byte, payloadType string) ([]byte, release.Signer, error) {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil || len(e.Signatures) != 1 || e.PayloadType != payloadType {
		return nil, release.Signer{}, release.Denied("", "no envelope: %v", err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	sig, wrong := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err := errors.Join(err, wrong); err != nil {
		return nil, release.Signer{}, release.Denied("", "no envelope: %w", err)
	}
	if !ed25519.Verify(secret.Public().(ed25519.PublicKey), authenticated(payloadType, payload), sig) {
		return nil, release.Signer{}, release.Denied("", "another key signed")
	}
	return payload, party, nil
}

func options(store ledger.Store) ledger.Options {
	return ledger.Options{Store: store, Origin: origin, Sign: sign, Verify: verify,
		VerifyBy: func(release.Trust) (ledger.Check, error) { return verify, nil }}
}

// record is a release, of about 400 bytes.
func record(n int64) release.Record {
	r := release.Record{
		SchemaVersion: 1, Sequence: n, Phase: release.Released, Time: time.Unix(1_700_000_000+n, 0).UTC(),
		Release: release.DigestOf(fmt.Append(nil, n)), Version: fmt.Sprintf("1.%d.%d", n/1000, n%1000), Revision: fmt.Sprintf("%040x", n),
		Actor: release.Actor{Name: "bench", User: "ci", Host: "runner"}, Rules: release.DigestOf([]byte("rules")),
	}
	if n == 0 {
		r.Trust = &release.Trust{SingleKey: true}
	}
	return r
}

// generator writes the log of a ledger as if it had been appended to, faster.
type generator struct {
	dir      string
	n        int64
	previous release.Digest
	edges    [][sha256.Size]byte // complete subtrees, the largest first
}

// grow makes the ledger's first n records and the checkpoint over them.
func (g *generator) grow(ctx context.Context, n int64) (err error) {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(g.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(f, 1<<20)
	for ; g.n < n && err == nil; g.n++ {
		err = errors.Join(ctx.Err(), g.write(ctx, out))
	}
	if err = errors.Join(err, out.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	root := g.edges[len(g.edges)-1]
	for i := len(g.edges) - 2; i >= 0; i-- {
		root = node(g.edges[i], root)
	}
	checkpoint, err := canonical(sign(ctx, ledger.PayloadTypeCheckpoint, []byte(ledger.FormatCheckpoint(origin, n, release.DigestFromSum(root)))))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.dir, "checkpoint"), checkpoint, 0o644)
}

func (g *generator) write(ctx context.Context, out *bufio.Writer) error {
	r := record(g.n)
	r.Previous = g.previous
	payload, err := release.Canonical(r)
	if err != nil {
		return err
	}
	line, err := canonical(sign(ctx, ledger.PayloadTypeRecord, payload))
	if err != nil {
		return err
	}
	leaf := sha256.Sum256(append([]byte{0}, line...))
	g.previous = release.DigestFromSum(leaf)
	g.edges = append(g.edges, leaf)
	for n := g.n; n&1 == 1; n >>= 1 {
		last := len(g.edges) - 1
		g.edges = append(g.edges[:last-1], node(g.edges[last-1], g.edges[last]))
	}
	if _, err = out.Write(line); err != nil {
		return err
	}
	return out.WriteByte('\n')
}

// node is the hash of two subtrees (RFC 6962, section 2.1).
func node(left, right [sha256.Size]byte) [sha256.Size]byte {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

func canonical(raw []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return release.CanonicalJSON(raw)
}
