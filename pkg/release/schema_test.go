package release_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func TestStateSchema(t *testing.T) {
	label := func(text string) map[string]string { return map[string]string{release.LabelStateSchema: text} }
	for _, c := range []struct {
		name   string
		labels []map[string]string
		want   int64 // 0 is an error
	}{
		{"none is the first", nil, 1},
		{"another label", []map[string]string{{"promote.other": "4"}}, 1},
		{"a number", []map[string]string{label("3")}, 3},
		{"the service before the image", []map[string]string{label("3"), label("7")}, 3},
		{"the image", []map[string]string{nil, label("7")}, 7},
		{"the longest", []map[string]string{label("999999999")}, 999999999},
		{"too long", []map[string]string{label("1000000000")}, 0},
		{"zero", []map[string]string{label("0")}, 0},
		{"negative", []map[string]string{label("-1")}, 0},
		{"signed", []map[string]string{label("+1")}, 0},
		{"a word", []map[string]string{label("v3")}, 0},
		{"empty", []map[string]string{label("")}, 0},
		{"a broken one is not passed over", []map[string]string{label("x"), label("3")}, 0},
	} {
		got, err := release.StateSchema(c.labels...)
		if got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d, %v; want %d", c.name, got, err, c.want)
		}
	}
}
