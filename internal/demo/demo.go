// Package demo tells the story of promote with its real commands, each printed
// before it runs, on a throw-away workspace: an agent stack goes from a commit
// to production; then come the refusals, a moved tag and a rollback. Every
// claim at the end stands beside what was seen.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Options are what the demo needs of the world.
type Options struct {
	Executable string   // the promote binary
	Environ    []string // of the commands
	Example    fs.FS    // the agent stack
	Out, Err   *os.File
	Keep       bool
	// Prepare makes the base images available in the embedded registry and
	// gives the mapping for `promote pin --map`: official repository → local
	// one. An empty mapping means that the official images can be pulled.
	Prepare func(ctx context.Context, registry string) (map[string]string, error)
	// Registry starts the embedded registry on a root directory in a process of
	// its own and gives its address.
	Registry func(ctx context.Context, root string) (address string, err error)
	// Remember notes a workspace, so that `promote clean` finds it.
	Remember func(w Workspace) error
	// Clean removes everything that a workspace left, the directory last.
	Clean func(ctx context.Context, w Workspace) error
	// Inspect reads back what a project's containers run, by service: the
	// engine's own image id.
	Inspect func(ctx context.Context, project string) (map[string]string, error)
}

// Workspace is what one demo made.
type Workspace struct {
	ID       string   `json:"id"`
	Dir      string   `json:"dir"`
	Registry string   `json:"registry"` // host:port
	Projects []string `json:"projects"`
}

// Prefix begins the name of every workspace's directory.
const Prefix = "promote-demo-"

// Name is the project's name in the workspace: each demo's own, because what
// targets remember of a ledger is kept under it.
func (w Workspace) Name() string { return "agent-" + w.ID }

// story carries the demo from scene to scene.
type story struct {
	o      Options
	w      Workspace
	shell  shell
	ports  map[string]int // environment → planner's port
	claims []claim
	began  time.Time

	first, second       released
	production, staging promoted
}

// claim is one line of the end: what is claimed, and what was seen.
type claim struct{ what, seen string }

// Run tells the story. Any scene that does not end as it should ends the demo
// with an error; the workspace is removed all the same, unless Keep is set.
func Run(ctx context.Context, o Options) (err error) {
	s := &story{o: o, began: time.Now(), ports: map[string]int{}}
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close(ctx))
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	for _, scene := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Set up: an embedded registry, a vulnerability database, a key, pinned images", s.setUp},
		{"Build once: build, scan, sign and smoke make a release", s.release},
		{"Promote the identical digest: staging", s.toStaging},
		{"Promote the identical digest: production", s.toProduction},
		{"The same digest at every station", s.stations},
		{"The agent learns something; then a new release goes all the way", s.upgrade},
		{"Refused: a dependency with critical vulnerabilities", s.vulnerable},
		{"Refused: a key in a layer", s.secret},
		{"Refused: an executor that leaks", s.leak},
		{"Somebody moves the tag", s.movedTag},
		{"Undo: rollback, and the memory is still there", s.rollback},
		{"The ledger knows", s.status},
	} {
		s.heading(scene.title)
		if err := scene.play(ctx); err != nil {
			return fmt.Errorf("demo, %q: %w", scene.title, err)
		}
	}
	s.printClaims()
	return nil
}

func (s *story) heading(title string) {
	fmt.Fprintf(s.o.Out, "\n%s\n", bold(s.o.Out, "── "+title+" ──"))
}

func (s *story) sayf(format string, args ...any) { fmt.Fprintf(s.o.Out, "# "+format+"\n", args...) }

func (s *story) claim(what, format string, args ...any) {
	s.claims = append(s.claims, claim{what, fmt.Sprintf(format, args...)})
}

func (s *story) printClaims() {
	s.heading("What was shown")
	for _, c := range s.claims {
		fmt.Fprintf(s.o.Out, "✓ %s\n    %s\n", c.what, c.seen)
	}
	fmt.Fprintf(s.o.Out, "\n%d claims, %s.\n", len(s.claims), time.Since(s.began).Round(time.Second))
}

// close removes what the demo made, also after Ctrl-C.
func (s *story) close(ctx context.Context) error {
	if s.w.Dir == "" {
		return nil
	}
	if s.o.Keep {
		fmt.Fprintf(s.o.Out, "\nKept: cd %s/agent && . ../%s, then promote status.\npromote clean removes it, its registry %s, and what runs.\n", s.w.Dir, SecretsFile, s.w.Registry)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return s.o.Clean(ctx, s.w)
}

// bold marks headings on a terminal.
func bold(w io.Writer, text string) string {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return text
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// unexpected is a scene that went another way than it must.
func unexpected(format string, args ...any) error {
	return release.Faultf(release.KindInternal, "run it with --keep and look at the workspace", format, args...)
}
