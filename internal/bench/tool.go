package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Tuning says how a tool is used.
const (
	Default = "default" // as somebody types it who has read nothing
	Tuned   = "tuned"   // with the flags that are best for this work
)

// Tool is one contestant.
type Tool struct {
	Name    string `json:"name"`
	Tuning  string `json:"tuning"`
	Library bool   `json:"library"`
	Ours    bool   `json:"ours,omitempty"`
	Version string `json:"version"`
	// How shows the command, or the call.
	How string `json:"how"`
	// Evidence copies signatures and SBOM along.
	Evidence bool `json:"evidence,omitempty"`

	copy func(ctx context.Context, src, dst string) (Cost, error)
}

// Label names a tool among others of its kind.
func (t *Tool) Label() string {
	label := t.Name
	if !t.Ours {
		label += ", " + t.Tuning
	}
	return label
}

// Cost is what one copy took of the machine.
type Cost struct {
	Wall time.Duration
	CPU  time.Duration // of the process, user and system; 0 for a library
}

// The most that one copy may take, and one on a bad network, of which whoever
// gets through needs seconds.
const (
	toolTime   = 10 * time.Minute
	faultyTime = time.Minute
)

// Command makes a Tool of a program. args and env may hold SRC, DST and HOME;
// HOME is an empty directory that is new for each copy.
func Command(t Tool, program string, args, env []string) *Tool {
	t.How = strings.Join(append([]string{filepath.Base(program)}, args...), " ")
	if len(env) > 0 {
		t.How = strings.Join(env, " ") + " " + t.How
	}
	t.copy = func(ctx context.Context, src, dst string) (Cost, error) {
		home, err := os.MkdirTemp("", "bench-home-")
		if err != nil {
			return Cost{}, err
		}
		defer os.RemoveAll(home)
		words := strings.NewReplacer("SRC", src, "DST", dst, "HOME", home)
		return run(ctx, program, each(args, words.Replace), append([]string{"HOME=" + home, "DOCKER_CONFIG=" + home, "PATH=" + os.Getenv("PATH")}, each(env, func(pair string) string {
			key, value, _ := strings.Cut(pair, "=")
			return key + "=" + words.Replace(value)
		})...))
	}
	return &t
}

func each(list []string, f func(string) string) []string {
	var out []string
	for _, s := range list {
		out = append(out, f(s))
	}
	return out
}

func run(ctx context.Context, program string, args, env []string) (Cost, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	begun := time.Now()
	err := cmd.Run()
	c := Cost{Wall: time.Since(begun)}
	if s := cmd.ProcessState; s != nil {
		c.CPU = s.UserTime() + s.SystemTime()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, tail(said.String()))
	}
	return c, err
}

func tail(text string) string {
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-500):]
}

// Order is what a worker is told: copy this. A worker is a process that copies
// with a library, with a new client for each copy.
type Order struct {
	Library  string `json:"library"`
	Source   string `json:"source"`
	Target   string `json:"target"`
	Jobs     int    `json:"jobs,omitempty"` // 0 is the library's default
	Evidence bool   `json:"evidence,omitempty"`
}

// Done is a worker's answer.
type Done struct {
	Nanoseconds int64  `json:"nanoseconds"`
	Error       string `json:"error,omitempty"`
}

// Work is the body of a worker: it reads orders, one a line, and answers each.
func Work(in io.Reader, out io.Writer, do func(Order) error) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		var d Done
		begun := time.Now()
		if err := do(o); err != nil {
			d.Error = err.Error()
		}
		d.Nanoseconds = time.Since(begun).Nanoseconds()
		raw, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", raw); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Worker is a running worker.
type Worker struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
}

// StartWorker runs a worker's program until Close.
func StartWorker(program string, args ...string) (*Worker, error) {
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Worker{cmd, in, bufio.NewReader(out)}, nil
}

// Close lets it end.
func (w *Worker) Close() error { return errors.Join(w.in.Close(), w.cmd.Wait()) }

// Library makes a Tool of a worker and what it is ordered to do.
func (w *Worker) Library(t Tool, o Order) *Tool {
	t.Library = true
	t.copy = func(_ context.Context, src, dst string) (Cost, error) {
		o.Source, o.Target = src, dst
		raw, err := json.Marshal(o)
		if err != nil {
			return Cost{}, err
		}
		if _, err := fmt.Fprintf(w.in, "%s\n", raw); err != nil {
			return Cost{}, err
		}
		line, err := w.lines.ReadBytes('\n')
		if err != nil {
			return Cost{}, fmt.Errorf("the worker of %s ended: %w", t.Name, err)
		}
		var d Done
		if err := json.Unmarshal(line, &d); err != nil {
			return Cost{}, err
		}
		if d.Error != "" {
			err = fmt.Errorf("%s: %s", t.Name, d.Error)
		}
		return Cost{Wall: time.Duration(d.Nanoseconds)}, err
	}
	return &t
}
