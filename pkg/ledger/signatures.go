package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"

	"github.com/promote-dev/promote/pkg/release"
)

// maxCache is the size in bytes at which a cache of signatures is begun anew.
const maxCache = 64 << 20

// signatures remembers, by leaf hash and trust, whose signature was found good.
// It is only a cache: what is lost, torn or damaged is verified again. The file
// is named after the project's trust policy, so another one starts from nothing.
type signatures struct {
	path string // empty: nothing is kept

	mu    sync.Mutex
	known map[release.Digest][]judged // by leaf; nearly always one
	fresh []signature                 // not yet in the file
}

// judged is who signed, as a trust names them.
type judged struct {
	trust  release.Digest
	signer release.Signer
}

type signature struct {
	Leaf   release.Digest `json:"leaf"`
	Trust  release.Digest `json:"trust,omitzero"` // that judged; zero if nothing tells
	Signer release.Signer `json:"signer"`
}

func openSignatures(dir, origin string, trust release.Digest) *signatures {
	s := &signatures{known: map[release.Digest][]judged{}}
	if dir == "" || trust.IsZero() {
		return s
	}
	name := release.DigestOf([]byte(origin + "\n" + trust.String())).Hex()[:32]
	s.path = filepath.Join(dir, name+".signatures")
	if !s.load() {
		clear(s.known)
		_ = os.Remove(s.path)
	}
	return s
}

// load reads the file and reports whether all of it is sound. Each line holds
// the digest of the rest of the line, so that a flipped bit cannot turn one
// signer into another.
func (s *signatures) load() bool {
	f, err := os.Open(s.path)
	if err != nil {
		return os.IsNotExist(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxCache {
		return false
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxCheckpoint)
	for lines.Scan() {
		sum, body, ok := bytes.Cut(lines.Bytes(), []byte{' '})
		if !ok || string(sum) != release.DigestOf(body).Hex() {
			return false
		}
		var known signature
		if json.Unmarshal(body, &known) != nil || known.Leaf.IsZero() {
			return false
		}
		s.put(known)
	}
	return lines.Err() == nil
}

func (s *signatures) put(one signature) {
	list := s.known[one.Leaf]
	for i := range list {
		if list[i].trust == one.Trust {
			list[i].signer = one.Signer
			return
		}
	}
	s.known[one.Leaf] = append(list, judged{one.Trust, one.Signer})
}

// has reports whether anything is remembered of a line.
func (s *signatures) has(leaf release.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known[leaf]) > 0
}

func (s *signatures) get(leaf, trust release.Digest) (release.Signer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.known[leaf] {
		if j.trust == trust {
			return j.signer, true
		}
	}
	return release.Signer{}, false
}

func (s *signatures) add(leaf, trust release.Digest, signer release.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := signature{Leaf: leaf, Trust: trust, Signer: signer}
	s.put(one)
	if s.path != "" {
		s.fresh = append(s.fresh, one)
	}
}

// save appends what is new to the file. Failing costs time later, nothing
// else.
func (s *signatures) save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fresh) == 0 {
		return
	}
	var b bytes.Buffer
	for _, fresh := range s.fresh {
		body, err := release.Canonical(fresh)
		if err != nil {
			continue
		}
		b.WriteString(release.DigestOf(body).Hex() + " ")
		b.Write(body)
		b.WriteByte('\n')
	}
	s.fresh = nil
	if os.MkdirAll(filepath.Dir(s.path), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	_, _ = f.Write(b.Bytes())
	_ = f.Close()
}
