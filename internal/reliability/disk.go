package reliability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Further kinds of trials.
const (
	OfDisk = "disk" // a disk that fails while a promotion runs
	OfRace = "race" // several promotions at once
)

// What fails. Each is tried so that it fails sooner or later.
const (
	FailOne   = "one fsync or rename fails (EIO)"
	FailAll   = "every fsync and rename fails (EIO)"
	FailFull  = "the ledger's file system is full"
	FailSize  = "the limit of a file's size is reached (RLIMIT_FSIZE)"
	FailWrite = "the ledger's file system is read-only"
)

// How a promotion ended over a disk that fails.
const (
	endRefused = "exit 1"
	endBroken  = "exit 5"
	endDone    = "exit 0"
)

// DiskPoints lists what fails and when; most bounds those of each kind, 0 is all.
func DiskPoints(calls, most int) []Point {
	kinds := []struct {
		where  string
		number int
	}{{FailOne, calls}, {FailFull, 12}, {FailSize, 8}, {FailAll, 1}, {FailWrite, 1}}
	var list []Point
	for _, k := range kinds {
		var some []Point
		for i := range k.number {
			some = append(some, Point{Of: OfDisk, Where: k.where, At: i + 1})
		}
		list = append(list, thin(some, most)...)
	}
	return list
}

// RacePoints lists races of processes.
func RacePoints(number int) []Point {
	var list []Point
	for i := range number {
		list = append(list, Point{Of: OfRace, Where: "race " + strconv.Itoa(i+1), At: 2 + i%7})
	}
	return list
}

// TryDisk promotes over a disk that fails: before the first effect that is exit
// 1 and changes nothing; later the record stays open for resume.
func (w *World) TryDisk(ctx context.Context, p Point) (Row, error) {
	began := time.Now()
	row := Row{Point: p, What: p.Where}
	t, err := w.begin(ctx, p.Of)
	if err != nil {
		return row, err
	}
	wrap, mend, err := w.spoil(ctx, p)
	if err != nil {
		return row, errors.Join(err, mend())
	}
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	e, err := run(w.command(bounded, wrap, t.way...), nil)
	if err := errors.Join(err, mend()); err != nil {
		return row, err
	}
	row.Ledger = fmt.Sprintf("exit %d", e.Code)
	var faults []error
	switch row.Ledger {
	case endRefused, endBroken, endDone:
	default:
		faults = append(faults, errors.New(e.String()))
	}
	_, row.Outcome, err = w.hold(ctx, t)
	if row.Ledger == endRefused && row.Outcome != "old" {
		faults = append(faults, fmt.Errorf("it said that nothing was promoted, and it is %s: %s", row.Outcome, e))
	}
	if row.Ledger == endDone && row.Outcome != "new" {
		faults = append(faults, fmt.Errorf("it said that it is done, and it is %s", row.Outcome))
	}
	row.Fault = oneLine(errors.Join(append(faults, err)...))
	row.Seconds = time.Since(began).Seconds()
	return row, nil
}

// spoil makes the disk fail; mend undoes that.
func (w *World) spoil(ctx context.Context, p Point) (wrap []string, mend func() error, err error) {
	mend = func() error { return nil }
	trace := func(at int) []string {
		return []string{w.o.Tracer, "trace", strconv.Itoa(at), "false", strconv.Itoa(int(syscall.EIO)), "", w.path("calls")}
	}
	switch p.Where {
	case FailOne:
		return trace(p.At), mend, nil
	case FailAll:
		return trace(0), mend, nil
	case FailSize:
		info, err := os.Stat(filepath.Join(w.ledger(), "log"))
		if err != nil {
			return nil, mend, err
		}
		// In blocks of 1024 bytes.
		return []string{"bash", "-c", `ulimit -f "$0"; exec "$@"`, strconv.FormatInt(info.Size()>>10+4*int64(p.At-1), 10)}, mend, nil
	}
	return nil, func() error { return w.unmount(ctx) }, w.mount(ctx, p)
}

// mount puts the ledger on a small file system in memory that has only so many
// pages left, or takes no writes.
func (w *World) mount(ctx context.Context, p Point) error {
	if err := os.Rename(w.ledger(), w.path("ledger.disk")); err != nil {
		return err
	}
	if err := os.Mkdir(w.ledger(), 0o755); err != nil {
		return err
	}
	if err := command(ctx, "mount", "-t", "tmpfs", "-o", "size=64m", "promote-reliability", w.ledger()); err != nil {
		return err
	}
	if err := os.CopyFS(w.ledger(), os.DirFS(w.path("ledger.disk"))); err != nil {
		return err
	}
	if p.Where == FailWrite {
		return command(ctx, "mount", "-o", "remount,ro", w.ledger())
	}
	return fill(filepath.Join(w.ledger(), "filler"), p.At-1)
}

// fill writes a file until there is no space, and gives some pages back.
func fill(path string, pages int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	page, size := make([]byte, 4096), int64(0)
	for {
		n, err := f.Write(page)
		size += int64(n)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Truncate(max(0, size-int64(pages)*4096)), f.Close())
}

// unmount brings what the ledger is by now back to the disk.
func (w *World) unmount(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if _, err := os.Stat(w.path("ledger.disk")); err != nil {
		return nil
	}
	if err := command(ctx, "mount", "-o", "remount,rw", w.ledger()); err != nil {
		return errors.Join(err, os.Remove(w.ledger()), os.Rename(w.path("ledger.disk"), w.ledger()))
	}
	_ = os.Remove(filepath.Join(w.ledger(), "filler"))
	kept := w.path("ledger.now")
	return errors.Join(os.RemoveAll(kept), os.CopyFS(kept, os.DirFS(w.ledger())), command(ctx, "umount", w.ledger()),
		os.Remove(w.ledger()), os.Rename(kept, w.ledger()), os.RemoveAll(w.path("ledger.disk")))
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// TryRace starts several promotions at once: one wins, and every other one is
// told which process that is.
func (w *World) TryRace(ctx context.Context, p Point) (Row, error) {
	began := time.Now()
	row := Row{Point: p, What: fmt.Sprintf("%d processes", p.At)}
	t, err := w.begin(ctx, p.Of)
	if err != nil {
		return row, err
	}
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	ends, pids, errs := make([]ended, p.At), make([]int, p.At), make([]error, p.At)
	var all sync.WaitGroup
	for i := range p.At {
		all.Go(func() {
			cmd := w.command(bounded, nil, t.way...)
			ends[i], errs[i] = run(cmd, nil)
			if cmd.Process != nil {
				pids[i] = cmd.Process.Pid
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return row, err
	}
	fault := raceFault(ends, pids)
	_, row.Outcome, err = w.hold(ctx, t)
	if row.Outcome != "new" {
		err = errors.Join(err, fmt.Errorf("somebody won, and it is %s", row.Outcome))
	}
	row.Fault = oneLine(errors.Join(fault, err))
	row.Seconds = time.Since(began).Seconds()
	return row, nil
}

// raceFault reports why there is not one winner whom all others know.
func raceFault(ends []ended, pids []int) error {
	var faults []error
	winner := -1
	for i, e := range ends {
		var result struct{ Record *struct{ Sequence int64 } }
		if e.Code != 0 {
			continue
		}
		if err := json.Unmarshal([]byte(e.Stdout), &result); err != nil {
			return err
		}
		if result.Record == nil {
			continue // it came late enough to find everything done
		}
		if winner >= 0 {
			faults = append(faults, fmt.Errorf("processes %d and %d both won", pids[winner], pids[i]))
		}
		winner = i
	}
	if winner < 0 {
		faults = append(faults, errors.New("nobody won"))
		for _, e := range ends {
			faults = append(faults, errors.New(e.String()))
		}
		return errors.Join(faults...)
	}
	for i, e := range ends {
		told := fmt.Sprintf("process %d", pids[winner])
		if i != winner && e.Code != 0 && (e.Code != 6 || !strings.Contains(e.Stderr, told)) {
			faults = append(faults, fmt.Errorf("process %d, which lost against %s, said: %s", pids[i], told, e))
		}
	}
	return errors.Join(faults...)
}
