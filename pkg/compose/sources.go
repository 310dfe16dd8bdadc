package compose

import (
	"fmt"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/template"

	"github.com/promote-dev/promote/pkg/release"
)

// Sources gives what each service is made of, in order of their names: a build
// or the image reference as written. Build arguments have their placeholders'
// defaults filled in.
func (f *Files) Sources() []release.Source {
	var out []release.Source
	for _, s := range services(f.model) {
		source := release.Source{Service: s.name}
		at := s.at.in("image")
		if build := object(s.spec["build"]); build != nil {
			at = s.at.in("build")
			source.Build = f.build(build)
			source.Tag, _ = withDefaults(text(s.spec["image"]))
		} else {
			source.Image = text(s.spec["image"])
		}
		where := f.locate(at)
		source.File, source.Line = where.File, where.Line
		out = append(out, source)
	}
	return out
}

func (f *Files) build(spec map[string]any) *release.BuildSpec {
	b := &release.BuildSpec{
		Context:    filepath.Join(f.base, text(spec["context"])),
		Dockerfile: text(spec["dockerfile"]),
		Target:     text(spec["target"]),
	}
	if filepath.IsAbs(text(spec["context"])) {
		b.Context = filepath.Clean(text(spec["context"]))
	}
	if b.Dockerfile == "" {
		b.Dockerfile = "Dockerfile"
	}
	for name, value := range pairs(spec["args"]) {
		if b.Args == nil {
			b.Args = map[string]string{}
		}
		b.Args[name], _ = withDefaults(text(value))
	}
	return b
}

// withDefaults fills in the placeholders of a text without any value, which is
// the same on every machine.
func withDefaults(s string) (string, error) {
	return template.Substitute(s, func(string) (string, bool) { return "", false })
}

// sourceProblems: a release's images must be the same whoever makes them.
func (f *Files) sourceProblems() []problem {
	var list []problem
	for _, s := range services(f.model) {
		build := object(s.spec["build"])
		image := text(s.spec["image"])
		at := s.at.in("image")
		switch {
		case build != nil:
			list = append(list, buildProblems(s, build)...)
		case image == "":
			list = append(list, problem{s.at, fmt.Sprintf("service %s has neither image nor build", s.name), "write one of them"})
		case variable(image):
			list = append(list, problem{at, fmt.Sprintf("image %s: a placeholder may not stand here, the reference is pinned", image),
				"write the reference; promote pin adds the digest"})
		}
	}
	return list
}

func buildProblems(s service, build map[string]any) []problem {
	var list []problem
	at := s.at.in("build")
	add := func(at place, hint, format string, args ...any) {
		list = append(list, problem{at, fmt.Sprintf("service %s: ", s.name) + fmt.Sprintf(format, args...), hint})
	}
	if context := text(build["context"]); remote.MatchString(context) || variable(context) {
		add(at.in("context"), "check the sources out into the project", "build context %s is not a directory of the project", context)
	}
	if file := text(build["dockerfile"]); filepath.IsAbs(file) || variable(file) || variable(text(build["target"])) {
		add(at, "write a path relative to the context, and the target's name", "dockerfile and target must be the same everywhere")
	}
	args := pairs(build["args"])
	for _, name := range names(args) {
		if value := args[name]; value == nil || needy(text(value)) {
			add(at.in("args", name), "write the value, or a default: ${NAME:-value}",
				"build argument %s would come from the environment, and the same commit would give different images", name)
		}
	}
	return list
}

func variable(s string) bool {
	found, ok := placeholders(s)
	return !ok || len(found) > 0
}

// needy reports whether a text has a placeholder without a default.
func needy(s string) bool {
	found, ok := placeholders(s)
	if !ok {
		return true
	}
	without := map[string]bool{}
	for _, p := range found {
		p.missing(nil, without)
	}
	return len(without) > 0
}
