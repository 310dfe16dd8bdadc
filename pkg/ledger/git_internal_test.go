package ledger

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

func init() { firstPause = 5 * time.Millisecond }

// TestGitEnvironment: what leads git elsewhere, prints what is secret or asks a
// person is left out; what connects it stays.
func TestGitEnvironment(t *testing.T) {
	got := gitEnvironment([]string{
		"PATH=/bin", "HOME=/home/me", "SSH_AUTH_SOCK=/run/agent", "GITHUB_TOKEN=for-a-helper", "https_proxy=http://proxy", "GIT_SSH_COMMAND=ssh -i key",
		"GIT_ASKPASS=/bin/ask", "GIT_SSL_CAINFO=/ca.pem", "GIT_CONFIG_GLOBAL=/cfg",
		"GIT_DIR=/a", "GIT_WORK_TREE=/a", "GIT_INDEX_FILE=/a", "GIT_OBJECT_DIRECTORY=/a", "GIT_ALTERNATE_OBJECT_DIRECTORIES=/a", "GIT_COMMON_DIR=/a",
		"GIT_NAMESPACE=a", "GIT_TRACE_CURL=1", "GIT_TERMINAL_PROMPT=1", "GIT_CONFIG_PARAMETERS='a.b=c'", "GIT_COMMITTER_DATE=yesterday", "LC_ALL=de_DE", "LANGUAGE=de",
		"PROMOTE_KEY=k", "COSIGN_PASSWORD=p", "SIGSTORE_ID_TOKEN=t", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=t",
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=X: y", "GIT_CONFIG_KEY_1=core.hooksPath", "GIT_CONFIG_VALUE_1=/mine", "GIT_CONFIG_KEY_2=not.counted",
	}, []setting{{"remote.x.url", "/r"}})
	var names []string
	values := map[string]string{}
	for _, pair := range got {
		name, value, _ := strings.Cut(pair, "=")
		names, values[name] = append(names, name), value
	}
	for _, name := range []string{"PATH", "HOME", "SSH_AUTH_SOCK", "GITHUB_TOKEN", "https_proxy", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is gone", name)
		}
	}
	for _, name := range names {
		known := strings.HasPrefix(name, "GIT_CONFIG_") || slices.Contains(gitKeeps, name) || name == "GIT_SSL_CAINFO"
		if strings.HasPrefix(name, "GIT_") && !known && name != "GIT_TERMINAL_PROMPT" || name == "GIT_CONFIG_PARAMETERS" || secretOfOurs(name) || name == "LANGUAGE" {
			t.Errorf("%s is passed", name)
		}
	}
	if values["GIT_TERMINAL_PROMPT"] != "0" || values["LC_ALL"] != "C" {
		t.Errorf("prompts %q, locale %q", values["GIT_TERMINAL_PROMPT"], values["LC_ALL"])
	}
	settings := map[string]string{} // the last one counts
	for i := 0; values["GIT_CONFIG_COUNT"] != "" && i < len(names); i++ {
		n := string(rune('0' + i%10))
		if i > 9 {
			n = string(rune('0'+i/10)) + n
		}
		if key, ok := values["GIT_CONFIG_KEY_"+n]; ok {
			settings[key] = values["GIT_CONFIG_VALUE_"+n]
		}
	}
	if settings["http.extraHeader"] != "X: y" || settings["remote.x.url"] != "/r" || settings["core.hooksPath"] != "/dev/null" || settings["protocol.ext.allow"] != "never" || settings["not.counted"] != "" {
		t.Errorf("the settings are %v", settings)
	}
}

func TestWithoutCredentials(t *testing.T) {
	for text, want := range map[string]string{
		"https://ci:t0ken@git.example.com/a.git":             "https://git.example.com/a.git",
		"https://t0ken@git.example.com/a.git":                "https://git.example.com/a.git",
		"https://a@b:p@ss@git.example.com/a.git":             "https://git.example.com/a.git",
		"ssh://git@git.example.com:22/a.git":                 "ssh://git.example.com:22/a.git",
		"git@github.com:acme/agent.git":                      "git@github.com:acme/agent.git",
		"/srv/ledger.git":                                    "/srv/ledger.git",
		"unable to access 'https://x:y@h/a/': The requested": "unable to access 'https://h/a/': The requested",
		"HTTPS://U:P@H/a and http://c:d@e":                   "HTTPS://H/a and http://e",
	} {
		if got := withoutCredentials(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// slowRemote makes a repository that takes its time over a push: the hook waits
// until the file go is there.
func slowRemote(t *testing.T) (remote, started, goOn string) {
	t.Helper()
	dir := memoryDir(t)
	remote, started, goOn = filepath.Join(dir, "remote.git"), filepath.Join(dir, "started"), filepath.Join(dir, "go")
	if out, err := exec.Command("git", "init", "--quiet", "--bare", remote).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	hook := "#!/bin/sh\ntouch " + started + "\nn=0\nwhile test ! -e " + goOn + " && test $n -lt 600; do sleep 0.02; n=$((n+1)); done\n"
	if err := os.WriteFile(filepath.Join(remote, "hooks", "update"), []byte(hook), 0o755); err != nil {
		t.Fatal(err)
	}
	return remote, started, goOn
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	for range 3000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nothing made", path)
}

// TestGitSignalDuringPush: a push that has begun is let to its end for a while
// after a signal; one that does not end is not certain, and whoever reads next
// finds what came of it.
func TestGitSignalDuringPush(t *testing.T) {
	for name, c := range map[string]struct {
		grace   time.Duration
		answers bool
		kind    release.Kind
	}{
		"it ends":         {time.Minute, true, ""},
		"it does not end": {50 * time.Millisecond, false, release.KindInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			remote, started, goOn := slowRemote(t)
			s := NewGitStore(GitOptions{Remote: remote, Branch: "ledger", Cache: memoryDir(t)}).(*gitStore)
			s.grace = c.grace
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				waitFor(t, started)
				cancel()
				if c.answers {
					time.Sleep(50 * time.Millisecond)
					_ = os.WriteFile(goOn, nil, 0o600)
				}
			}()
			err := s.Write(ctx, Position{}, []byte("line\n"), []byte("{}"))
			if release.KindOf(err) != c.kind || err != nil && (!strings.Contains(err.Error(), "not certain") || !errors.Is(err, context.Canceled)) {
				t.Errorf("got %v, want kind %q", err, c.kind)
			}
			_ = os.WriteFile(goOn, nil, 0o600)
			if err == nil {
				if state, err := s.Read(t.Context()); err != nil || string(state.Log) != "line\n" {
					t.Errorf("the log is %q, %v", state.Log, err)
				}
			}
		})
	}
}

// TestGitChildrenAreOutOfReach: a signal of the terminal goes to the foreground
// group of its session, and git must not be of that session.
func TestGitChildrenAreOutOfReach(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\ncut -d' ' -f6 /proc/$$/stat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	mine, err := exec.Command("sh", "-c", "cut -d' ' -f6 /proc/$$/stat").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	out, err := call{args: []string{"x"}, limit: time.Minute}.run(t.Context())
	if err != nil || string(out) == string(mine) {
		t.Errorf("git runs in session %q as promote does, %v", out, err)
	}
}

// TestGitCacheIsLocked: two processes that fetch into one repository would find
// each other's locks; the second one waits.
func TestGitCacheIsLocked(t *testing.T) {
	remote, _, goOn := slowRemote(t)
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cache := memoryDir(t)
	at := func() *gitStore {
		return NewGitStore(GitOptions{Remote: remote, Branch: "ledger", Cache: cache}).(*gitStore)
	}
	holder := at()
	if err := holder.Write(t.Context(), Position{}, []byte("line\n"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	unlock, err := holder.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if state, err := at().Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %q beside the holder of the lock, %v", state.Log, err)
	}
	if err := holder.Beat(t.Context(), 1, 1); err != nil {
		t.Errorf("a heartbeat waits for the lock: %v", err)
	}
	unlock()
	if state, err := at().Read(t.Context()); err != nil || string(state.Log) != "line\n" {
		t.Errorf("read %q, %v", state.Log, err)
	}
}
