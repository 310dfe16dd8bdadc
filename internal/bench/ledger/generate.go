package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/release"
)

const origin = "promote/bench"

func options(store ledger.Store) ledger.Options {
	return ledger.Options{Store: store, Origin: origin, Sign: bench.Sign, Verify: bench.Verify,
		VerifyBy: func(release.Trust) (ledger.Check, error) { return bench.Verify, nil }}
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
	checkpoint, err := canonical(bench.Sign(ctx, ledger.PayloadTypeCheckpoint, []byte(ledger.FormatCheckpoint(origin, n, release.DigestFromSum(root)))))
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
	line, err := canonical(bench.Sign(ctx, ledger.PayloadTypeRecord, payload))
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
