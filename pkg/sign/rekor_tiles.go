package sign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/promote-dev/promote/pkg/release"
)

// A log of Rekor's second version answers an entry that it has with no more
// than the entry's number. What it would have answered is made here from what
// the log publishes: tiles of hashes and bundles of entries. Nothing of it is
// believed; the trusted root verifies the result.
// https://github.com/C2SP/C2SP/blob/main/tlog-tiles.md
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// hasEntry is the number of an entry in the log's answer.
var hasEntry = regexp.MustCompile(`already exists.* index (\d{1,15})\b`)

// existing gives the entry that an answer of status 409 is about.
func (r rekor2) existing(ctx context.Context, said []byte) (*protorekor.TransparencyLogEntry, error) {
	found := hasEntry.FindSubmatch(said)
	if found == nil {
		return nil, r.refusal(http.StatusConflict, said)
	}
	index, err := strconv.ParseUint(string(found[1]), 10, 63)
	if err != nil {
		return nil, r.refusal(http.StatusConflict, said)
	}
	entry, err := r.published(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("%s has the entry already, as number %d, and reading it back failed: %w", r.name, index, err)
	}
	return entry, nil
}

func (r rekor2) published(ctx context.Context, index uint64) (*protorekor.TransparencyLogEntry, error) {
	text, seen, err := r.checkpoint(ctx, index)
	if err != nil {
		return nil, err
	}
	body, err := r.entry(ctx, index, seen.size)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if err := json.Unmarshal(body, &kind); err != nil {
		return nil, errors.New("its entry is not JSON")
	}
	hashes, err := r.inclusion(ctx, index, seen.size)
	if err != nil {
		return nil, err
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex: int64(index), LogId: &protocommon.LogId{KeyId: r.id(seen.keyHash)},
		KindVersion: &protorekor.KindVersion{Kind: kind.Kind, Version: kind.Version},
		InclusionProof: &protorekor.InclusionProof{LogIndex: int64(index), TreeSize: int64(seen.size), RootHash: seen.root, Hashes: hashes,
			Checkpoint: &protorekor.Checkpoint{Envelope: string(text)}},
		CanonicalizedBody: body,
	}, nil
}

// id completes what a checkpoint tells of its key: the first bytes of the id by
// which the trusted root names the log.
func (r rekor2) id(keyHash []byte) []byte {
	for id := range r.logs {
		if len(keyHash) > 0 && strings.HasPrefix(id, string(keyHash)) {
			return []byte(id)
		}
	}
	return keyHash
}

// state is what a checkpoint says, unbelieved.
type state struct {
	size    uint64
	root    []byte
	keyHash []byte // of the first signature
}

// checkpoint waits for one that covers the entry: the log makes one every few
// seconds.
func (r rekor2) checkpoint(ctx context.Context, index uint64) ([]byte, state, error) {
	for try := 1; ; try++ {
		_, _, text, err := r.call(ctx, http.MethodGet, "/api/v2/checkpoint", nil, nil, http.StatusOK)
		if err != nil {
			return nil, state{}, err
		}
		seen, err := parseCheckpoint(text)
		if err != nil || index < seen.size {
			return text, seen, err
		}
		if try == 30 {
			return nil, state{}, release.Unavailable("try again later", "no checkpoint covers it yet")
		}
		if err := r.pause(ctx, 500*time.Millisecond); err != nil {
			return nil, state{}, err
		}
	}
}

// parseCheckpoint reads a signed note: origin, size, root hash, an empty line,
// signatures.
// https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md
func parseCheckpoint(text []byte) (state, error) {
	lines := strings.Split(string(text), "\n")
	if len(lines) < 5 {
		return state{}, errors.New("its checkpoint is too short")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return state{}, errors.New("its checkpoint has no size")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != rfc6962.DefaultHasher.Size() {
		return state{}, errors.New("its checkpoint has no root hash")
	}
	for i, line := range lines {
		fields := strings.Fields(line)
		if i < 4 || len(fields) != 3 || fields[0] != "—" || fields[1] != lines[0] {
			continue
		}
		if sig, err := base64.StdEncoding.DecodeString(fields[2]); err == nil && len(sig) > 4 {
			return state{size, root, sig[:4]}, nil
		}
	}
	return state{}, errors.New("its checkpoint has no signature of its own")
}

// entry reads an entry's body out of its bundle: each with its length before it.
func (r rekor2) entry(ctx context.Context, index, size uint64) ([]byte, error) {
	bundle, err := r.tile(ctx, "entries", index/tileWidth, size)
	if err != nil {
		return nil, err
	}
	for i := uint64(0); len(bundle) >= 2; i++ {
		n := int(binary.BigEndian.Uint16(bundle))
		if bundle = bundle[2:]; len(bundle) < n {
			break
		}
		if i == index%tileWidth {
			return bundle[:n], nil
		}
		bundle = bundle[n:]
	}
	return nil, errors.New("its bundle of entries is too short")
}

// tile reads a tile or a bundle. One that is not full yet is called by how much
// of it there is; it may have become full since the checkpoint.
func (r rekor2) tile(ctx context.Context, level string, index, width uint64) ([]byte, error) {
	path := "/api/v2/tile/" + level + "/" + tilePath(index)
	if have := width - index*tileWidth; have < tileWidth {
		status, _, text, err := r.call(ctx, http.MethodGet, path+".p/"+strconv.FormatUint(have, 10), nil, nil, http.StatusOK, http.StatusNotFound)
		if err != nil || status == http.StatusOK {
			return text, err
		}
	}
	_, _, text, err := r.call(ctx, http.MethodGet, path, nil, nil, http.StatusOK)
	return text, err
}

// tilePath writes a tile's number in groups of three digits: x001/x234/067.
func tilePath(n uint64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	return path
}

// inclusion makes the proof that the entry is in the log of that size.
func (r rekor2) inclusion(ctx context.Context, index, size uint64) ([][]byte, error) {
	nodes, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		if hashes[i], err = r.node(ctx, id, size); err != nil {
			return nil, err
		}
	}
	return nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
}

// node gives a node's hash. Tiles keep every eighth level; what is between is
// computed.
func (r rekor2) node(ctx context.Context, id compact.NodeID, size uint64) ([]byte, error) {
	level, above := id.Level/tileHeight, id.Level%tileHeight
	first := id.Index << above // of the node's leaves at the tile's level
	text, err := r.tile(ctx, strconv.FormatUint(uint64(level), 10), first/tileWidth, size>>(level*tileHeight))
	if err != nil {
		return nil, err
	}
	length := uint64(rfc6962.DefaultHasher.Size())
	from, n := first%tileWidth*length, uint64(1)<<above*length
	if uint64(len(text)) < from+n {
		return nil, errors.New("its tile of hashes is too short")
	}
	row := [][]byte{}
	for part := text[from : from+n]; len(part) > 0; part = part[length:] {
		row = append(row, bytes.Clone(part[:length]))
	}
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = rfc6962.DefaultHasher.HashChildren(row[2*i], row[2*i+1])
		}
	}
	return row[0], nil
}
