package compose

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/compose-spec/compose-go/v2/validation"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Options says what to load.
type Options struct {
	// Dir is the project: what is included or extended must lie within it.
	Dir string
	// Files are Compose files relative to Dir, the base first, then what is
	// laid over it. Relative paths in them are relative to the first one's
	// directory, as with docker compose -f.
	Files []string
}

// Files is one merged Compose model that was found fit to be released.
type Files struct {
	name  string         // of the project
	base  string         // absolute: where relative paths start
	model map[string]any // merged, canonical syntax, placeholders kept, with build and image
	top   []*file        // the files asked for
	read  []*file        // and all others that were read, each before the one that asked for it
}

// loadTime bounds the library's work; what could run longer was refused before.
const loadTime = 10 * time.Second

// Load reads and merges Compose files as docker compose does, without filling
// in placeholders and without looking at the environment. Whatever could not
// be carried over to another place as it is written, an unknown key above all,
// is refused: the error is release.Errors of KindConfig, each with its file,
// line and column. Nothing is fetched from anywhere.
//
// Services with profiles are not part of a release, as docker compose up leaves
// them out; a notice says so.
func Load(ctx context.Context, o Options) (*Files, error) {
	f, err := gather(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := f.setName(); err != nil {
		return nil, err
	}
	merged, err := f.merge(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.validate(merged); err != nil {
		return nil, err
	}
	f.model = tidy(merged, f.name)
	left := leaveOut(f.model)
	problems := append(check(f.model), stray(f.model)...)
	problems = append(problems, f.sourceProblems()...)
	if err := inOrder(f.faults(problems)).Or(); err != nil {
		return nil, err
	}
	if err := f.rehearse(); err != nil {
		return nil, err
	}
	for _, name := range left {
		event.Noticef(ctx, "service %s has profiles and is not part of the release", name)
	}
	return f, nil
}

var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// setName takes the project's name from the last file that gives one. Compose
// would fall back to the directory's name; a renamed directory would then start
// with empty volumes.
func (f *Files) setName() error {
	for i := len(f.top) - 1; i >= 0; i-- {
		n := f.top[i].node.Get("name")
		if n == nil || n.IsNull() || n.Value == "" {
			continue
		}
		if !projectName.MatchString(n.Value) {
			return n.Faultf("use lower-case letters, digits, - and _, and no placeholder: volumes are found by this name",
				"project name %q is not allowed", clip(n.Value))
		}
		f.name = n.Value
		return nil
	}
	suggestion := loader.NormalizeProjectName(filepath.Base(f.base))
	return f.top[0].node.Position.Faultf(
		fmt.Sprintf("write \"name: %s\" at the top: what the project is called on the hosts; without it the directory's name would count, and another directory would start with empty volumes", suggestion),
		"the project has no name")
}

// merge runs compose-go with everything off that depends on this machine.
func (f *Files) merge(ctx context.Context) (map[string]any, error) {
	details := types.ConfigDetails{WorkingDir: f.base, Environment: types.Mapping{}}
	for _, top := range f.top {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: top.path, Content: top.content})
	}
	dict, err := bounded(ctx, func() (map[string]any, error) {
		return loader.LoadModelWithContext(ctx, details, func(o *loader.Options) {
			o.SetProjectName(f.name, true)
			o.SkipInterpolation = true
			o.SkipNormalization = true
			o.SkipConsistencyCheck = true
			o.SkipResolveEnvironment = true
			o.SkipValidation = true // validate does it, once, and knows lines
			o.ResolvePaths = false
		})
	})
	if err != nil {
		return nil, f.libraryFault(err)
	}
	return plain(dict)
}

// bounded runs the library's code, which cannot be cancelled and panics on
// some malformed input, and gives up on it when time is over.
func bounded[T any](ctx context.Context, run func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("not a Compose file: %v", p)
			}
			done <- r
		}()
		r.value, r.err = run()
	}()
	timer := time.NewTimer(loadTime)
	defer timer.Stop()
	var none T
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-timer.C:
		return none, fmt.Errorf("merging took longer than %s", loadTime)
	}
}

// libraryFault gives compose-go's error a kind and, where it names a key, a line.
func (f *Files) libraryFault(err error) error {
	if release.KindOf(err) == release.KindInterrupted {
		return err
	}
	message := strings.ReplaceAll(err.Error(), "decoding failed due to the following error(s):", "")
	for _, file := range f.read {
		message = strings.ReplaceAll(message, file.path, file.name)
	}
	message = strings.Join(strings.Fields(strings.ReplaceAll(message, f.base, ".")), " ")
	at := f.locate(place{at: pathOf(message)})
	return at.Faultf("docker compose config shows what Compose makes of these files", "%s", message)
}

// inOrder sorts faults by where they stand.
func inOrder(errs release.Errors) release.Errors {
	slices.SortStableFunc(errs, func(a, b *release.Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return errs
}

var pathInMessage = regexp.MustCompile(`(services|networks|volumes|secrets|configs)((\.[A-Za-z0-9_-]+|\[[^\]]*\])*)`)

// pathOf finds the path that a message of the library speaks of, written
// services.a.ports or services[a].ports.
func pathOf(message string) []string {
	m := pathInMessage.FindStringSubmatch(message)
	if m == nil {
		return nil
	}
	steps := strings.FieldsFunc(m[2], func(r rune) bool { return strings.ContainsRune(".[]", r) })
	return append([]string{m[1]}, steps...)
}

// validate judges the merged model by the specification's schema.
func (f *Files) validate(model map[string]any) error {
	_, err := bounded(context.Background(), func() (struct{}, error) {
		if err := schema.Validate(model); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, validation.Validate(model)
	})
	if err != nil {
		return f.libraryFault(err)
	}
	return nil
}

// plain turns what the library left in the model (structs, unsigned numbers,
// times) into plain JSON values, whole numbers as int.
func plain(model map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(model)
	if err != nil {
		return nil, release.Faultf(release.KindConfig, "", "writing the model: %w", err)
	}
	return decode(raw)
}

func decode(raw []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var model map[string]any
	if err := dec.Decode(&model); err != nil {
		return nil, release.Faultf(release.KindConfig, "", "reading the model: %w", err)
	}
	return numbers(model).(map[string]any), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, item := range v {
			v[name] = numbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = numbers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
		n, _ := v.Float64()
		return n
	}
	return v
}
