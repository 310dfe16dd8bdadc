package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
)

// childDir tells a copy of the test binary that it is a contender.
const childDir = "LEDGER_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := contend(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const roundsOfAProcess = 10

// contend appends with the size that it read until it has won its rounds, and
// prints which records are its own.
func contend(dir string) error {
	o := ledgertest.Options(ledger.NewFileStore(dir))
	ctx := context.Background()
	l, err := ledger.Open(ctx, o)
	if err != nil {
		return err
	}
	for won := 0; won < roundsOfAProcess; {
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
	const processes = 3
	dir := filepath.Join(t.TempDir(), "ledger")
	var running []*exec.Cmd
	outs := make([]strings.Builder, processes)
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
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
	h, _, err := opened(t, ledgertest.Options(ledger.NewFileStore(dir))).Read(t.Context())
	if err != nil || len(h) != processes*roundsOfAProcess || len(winner) != len(h) {
		t.Fatalf("%d records, %d winners, %v; want %d", len(h), len(winner), err, processes*roundsOfAProcess)
	}
	for _, e := range h {
		if e.Record.Actor.Process != winner[e.Record.Sequence] {
			t.Errorf("record %d is by %s, its winner was %s", e.Record.Sequence, e.Record.Actor.Process, winner[e.Record.Sequence])
		}
	}
}
