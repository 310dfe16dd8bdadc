package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
)

// childDir tells a copy of the test binary that it is a contender.
const childDir = "LEDGER_TEST_DIR"

// childCache tells it that the ledger is a branch of a repository there, and
// where its cache is; childRounds how often to win. Without rounds it adds one
// line of its own.
const (
	childCache  = "LEDGER_TEST_CACHE"
	childRounds = "LEDGER_TEST_ROUNDS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		store := ledger.NewFileStore(dir)
		if cache := os.Getenv(childCache); cache != "" {
			store = gitStore(dir, cache)
		}
		rounds, err := strconv.Atoi(os.Getenv(childRounds))
		if err != nil {
			err = add(context.Background(), store, "theirs\n")
		} else {
			err = contend(store, rounds)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// contend appends with the size that it read until it has won its rounds, and
// prints which records are its own.
func contend(store ledger.Store, rounds int) error {
	o := ledgertest.Options(store)
	ctx := context.Background()
	l, err := ledger.Open(ctx, o)
	if err != nil {
		return err
	}
	for won := 0; won < rounds; {
		_, c, err := l.Read(ctx)
		if err != nil {
			return err
		}
		r := ledgertest.Released(won)
		r.Actor.Process = fmt.Sprint(os.Getpid())
		e, _, err := l.Append(ctx, r, c.TreeSize)
		if errors.Is(err, ledger.ErrMoved) {
			continue
		}
		if err != nil {
			return err
		}
		fmt.Println(e.Record.Sequence, os.Getpid())
		won++
	}
	return nil
}

// TestProcessesRace lets processes append to one directory: each record has one
// winner, and every winner's record is there.
func TestProcessesRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	race(t, ledger.NewFileStore(dir), 3, 10, func(int) []string { return []string{childDir + "=" + dir} })
}

// TestGitProcessesRace lets processes append to one branch, two of them of one
// machine.
func TestGitProcessesRace(t *testing.T) {
	remote, caches := bare(t), []string{shm(t), shm(t)}
	race(t, gitStore(remote, caches[0]), 3, 2, func(i int) []string {
		return []string{childDir + "=" + remote, childCache + "=" + caches[i%2]}
	})
}

func race(t *testing.T, store ledger.Store, processes, rounds int, env func(i int) []string) {
	t.Helper()
	var running []*exec.Cmd
	outs := make([]strings.Builder, processes)
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(append(os.Environ(), childRounds+"="+strconv.Itoa(rounds)), env(i)...)
		cmd.Stdout, cmd.Stderr = &outs[i], os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	winner := map[int64]string{}
	for i := range outs {
		lines := bufio.NewScanner(strings.NewReader(outs[i].String()))
		for lines.Scan() {
			var sequence int64
			var pid string
			if _, err := fmt.Sscan(lines.Text(), &sequence, &pid); err != nil {
				t.Fatal(err)
			}
			if other, twice := winner[sequence]; twice {
				t.Errorf("record %d was won by %s and %s", sequence, other, pid)
			}
			winner[sequence] = pid
		}
	}
	h, _, err := opened(t, ledgertest.Options(store)).Read(t.Context())
	if err != nil || len(h) != processes*rounds || len(winner) != len(h) {
		t.Fatalf("%d records, %d winners, %v; want %d", len(h), len(winner), err, processes*rounds)
	}
	for _, e := range h {
		if e.Record.Actor.Process != winner[e.Record.Sequence] {
			t.Errorf("record %d is by %s, its winner was %s", e.Record.Sequence, e.Record.Actor.Process, winner[e.Record.Sequence])
		}
	}
}
