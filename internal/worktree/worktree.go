// Package worktree reads a git checkout: the revision that a release is made
// of, whether anything is uncommitted, and the digests of a release's
// dimensions. It runs the git command, so that it sees what the user sees.
package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/promote-dev/promote/pkg/release"
)

// Tree is a checkout's directory.
type Tree struct{ Dir string }

// Head reads the commit, its version and whether anything differs from it. A
// directory outside git, or a repository without commits, is a KindUsage fault.
func (t Tree) Head(ctx context.Context) (release.Head, error) {
	revision, err := t.git(ctx, "rev-parse", "--verify", "HEAD")
	if err != nil {
		return release.Head{}, release.Misuse("run promote in a git checkout with at least one commit: a release is made of a commit", "reading HEAD of %s: %w", t.Dir, err)
	}
	head := release.Head{Revision: revision}
	stamp, err := t.git(ctx, "show", "-s", "--format=%ct", "HEAD")
	if err != nil {
		return release.Head{}, err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return release.Head{}, fmt.Errorf("reading the time of %s: %w", revision, err)
	}
	head.Time = time.Unix(seconds, 0).UTC()
	if head.Version, err = t.git(ctx, "describe", "--tags", "--always", "--abbrev=12"); err != nil {
		return release.Head{}, err
	}
	status, err := t.git(ctx, "status", "--porcelain", "--", ".", ":(exclude,top).promote", ":(exclude).promote")
	if err != nil {
		return release.Head{}, err
	}
	if status != "" {
		head.Dirty = true
		head.Changed = strings.Split(status, "\n")
		head.Changed = head.Changed[:min(10, len(head.Changed))]
	}
	if remote, err := t.git(ctx, "config", "--get", "remote.origin.url"); err == nil {
		head.Remote = withoutCredentials(remote)
	}
	return head, nil
}

// Dimensions gives the digest of each group of tracked files, as they are in
// HEAD: name → patterns with "**", relative to the directory. The dimension
// "code" is everything that no pattern names. A pattern that matches nothing
// is a KindConfig fault: a misspelled path would watch nothing.
func (t Tree) Dimensions(ctx context.Context, patterns map[string][]string) (map[string]release.Digest, error) {
	// One entry a line: mode, type, object id, TAB, path. The object id stands
	// for the content.
	listing, err := t.git(ctx, "-c", "core.quotePath=false", "ls-tree", "-r", "HEAD", ".")
	if err != nil {
		return nil, err
	}
	groups := map[string][]string{"code": {}}
	used := map[string]bool{}
	for line := range strings.Lines(listing) {
		line = strings.TrimRight(line, "\n")
		_, path, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("reading git ls-tree: %q", line)
		}
		claimed := false
		for name, list := range patterns {
			for _, pattern := range list {
				match, err := doublestar.Match(pattern, path)
				if err != nil {
					return nil, release.Faultf(release.KindConfig, "write it as in .gitignore: prompts/**", "dimension %s: pattern %q: %w", name, pattern, err)
				}
				if match {
					claimed, used[pattern] = true, true
					groups[name] = append(groups[name], line)
				}
			}
		}
		if !claimed {
			groups["code"] = append(groups["code"], line)
		}
	}
	for name, list := range patterns {
		for _, pattern := range list {
			if !used[pattern] {
				return nil, release.Faultf(release.KindConfig, "correct the path or remove the pattern", "dimension %s: %q matches no tracked file", name, pattern)
			}
		}
	}
	digests := map[string]release.Digest{}
	for name, lines := range groups {
		slices.Sort(lines)
		digests[name] = release.DigestOf([]byte(strings.Join(slices.Compact(lines), "\n")))
	}
	return digests, nil
}

const maxOutput = 64 << 20

func (t Tree) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = t.Dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", release.Unavailable("install git", "running git: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	if stdout.Len() > maxOutput {
		return "", fmt.Errorf("git %s printed %d bytes", args[0], stdout.Len())
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// withoutCredentials drops "user:secret@" from a URL.
func withoutCredentials(remote string) string {
	scheme, rest, ok := strings.Cut(remote, "://")
	if !ok {
		return remote
	}
	if at := strings.LastIndexByte(strings.SplitN(rest, "/", 2)[0], '@'); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}
