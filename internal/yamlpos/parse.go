package yamlpos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/promote-dev/promote/pkg/release"
)

// What one file may hold. A file of people is far below; one that is above is
// an attack or an accident.
const (
	MaxBytes = 1 << 20
	MaxDepth = 64
	// MaxNodes counts every node, those behind aliases each time they are used.
	MaxNodes = 100_000
)

const (
	nullTag  = "!!null"
	boolTag  = "!!bool"
	intTag   = "!!int"
	floatTag = "!!float"
	strTag   = "!!str"
	mergeTag = "!!merge"
)

// ReadFile reads and parses a file of at most MaxBytes.
func ReadFile(path string) (*Node, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading", Subject: path, Err: err,
			Hint: "check that the file exists and that you may read it"}
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading", Subject: path, Err: err}
	}
	return Parse(path, src)
}

// Parse reads one YAML document; file names it in positions. An empty document
// is a null scalar. Text over the limits, several documents, undefined or
// recursive aliases and keys that are not scalars are *release.Fault of
// KindConfig with a position.
func Parse(file string, src []byte) (*Node, error) {
	start := Position{File: file, Line: 1, Column: 1}
	if len(src) > MaxBytes {
		return nil, start.Faultf("split the file", "file is larger than %d bytes", MaxBytes)
	}
	root, err := parseDocument(start, src)
	if err != nil {
		return nil, err
	}
	c := converter{file: file, text: newText(src), done: map[*yaml.Node]*Node{}, open: map[*yaml.Node]bool{}}
	if root == nil {
		return &Node{Position: start, Tag: nullTag, text: c.text, weight: 1}, nil
	}
	n, err := c.convert(root, 0)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// parseDocument gives the only document's root, nil when there is none. The
// library reports some malformed input by panicking, which is as much the
// file's fault as an error.
func parseDocument(start Position, src []byte) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, start.Faultf("", "invalid YAML: %s", clip(fmt.Sprint(p)))
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, syntaxFault(start, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		at := Position{File: start.File, Line: second.Line, Column: second.Column}
		return nil, at.Faultf("keep one document in a file", "a second YAML document starts here")
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxFault(start, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

var errorLine = regexp.MustCompile(`^line (\d+): (.*)$`)

func syntaxFault(at Position, err error) *release.Fault {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := errorLine.FindStringSubmatch(message); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		message = m[2]
	} else if strings.HasPrefix(message, "unknown anchor") {
		at.Line = 0 // the library does not say where
	}
	at.Column = 0
	return at.Faultf("check indentation and quotes on this line and the one above", "invalid YAML: %s", clip(message))
}

// converter turns the library's tree into ours: aliases become the nodes they
// stand for, merge keys the entries they bring.
type converter struct {
	file string
	text *text
	done map[*yaml.Node]*Node
	open map[*yaml.Node]bool // on the path from the root: an alias to one is a cycle
	used int
}

func (c *converter) convert(y *yaml.Node, depth int) (*Node, error) {
	at := Position{File: c.file, Line: y.Line, Column: y.Column}
	if y.Kind == yaml.AliasNode {
		return c.alias(y, at, depth)
	}
	if depth > MaxDepth {
		return nil, at.Faultf("", "nested deeper than %d", MaxDepth)
	}
	if err := c.spend(1, at); err != nil {
		return nil, err
	}
	n := &Node{Position: at, Tag: y.ShortTag(), Value: y.Value, text: c.text, weight: 1}
	c.open[y] = true
	defer delete(c.open, y)
	var err error
	switch y.Kind {
	case yaml.MappingNode:
		n.Kind = Mapping
		err = c.mapping(n, y, depth)
	case yaml.SequenceNode:
		n.Kind = Sequence
		for _, item := range y.Content {
			var child *Node
			if child, err = c.convert(item, depth+1); err != nil {
				break
			}
			n.Items = append(n.Items, child)
			n.weight += child.weight
		}
	}
	if err != nil {
		return nil, err
	}
	c.done[y] = n
	return n, nil
}

func (c *converter) alias(y *yaml.Node, at Position, depth int) (*Node, error) {
	if c.open[y.Alias] {
		return nil, at.Faultf("remove the alias", "alias *%s contains itself", clip(y.Value))
	}
	n, ok := c.done[y.Alias]
	if !ok { // the anchor stands in a key; it is small
		return c.convert(y.Alias, depth)
	}
	return n, c.spend(n.weight, at)
}

func (c *converter) spend(nodes int, at Position) error {
	c.used += nodes
	if c.used > MaxNodes {
		return at.Faultf("use fewer aliases", "more than %d values, counting those behind aliases", MaxNodes)
	}
	return nil
}

func (c *converter) mapping(n *Node, y *yaml.Node, depth int) error {
	seen := map[string]bool{}
	var merges []*Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, err := c.convert(y.Content[i], depth+1)
		if err != nil {
			return err
		}
		if key.Kind != Scalar {
			return key.Faultf("", "expected a name as key, got %s", key.describe())
		}
		value, err := c.convert(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		n.weight += key.weight + value.weight
		switch {
		case key.Tag == mergeTag:
			merges = append(merges, value)
		case seen[key.Value]:
			n.duplicates = append(n.duplicates, key)
		default:
			seen[key.Value] = true
			n.Pairs = append(n.Pairs, Pair{Key: key, Value: value})
		}
	}
	return merge(n, seen, merges)
}

// merge adds what "<<" brings: https://yaml.org/type/merge.html
func merge(n *Node, seen map[string]bool, merges []*Node) error {
	for _, m := range merges {
		sources := []*Node{m}
		if m.Kind == Sequence {
			sources = m.Items
		}
		for _, source := range sources {
			if source.Kind != Mapping {
				return source.Faultf("", "expected a mapping to merge, got %s", source.describe())
			}
			for _, p := range source.Pairs {
				if !seen[p.Key.Value] {
					seen[p.Key.Value] = true
					n.Pairs = append(n.Pairs, p)
				}
			}
		}
	}
	return nil
}
