package ui

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// GitHub shows ten annotations a step.
const maxAnnotations = 10

// Annotate writes an error as workflow commands of GitHub Actions, one for
// each fault with a position, the first ones first; the last says how many
// more there are.
func Annotate(w io.Writer, err error) {
	var list release.Errors
	if !errors.As(err, &list) {
		var fault *release.Fault
		if !errors.As(err, &fault) {
			fault = &release.Fault{Err: err}
		}
		list = release.Errors{fault}
	}
	for i, f := range list {
		if i == maxAnnotations-1 && len(list) > maxAnnotations {
			fmt.Fprintf(w, "::error::and %d more\n", len(list)-i)
			return
		}
		where := ""
		if f.File != "" {
			where = " file=" + property(f.File)
			if f.Line > 0 {
				where += fmt.Sprintf(",line=%d", f.Line)
			}
		}
		fmt.Fprintf(w, "::error%s::%s\n", where, data(f.Error()))
	}
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func data(s string) string     { return dataEscapes.Replace(s) }
func property(s string) string { return propertyEscapes.Replace(s) }
