package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Limits of one run of git.
const (
	maxGitOutput = 16 << 20        // bytes of its standard output
	maxGitErrors = 64 << 10        // bytes kept of its standard error
	localTime    = 2 * time.Minute // on this machine alone
	lookTime     = 20 * time.Second
	pushTime     = time.Minute
	fetchTime    = 10 * time.Minute
	stopTime     = time.Second // from SIGTERM to SIGKILL
)

// oldestGit is the first version that takes settings from the environment,
// where a credential does not show in the list of processes.
var oldestGit = [2]int{2, 31}

// setting is one git configuration setting.
type setting struct{ key, value string }

// call is one run of git.
type call struct {
	args     []string
	settings []setting // on top of those that every run gets
	stdin    io.Reader
	limit    time.Duration
	most     int64         // bytes of standard output; zero is maxGitOutput
	grace    time.Duration // how long it may go on after the context ended
	env      []string
}

// gitError is a run of git that failed.
type gitError struct {
	command string
	code    int    // -1: killed, or its time was over
	said    string // standard error, bounded and without credentials
	late    bool   // its time was over
}

func (e *gitError) Error() string {
	switch {
	case e.late:
		return "git " + e.command + " did not end in time" + after(e.said)
	case e.said == "":
		return fmt.Sprintf("git %s ended with %d", e.command, e.code)
	}
	return "git " + e.command + ": " + e.said
}

func after(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// excessError is a run of git that printed more than its caller takes.
type excessError struct{ error }

// run runs git in a session of its own: a signal from the terminal does not
// reach it, and nothing it starts can ask there for a password.
func (c call) run(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil && c.grace == 0 {
		return nil, err
	}
	running, cancel := c.lifetime(ctx)
	defer cancel()
	cmd := exec.CommandContext(running, "git", c.args...)
	cmd.Dir = "/"
	cmd.Env = append(gitEnvironment(os.Environ(), c.settings), c.env...)
	cmd.Stdin = c.stdin
	out := &bounded{most: maxGitOutput, stop: cancel}
	if c.most > 0 {
		out.most = int(c.most)
	}
	said := &bounded{most: maxGitErrors}
	cmd.Stdout, cmd.Stderr = out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	err := cmd.Run()
	if cmd.Process != nil && running.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it started, too
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, release.Unavailable("install git", "running git: %w", err)
	case out.over:
		return nil, &excessError{fmt.Errorf("git %s printed more than %d bytes", c.name(), out.most)}
	case err == nil:
		return out.kept.Bytes(), nil
	case running.Err() != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	}
	failure := &gitError{command: c.name(), code: -1, said: clean(said.kept.String()), late: running.Err() != nil}
	if cmd.ProcessState != nil {
		failure.code = cmd.ProcessState.ExitCode()
	} else {
		failure.said = err.Error()
	}
	return out.kept.Bytes(), failure
}

// name gives the git command without its options.
func (c call) name() string {
	i := slices.IndexFunc(c.args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	return c.args[max(i, 0)]
}

// lifetime gives the context that ends the run: when its time is over, and a
// while after ctx ended.
func (c call) lifetime(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.grace == 0 {
		return context.WithTimeout(ctx, c.limit)
	}
	running, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limit)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(c.grace, cancel) })
	return running, func() { stop(); cancel() }
}

// bounded keeps the first bytes that are written to it. The buffer is no
// embedded one: its ReadFrom would take everything.
type bounded struct {
	kept bytes.Buffer
	most int
	over bool
	stop func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.most - b.kept.Len(); len(p) > room {
		b.over = true
		b.kept.Write(p[:max(room, 0)])
		if b.stop != nil {
			b.stop()
		}
		return len(p), nil
	}
	return b.kept.Write(p)
}

// everyRun are the settings of every run: no hook, no housekeeping behind our
// back, nothing signed or followed that the user's settings ask of their own
// pushes.
var everyRun = []setting{
	{"core.hooksPath", "/dev/null"}, {"core.fsmonitor", "false"}, {"core.logAllRefUpdates", "false"},
	{"protocol.ext.allow", "never"},
	{"gc.auto", "0"}, {"maintenance.auto", "false"}, {"fetch.writeCommitGraph", "false"},
	{"push.gpgSign", "false"}, {"push.followTags", "false"}, {"push.recurseSubmodules", "no"}, {"push.default", "nothing"},
	{"push.negotiate", "false"}, {"fetch.recurseSubmodules", "no"}, {"submodule.recurse", "false"},
	{"fetch.prune", "false"}, {"fetch.pruneTags", "false"},
	{"fetch.negotiationAlgorithm", "default"}, {"i18n.commitEncoding", "UTF-8"},
}

// gitKeeps are the variables with which users tell git how to connect. Every
// other GIT_ variable is left out: GIT_DIR and its like name the repository
// that promote was called in, the traces print what is secret.
var gitKeeps = []string{
	"GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_EXEC_PATH", "GIT_PROXY_COMMAND",
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_ALLOW_PROTOCOL",
	"GIT_HTTP_USER_AGENT", "GIT_HTTP_PROXY_AUTHMETHOD",
}

// gitEnvironment gives git's environment: the user's, without what would lead
// it to another repository, without promote's own secrets, with settings.
func gitEnvironment(environ []string, settings []setting) []string {
	var kept []string
	given := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case strings.HasPrefix(name, "GIT_CONFIG_COUNT"), strings.HasPrefix(name, "GIT_CONFIG_KEY_"), strings.HasPrefix(name, "GIT_CONFIG_VALUE_"):
			given[name] = value
		case strings.HasPrefix(name, "GIT_SSL_"), slices.Contains(gitKeeps, name):
			kept = append(kept, pair)
		case strings.HasPrefix(name, "GIT_"), name == "LANGUAGE", strings.HasPrefix(name, "LC_"), secretOfOurs(name):
		default:
			kept = append(kept, pair)
		}
	}
	var all []setting
	count, _ := strconv.Atoi(given["GIT_CONFIG_COUNT"])
	for i := range min(count, len(given)) {
		n := strconv.Itoa(i)
		if key := given["GIT_CONFIG_KEY_"+n]; key != "" {
			all = append(all, setting{key, given["GIT_CONFIG_VALUE_"+n]})
		}
	}
	all = append(append(all, settings...), everyRun...)
	kept = append(kept, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GCM_INTERACTIVE=never", "GIT_CONFIG_COUNT="+strconv.Itoa(len(all)))
	for i, s := range all {
		n := strconv.Itoa(i)
		kept = append(kept, "GIT_CONFIG_KEY_"+n+"="+s.key, "GIT_CONFIG_VALUE_"+n+"="+s.value)
	}
	return kept
}

// secretOfOurs tells the variables that are for signing: neither git nor what
// it starts has a use for them.
func secretOfOurs(name string) bool {
	for _, prefix := range []string{"PROMOTE_KEY", "COSIGN_", "SIGSTORE_", "ACTIONS_ID_TOKEN_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// checkGit refuses a git that is absent or too old, and gives its version.
func checkGit(ctx context.Context) (v [2]int, err error) {
	out, err := call{args: []string{"version"}, limit: localTime}.run(ctx)
	if err != nil {
		return v, err
	}
	if n, _ := fmt.Sscanf(string(out), "git version %d.%d", &v[0], &v[1]); n != 2 {
		return v, release.Unavailable("install git", "git names its version as %.40q", out)
	}
	if slices.Compare(v[:], oldestGit[:]) < 0 {
		return v, release.Unavailable(fmt.Sprintf("install git %d.%d or newer", oldestGit[0], oldestGit[1]),
			"git is version %d.%d, a ledger in a branch needs %d.%d", v[0], v[1], oldestGit[0], oldestGit[1])
	}
	return v, nil
}
