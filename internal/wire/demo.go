package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promote-dev/promote/examples"
	"github.com/promote-dev/promote/internal/bases"
	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/demo"
	"github.com/promote-dev/promote/internal/localregistry"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/smoke"
)

func runDemo(ctx context.Context, o cli.DemoOptions) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the promote binary: %w", err)
	}
	tree := examples.Agent()
	if o.Story != "" {
		tree = os.DirFS(o.Story)
	}
	return demo.Run(ctx, demo.Options{
		Executable: executable, Environ: os.Environ(), Example: tree, Out: o.Streams.Out, Err: o.Streams.Err, Keep: o.Keep,
		Prepare: prepareBases,
		Registry: func(ctx context.Context, root string) (string, error) {
			return localregistry.Start(ctx, root, executable, cli.RegistryCommand, "--root", root)
		},
		Remember: remember,
		Clean: func(ctx context.Context, w demo.Workspace) error {
			_, err := cleanWorkspace(ctx, w, false)
			return err
		},
		Inspect: inspect,
	})
}

// hubTime is how long Docker Hub may take to answer.
const hubTime = 5 * time.Second

// prepareBases pushes the base images made from Debian packages into the
// embedded registry where Docker Hub does not answer.
func prepareBases(ctx context.Context, address string) (map[string]string, error) {
	if hubAnswers(ctx) {
		return nil, nil
	}
	client, err := openRegistry(nil)
	if err != nil {
		return nil, err
	}
	mapping := map[string]string{}
	for _, name := range bases.Names() {
		image, err := bases.Load(bases.Directory(os.Getenv), name)
		if err != nil {
			return nil, err
		}
		official, tag, _ := strings.Cut(bases.Replaces(name), ":")
		repository := address + "/base/" + official
		if _, err := bases.Push(ctx, pusher{client}, repository, tag, image); err != nil {
			return nil, err
		}
		mapping["docker.io/library/"+official] = repository
	}
	return mapping, nil
}

// pushBases pushes the base images under names of their own, for tests.
func pushBases(ctx context.Context, address string) error {
	client, err := openRegistry(nil)
	if err != nil {
		return err
	}
	for _, name := range bases.Names() {
		image, err := bases.Load(bases.Directory(os.Getenv), name)
		if err != nil {
			return err
		}
		if _, err := bases.Push(ctx, pusher{client}, address+"/base/"+name, "bookworm", image); err != nil {
			return err
		}
	}
	return nil
}

func hubAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hubTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://registry-1.docker.io/v2/", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusOK
}

type pusher struct{ *registry.Client }

func (p pusher) PushManifest(ctx context.Context, repository, tag string, m release.Blob) error {
	_, err := p.Client.PushManifest(ctx, repository, tag, m)
	return err
}

// inspect gives the engine's own image ids of a project's containers.
func inspect(ctx context.Context, project string) (map[string]string, error) {
	h, err := engine.Open(ctx, release.Target{Name: "this machine"}, engine.Options{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	seen, err := h.Observe(ctx, project)
	if err != nil {
		return nil, err
	}
	images := map[string]string{}
	for _, c := range seen.Containers {
		images[c.Service] = c.Image
	}
	return images, nil
}

// demosDir is where kept workspaces are noted.
func demosDir() (string, error) { return stateDir("demos") }

// stateDir gives a directory of this user's state, which outlives a run.
func stateDir(name string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", release.Misuse("set HOME or XDG_STATE_HOME", "finding the state directory: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "promote", name), nil
}

func remember(w demo.Workspace) error {
	dir, err := demosDir()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, w.ID+".json"), raw, 0o600)
}

// clean removes every demo's workspace and what smoke runs left behind that are
// over: what is still at work is not touched unless everything is asked for.
func clean(ctx context.Context, o cli.CleanOptions) (cli.CleanResult, error) {
	out := cli.CleanResult{Containers: []string{}, Networks: []string{}, Volumes: []string{}, Files: []string{}, Processes: []string{}, DryRun: o.DryRun}
	dir, err := demosDir()
	if err != nil {
		return out, err
	}
	notes, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return out, err
	}
	var errs []error
	for _, note := range notes {
		raw, err := readCapped(note, 64<<10)
		var w demo.Workspace
		if err == nil {
			err = json.Unmarshal(raw, &w)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", note, err))
			continue
		}
		removed, err := cleanWorkspace(ctx, w, o.DryRun)
		errs = append(errs, err)
		out.Containers = append(out.Containers, removed.Containers...)
		out.Networks = append(out.Networks, removed.Networks...)
		out.Volumes = append(out.Volumes, removed.Volumes...)
		out.Files = append(out.Files, w.Dir)
		if w.Registry != "" {
			out.Processes = append(out.Processes, "registry "+w.Registry)
		}
	}
	h, err := engine.Open(ctx, release.Target{Name: "this machine"}, engine.Options{})
	if err != nil {
		return out, errors.Join(append(errs, err)...)
	}
	defer h.Close()
	left, err := sweepSmoke(ctx, h, o)
	out.Containers = append(out.Containers, left.Containers...)
	out.Networks = append(out.Networks, left.Networks...)
	out.Volumes = append(out.Volumes, left.Volumes...)
	return out, errors.Join(append(errs, err)...)
}

// sweepSmoke removes what smoke runs left behind, with all the volumes that
// their containers mount.
func sweepSmoke(ctx context.Context, h *engine.Host, o cli.CleanOptions) (release.Labelled, error) {
	if o.All {
		return sweep(ctx, h, o.DryRun, release.LabelSmoke)
	}
	var all release.Labelled
	projects, err := smoke.Leftovers(ctx, sweeper{h}, true)
	if err != nil {
		return all, err
	}
	var errs []error
	for _, project := range projects {
		found, err := h.ListLabelled(ctx, release.LabelProject+"="+project)
		if err == nil && !o.DryRun {
			err = deploy.Down(ctx, h, project, true)
		}
		errs = append(errs, err)
		all.Containers = append(all.Containers, found.Containers...)
		all.Networks = append(all.Networks, found.Networks...)
		all.Volumes = append(all.Volumes, found.Volumes...)
	}
	return all, errors.Join(errs...)
}

// cleanWorkspace removes what one demo made: its projects, lock objects and
// checkpoints, its images, its registry, its note, its directory last.
func cleanWorkspace(ctx context.Context, w demo.Workspace, dryRun bool) (release.Labelled, error) {
	var all release.Labelled
	h, err := engine.Open(ctx, release.Target{Name: "this machine"}, engine.Options{})
	if err != nil {
		return all, err
	}
	defer h.Close()
	var labels []string
	for _, project := range w.Projects {
		labels = append(labels, release.LabelProject+"="+project)
	}
	for _, env := range []string{"staging", "production"} {
		labels = append(labels, engine.LabelCheckpoint+"="+pipeline.LockName(w.Name(), env))
	}
	all, err = sweep(ctx, h, dryRun, labels...)
	errs := []error{err}
	if dryRun {
		return all, err
	}
	for _, env := range []string{"staging", "production"} {
		name := pipeline.LockName(w.Name(), env)
		note, _, err := h.ReadLock(ctx, name)
		errs = append(errs, err, h.Unlock(ctx, name, note.Sequence))
	}
	errs = append(errs, h.RemoveImages(ctx, w.Registry+"/"), localregistry.Stop(ctx, filepath.Join(w.Dir, "registry")))
	if err := errors.Join(errs...); err != nil {
		return all, err // the note stays, so that clean finds it again
	}
	if err := removeWorkspace(w.Dir); err != nil {
		return all, err
	}
	dir, err := demosDir()
	if err != nil {
		return all, err
	}
	if err := os.Remove(filepath.Join(dir, w.ID+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return all, err
	}
	return all, nil
}

// removeWorkspace removes only what looks like a workspace of ours.
func removeWorkspace(dir string) error {
	if !strings.HasPrefix(filepath.Base(dir), demo.Prefix) {
		return release.Faultf(release.KindInternal, "remove it by hand", "%s is no demo's workspace", dir)
	}
	return os.RemoveAll(dir)
}

// sweep removes everything that carries one of the labels, or only lists it.
func sweep(ctx context.Context, h *engine.Host, dryRun bool, labels ...string) (release.Labelled, error) {
	var all release.Labelled
	var errs []error
	for _, label := range labels {
		look := h.RemoveLabelled
		if dryRun {
			look = h.ListLabelled
		}
		found, err := look(ctx, label)
		errs = append(errs, err)
		all.Containers = append(all.Containers, found.Containers...)
		all.Networks = append(all.Networks, found.Networks...)
		all.Volumes = append(all.Volumes, found.Volumes...)
	}
	return all, errors.Join(errs...)
}
