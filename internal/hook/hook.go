// Package hook runs a project's own programs at certain points of a promotion.
// What they see of the environment is handed in, without keys; what they start
// goes with them.
package hook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of a hook.
const (
	Time     = 10 * time.Minute
	maxLines = 1000
	maxLine  = 4 << 10
	maxBytes = 16 << 20
)

// Program is one hook.
type Program struct {
	Name string // the point at which it runs
	Path string // relative to Dir, with slashes
	Dir  string // the project; its working directory
	// Environ is all that it sees of the environment.
	Environ []string
	Time    time.Duration // 0: ten minutes
}

// Run runs the program to its end and shows what it says, its standard output
// as well as its errors; none of it is in the error, which is recorded. One that
// fails, or does not end in time, is KindUnavailable; what it left in the
// background is ended, too.
func (p Program) Run(ctx context.Context) (err error) {
	step := event.Start(ctx, "[hook] %s %s", p.Name, p.Path)
	defer func() { step.Done(err) }()
	limit := p.Time
	if limit == 0 {
		limit = Time
	}
	running, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(running, filepath.Join(p.Dir, filepath.FromSlash(p.Path)))
	cmd.Dir, cmd.Env = p.Dir, p.Environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	out := newLines(step)
	cmd.Stdout, cmd.Stderr = out, out
	if err = cmd.Start(); err == nil {
		err = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in the background
		if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
			err = nil
		}
	}
	out.close()
	var exit *exec.ExitError
	hint := "look at what it says above; run it by hand with the PROMOTE_ variables of docs/hooks.md"
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the hook %s (%s) was stopped: %w", p.Name, p.Path, ctx.Err())
	case running.Err() != nil:
		return release.Unavailable(hint, "the hook %s (%s) did not end within %s", p.Name, p.Path, limit)
	case errors.As(err, &exit) && exit.Exited():
		return release.Unavailable(hint, "the hook %s (%s) gave exit code %d", p.Name, p.Path, exit.ExitCode())
	case errors.Is(err, syscall.EACCES):
		return release.Unavailable("chmod +x "+p.Path, "the hook %s (%s) cannot be started: %w", p.Name, p.Path, syscall.EACCES)
	}
	return release.Unavailable(hint, "the hook %s (%s): %s", p.Name, p.Path, strings.ReplaceAll(err.Error(), p.Dir+string(filepath.Separator), ""))
}

// lines shows output line by line, up to a bound.
type lines struct {
	*io.PipeWriter
	ended chan struct{}
}

func newLines(step *event.Step) *lines {
	read, write := io.Pipe()
	l := &lines{write, make(chan struct{})}
	go func() {
		defer close(l.ended)
		shown := 0
		in := bufio.NewReaderSize(io.LimitReader(read, maxBytes), maxLine)
		for {
			text, _, err := in.ReadLine() // a longer line comes in parts
			if err != nil {
				break
			}
			if shown++; shown <= maxLines {
				step.Logf("%s", printable(text))
			}
		}
		if shown > maxLines {
			step.Logf("%d lines more", shown-maxLines)
		}
		_, _ = io.Copy(io.Discard, read) // beyond the bound nothing is looked at
	}()
	return l
}

func (l *lines) close() {
	_ = l.PipeWriter.Close()
	<-l.ended
}

// printable keeps a program from writing over the screen.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text))
}

// Environ gives what a hook sees: the given environment without what is named
// again, and that.
func Environ(base []string, with map[string]string) []string {
	out := slices.DeleteFunc(slices.Clone(base), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, again := with[name]
		return again
	})
	for name, value := range with {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}
