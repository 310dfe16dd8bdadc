package ledger

import (
	"context"
	"errors"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// cause is what a person can do about a failure of git, by what it says in
// the C locale.
type cause struct {
	said      []string
	permanent bool // trying again changes nothing
	unsent    bool // nothing had been sent when it failed
	hint      string
}

var causes = []cause{
	{said: []string{"could not read Username", "could not read Password", "Authentication failed", "Permission denied (", "HTTP Basic: Access denied",
		"Invalid username or", "returned error: 401", "returned error: 403", "Permission to ", "Permission denied to", "Access denied"},
		permanent: true, unsent: true,
		hint: "let git reach it without a prompt: a credential helper, an ssh-agent, or in GitHub Actions `permissions: contents: write` and credentials for it; `git ls-remote` shows whether it works"},
	{said: []string{"Host key verification failed"}, permanent: true, unsent: true,
		hint: "add the host's key, from a source you trust, to known_hosts"},
	{said: []string{"dubious ownership"}, permanent: true, unsent: true,
		hint: "the repository belongs to another user; if you trust it: git config --global --add safe.directory PATH"},
	{said: []string{"does not appear to be a git repository", "Repository not found", "repository not found", "not found", "No such file or directory", "does not exist"},
		permanent: true, unsent: true,
		hint: "check ledger.git.remote in promote.yaml, and that you may read it; a new one is made with git init --bare, or at your git host"},
	{said: []string{"protocol 'ext' is not allowed", "transport '", "Unable to find remote helper", "strange hostname", "strange pathname"}, permanent: true, unsent: true,
		hint: "use a path, file://, ssh:// or https:// as ledger.git.remote"},
	{said: []string{"hash algorithm"}, permanent: true, unsent: true,
		hint: "push any first branch to the repository: of an empty one its object format is not known"},
	{said: []string{"Could not resolve host", "Couldn't connect", "Could not connect", "Failed to connect", "Connection refused", "Connection timed out", "Network is unreachable", "No route to host", "Operation timed out"},
		unsent: true,
		hint:   "check the network; nothing was changed. promote --offline status shows what was last seen"},
	{said: []string{"No space left on device", "Disk quota exceeded"},
		hint: "free some space where git writes"},
}

// causeOf finds what git's words mean.
func causeOf(err error) (cause, bool) {
	var failed *gitError
	if !errors.As(err, &failed) {
		return cause{}, false
	}
	for _, c := range causes {
		for _, said := range c.said {
			if strings.Contains(failed.said, said) {
				return c, true
			}
		}
	}
	return cause{}, false
}

func permanent(err error) bool {
	var rejected *rejectedError
	if errors.As(err, &rejected) {
		return true
	}
	c, _ := causeOf(err)
	return c.permanent
}

// beforeSending reports whether a push failed before it could have done
// anything.
func beforeSending(err error) bool {
	c, _ := causeOf(err)
	return c.unsent
}

// rejections are hints for pushes that the other side decided against.
var rejections = []struct{ said, hint string }{
	{"currently checked out", "the repository is somebody's checkout and has the branch checked out; use a bare one (git init --bare), or another ledger.git.branch"},
	{"protected branch", "allow whoever runs promote to push to this branch; pushes with force stay forbidden, promote makes none"},
	{"not allowed to push", "allow whoever runs promote to push to this branch; pushes with force stay forbidden, promote makes none"},
	{"GH0", "let the repository's rules allow pushes to this branch by whoever runs promote; they may stay strict about force and deletion"},
	{"hook declined", "a hook of the repository refuses it, and says why; let it pass pushes to this branch"},
	{"unpacker error", "the repository's disk does not take it: check space and permissions there"},
	{"unable to", "the repository's disk does not take it: check space and permissions there"},
}

func (s *gitStore) hint(err error) string {
	var rejected *rejectedError
	if errors.As(err, &rejected) {
		for _, r := range rejections {
			if strings.Contains(rejected.Error(), r.said) {
				return r.hint
			}
		}
		return "the repository refuses pushes to the branch " + s.o.Branch + "; it says why"
	}
	var failed *gitError
	if errors.As(err, &failed) && failed.late {
		return "check the network and the repository's host, and run it again"
	}
	if c, ok := causeOf(err); ok {
		return c.hint
	}
	return "`git ls-remote` with the remote of ledger.git shows whether it can be reached"
}

// fault gives an error its kind and what to do.
func (s *gitStore) fault(ctx context.Context, doing string, err error) error {
	var foreign *foreignError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &foreign):
		return release.Unavailable("write another ledger.git.branch: one that promote begins itself",
			"%s in %s: the branch holds no ledger: %w", doing, s, err)
	case release.KindOf(err) == release.KindInternal:
		return release.Unavailable(s.hint(err), "%s in %s: %w", doing, s, err)
	}
	var fault *release.Fault
	if errors.As(err, &fault) && strings.Contains(fault.Error(), s.String()) {
		return err
	}
	if errors.As(err, &fault) {
		return release.Faultf(fault.Kind, fault.Hint, "%s in %s: %w", doing, s, err)
	}
	return errors.Join(ctx.Err(), err)
}

func (s *gitStore) unreadable(ctx context.Context, err error) error {
	return s.fault(ctx, "reading the ledger", err)
}

func (s *gitStore) unwritable(ctx context.Context, err error) error {
	return s.fault(ctx, "appending to the ledger", err)
}
