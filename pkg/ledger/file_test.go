package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// plain signs with a fixed key; the crash tests are about files, not keys.
func plain(store Store) Options {
	secret := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	type signature struct {
		Sig string `json:"sig"`
	}
	type envelope struct {
		Payload     string      `json:"payload"`
		PayloadType string      `json:"payloadType"`
		Signatures  []signature `json:"signatures"`
	}
	return Options{
		Store: store, Origin: "promote/test",
		Sign: func(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
			sig := ed25519.Sign(secret, append([]byte(payloadType), payload...))
			return json.Marshal(envelope{base64.StdEncoding.EncodeToString(payload), payloadType,
				[]signature{{base64.StdEncoding.EncodeToString(sig)}}})
		},
		Verify: func(raw []byte, payloadType string) ([]byte, release.Signer, error) {
			var e envelope
			err := json.Unmarshal(raw, &e)
			payload, err2 := base64.StdEncoding.DecodeString(e.Payload)
			if err != nil || err2 != nil || len(e.Signatures) != 1 {
				return nil, release.Signer{}, errors.New("no envelope")
			}
			sig, _ := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
			if !ed25519.Verify(secret.Public().(ed25519.PublicKey), append([]byte(payloadType), payload...), sig) {
				return nil, release.Signer{}, errors.New("bad signature")
			}
			return payload, release.Signer{Name: "ops", ID: "k", Roles: []release.Role{release.Promoter}}, nil
		},
	}
}

func put(t *testing.T, store Store, reason string, size int64) error {
	t.Helper()
	l, err := Open(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = l.Append(t.Context(), release.Record{Phase: release.Released, Reason: reason}, size)
	return err
}

func get(t *testing.T, dir string) release.History {
	t.Helper()
	l, err := Open(t.Context(), plain(&fileStore{dir: dir}))
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := l.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// memoryDir gives a directory on a file system in memory where there is one:
// these tests sync by the hundred, and prove nothing about disks.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ledger-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// steps counts the changes of the disk that one append makes, and names them.
func steps(t *testing.T, before int) []string {
	t.Helper()
	dir := filepath.Join(memoryDir(t), "project", "ledger")
	for n := range before {
		if err := put(t, &fileStore{dir: dir}, "before", int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	var ops []string
	if err := put(t, &fileStore{dir: dir, before: func(op string) error { ops = append(ops, op); return nil }}, "counted", int64(before)); err != nil {
		t.Fatal(err)
	}
	return ops
}

// killed is what a store panics with where a process would be killed: nothing
// of ours runs after it but the closing of files, as the kernel does.
type killed struct{}

// TestKilledAtEveryStep kills an append ahead of each change of the disk. What
// is read afterwards is the old log or the new one; the next append goes
// through, and no record is lost, doubled or left in doubt.
func TestKilledAtEveryStep(t *testing.T) {
	for before := range 3 {
		for i, op := range steps(t, before) {
			t.Run(fmt.Sprintf("%d records, %d %s", before, i, op), func(t *testing.T) {
				dir := filepath.Join(memoryDir(t), "project", "ledger")
				for n := range before {
					if err := put(t, &fileStore{dir: dir}, fmt.Sprint(n), int64(n)); err != nil {
						t.Fatal(err)
					}
				}
				n := 0
				dying := &fileStore{dir: dir, before: func(string) error {
					if n++; n > i {
						panic(killed{})
					}
					return nil
				}}
				func() {
					defer func() {
						if _, ok := recover().(killed); !ok {
							t.Fatal("it was not killed")
						}
					}()
					_ = put(t, dying, "dying", int64(before))
				}()
				size := int64(len(get(t, dir)))
				if size != int64(before) && size != int64(before)+1 {
					t.Fatalf("%d records after the kill", size)
				}
				err := put(t, &fileStore{dir: dir}, "next", size)
				if errors.Is(err, ErrMoved) { // it completed the interrupted one
					err = put(t, &fileStore{dir: dir}, "next", size+1)
				}
				if err != nil {
					t.Fatal(err)
				}
				counts := map[string]int{}
				for _, e := range get(t, dir) {
					counts[e.Record.Reason]++
				}
				if counts["next"] != 1 || counts["dying"] > 1 || len(get(t, dir)) != before+1+counts["dying"] {
					t.Fatalf("the log holds %v", counts)
				}
				if entries, _ := os.ReadDir(dir); len(entries) > 4 {
					t.Errorf("left behind: %v", entries)
				}
			})
		}
	}
}

// TestSettle: a record that was whole in the log when its writer was killed is
// part of the history after Settle, and Settle has nothing to do again.
func TestSettle(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "project", "ledger")
	if err := put(t, &fileStore{dir: dir}, "first", 0); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = put(t, &fileStore{dir: dir, before: func(op string) error {
			if op == "rename" {
				panic(killed{})
			}
			return nil
		}}, "dying", 1)
	}()
	if n := len(get(t, dir)); n != 1 {
		t.Fatalf("%d records before", n)
	}
	readOnly := plain(&fileStore{dir: dir})
	readOnly.Sign = nil
	l, err := Open(t.Context(), readOnly)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Settle(t.Context()); release.KindOf(err) != release.KindConfig {
		t.Errorf("without a key: %v", err)
	}
	if l, err = Open(t.Context(), plain(&fileStore{dir: dir})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if settled, err := l.Settle(t.Context()); settled != want || err != nil {
			t.Errorf("settled %t, want %t; %v", settled, want, err)
		}
	}
	if h := get(t, dir); len(h) != 2 || h[1].Record.Reason != "dying" {
		t.Errorf("%d records after", len(h))
	}
}

// TestEveryStepMayFail lets each change of the disk fail once, with each of
// the errors that disks give. The append says so, and the log is as before.
func TestEveryStepMayFail(t *testing.T) {
	for before := range 2 {
		ops := steps(t, before)
		for i, op := range ops {
			for _, cause := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EACCES} {
				dir := filepath.Join(memoryDir(t), "project", "ledger")
				for n := range before {
					if err := put(t, &fileStore{dir: dir}, fmt.Sprint(n), int64(n)); err != nil {
						t.Fatal(err)
					}
				}
				n := -1
				failing := &fileStore{dir: dir, before: func(string) error {
					if n++; n == i {
						return cause
					}
					return nil
				}}
				err := put(t, failing, "failing", int64(before))
				var fault *release.Fault
				if !errors.Is(err, cause) || release.KindOf(err) != release.KindUnavailable || !errors.As(err, &fault) || fault.Hint == "" {
					t.Fatalf("%s failing with %v gave %v", op, cause, err)
				}
				size := int64(len(get(t, dir)))
				if last := i == len(ops)-1; size != int64(before) && !last {
					t.Fatalf("%s failing with %v: the log has %d records", op, cause, size)
				}
				if _, err := os.Stat(filepath.Join(dir, nextFile)); err == nil {
					t.Errorf("%s failing with %v leaves %s", op, cause, nextFile)
				}
				if err := put(t, &fileStore{dir: dir}, "next", size); err != nil {
					t.Fatalf("%s failing with %v: the next append: %v", op, cause, err)
				}
			}
		}
	}
}

// TestADiskThatKeepsFailing: taking the append back fails too, and says so.
func TestADiskThatKeepsFailing(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "project", "ledger")
	if err := put(t, &fileStore{dir: dir}, "first", 0); err != nil {
		t.Fatal(err)
	}
	broken := false
	err := put(t, &fileStore{dir: dir, before: func(op string) error {
		broken = broken || op == "sync log"
		if broken {
			return syscall.EIO
		}
		return nil
	}}, "second", 1)
	if release.KindOf(err) != release.KindUnavailable || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if h := get(t, dir); len(h) != 1 {
		t.Fatalf("%d records", len(h))
	}
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(memoryDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/ledger"} {
		if err := put(t, &fileStore{dir: dir}, "x", 0); release.KindOf(err) != release.KindUnavailable {
			t.Errorf("%s: %v, want unavailable", dir, err)
		}
	}
	l, err := Open(t.Context(), plain(&fileStore{dir: file}))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Read(t.Context()); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("reading a file for a directory: %v, want unavailable", err)
	}
}

// TestTornTails cuts the log's last, uncovered line at every length.
func TestTornTails(t *testing.T) {
	dir := memoryDir(t)
	s := &fileStore{dir: dir}
	for n := range 2 {
		if err := put(t, s, "kept", int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint, _ := os.ReadFile(s.path(checkpointFile))
	old, _ := os.ReadFile(s.path(logFile))
	if err := put(t, s, "torn", 2); err != nil {
		t.Fatal(err)
	}
	full, _ := os.ReadFile(s.path(logFile))
	restore := func(log []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(s.path(logFile), log, 0o600), os.WriteFile(s.path(checkpointFile), checkpoint, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	tails := [][]byte{make([]byte, 4096), append(make([]byte, 300), '\n'), append(full[len(old):len(full)-9:len(full)-9], "\x00\x00\x00\x00\x00\x00\x00\x00\n"...)}
	tails = append(tails, full[len(old):len(full)-1]) // only the line feed is missing
	for n := len(old) + 1; n < len(full); n += 7 {
		tails = append(tails, full[len(old):n])
	}
	for _, tail := range tails {
		restore(append(bytes.Clone(old), tail...))
		if h := get(t, dir); len(h) != 2 {
			t.Fatalf("tail of %d bytes: %d records", len(tail), len(h))
		}
		if err := put(t, s, "next", 2); err != nil {
			t.Fatalf("tail of %d bytes: %v", len(tail), err)
		}
		if h := get(t, dir); len(h) != 3 || h[2].Record.Reason != "next" {
			t.Fatalf("tail of %d bytes: %d records after the next append", len(tail), len(h))
		}
		if raw, _ := os.ReadFile(s.path(logFile)); bytes.Count(raw, []byte{'\n'}) != 3 || raw[len(raw)-1] != '\n' {
			t.Fatalf("tail of %d bytes: some of it is still there", len(tail))
		}
	}
}

// TestAReaderNeverSeesHalfAnAppend: it waits until the writer is done.
func TestAReaderNeverSeesHalfAnAppend(t *testing.T) {
	dir := filepath.Join(memoryDir(t), "project", "ledger")
	if err := put(t, &fileStore{dir: dir}, "first", 0); err != nil {
		t.Fatal(err)
	}
	looked := false
	writing := &fileStore{dir: dir, before: func(op string) error {
		if op != "rename" {
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		looked = true
		if s, err := (&fileStore{dir: dir}).Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read %d bytes in the middle of an append, %v", len(s.Log), err)
		}
		return nil
	}}
	if err := put(t, writing, "second", 1); err != nil || !looked {
		t.Fatal(looked, err)
	}
}

// TestNewDirectoriesAreDurable: the name of each one is synced in the one above.
func TestNewDirectoriesAreDurable(t *testing.T) {
	ops := steps(t, 0)
	want := []string{"mkdir", "sync directory", "sync directory", "sync directory", "write checkpoint.next", "write log",
		"sync checkpoint.next", "sync log", "sync directory", "rename", "sync directory"}
	if !slices.Equal(ops, want) {
		t.Errorf("the first append does\n%q\nwant\n%q", ops, want)
	}
}
