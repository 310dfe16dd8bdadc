package compose

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
)

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
