package reliability

import (
	"archive/tar"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// memory is what the store's volume holds.
type memory struct {
	entries map[string]string // what there is of each, by name
	journal string            // what its hook wrote
}

// journal is the file that the store's hook appends a line to.
const journal = "./journal"

// stops is what the hook writes, whole.
var stops = regexp.MustCompile(`^v[0-9.]+ stops$`)

// read gives what an environment's store has in its volume.
func (w *World) read(ctx context.Context, env string) (memory, error) {
	out, err := w.docker(ctx, "cp", w.project(env)+"-store-1:/data/.", "-")
	if err != nil {
		return memory{}, err
	}
	return readMemory(strings.NewReader(out))
}

func readMemory(archive io.Reader) (memory, error) {
	m := memory{entries: map[string]string{}}
	r := tar.NewReader(archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return m, err
		}
		if h.Name == journal {
			m.journal, content = string(content), nil
		}
		m.entries[h.Name] = fmt.Sprintf("%c %o %d:%d %s %x", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, sha256.Sum256(content))
	}
}

// teach gives an environment's store something to keep that nobody else has: a
// file of some size, one that only it may read, a link and a directory.
func (w *World) teach(ctx context.Context, env string) error {
	_, err := w.docker(ctx, "exec", w.project(env)+"-store-1", "sh", "-ec",
		`mkdir -p /data/notes; echo "$0" >/data/memory; echo "$1" >"/data/notes/$1"; chmod 600 "/data/notes/$1"; ln -sfn "notes/$1" /data/last`,
		random(40<<10), random(4))
	return err
}

// since reports what is not as it was: everything is, but that the journal may
// have got more lines, whole ones; it gives how many.
func (m memory) since(was memory) (stopped int, err error) {
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(was.entries)) {
		if now, there := m.entries[name]; !there {
			bad = append(bad, name+" is gone")
		} else if now != was.entries[name] {
			bad = append(bad, name+" is another")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		if _, there := was.entries[name]; !there && name != journal {
			bad = append(bad, name+" is new")
		}
	}
	more, ok := strings.CutPrefix(m.journal, was.journal)
	if !ok {
		bad = append(bad, "the journal does not begin as it did")
	}
	for line := range strings.Lines(more) {
		if text, whole := strings.CutSuffix(line, "\n"); !whole || !stops.MatchString(text) {
			bad = append(bad, fmt.Sprintf("the journal has half a line: %.40q", line))
		}
		stopped++
	}
	if len(bad) > 0 {
		return stopped, errors.New("the state is not what it was: " + strings.Join(bad, "; "))
	}
	return stopped, nil
}

// identity is the file with the private key that opens snapshots.
func (w *World) identity() string { return w.path("backup.key") }

// makeKeys makes the pair of keys that snapshots are encrypted to and opened
// with, as ssh has them.
func (w *World) makeKeys() error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	var wire []byte
	for _, part := range [][]byte{[]byte("ssh-ed25519"), public} {
		wire = append(binary.BigEndian.AppendUint32(wire, uint32(len(part))), part...)
	}
	keys := filepath.Join(w.tree, "keys")
	return errors.Join(os.MkdirAll(keys, 0o755),
		os.WriteFile(w.identity(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(keys, "backup.pub"), []byte("ssh-ed25519 "+base64.StdEncoding.EncodeToString(wire)+"\n"), 0o644))
}
