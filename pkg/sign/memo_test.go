package sign

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// memoIn gives a memo as a new process would open it.
func memoIn(dir string) *FileMemo {
	return OpenMemo(filepath.Join(dir, "cache", "proofs"), filepath.Join(dir, "state", "secret"))
}

var (
	memoKey = release.DigestOf([]byte("key"))
	aProof  = Proof{ID: "ci@example.com", Issuer: "https://issuer.example", Claims: release.Claims{Ref: "refs/heads/main"}, Time: time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC)}
)

func TestMemoRemembers(t *testing.T) {
	dir := t.TempDir()
	memoIn(dir).Add(memoKey, aProof)
	if got, ok := memoIn(dir).Known(memoKey); !ok || got != aProof {
		t.Errorf("remembered %+v, %v", got, ok)
	}
	if _, ok := memoIn(dir).Known(release.DigestOf([]byte("other"))); ok {
		t.Error("knows what nobody told it")
	}
	for _, file := range []string{"cache/proofs", "state/secret"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
	}
}

// What somebody else wrote, a torn line and a flipped bit: all is forgotten,
// and remembering begins anew.
func TestMemoForgetsWhatItDidNotWrite(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string, text []byte) []byte{
		"flipped bit": func(_ *testing.T, _ string, text []byte) []byte {
			return bytes.Replace(text, []byte("ci@"), []byte("cj@"), 1)
		},
		"torn line":    func(_ *testing.T, _ string, text []byte) []byte { return text[:len(text)-9] },
		"endless line": func(_ *testing.T, _ string, text []byte) []byte { return append(text, make([]byte, maxMemoLine+1)...) },
		"too large":    func(_ *testing.T, _ string, text []byte) []byte { return bytes.Repeat(text, maxMemo/len(text)+1) },
		"a file that another machine wrote": func(t *testing.T, dir string, text []byte) []byte {
			check(t, os.Remove(filepath.Join(dir, "state", "secret")))
			return text
		},
		"a digest instead of the code": func(_ *testing.T, _ string, text []byte) []byte {
			body := text[bytes.IndexByte(text, ' ')+1 : len(text)-1]
			return []byte(release.DigestOf(body).Hex() + " " + string(body) + "\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			memoIn(dir).Add(memoKey, aProof)
			path := filepath.Join(dir, "cache", "proofs")
			text, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, damage(t, dir, text), 0o600))
			m := memoIn(dir)
			if got, ok := m.Known(memoKey); ok {
				t.Errorf("believes %+v", got)
			}
			m.Add(memoKey, aProof)
			if _, ok := memoIn(dir).Known(memoKey); !ok {
				t.Error("remembers nothing any more")
			}
		})
	}
}

// Nobody has to be able to write: then each process remembers for itself.
func TestMemoWithoutAPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	for _, m := range []*FileMemo{OpenMemo(filepath.Join(file, "proofs"), filepath.Join(t.TempDir(), "secret")),
		OpenMemo(filepath.Join(t.TempDir(), "proofs"), filepath.Join(file, "secret"))} {
		m.Add(memoKey, aProof)
		if _, ok := m.Known(memoKey); !ok {
			t.Error("forgot within one process")
		}
	}
}

func TestMemoIsShared(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for writer := range 8 {
		group.Go(func() {
			m := memoIn(dir)
			for i := range 20 {
				m.Add(release.DigestOf(fmt.Append(nil, writer, i)), aProof)
			}
		})
	}
	group.Wait()
	m := memoIn(dir)
	for writer := range 8 {
		for i := range 20 {
			if _, ok := m.Known(release.DigestOf(fmt.Append(nil, writer, i))); !ok {
				t.Fatalf("line %d of writer %d is lost", i, writer)
			}
		}
	}
}

// counting is a memo that counts, so that a test sees what was asked.
type counting struct {
	known map[release.Digest]Proof
	hits  int
}

func (c *counting) Known(key release.Digest) (Proof, bool) {
	p, ok := c.known[key]
	if ok {
		c.hits++
	}
	return p, ok
}

func (c *counting) Add(key release.Digest, p Proof) { c.known[key] = p }

// What is remembered is that a signature is valid, never what it counts for.
func TestMemoHoldsNoDecision(t *testing.T) {
	key, subject := p256(t), signtest.Subject("planner")
	memo := &counting{known: map[release.Digest]Proof{}}
	a, err := key.Sign(t.Context(), signtest.Scan(subject))
	check(t, err)
	judge := func(trust release.Trust, s release.Subject, now time.Time) release.Evidence {
		v, err := New(Options{Trust: trust, Memo: memo, Now: func() time.Time { return now }})
		check(t, err)
		return v.Verify(t.Context(), s, []release.Attachment{a})[0]
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	party := release.Party{Name: "ci", PublicKey: string(key.PublicPEM()), NotAfter: now}
	scanner := release.Trust{Roles: map[release.Role][]release.Party{release.Scanner: {party}}}
	for range 2 {
		if e := judge(scanner, subject, now); !e.Verified {
			t.Fatal(e.Reason)
		}
	}
	if memo.hits != 1 || len(memo.known) != 1 {
		t.Fatalf("%d hits of %d known", memo.hits, len(memo.known))
	}
	revoked := scanner
	revoked.Revoked = []release.Revocation{{Key: key.Fingerprint()}}
	builder := release.Trust{Roles: map[release.Role][]release.Party{release.Builder: {party}}}
	for name, e := range map[string]release.Evidence{
		"another role":    judge(builder, subject, now),
		"revoked":         judge(revoked, subject, now),
		"out of its time": judge(scanner, subject, now.Add(time.Second)),
		"another subject": judge(scanner, signtest.Subject("other"), now),
	} {
		t.Run(name, func(t *testing.T) { signtest.Refused(t, e) })
	}
	if memo.hits != 4 {
		t.Errorf("%d hits: the cases above did not ask the memory", memo.hits)
	}
	// Other bytes, even of the same meaning, are not remembered.
	a.Bundle = append([]byte(" "), a.Bundle...)
	a.Digest = release.DigestOf(a.Bundle)
	if e := judge(scanner, subject, now); !e.Verified || memo.hits != 4 {
		t.Errorf("%d hits, %s", memo.hits, e.Reason)
	}
}
