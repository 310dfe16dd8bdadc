package build

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// pinFile is one file that Pin reads, the references in it, and the edits to make.
type pinFile struct {
	name  string // as in results
	path  string
	src   []byte
	uses  []use
	edits []yamlpos.Edit

	// Of Compose files: which services are built here, and under what names.
	built map[string]string // service: image name; may be empty
	owner map[int]string    // index in uses: service
}

func readPinFile(dir, name string) (*pinFile, error) {
	f := &pinFile{name: name, path: path(dir, name)}
	src, err := readBounded(f.path, maxDockerfile)
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading", File: name, Err: err,
			Hint: "check that the file exists and that you may read it"}
	}
	f.src = src
	if isCompose(name) {
		return f, f.compose()
	}
	d, err := parseDockerfile(name, src)
	if err != nil {
		return nil, err
	}
	f.uses = d.uses()
	return f, nil
}

// compose lists what a Compose file's services run and build on.
func (f *pinFile) compose() error {
	root, err := yamlpos.Parse(f.name, f.src)
	if err != nil {
		return err
	}
	f.built, f.owner = map[string]string{}, map[int]string{}
	services := root.Get("services")
	if services == nil {
		return nil
	}
	for _, p := range services.Pairs {
		name, service := p.Key.Value, p.Value
		image := service.Get("image")
		if build := service.Get("build"); build != nil && !build.IsNull() {
			f.built[name] = ""
			if image != nil {
				f.built[name] = image.Value
			}
			f.additionalContexts(build)
			continue
		}
		if image != nil && image.Kind == yamlpos.Scalar && image.Value != "" {
			f.owner[len(f.uses)] = name
			f.uses = append(f.uses, composeUse(image, "image", ""))
		}
	}
	return nil
}

// additionalContexts finds images that a build takes as further contexts.
func (f *pinFile) additionalContexts(build *yamlpos.Node) {
	const scheme = "docker-image://"
	contexts := build.Get("additional_contexts")
	if contexts == nil {
		return
	}
	for _, p := range contexts.Pairs {
		if strings.HasPrefix(p.Value.Value, scheme) {
			f.uses = append(f.uses, composeUse(p.Value, "additional_contexts", scheme))
		}
	}
	for _, item := range contexts.Items {
		if name, ref, ok := strings.Cut(item.Value, "="+scheme); ok && ref != "" {
			f.uses = append(f.uses, composeUse(item, "additional_contexts", name+"="+scheme))
		}
	}
}

// composeUse makes a use of a scalar that holds a reference after prefix.
func composeUse(n *yamlpos.Node, what, prefix string) use {
	u := use{line: n.Line, what: what, text: n.Value[len(prefix):]}
	u.value = u.text
	if hasVariable(u.text) {
		// Compose fills it in when it runs, on any machine; a digest found
		// now for one value would be wrong for another.
		u.cannot = "it holds a variable"
		return u
	}
	span, ok := n.Span()
	if !ok {
		u.cannot = "it is not written in one piece"
		return u
	}
	span.Start += len(prefix)
	u.span = span
	return u
}

// skipOwnImages drops the references to images that the project's own
// services build: they have no digest before they are built.
func skipOwnImages(files []*pinFile) {
	built, names := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		for service, image := range f.built {
			built[service] = true
			if image != "" {
				names[image] = true
			}
		}
	}
	for _, f := range files {
		var kept []use
		for i, u := range f.uses {
			if service, ok := f.owner[i]; ok && (built[service] || names[u.text]) {
				continue
			}
			kept = append(kept, u)
		}
		f.uses = kept
	}
}

// write replaces the file atomically, keeping its permissions.
func (f *pinFile) write() error {
	if len(f.edits) == 0 {
		return nil
	}
	out, err := yamlpos.Splice(f.src, f.edits)
	if err == nil {
		err = replaceFile(f.path, f.src, out)
	}
	if err != nil {
		return &release.Fault{Kind: release.KindConfig, Op: "writing pins", File: f.name, Err: err,
			Hint: "check that the file and its directory can be written, then run it again"}
	}
	return nil
}

// replaceFile writes a new file beside path and renames it over path, after
// making sure that path still holds what was read.
func replaceFile(path string, was, now []byte) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	current, err := readBounded(path, maxDockerfile)
	if err != nil {
		return err
	}
	if !bytes.Equal(current, was) {
		return fmt.Errorf("%s changed meanwhile", path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(now)
	if err == nil {
		err = tmp.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

const maxPinFiles = 1000

// discover finds Dockerfiles and Compose files in dir, up to two directories
// deep, in order of their names.
func discover(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if rel != "." && (skipDir(e.Name()) || strings.Count(rel, string(filepath.Separator)) >= 2) {
				return filepath.SkipDir
			}
			return nil
		}
		if isDockerfile(rel) || isCompose(rel) && filepath.Dir(rel) == "." {
			names = append(names, rel)
		}
		if len(names) > maxPinFiles {
			return fmt.Errorf("more than %d files to pin", maxPinFiles)
		}
		return nil
	})
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "name the files to pin", "looking for Dockerfiles in %s: %w", dir, err)
	}
	slices.Sort(names)
	return names, nil
}

func skipDir(name string) bool {
	return strings.HasPrefix(name, ".") || name == "node_modules" || name == "vendor" || name == "testdata"
}

func isDockerfile(name string) bool {
	base := filepath.Base(name)
	if strings.HasSuffix(base, ".dockerignore") {
		return false
	}
	for _, stem := range []string{"Dockerfile", "Containerfile"} {
		if base == stem || strings.HasPrefix(base, stem+".") || strings.HasSuffix(base, "."+stem) {
			return true
		}
	}
	return strings.HasSuffix(base, ".dockerfile")
}

func isCompose(name string) bool {
	base := filepath.Base(name)
	ext := filepath.Ext(base)
	return (ext == ".yml" || ext == ".yaml") && (strings.HasPrefix(base, "compose.") || strings.HasPrefix(base, "docker-compose.") ||
		strings.HasPrefix(base, "compose-") || strings.HasPrefix(base, "docker-compose-"))
}
