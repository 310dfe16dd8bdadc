package yamlpos

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Kind is the shape of a node.
type Kind int

// The shapes. Aliases and merge keys are resolved while parsing.
const (
	Scalar Kind = iota
	Mapping
	Sequence
)

// Position is a place in a file. Line and Column are 1-based; Column counts
// characters.
type Position struct {
	File   string
	Line   int
	Column int
}

// String gives "file:line:column".
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Faultf makes a configuration fault at the position.
func (p Position) Faultf(hint, format string, args ...any) *release.Fault {
	f := release.Faultf(release.KindConfig, hint, format, args...)
	f.File, f.Line, f.Column = p.File, p.Line, p.Column
	return f
}

// Node is one YAML value with its position. An alias is the node it stands
// for, so that a position found through one is where the text is written.
type Node struct {
	Position
	Kind Kind
	// Tag is the resolved short tag of a scalar: !!str, !!int, !!float,
	// !!bool, !!null, !!timestamp, or a tag of the author's own.
	Tag string
	// Value is the unquoted text of a scalar.
	Value string
	// Pairs are a mapping's entries in order; those that a merge key brings in
	// come last and never hide one that is written out.
	Pairs []Pair
	// Items are a sequence's values.
	Items []*Node

	duplicates []*Node // the second and further keys of the same text
	text       *text
	weight     int    // nodes of the subtree, aliases expanded
	path       string // where a type of its own finds it, for messages
}

// Pair is one entry of a mapping.
type Pair struct {
	Key   *Node
	Value *Node
}

// IsNull reports whether the node is null or an empty value.
func (n *Node) IsNull() bool { return n.Kind == Scalar && n.Tag == nullTag }

// Entry gives a mapping's entry by key.
func (n *Node) Entry(key string) (Pair, bool) {
	for _, p := range n.Pairs {
		if p.Key.Value == key {
			return p, true
		}
	}
	return Pair{}, false
}

// Get walks down keys (and decimal indexes of sequences); nil when something
// on the way is absent. It may be called on nil.
func (n *Node) Get(path ...string) *Node {
	found, rest := n.walk(path)
	if len(rest) > 0 {
		return nil
	}
	return found
}

// Lookup is Get for a dotted path: "services.planner.image",
// "environments.staging.targets.0.host". Keys that hold a dot need Get.
func (n *Node) Lookup(path string) *Node { return n.Get(strings.Split(path, ".")...) }

// Nearest gives the deepest node that exists on the path, for saying where
// something is missing.
func (n *Node) Nearest(path ...string) *Node {
	found, _ := n.walk(path)
	return found
}

func (n *Node) walk(path []string) (*Node, []string) {
	for len(path) > 0 && n != nil {
		next := n.child(path[0])
		if next == nil {
			break
		}
		n, path = next, path[1:]
	}
	return n, path
}

func (n *Node) child(key string) *Node {
	if n.Kind == Sequence {
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= len(n.Items) {
			return nil
		}
		return n.Items[i]
	}
	p, _ := n.Entry(key)
	return p.Value
}

// describe names what a node is, for messages about what was expected instead.
func (n *Node) describe() string {
	switch n.Kind {
	case Mapping:
		return "a mapping"
	case Sequence:
		return "a list"
	}
	switch n.Tag {
	case nullTag:
		return "nothing"
	case boolTag:
		return "the boolean " + clip(n.Value)
	case intTag, floatTag:
		return "the number " + clip(n.Value)
	}
	return strconv.Quote(clip(n.Value))
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
