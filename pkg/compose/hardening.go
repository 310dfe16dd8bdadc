package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/internal/yamlpos"
)

// hardening is protection that one file writes and that must still be there
// when all files are merged.
var hardening = []struct {
	key, what string
	written   func(n *yamlpos.Node) bool
	kept      func(v any) bool
}{
	{"read_only", "its read-only root file system",
		func(n *yamlpos.Node) bool { return n.Kind == yamlpos.Scalar && strings.EqualFold(n.Value, "true") },
		truthy},
	{"cap_drop", "cap_drop: [ALL]",
		func(n *yamlpos.Node) bool { return holds(n, "ALL") },
		func(v any) bool {
			return slices.ContainsFunc(texts(v), func(s string) bool { return strings.EqualFold(s, "ALL") })
		}},
	{"security_opt", "no-new-privileges",
		func(n *yamlpos.Node) bool { return holds(n, "no-new-privileges") },
		func(v any) bool {
			return slices.ContainsFunc(texts(v), func(s string) bool { return strings.HasPrefix(s, "no-new-privileges") })
		}},
	{"user", "its user without privileges",
		func(n *yamlpos.Node) bool { return n.Kind == yamlpos.Scalar && !n.IsNull() && n.Value != "" },
		func(v any) bool { return text(v) != "" }},
	{"healthcheck", "its health check",
		func(n *yamlpos.Node) bool { return n.Get("test") != nil && n.Get("disable") == nil },
		func(v any) bool {
			test := texts(object(v)["test"])
			return len(test) > 0 && test[0] != "NONE" && !truthy(object(v)["disable"])
		}},
}

func holds(n *yamlpos.Node, what string) bool {
	return slices.ContainsFunc(n.Items, func(item *yamlpos.Node) bool {
		return strings.HasPrefix(strings.ToUpper(item.Value), strings.ToUpper(what)) && !strings.HasSuffix(item.Value, "false")
	})
}

// weakened reports protection that a later file takes away: the base looks
// hardened to whoever reads it, and what runs is not.
func (f *Files) weakened() []finding {
	var list []finding
	for _, s := range services(f.model) {
		for _, h := range hardening {
			if h.kept(s.spec[h.key]) {
				continue
			}
			for _, file := range f.top {
				n := file.node.Get("services", s.name, h.key)
				if n != nil && !strings.HasPrefix(n.Tag, "!reset") && h.written(n) {
					list = append(list, finding{s.at.in(h.key), "compose/hardening-removed",
						fmt.Sprintf("service %s loses %s, which %s line %d gives it", s.name, h.what, n.File, n.Line),
						"remove the key in the later file"})
					break
				}
			}
		}
	}
	return list
}
