package ui

import (
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{"a\nb\nc\nd\ne\n", "a\nb\nx\nd\ne\n", "  a\n  b\n- c\n+ x\n  d\n  e\n"},
		{"a\n", "a\nb\n", "  a\n+ b\n\n"},
		{"a\nb\nc\n", "x\nb\ny\n", "- a\n+ x\n  b\n- c\n+ y\n\n"},
		{"same\n", "same\n", "  same\n\n"},
	} {
		var b strings.Builder
		if err := Diff(&b, c.before, c.after); err != nil || strings.TrimRight(b.String(), "\n") != strings.TrimRight(c.want, "\n") {
			t.Errorf("%q to %q: %q, want %q", c.before, c.after, b.String(), c.want)
		}
	}
}
