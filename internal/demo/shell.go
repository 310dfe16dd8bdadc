package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// shell runs promote's commands in the workspace, printing each before it runs.
type shell struct {
	executable string
	dir        string
	environ    []string
	out, err   *os.File
	runs       int
}

// promote runs one command, checks its exit code and decodes its JSON result
// where into is not nil. What it prints reaches the terminal as it does for
// anybody.
func (s *shell) promote(ctx context.Context, wantCode int, into any, args ...string) (stderr string, err error) {
	s.runs++
	result := filepath.Join(s.dir, "..", fmt.Sprintf("result-%d.json", s.runs))
	full := args
	if into != nil {
		full = append(append([]string{}, args...), "-o", "text", "-o", "json="+result)
	}
	fmt.Fprintf(s.out, "\n%s\n", bold(s.out, "$ promote "+quote(args)))
	cmd := exec.CommandContext(ctx, s.executable, full...)
	cmd.Dir, cmd.Env = s.dir, s.environ
	// What a refusal says must be read; everything else goes where it would go
	// without the demo, so that the display has its terminal.
	said := &memory{also: s.err}
	cmd.Stdout, cmd.Stderr = s.out, s.err
	if wantCode != 0 {
		cmd.Stderr = said
	}
	// Ctrl-C reaches the demo, which tells its command once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	code := 0
	var exit *exec.ExitError
	if errors.As(runErr, &exit) {
		code = exit.ExitCode()
	} else if runErr != nil {
		return "", runErr
	}
	if code != wantCode {
		return said.String(), unexpected("promote %s ended with %d, not %d", quote(args), code, wantCode)
	}
	if wantCode != 0 {
		fmt.Fprintf(s.out, "# exit code %d\n", code)
	}
	if into == nil {
		return said.String(), nil
	}
	raw, err := os.ReadFile(result)
	if err != nil {
		return said.String(), fmt.Errorf("reading the result of promote %s: %w", quote(args), err)
	}
	return said.String(), json.Unmarshal(raw, into)
}

// git runs git in the workspace.
func (s *shell) git(ctx context.Context, args ...string) error {
	fmt.Fprintf(s.out, "%s\n", bold(s.out, "$ git "+quote(args)))
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false", "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}

func quote(args []string) string {
	var quoted []string
	for _, a := range args {
		if strings.ContainsAny(a, " \t'\"$") {
			a = "'" + a + "'"
		}
		quoted = append(quoted, a)
	}
	return strings.Join(quoted, " ")
}

// memory keeps what passes through it.
type memory struct {
	also *os.File
	b    strings.Builder
}

func (m *memory) Write(p []byte) (int, error) {
	m.b.Write(p)
	return m.also.Write(p)
}

func (m *memory) String() string { return m.b.String() }
