package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

// FormatCheckpoint gives the body of a checkpoint: origin, size in decimal,
// root hash in base64, a line each.
// https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md
func FormatCheckpoint(origin string, size int64, root release.Digest) string {
	h := hashOf(root)
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(h[:]))
}

// ParseCheckpoint reads a checkpoint's body. Extension lines and every other
// spelling of the same facts are refused; so is size 0, which nobody signs.
func ParseCheckpoint(text string) (release.Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return release.Checkpoint{}, errors.New("reading checkpoint: want three lines: origin, size, root hash")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 1 {
		return release.Checkpoint{}, fmt.Errorf("reading checkpoint: size %.40q", lines[1])
	}
	var root tlog.Hash
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(raw) != len(root) {
		return release.Checkpoint{}, fmt.Errorf("reading checkpoint: root hash %.100q", lines[2])
	}
	copy(root[:], raw)
	c := release.Checkpoint{Origin: lines[0], TreeSize: size, RootHash: digestOf(root), Text: text}
	if !validOrigin(c.Origin) || FormatCheckpoint(c.Origin, c.TreeSize, c.RootHash) != text {
		return release.Checkpoint{}, errors.New("reading checkpoint: not in canonical form")
	}
	return c, nil
}

// signCheckpoint signs the tree as t holds it and reads the result back.
func (l *Ledger) signCheckpoint(ctx context.Context, t *replay) (release.Checkpoint, []byte, error) {
	root, err := t.tree.root(t.size())
	if err != nil {
		return release.Checkpoint{}, nil, err
	}
	envelope, err := l.sign(ctx, PayloadTypeCheckpoint, []byte(FormatCheckpoint(l.o.Origin, t.size(), root)))
	if err != nil {
		return release.Checkpoint{}, nil, err
	}
	c, err := l.openCheckpoint(envelope)
	if err != nil {
		return release.Checkpoint{}, nil, signerFault(err)
	}
	if err := t.believe(c); err != nil {
		return release.Checkpoint{}, nil, signerFault(err)
	}
	return c, envelope, nil
}

// openCheckpoint reads a checkpoint. Whose signature it bears, and whether it
// counts, depends on the records: see believe.
func (l *Ledger) openCheckpoint(envelope []byte) (release.Checkpoint, error) {
	c, err := readCheckpoint(envelope)
	if err != nil {
		return release.Checkpoint{}, err
	}
	return c, l.ours(c)
}

// ours reports why a checkpoint is of another log.
func (l *Ledger) ours(c release.Checkpoint) error {
	if c.Origin != l.o.Origin {
		return fmt.Errorf("reading checkpoint: it is of the log %q, this one is %q", c.Origin, l.o.Origin)
	}
	return nil
}

// readCheckpoint reads a checkpoint of any log.
func readCheckpoint(envelope []byte) (release.Checkpoint, error) {
	if len(envelope) > maxCheckpoint {
		return release.Checkpoint{}, fmt.Errorf("reading checkpoint: %d bytes, at most %d", len(envelope), maxCheckpoint)
	}
	text, err := openEnvelope(envelope, PayloadTypeCheckpoint)
	if err != nil {
		return release.Checkpoint{}, err
	}
	c, err := ParseCheckpoint(string(text))
	if err != nil {
		return release.Checkpoint{}, err
	}
	c.Envelope = bytes.Clone(envelope)
	return c, nil
}

// believe verifies the signature of a checkpoint over records that were read.
// It is judged by whoever judged the last one: an owner who leaves signs the
// record that says so, and the checkpoint over it.
func (t *replay) believe(c release.Checkpoint) error {
	_, err := believe(c, t.entries[c.TreeSize-1], t.judgesOf(c.TreeSize-1))
	return err
}

// believe gives who signed a checkpoint whose last record is given.
func believe(c release.Checkpoint, last release.Entry, judges []*judge) (signer release.Signer, err error) {
	for _, j := range judges {
		if signer, err = believeBy(j, c, last); err == nil {
			return signer, nil
		}
	}
	return release.Signer{}, err
}

func believeBy(j *judge, c release.Checkpoint, last release.Entry) (release.Signer, error) {
	payload, signer, err := j.verify(c.Envelope, PayloadTypeCheckpoint)
	if err != nil {
		return release.Signer{}, fmt.Errorf("verifying checkpoint: %w", err)
	}
	if string(payload) != c.Text {
		return release.Signer{}, errors.New("verifying checkpoint: another payload was signed")
	}
	return signer, mayCheckpoint(signer, last)
}
