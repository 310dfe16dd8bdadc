package smoketest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Judge compares a run's result with the variant's: its verdict, its check
// with its words, and that nothing else failed.
func (v Variant) Judge(s release.Smoke) error {
	failed := v.Result == release.Failed
	if (s.Result == release.Failed) != failed {
		return fmt.Errorf("the run is %s, want the check to be %s", s.Result, v.Result)
	}
	found := false
	for _, c := range s.Checks {
		switch {
		case c.Name == v.Check:
			found = true
			if c.Result != v.Result {
				return fmt.Errorf("%s is %s, want %s: %s", c.Name, c.Result, v.Result, c.Detail)
			}
			for _, w := range v.Words {
				if !strings.Contains(c.Detail, w) {
					return fmt.Errorf("%s does not say %q: %s", c.Name, w, c.Detail)
				}
			}
		case c.Result == release.Failed && !slices.Contains(v.Also, c.Name):
			return fmt.Errorf("%s failed, too: %s", c.Name, c.Detail)
		}
	}
	if !found {
		return fmt.Errorf("no check %s", v.Check)
	}
	return nil
}

// Said gives what a run's result says in the variant's check.
func (v Variant) Said(s release.Smoke) string {
	for _, c := range s.Checks {
		if c.Name == v.Check {
			return c.Detail
		}
	}
	return ""
}

// Row is what became of a variant's runs.
type Row struct {
	Right, Runs int
	Median      time.Duration
	Said        string // by one of them
}

// The table stands between these marks.
const (
	Begin = "<!-- variants -->"
	End   = "<!-- /variants -->"
)

const header = "| variant | must be | right / runs | median | one of them said |\n|---|---|---|---|---|\n"

// Update puts rows into the table of a document. Rows of variants that were
// not run stay as they are, or say so; those of variants that no longer exist go.
func Update(document []byte, rows map[string]Row) ([]byte, error) {
	before, rest, ok := bytes.Cut(document, []byte(Begin))
	old, after, closed := bytes.Cut(rest, []byte(End))
	if !ok || !closed {
		return nil, errors.New("the document has no table of variants")
	}
	lines := Lines(old)
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(Begin + "\n" + header)
	for _, v := range append(Variants(), Examples()...) {
		if row, ok := rows[v.Name]; ok {
			fmt.Fprintf(&b, "| %s | %s: `%s` | %d / %d | %.0f s | %s |\n",
				v.Name, v.Result, v.Check, row.Right, row.Runs, row.Median.Seconds(), cell(row.Said))
		} else if line, ok := lines[v.Name]; ok {
			b.WriteString(line + "\n")
		} else {
			fmt.Fprintf(&b, "| %s | %s: `%s` | 0 / 0 | | |\n", v.Name, v.Result, v.Check)
		}
	}
	b.WriteString(End)
	b.Write(after)
	return b.Bytes(), nil
}

// Lines gives a table's lines by the name of the variant that each is about.
func Lines(table []byte) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(string(table)) {
		line = strings.TrimSpace(line)
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			lines[strings.TrimSpace(cells[1])] = line
		}
	}
	return lines
}

func cell(s string) string {
	s = strings.NewReplacer("|", "¦", "\n", " ", "<", "&lt;", "*", `\*`, "_", `\_`).Replace(s)
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
