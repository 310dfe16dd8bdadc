package yamlpos

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// text is a file's bytes with the offset of each line.
type text struct {
	src   []byte
	lines []int
}

func newText(src []byte) *text {
	t := &text{src: src, lines: []int{0}}
	if bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		t.lines[0] = 3 // columns count after the byte order mark
	}
	for i := 0; i < len(src); {
		size := lineBreak(src[i:])
		if size == 0 {
			i++
			continue
		}
		i += size
		t.lines = append(t.lines, i)
	}
	return t
}

// lineBreak gives the length of the line break that b starts with, 0 for none.
// The YAML library knows six of them.
func lineBreak(b []byte) int {
	switch {
	case bytes.HasPrefix(b, []byte("\r\n")), bytes.HasPrefix(b, []byte("\u0085")):
		return 2
	case bytes.HasPrefix(b, []byte("\u2028")), bytes.HasPrefix(b, []byte("\u2029")):
		return 3
	case b[0] == '\n', b[0] == '\r':
		return 1
	}
	return 0
}

// offset gives the byte offset of a position, -1 outside of the text.
func (t *text) offset(p Position) int {
	if t == nil || p.Line < 1 || p.Line > len(t.lines) {
		return -1
	}
	at := t.lines[p.Line-1]
	for range p.Column - 1 {
		if at >= len(t.src) {
			return -1
		}
		_, size := utf8.DecodeRune(t.src[at:])
		at += size
	}
	return at
}

// Span is a range of bytes of a file: [Start, End).
type Span struct {
	Start int
	End   int
}

// Span gives where a scalar's text stands in the bytes it was parsed from,
// without its quotes, anchor and tag. ok is false where the text is not
// written as it reads: block scalars, several lines, escapes.
func (n *Node) Span() (span Span, ok bool) {
	if n.Kind != Scalar || n.Value == "" {
		return Span{}, false
	}
	at := n.text.offset(n.Position)
	if at < 0 {
		return Span{}, false
	}
	src := n.text.src
	at = skipProperties(src, at)
	quote := byte(0)
	if at < len(src) && (src[at] == '"' || src[at] == '\'') {
		quote = src[at]
		at++
	}
	end := at + len(n.Value)
	if end > len(src) || string(src[at:end]) != n.Value {
		return Span{}, false
	}
	if quote != 0 && (end == len(src) || src[end] != quote) {
		return Span{}, false
	}
	return Span{Start: at, End: end}, true
}

// skipProperties passes an anchor and a tag in front of a scalar.
func skipProperties(src []byte, at int) int {
	for at < len(src) && (src[at] == '&' || src[at] == '!') {
		for at < len(src) && src[at] != ' ' && src[at] != '\t' && lineBreak(src[at:]) == 0 {
			at++
		}
		for at < len(src) && (src[at] == ' ' || src[at] == '\t') {
			at++
		}
	}
	return at
}

// Edit replaces a span by text.
type Edit struct {
	Span
	Text string
}

// Splice applies edits to src and leaves every other byte as it is. Edits may
// come in any order; overlapping ones are an error. It serves any text, not
// only YAML.
func Splice(src []byte, edits []Edit) ([]byte, error) {
	sorted := slices.Clone(edits)
	slices.SortStableFunc(sorted, func(a, b Edit) int { return cmp.Compare(a.Start, b.Start) })
	var out bytes.Buffer
	last := 0
	for _, e := range sorted {
		if e.Start < last || e.End < e.Start || e.End > len(src) {
			return nil, fmt.Errorf("replacing bytes %d to %d: overlaps another replacement or the end", e.Start, e.End)
		}
		out.Write(src[last:e.Start])
		out.WriteString(e.Text)
		last = e.End
	}
	out.Write(src[last:])
	return out.Bytes(), nil
}
