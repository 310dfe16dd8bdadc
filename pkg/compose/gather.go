package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	return g.files, g.errs.Or()
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
	g.errs = append(g.errs, spelled(node, "")...)
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

// inclusion is one entry of include.
type inclusion struct {
	paths     []*yamlpos.Node
	directory *yamlpos.Node
	values    *yamlpos.Node // env_file
}

func includes(root *yamlpos.Node) []inclusion {
	n := root.Get("include")
	if n == nil {
		return nil
	}
	var list []inclusion
	for _, item := range n.Items {
		if item.Kind == yamlpos.Scalar {
			list = append(list, inclusion{paths: []*yamlpos.Node{item}})
			continue
		}
		inc := inclusion{directory: item.Get("project_directory"), values: item.Get("env_file")}
		if path := item.Get("path"); path != nil && path.Kind == yamlpos.Sequence {
			inc.paths = path.Items
		} else if path != nil {
			inc.paths = []*yamlpos.Node{path}
		}
		list = append(list, inc)
	}
	return list
}

func (g *gatherer) include(ctx context.Context, inc inclusion, base string) {
	if inc.values != nil {
		g.fault(inc.values, "use environments.E.envFile in promote.yaml", "include: env_file is not supported: values do not belong into a release")
	}
	directory := ""
	if inc.directory != nil {
		directory, _ = g.within(inc.directory, base)
	}
	for _, n := range inc.paths {
		next := g.other(n, base, "include")
		if next == nil {
			continue
		}
		if directory == "" {
			directory = filepath.Dir(next.path)
		}
		g.follow(ctx, next, directory, true)
		g.files.read = append(g.files.read, next)
	}
}

var remote = regexp.MustCompile(`^[a-zA-Z0-9+]+://|^oci:|^git@|^github\.com/`)

// within resolves a path that a file names, which must stay in the project.
func (g *gatherer) within(n *yamlpos.Node, base string) (string, bool) {
	switch {
	case n.Kind != yamlpos.Scalar || n.Value == "":
		g.fault(n, "write a path", "expected the path of a Compose file")
		return "", false
	case remote.MatchString(n.Value):
		g.fault(n, "copy the file into the project, so that it is part of the commit", "%s lies outside of the project; nothing is fetched", clip(n.Value))
		return "", false
	case strings.Contains(n.Value, "$"):
		g.fault(n, "write the path", "%s: a placeholder may not stand in the path of a Compose file", clip(n.Value))
		return "", false
	}
	path := n.Value
	if !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		g.fault(n, "create it, or remove its name here", "Compose file %s does not exist", clip(n.Value))
		return "", false
	}
	if rel, err := filepath.Rel(g.dir, real); err != nil || !filepath.IsLocal(rel) {
		g.fault(n, "copy the file into the project, so that it is part of the commit", "%s lies outside of the project", clip(n.Value))
		return "", false
	}
	return path, true
}

// other reads a file that another one names; nil if it was read before or
// cannot be.
func (g *gatherer) other(n *yamlpos.Node, base, how string) *file {
	path, ok := g.within(n, base)
	if !ok {
		return nil
	}
	if i := slices.Index(g.open, path); i >= 0 {
		if how == "include" {
			g.fault(n, "remove one of the includes", "include cycle: %s", g.chain(append(g.open[i:], path)))
		}
		return nil
	}
	if g.done[how+path] {
		return nil
	}
	g.done[how+path] = true
	f, err := g.load(path, g.relative(path), n.Position)
	if err != nil {
		g.add(err)
		return nil
	}
	return f
}

func (g *gatherer) relative(path string) string {
	name, err := filepath.Rel(g.dir, path)
	if err != nil {
		return path
	}
	return name
}

func (g *gatherer) chain(paths []string) string {
	var names []string
	for _, path := range paths {
		names = append(names, g.relative(path))
	}
	return strings.Join(names, " → ")
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
