package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// What one project may hold.
const (
	maxFiles = 64
	maxTotal = 4 << 20 // bytes of all files
)

// file is one Compose file as it was read.
type file struct {
	name    string // relative to the project's directory, for people
	path    string // absolute
	content []byte
	node    *yamlpos.Node
}

// gatherer reads the files asked for and all that they include and extend,
// before the library does: it knows lines, bounds and borders, the library
// knows how to merge.
type gatherer struct {
	dir   string // real path: nothing from outside is included
	files *Files
	done  map[string]bool // by how it was asked for and its path
	open  []string        // the chain of includes that is being read
	total int
	errs  release.Errors
}

func gather(ctx context.Context, o Options) (*Files, error) {
	if len(o.Files) == 0 {
		return nil, release.Faultf(release.KindConfig, "name at least one file under compose.files in promote.yaml", "no Compose file")
	}
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "", "finding the project's directory: %w", err)
	}
	first := o.Files[0]
	if !filepath.IsAbs(first) {
		first = filepath.Join(dir, first)
	}
	g := &gatherer{dir: dir, files: &Files{base: filepath.Dir(first)}, done: map[string]bool{}}
	for _, name := range o.Files {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, name)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		read, err := g.load(path, name, yamlpos.Position{})
		if err != nil {
			g.add(err)
			continue
		}
		g.follow(ctx, read, g.files.base, false)
		g.files.top = append(g.files.top, read)
		g.files.read = append(g.files.read, read)
	}
	return g.files, inOrder(g.errs).Or()
}

// load reads and parses one file; from is where it is asked for, if it is a
// file that asks.
func (g *gatherer) load(path, name string, from yamlpos.Position) (*file, error) {
	fault := func(hint, format string, args ...any) error {
		f := release.Faultf(release.KindConfig, hint, format, args...)
		f.File, f.Line, f.Column = from.File, from.Line, from.Column
		return f
	}
	if len(g.done) >= maxFiles {
		return nil, fault("merge some of them", "more than %d Compose files", maxFiles)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault("create it, or remove its name from compose.files or include", "Compose file %s does not exist", name)
	case err != nil:
		return nil, fault("", "reading Compose file %s: %w", name, errors.Unwrap(err))
	case !info.Mode().IsRegular():
		return nil, fault("", "Compose file %s is not a regular file", name)
	}
	content, err := readFile(path)
	if err != nil {
		return nil, fault("", "reading Compose file %s: %w", name, err)
	}
	if g.total += len(content); g.total > maxTotal {
		return nil, fault("", "Compose files are larger than %d bytes together", maxTotal)
	}
	node, err := yamlpos.Parse(name, content)
	if err != nil {
		return nil, err
	}
	if node.IsNull() {
		return nil, node.Faultf("write at least one service, or remove the file from compose.files", "Compose file %s is empty", name)
	}
	if node.Kind != yamlpos.Mapping {
		return nil, node.Faultf("a Compose file starts with keys such as services", "Compose file %s is not a mapping", name)
	}
	var twice any
	if err := yamlpos.Decode(node, &twice); err != nil {
		return nil, err // repeated keys
	}
	bad := spelled(node, "")
	if len(bad) == 0 {
		bad = shaped(node)
	}
	g.errs = append(g.errs, bad...)
	return &file{name: name, path: path, content: content, node: node}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, yamlpos.MaxBytes+1))
}

// follow reads what a file includes and extends. Paths in it are relative to
// base.
func (g *gatherer) follow(ctx context.Context, f *file, base string, included bool) {
	if ctx.Err() != nil {
		return
	}
	g.open = append(g.open, f.path)
	defer func() { g.open = g.open[:len(g.open)-1] }()
	g.home(f.node)
	g.outdated(f.node)
	if included {
		g.passed(f.node)
	}
	for _, inc := range includes(f.node) {
		g.include(ctx, inc, base)
	}
	services := f.node.Get("services")
	if services == nil {
		return
	}
	for _, pair := range services.Pairs {
		if n := pair.Value.Get("extends", "file"); n != nil {
			if next := g.other(n, base, "extends"); next != nil {
				g.follow(ctx, next, filepath.Dir(next.path), false)
				g.files.read = append(g.files.read, next)
			}
		}
	}
}

func (g *gatherer) fault(n *yamlpos.Node, hint, format string, args ...any) {
	g.errs = append(g.errs, n.Faultf(hint, format, args...))
}

func (g *gatherer) add(err error) {
	var list release.Errors
	var one *release.Fault
	switch {
	case errors.As(err, &list):
		g.errs = append(g.errs, list...)
	case errors.As(err, &one):
		g.errs = append(g.errs, one)
	default:
		g.errs = append(g.errs, release.Faultf(release.KindConfig, "", "%w", err))
	}
}

// home refuses paths that begin with the home directory: the library would
// write this machine's into the model.
func (g *gatherer) home(root *yamlpos.Node) {
	check := func(n *yamlpos.Node) {
		if n != nil && n.Kind == yamlpos.Scalar && strings.HasPrefix(n.Value, "~") {
			g.fault(n, "write a path without ~", "%s: the home directory is another one on every machine", clip(n.Value))
		}
	}
	for _, kind := range []string{"secrets", "configs"} {
		for _, pair := range pairsOf(root.Get(kind)) {
			check(pair.Value.Get("file"))
		}
	}
	for _, pair := range pairsOf(root.Get("services")) {
		check(pair.Value.Get("build"))
		check(pair.Value.Get("build", "context"))
		if volumes := pair.Value.Get("volumes"); volumes != nil {
			for _, item := range volumes.Items {
				check(item)
				check(item.Get("source"))
			}
		}
	}
}

// outdated refuses the form external: {name: …}, which the library would
// rewrite with a warning to the terminal.
func (g *gatherer) outdated(root *yamlpos.Node) {
	for _, kind := range []string{"networks", "volumes", "secrets", "configs"} {
		for _, pair := range pairsOf(root.Get(kind)) {
			if n := pair.Value.Get("external"); n != nil && n.Kind == yamlpos.Mapping {
				g.fault(n, "write external: true, and name: beside it", "external: {name: …} is an old form")
			}
		}
	}
}

// passed refuses variables without a value in an included file: the library
// would take it from a .env file that happens to lie beside it.
func (g *gatherer) passed(root *yamlpos.Node) {
	for _, pair := range pairsOf(root.Get("services")) {
		env := pair.Value.Get("environment")
		if env == nil {
			continue
		}
		for _, item := range env.Items {
			if item.Kind == yamlpos.Scalar && !strings.Contains(item.Value, "=") {
				g.fault(item, fmt.Sprintf("write %s=${%s}", item.Value, item.Value), "variable %s has no value", clip(item.Value))
			}
		}
		for _, p := range env.Pairs {
			if p.Value.IsNull() {
				g.fault(p.Key, fmt.Sprintf("write %s: ${%s}", p.Key.Value, p.Key.Value), "variable %s has no value", clip(p.Key.Value))
			}
		}
	}
}

func pairsOf(n *yamlpos.Node) []yamlpos.Pair {
	if n == nil {
		return nil
	}
	return n.Pairs
}
