package cli

import (
	jsonv1 "encoding/json"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// output is one -o: a format, and a file or standard output.
type output struct{ format, path string }

// parseOutputs reads -o FORMAT[=PATH], repeatable. Without any it is text.
// With nil formats every word is taken, for reporting errors.
func parseOutputs(values, further []string) ([]output, error) {
	known := slices.Concat([]string{"text", "json"}, further)
	var list []output
	for _, v := range values {
		format, path, _ := strings.Cut(v, "=")
		if !slices.Contains(known, format) {
			return nil, release.Misuse(fmt.Sprintf("one of %q", known), "output format %q", format)
		}
		if path == "" && slices.ContainsFunc(list, func(o output) bool { return o.path == "" }) {
			return nil, release.Misuse("give one of them a path: -o json=FILE", "two results for standard output")
		}
		list = append(list, output{format, path})
	}
	if len(list) == 0 {
		list = []output{{format: "text"}}
	}
	return list, nil
}

func (r *run) wants(format string) bool {
	return slices.ContainsFunc(r.outputs, func(o output) bool { return o.format == format && o.path == "" })
}

// emit writes a result in every format that was asked for, after progress has
// left the terminal.
func (r *run) emit(result any, text func(io.Writer) error) error {
	r.closeProgress()
	for _, o := range r.outputs {
		if err := r.emitTo(o, result, text); err != nil {
			return release.Unavailable("", "writing the result: %w", err)
		}
	}
	return nil
}

// inFormats is a result with formats of its own, which its command lists.
type inFormats interface {
	writeAs(format string, w io.Writer) error
}

func (r *run) emitTo(o output, result any, text func(io.Writer) error) (err error) {
	var w io.Writer = r.std.Out
	if o.path != "" {
		f, err := os.Create(o.path)
		if err != nil {
			return err
		}
		defer func() {
			if closeErr := f.Close(); err == nil {
				err = closeErr
			}
		}()
		w = f
	}
	if o.format == "text" {
		return text(w)
	}
	if other, ok := result.(inFormats); ok && o.format != "json" {
		return other.writeAs(o.format, w)
	}
	if r.lines {
		return encode(w, result)
	}
	return encode(w, result, jsontext.WithIndent("  "))
}

// encode writes a result for programs: a list or a map with nothing in it is
// empty, never null.
func encode(w io.Writer, result any, further ...json.Options) error {
	text, err := json.Marshal(result, append([]json.Options{jsonv1.DefaultOptionsV1(), json.FormatNilSliceAsNull(false), json.FormatNilMapAsNull(false),
		jsontext.EscapeForHTML(false)}, further...)...)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// emitWith writes the result of work that may have failed in a way that has a
// result of its own, then gives the work's error. Denials, failed deploys and
// interruptions have one; a usage error does not, and neither does work that
// ended before it found anything.
func (r *run) emitWith(work error, result any, text func(io.Writer) error) error {
	switch release.KindOf(work) {
	case "", release.KindDenied, release.KindRolledBack, release.KindBroken, release.KindChanged, release.KindFindings, release.KindHeld, release.KindInterrupted:
	case release.KindUnavailable:
	default:
		return work
	}
	if work != nil && (result == nil || reflect.ValueOf(result).IsZero()) {
		return work
	}
	if err := r.emit(result, text); err != nil && work == nil {
		return err
	}
	return work
}
