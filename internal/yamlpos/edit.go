package yamlpos

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Field is a key with its value in a Section's entry: a text, or Fields.
type Field struct {
	Key   string
	Value any // string or []Field
}

// Section is one top-level entry of a YAML file that is being changed.
type Section struct {
	key    *yaml.Node
	value  *yaml.Node
	before string // the file's text
	after  string
}

// OpenSection takes a top-level mapping out of a file to change it. What stands
// around it, and the comments in it, stay as they are. A file that lacks it
// gets it at the end. One that is not in block style at its top level, or whose
// section uses aliases from elsewhere, is an error: it takes a person.
func OpenSection(file string, src []byte, key string) (*Section, error) {
	if _, err := Parse(file, src); err != nil {
		return nil, err
	}
	start, end := section(string(src), key)
	s := &Section{before: string(src[:start]), after: string(src[end:]), key: scalarNode(key)}
	if start == end {
		if s.before != "" && !strings.HasSuffix(s.before, "\n") {
			s.before += "\n"
		}
		s.value = &yaml.Node{Kind: yaml.MappingNode}
		return s, nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(src[start:end], &doc); err != nil || len(doc.Content) != 1 || len(doc.Content[0].Content) != 2 {
		return nil, fmt.Errorf("the section %s cannot be changed by a program: edit it by hand", key)
	}
	s.key, s.value = doc.Content[0].Content[0], doc.Content[0].Content[1]
	if s.value.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("the section %s is no mapping: edit it by hand", key)
	}
	return s, nil
}

// section finds the bytes of a top-level entry: from its key to the last of its
// lines; comments behind that belong to what follows.
func section(src, key string) (start, end int) {
	start = -1
	at := 0
	for _, line := range strings.SplitAfter(src, "\n") {
		text := strings.TrimRight(line, " \t\r\n")
		top := text != "" && !strings.ContainsAny(text[:1], " \t#-") && text != "---" && text != "..."
		switch {
		case start < 0 && (strings.HasPrefix(text, key+":") || strings.HasPrefix(text, `"`+key+`":`)):
			start, end = at, at+len(line)
		case start >= 0 && (top || text == "..."):
			return start, end
		case start >= 0 && text != "" && (text[0] == ' ' || text[0] == '\t' || text[0] == '-'):
			end = at + len(line)
		}
		at += len(line)
	}
	if start < 0 {
		return len(src), len(src)
	}
	return start, end
}

// Text gives the file with the changed section under its key.
func (s *Section) Text() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(s.before)
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{s.key, s.value}}
	if err := encoder.Encode(root); err != nil {
		return nil, fmt.Errorf("writing the section %s: %w", s.key.Value, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("writing the section %s: %w", s.key.Value, err)
	}
	b.WriteString(s.after)
	return b.Bytes(), nil
}

// Entry is one mapping in a list of a section.
type Entry struct{ node *yaml.Node }

// Get gives a field's text, empty if it is absent or no text.
func (e Entry) Get(key string) string {
	if v := member(e.node, key); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}

// Set sets a field's text.
func (e Entry) Set(key, value string) {
	if v := member(e.node, key); v != nil {
		*v = *scalarNode(value)
		return
	}
	e.node.Content = append(e.node.Content, scalarNode(key), scalarNode(value))
}

// Entries gives the mappings in a list of the section; the list stands under
// the key, or under a key in the mapping there.
func (s *Section) Entries(key, in string) []Entry {
	list := s.list(key, in)
	if list == nil {
		return nil
	}
	var entries []Entry
	for _, item := range list.Content {
		if item.Kind == yaml.MappingNode {
			entries = append(entries, Entry{item})
		}
	}
	return entries
}

// Append adds an entry to a list of the section, and makes the list if there is
// none.
func (s *Section) Append(key, in string, fields []Field) error {
	list := s.list(key, in)
	if list == nil {
		if member(s.value, key) != nil {
			return fmt.Errorf("%s is no list: edit it by hand", key)
		}
		list = &yaml.Node{Kind: yaml.SequenceNode}
		s.value.Style &^= yaml.FlowStyle
		s.value.Content = append(s.value.Content, scalarNode(key), list)
	}
	if list.Style&yaml.FlowStyle != 0 { // a growing list is read better line by line
		list.Style &^= yaml.FlowStyle
		for _, item := range list.Content {
			item.Style |= yaml.FlowStyle
		}
		if parent := member(s.value, key); parent != list {
			parent.Style &^= yaml.FlowStyle
		}
		s.value.Style &^= yaml.FlowStyle
	}
	node, err := mappingNode(fields)
	if err != nil {
		return err
	}
	node.Style = yaml.FlowStyle
	list.Content = append(list.Content, node)
	return nil
}

func (s *Section) list(key, in string) *yaml.Node {
	v := member(s.value, key)
	if v != nil && v.Kind == yaml.MappingNode {
		v = member(v, in)
	}
	if v == nil || v.Kind != yaml.SequenceNode {
		return nil
	}
	return v
}

func member(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func scalarNode(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(value)
	return n
}

func mappingNode(fields []Field) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fields {
		var value *yaml.Node
		switch v := f.Value.(type) {
		case string:
			value = scalarNode(v)
		case []Field:
			inner, err := mappingNode(v)
			if err != nil {
				return nil, err
			}
			value = inner
		default:
			return nil, errors.New("a field holds a text or fields")
		}
		n.Content = append(n.Content, scalarNode(f.Key), value)
	}
	return n, nil
}
