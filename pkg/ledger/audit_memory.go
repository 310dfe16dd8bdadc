package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// maxMemory bounds the file of what is remembered of a log.
const maxMemory = 64 << 20

// memory is what an audit remembers of a log that it found good: which records,
// by their root hash, and what it takes to go on behind them. The same root hash
// stands for the same bytes, so that only their hashes have to be computed again.
// Whoever could write it could vouch for any log: it is authenticated by a secret
// that does not lie beside it.
type memory struct {
	Origin   string              `json:"origin"`
	Trust    release.Digest      `json:"trust,omitzero"` // of the project
	Size     int64               `json:"size"`
	Root     release.Digest      `json:"root"`
	Last     release.Digest      `json:"last"` // leaf hash
	Pins     []pinAt             `json:"pins"`
	Older    *release.Trust      `json:"older,omitempty"`
	Frozen   map[string][]string `json:"frozen,omitempty"`
	Places   []environment       `json:"places,omitempty"`
	Fixed    []int64             `json:"fixed,omitempty"`
	Gone     release.Ranges      `json:"gone,omitempty"`
	Intended []byte              `json:"intended,omitempty"` // see packed
}

func (m *memory) size() int64 {
	if m == nil {
		return 0
	}
	return m.Size
}

func (l *Ledger) memoryFile() (path string, secret []byte) {
	if l.o.Secret == nil || l.o.Cache == "" || l.o.Trust.IsZero() {
		return "", nil
	}
	if secret = l.o.Secret(); len(secret) == 0 {
		return "", nil
	}
	name := release.DigestOf([]byte("audit 2\n" + l.o.Origin + "\n" + l.o.Trust.String())).Hex()[:32]
	return filepath.Join(l.o.Cache, name+".audit"), secret
}

// remembered gives what an earlier audit left; nil if nothing, or nothing sound.
func (l *Ledger) remembered() *memory {
	file, secret := l.memoryFile()
	if file == "" {
		return nil
	}
	raw, err := readBounded(file, maxMemory)
	if err != nil || len(raw) < sha256.Size {
		return nil
	}
	code, body := raw[:sha256.Size], raw[sha256.Size:]
	if !hmac.Equal(code, authenticator(secret, body)) {
		return nil
	}
	var m memory
	if json.Unmarshal(body, &m) != nil || m.Origin != l.o.Origin || m.Trust != l.o.Trust || m.Size < 1 {
		return nil
	}
	return &m
}

func authenticator(secret, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return mac.Sum(nil)
}

// remember keeps what this audit found good. Failing costs time later, nothing
// else.
func (a *auditor) remember() {
	file, secret := a.l.memoryFile()
	if file == "" || a.lines <= a.known.size() {
		return
	}
	m := memory{Origin: a.l.o.Origin, Trust: a.l.o.Trust, Size: a.lines, Root: a.tree.root(), Last: a.last(),
		Pins: a.pins, Frozen: a.frozen, Places: a.places, Intended: packed(a.intend), Fixed: a.fixed, Gone: a.gone}
	if a.older != nil {
		m.Older = &a.older.trust
	}
	body, err := json.Marshal(m)
	if err != nil || len(body)+sha256.Size > maxMemory || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	next, err := os.CreateTemp(filepath.Dir(file), ".audit-*")
	if err != nil {
		return
	}
	_, err = next.Write(append(authenticator(secret, body), body...))
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		_ = os.Remove(next.Name())
	}
}

// recall goes on behind the records that are remembered, if they are those.
func (a *auditor) recall() error {
	m := a.known
	if a.tree.root() != m.Root {
		return errForgotten
	}
	a.chain.n, a.newest.Digest = m.Size, m.Last
	a.pins, a.frozen, a.places, a.intend = slices.Clone(m.Pins), m.Frozen, slices.Clone(m.Places), unpacked(m.Intended)
	a.fixed, a.gone = slices.Clone(m.Fixed), m.Gone
	a.pin = a.pinAt(m.Size)
	if m.Older != nil {
		a.older = a.l.policyOf(m.Older)
	}
	a.guess.set(&a.chain)
	return nil
}

// packed gives intended records as pairs of varints: how far each one's sequence
// is from the one before, and its place.
func packed(list []intent) []byte {
	var out []byte
	var last int64
	for _, one := range list {
		out = binary.AppendUvarint(out, uint64(one.sequence-last))
		out = binary.AppendUvarint(out, uint64(one.place))
		last = one.sequence
	}
	return out
}

func unpacked(raw []byte) []intent {
	list := make([]intent, 0, len(raw)/2)
	var last int64
	for len(raw) > 0 {
		step, a := binary.Uvarint(raw)
		place, b := binary.Uvarint(raw[max(a, 0):])
		if a <= 0 || b <= 0 {
			return list // authenticated: it does not come to this
		}
		last += int64(step)
		list, raw = append(list, intent{last, int32(place)}), raw[a+b:]
	}
	return list
}
