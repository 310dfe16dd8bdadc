package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/promote-dev/promote/internal/ui"
	"github.com/promote-dev/promote/pkg/release"
)

// codes is the one place where a fault's kind becomes an exit code.
var codes = map[release.Kind]int{
	"":                      0,
	release.KindUnavailable: 1,
	release.KindIntegrity:   1,
	release.KindInternal:    1,
	release.KindFindings:    1,
	release.KindUsage:       2,
	release.KindConfig:      2,
	release.KindDenied:      3,
	release.KindRolledBack:  4,
	release.KindBroken:      5,
	release.KindHeld:        6,
	release.KindChanged:     7,
	release.KindInterrupted: 130,
}

// exitCode gives the exit code of an error; an unknown kind is 1, never 0.
func exitCode(err error) int {
	code, ok := codes[release.KindOf(err)]
	if !ok {
		return 1
	}
	return code
}

// errorResult is what `-o json` prints to standard error.
type errorResult struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code    int          `json:"code"`
	Kind    release.Kind `json:"kind"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
	File    string       `json:"file,omitempty"`
	Line    int          `json:"line,omitempty"`
}

// printError says what went wrong: to people with the hint on a line of its
// own, to machines as one JSON object, to GitHub as annotations.
func printError(w io.Writer, err error, asJSON, github bool) {
	var fault *release.Fault
	if !errors.As(err, &fault) {
		fault = &release.Fault{}
	}
	if asJSON {
		body := errorBody{Code: exitCode(err), Kind: release.KindOf(err), Message: err.Error(), Hint: fault.Hint, File: fault.File, Line: fault.Line}
		raw, _ := json.Marshal(errorResult{body}) // strings and numbers always encode
		fmt.Fprintln(w, string(raw))
		return
	}
	if github {
		ui.Annotate(w, err)
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = ui.Clean(line)
	}
	fmt.Fprintf(w, "%s: %s\n", label(release.KindOf(err)), strings.Join(lines, "\n"))
	for _, hint := range hints(err) {
		fmt.Fprintf(w, "  → %s\n", hint)
	}
}

// label tells a denial from a failure at a glance.
func label(k release.Kind) string {
	switch k {
	case release.KindDenied:
		return "denied"
	case release.KindInterrupted:
		return "interrupted"
	}
	return "error"
}

// hints gives the distinct hints of all faults of an error, first ones first.
func hints(err error) []string {
	var list []string
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if f, ok := err.(*release.Fault); ok && f.Hint != "" { //nolint:errorlint // each link is looked at
			for _, known := range list {
				if known == f.Hint {
					return
				}
			}
			list = append(list, f.Hint)
		}
		switch u := err.(type) { //nolint:errorlint // each link is looked at
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return list
}
