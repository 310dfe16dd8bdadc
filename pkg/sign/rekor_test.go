package sign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/rekor/pkg/generated/client/entries"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/promote-dev/promote/pkg/release"
)

// tiled is a log of a given size, published as tiles. Its entry i is {"i":i}.
type tiled struct {
	size   uint64
	levels [][][]byte // hashes, by tile level: only complete subtrees
	root   []byte
	asked  int
}

func newTiled(size uint64) *tiled {
	l := &tiled{size: size}
	hashes := make([][]byte, size)
	for i := range hashes {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(body(uint64(i)))
	}
	l.root = rootOf(hashes)
	for level := hashes; len(level) > 0; {
		l.levels = append(l.levels, level)
		var above [][]byte
		for ; len(level) >= tileWidth; level = level[tileWidth:] {
			above = append(above, rootOf(level[:tileWidth]))
		}
		level = above
	}
	return l
}

// rootOf is the Merkle tree hash of RFC 6962, section 2.1, as it is written there.
func rootOf(hashes [][]byte) []byte {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for k*2 < len(hashes) {
		k *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(rootOf(hashes[:k]), rootOf(hashes[k:]))
}

func body(i uint64) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","i":%d}`, i)
}

func (l *tiled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/api/v2/")
	if path == "checkpoint" {
		// The first one asked for is older than the entry.
		size := l.size
		if l.asked++; l.asked == 1 {
			size = 0
		}
		sig := base64.StdEncoding.EncodeToString([]byte("keyhsignature"))
		fmt.Fprintf(w, "log.example\n%d\n%s\n\n— log.example %s\n", size, base64.StdEncoding.EncodeToString(l.root), sig)
		return
	}
	path, ok := strings.CutPrefix(path, "tile/")
	level, path, _ := strings.Cut(path, "/")
	path, part, partial := strings.Cut(path, ".p/")
	n, err := strconv.ParseUint(strings.ReplaceAll(strings.ReplaceAll(path, "x", ""), "/", ""), 10, 64)
	if !ok || err != nil || path != tilePath(n) {
		http.NotFound(w, r)
		return
	}
	var row [][]byte
	if level == "entries" {
		for i := range l.size {
			row = append(row, append(binary.BigEndian.AppendUint16(nil, uint16(len(body(i)))), body(i)...))
		}
	} else if i, err := strconv.Atoi(level); err == nil && i < len(l.levels) {
		row = l.levels[i]
	}
	row = row[min(n*tileWidth, uint64(len(row))):]
	full := len(row) >= tileWidth
	row = row[:min(tileWidth, len(row))]
	// A partial tile goes by its exact size, a full one without.
	if partial == full || partial && part != strconv.Itoa(len(row)) {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(bytes.Join(row, nil))
}

// The proof of an entry that a log publishes as tiles verifies, wherever in the
// log it is.
func TestExistingEntryOfTiles(t *testing.T) {
	for _, size := range []uint64{1, 2, 7, 255, 256, 257, 513, 1000, 65536 + 300} {
		log := newTiled(size)
		server := httptest.NewServer(log)
		defer server.Close()
		r := rekor2{service{name: "the log", base: server.URL, client: newTransport(t.Context(), nil)}, map[string]bool{"other": true, "keyhash-of-the-log": true}, noPause}
		for _, index := range []uint64{0, 1, size / 3, 255, 256, 512, size - 2, size - 1} {
			if index >= size {
				continue
			}
			log.asked = 0
			e, err := r.existing(t.Context(), fmt.Appendf(nil, `{"code":6, "message":"an equivalent entry already exists in the transparency log with index %d"}`, index))
			if err != nil {
				t.Fatalf("%d of %d: %v", index, size, err)
			}
			if e.LogIndex != int64(index) || string(e.LogId.KeyId) != "keyhash-of-the-log" || e.KindVersion.Kind != "hashedrekord" || e.KindVersion.Version != "0.0.2" || !bytes.Equal(e.CanonicalizedBody, body(index)) {
				t.Errorf("%d of %d: %v", index, size, e)
			}
			leaf := rfc6962.DefaultHasher.HashLeaf(e.CanonicalizedBody)
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf, e.InclusionProof.Hashes, log.root); err != nil {
				t.Errorf("%d of %d: %v", index, size, err)
			}
		}
	}
}

func TestTilesThatAreWrong(t *testing.T) {
	for name, c := range map[string]struct {
		said string
		read http.HandlerFunc
	}{
		"no number":        {`an equivalent entry already exists`, http.NotFound},
		"nothing is there": {`already exists with index 0`, http.NotFound},
		"no checkpoint":    {`already exists with index 0`, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x\n") }},
		"empty tiles": {`already exists with index 0`, func(w http.ResponseWriter, r *http.Request) {
			if log := newTiled(3); strings.HasSuffix(r.URL.Path, "checkpoint") {
				log.asked = 1
				log.ServeHTTP(w, r)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.read)
			defer server.Close()
			r := rekor2{service{name: "the log", base: server.URL, client: impatient(t.Context())}, nil, noPause}
			if e, err := r.existing(t.Context(), []byte(c.said)); err == nil {
				t.Errorf("gives %v", e)
			}
		})
	}
}

// impatient asks again without a pause.
func impatient(ctx context.Context) transport {
	t := newTransport(ctx, nil)
	t.pause = noPause
	return t
}

func noPause(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// A log that has the entry is read; where it says that is, it must be its own.
func TestRekor1Conflict(t *testing.T) {
	id := strings.Repeat("0a", 40)
	entry := `{"` + id + `":{"body":"e30=","integratedTime":1,"logID":"` + strings.Repeat("0b", 32) + `","logIndex":7,"verification":{"inclusionProof":{"checkpoint":"x","hashes":[],"logIndex":7,"rootHash":"` + strings.Repeat("0c", 32) + `","treeSize":8}}}}`
	for name, c := range map[string]struct {
		location, answer string
		want             bool
	}{
		"path":         {"/api/v1/log/entries/" + id, entry, true},
		"URL":          {"https://elsewhere.example/api/v1/log/entries/" + id, entry, true}, // only its path counts
		"none":         {"", entry, false},
		"other path":   {"/api/v1/log/entries/../../secrets", entry, false},
		"no entry":     {"/api/v1/log/entries/" + id, `{}`, false},
		"no proof":     {"/api/v1/log/entries/" + id, `{"x":{"body":"e30=","integratedTime":1,"logID":"0b","logIndex":7}}`, false},
		"not JSON":     {"/api/v1/log/entries/" + id, `<html>`, false},
		"several":      {"/api/v1/log/entries/" + id, `{"a":{},"b":{}}`, false},
		"half a proof": {"/api/v1/log/entries/" + id, `{"x":{"body":"e30=","integratedTime":1,"logID":"0b","logIndex":7,"verification":{"inclusionProof":{}}}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("POST /api/v1/log/entries", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", c.location)
				w.WriteHeader(http.StatusConflict)
			})
			mux.HandleFunc("GET /api/v1/log/entries/"+id, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.answer) })
			server := httptest.NewServer(mux)
			defer server.Close()
			params := entries.NewCreateLogEntryParamsWithContext(t.Context()).WithProposedEntry(&models.DSSE{})
			created, err := rekor1{service{name: "the log", base: server.URL, client: impatient(t.Context())}}.CreateLogEntry(params)
			if (err == nil) != c.want || c.want && created.ETag != id {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServices(t *testing.T) {
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		asked   int
		kind    release.Kind
	}{
		"good":            {[]http.HandlerFunc{status(200)}, 1, ""},
		"busy, then good": {[]http.HandlerFunc{status(503), status(429), status(200)}, 3, ""},
		"down, then good": {[]http.HandlerFunc{hangUp, status(200)}, 2, ""},
		"busy for ever":   {[]http.HandlerFunc{status(503)}, tries, release.KindUnavailable},
		"down for ever":   {[]http.HandlerFunc{hangUp}, tries, release.KindUnavailable},
		"refuses":         {[]http.HandlerFunc{status(400)}, 1, release.KindDenied},
		"sends elsewhere": {[]http.HandlerFunc{status(302)}, 1, release.KindUnavailable},
		"answers without end": {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, maxAnswer+1))
		}}, 1, release.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var count atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c.answers[min(int(count.Add(1)), len(c.answers))-1](w, r)
			}))
			defer server.Close()
			s := service{name: "it", base: server.URL, client: impatient(t.Context()), secrets: []string{"canary-secret"}}
			_, _, _, err := s.call(t.Context(), http.MethodPost, "/x", nil, []byte("body"), http.StatusOK)
			asked := int(count.Load())
			if asked != c.asked || (err == nil) != (c.kind == "") || err != nil && release.KindOf(err) != c.kind {
				t.Errorf("asked %d times, %s: %v", asked, release.KindOf(err), err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://example.com/")
		w.WriteHeader(code)
		fmt.Fprint(w, "you sent canary-secret")
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

// What is signed, and with whose token, goes over HTTPS.
func TestServicesInClear(t *testing.T) {
	s := service{name: "it", base: "http://192.0.2.1", client: impatient(t.Context())}
	if _, _, _, err := s.call(t.Context(), http.MethodGet, "/", nil, nil, http.StatusOK); release.KindOf(err) != release.KindConfig {
		t.Errorf("error %v", err)
	}
}

func TestServicesStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cancel(); hangUp(w, r) }))
	defer server.Close()
	s := service{name: "it", base: server.URL, client: newTransport(ctx, nil)}
	if _, _, _, err := s.call(ctx, http.MethodGet, "/", nil, nil, http.StatusOK); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("error %v", err)
	}
}
