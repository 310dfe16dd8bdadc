package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/promote-dev/promote/pkg/release"
)

// remoteName is what the repository is called in our own settings. Nobody else
// configures anything under this name.
const remoteName = "promote-ledger-store"

// place is a repository as git is told of it.
type place struct {
	settings []setting // its address, and what the checkout configures for it
	address  string    // without credentials
	local    bool      // on this machine: no network, and its disk is ours to sync
	path     string    // of a local repository
	name     string    // who commits
	email    string
}

// open finds out what the options stand for. Once it succeeded it does nothing.
func (s *gitStore) open(ctx context.Context) error {
	s.setup.Lock()
	defer s.setup.Unlock()
	if s.setup.done {
		return nil
	}
	version, err := checkGit(ctx)
	if err != nil {
		return err
	}
	p, err := s.resolve(ctx)
	if err != nil {
		return err
	}
	s.setup.place, s.setup.version, s.setup.done = p, version, true
	return nil
}

func (s *gitStore) place() place { return s.setup.place }

// asleep reports whether the repository must not be asked.
func (s *gitStore) asleep() bool { return s.o.Offline && !s.place().local }

// ref is the branch's full name.
func (s *gitStore) ref() string { return "refs/heads/" + s.o.Branch }

// dir is this ledger's part of the cache.
func (s *gitStore) dir() string {
	sum := sha256.Sum256([]byte(s.place().address + "\n" + s.o.Branch))
	return filepath.Join(s.o.Cache, hex.EncodeToString(sum[:8]))
}

// forTransport are the checkout's settings that say how to connect: proxies,
// headers with a token as CI systems write them, helpers, other addresses.
var forTransport = regexp.MustCompile(`^(http|credential|url|ssh)\.|^core\.(sshcommand|gitproxy|askpass)$`)

// ofRemote are the settings of a remote that go with its address.
var ofRemote = []string{"proxy", "proxyauthmethod", "uploadpack", "receivepack", "serveroption"}

// resolve reads the checkout's settings and finds the address.
func (s *gitStore) resolve(ctx context.Context) (place, error) {
	dir := s.o.Dir
	if dir == "" {
		dir = "/"
	}
	raw, err := call{args: []string{"-C", dir, "config", "--list", "-z", "--show-scope"}, limit: localTime}.run(ctx)
	if err != nil {
		return place{}, err
	}
	p := place{name: "promote", email: "promote@localhost"}
	var urls, pushURLs, remotes []string
	rewrites := false
	prefix := "remote." + s.o.Remote + "."
	fields := strings.Split(string(raw), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		key, value, _ := strings.Cut(fields[i+1], "\n")
		own := fields[i] == "local" || fields[i] == "worktree"
		rest, ofIt := strings.CutPrefix(key, prefix)
		switch {
		case ofIt && rest == "url":
			urls = append(urls, value)
		case ofIt && rest == "pushurl":
			pushURLs = append(pushURLs, value)
		case ofIt && slices.Contains(ofRemote, rest):
			p.settings = append(p.settings, setting{"remote." + remoteName + "." + rest, value})
		case own && forTransport.MatchString(key):
			p.settings = append(p.settings, setting{key, value})
		case key == "user.name" && value != "":
			p.name = value
		case key == "user.email" && value != "":
			p.email = value
		}
		rewrites = rewrites || strings.HasPrefix(key, "url.")
		if name, ok := strings.CutSuffix(strings.TrimPrefix(key, "remote."), ".url"); ok {
			remotes = append(remotes, name)
		}
	}
	// Where pushes go is where the ledger is; a mirror may lag behind it.
	address := s.o.Remote
	if len(pushURLs) > 0 {
		urls = pushURLs
	}
	switch {
	case len(urls) > 1:
		return place{}, release.Unavailable("name the URL of one of them in ledger.git.remote", "the remote %s has %d addresses: a ledger is in one place", s.o.Remote, len(urls))
	case len(urls) == 1:
		address = urls[0]
	case !isAddress(dir, address):
		return place{}, s.unknownRemote(ctx, dir, remotes)
	}
	if address, err = s.absolute(ctx, dir, address, len(urls) == 1); err != nil {
		return place{}, err
	}
	p.settings = append(p.settings, setting{"remote." + remoteName + ".url", address})
	p.address = withoutCredentials(address)
	where := address
	if rewrites {
		out, err := call{args: []string{"ls-remote", "--get-url", remoteName}, settings: p.settings, limit: localTime, env: nowhere}.run(ctx)
		if err != nil {
			return place{}, err
		}
		where = strings.TrimRight(string(out), "\n")
	}
	if p.local = isLocal(where); p.local {
		p.path = strings.TrimPrefix(where, "file://")
	}
	return p, nil
}

// hooksOf finds the hooks that whoever keeps a repository on this machine gave
// it. Those that a user configured for all of their own repositories are not
// among them.
func hooksOf(ctx context.Context, path string) (string, error) {
	c := call{args: []string{"-C", path, "config", "-z", "--show-scope", "--get-all", "core.hooksPath"}, limit: localTime}
	out, err := c.run(ctx)
	var failed *gitError
	if err != nil && !errors.As(err, &failed) {
		return "", err // else there is none
	}
	hooks := "hooks"
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "system" || fields[i] == "local" || fields[i] == "worktree" {
			hooks = fields[i+1]
		}
	}
	return hooks, nil
}

// nowhere keeps git from finding a repository above its working directory.
var nowhere = []string{"GIT_CEILING_DIRECTORIES=/", "GIT_DIR=/dev/null"}

// isAddress tells a URL or a path from the name of a remote.
func isAddress(dir, remote string) bool {
	if strings.ContainsAny(remote, ":/") || remote == "." || remote == ".." {
		return true
	}
	info, err := os.Stat(filepath.Join(dir, remote))
	return err == nil && info.IsDir()
}

// isLocal tells a path or a file URL from an address of another machine.
func isLocal(address string) bool {
	if scheme, _, ok := strings.Cut(address, "://"); ok {
		return scheme == "file"
	}
	host, _, colon := strings.Cut(address, ":")
	return !colon || strings.Contains(host, "/")
}

// absolute makes a relative path one that does not depend on where git runs:
// a remote's is seen from the top of its checkout, one in promote.yaml from
// there.
func (s *gitStore) absolute(ctx context.Context, dir, address string, ofRemote bool) (string, error) {
	if !isLocal(address) || strings.HasPrefix(address, "file://") || filepath.IsAbs(address) {
		return address, nil
	}
	if ofRemote {
		top, err := call{args: []string{"-C", dir, "rev-parse", "--show-toplevel"}, limit: localTime}.run(ctx)
		if err != nil {
			return "", err
		}
		dir = strings.TrimSuffix(string(top), "\n")
	}
	return filepath.Abs(filepath.Join(dir, address))
}

func (s *gitStore) unknownRemote(ctx context.Context, dir string, remotes []string) error {
	if _, err := (call{args: []string{"-C", dir, "rev-parse", "--git-dir"}, limit: localTime}).run(ctx); err != nil {
		var failed *gitError
		if errors.As(err, &failed) {
			return release.Unavailable("run promote in a checkout that has the remote, or write its URL in ledger.git.remote", "there is no remote %s: %w", s.o.Remote, err)
		}
		return err
	}
	hint := "git remote add " + s.o.Remote + " URL, or write a URL in ledger.git.remote"
	if len(remotes) > 0 {
		slices.Sort(remotes)
		hint = "this checkout has " + strings.Join(slices.Compact(remotes), ", ") + "; name one of them or a URL in ledger.git.remote, or " + hint
	}
	return release.Unavailable(hint, "the checkout in %s has no remote %s", dir, s.o.Remote)
}

// inURL finds what stands before the host of a URL.
var inURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'"@]*(@[^/\s'"@]*)*@`)

// withoutCredentials drops "user:secret@" from the URLs in a text.
func withoutCredentials(text string) string { return inURL.ReplaceAllString(text, "$1") }

// clean makes what git and the other side said fit for a message: no
// credentials, no control characters, the last lines of it.
func clean(said string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(said, "\r", "\n")) {
		line = strings.TrimSpace(strings.Map(printable, line))
		if line = strings.TrimPrefix(strings.TrimPrefix(line, "fatal: "), "error: "); !slices.Contains(empty, line) {
			lines = append(lines, withoutCredentials(line))
		}
	}
	if len(lines) > 6 {
		lines = lines[len(lines)-6:]
	}
	text := strings.Join(lines, "; ")
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "") + "…"
	}
	return text
}

// empty are lines that say nothing.
var empty = []string{"", "remote:", "Please make sure you have the correct access rights", "and the repository exists."}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
