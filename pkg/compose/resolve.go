package compose

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/promote-dev/promote/pkg/release"
)

// maxModel is how large a model may be, in bytes.
const maxModel = 4 << 20

// Resolve fills in a model that Model made: values for its placeholders, and
// the image of each service. It reads nothing but its arguments and has no
// effect. All names are full: networks and volumes "<project>_<key>" unless the
// model names them, containers "<project>-<service>-1" unless container_name
// is set. Services come in an order in which each follows what it depends on.
//
// A placeholder without a value and without a default is KindConfig, one fault
// for all of them. So is a model that holds what Load would have refused: it
// is judged again, with the values in place.
func Resolve(model []byte, values map[string]string, images map[string]release.Subject) (release.Workload, error) {
	m, err := read(model)
	if err != nil {
		return release.Workload{}, err
	}
	name := text(m["name"])
	known := maps.Clone(values)
	if known == nil {
		known = map[string]string{}
	}
	known[projectVariable] = name
	if names := missing(m, known); len(names) > 0 {
		return release.Workload{}, missingFault(names)
	}
	if err := rejudge(m, known); err != nil {
		return release.Workload{}, err
	}
	if err := setImages(m, images); err != nil {
		return release.Workload{}, err
	}
	w, err := fill(m, known, images)
	if err != nil {
		return release.Workload{}, modelFault("%w", err)
	}
	for i, s := range w.Services {
		w.Services[i].Filled = filledKeys(m, s.Name)
	}
	return w, nil
}

// filledKeys names the keys of a service under which placeholders stand.
func filledKeys(m map[string]any, service string) []string {
	found := map[string]bool{}
	eachText(m, func(at []string, s string) {
		if len(at) < 3 || at[0] != "services" || at[1] != service {
			return
		}
		if list, _ := placeholders(s); len(list) > 0 {
			found[at[2]] = true
		}
	})
	return slices.Sorted(maps.Keys(found))
}

// fill makes the workload of a judged model.
func fill(m map[string]any, values map[string]string, images map[string]release.Subject) (release.Workload, error) {
	project, err := bounded(context.Background(), func() (*types.Project, error) { return typed(m, text(m["name"]), values) })
	if err != nil {
		return release.Workload{}, err
	}
	return workload(project.WithoutUnnecessaryResources(), images)
}

// rehearse fills in the model with made-up values, so that what cannot work
// with any (a size that is none, a port out of range) is known before anything
// is built. A model that needs a value where the made-up one could be the cause
// is left for Resolve.
func (f *Files) rehearse() error {
	raw, _, err := f.Model()
	if err != nil {
		return err
	}
	m, err := read(raw)
	if err != nil {
		return err
	}
	values := map[string]string{projectVariable: f.name}
	makeUp(m, values)
	able := true
	eachText(m, func(at []string, s string) {
		free := at[0] == "secrets" || len(at) > 2 && (at[2] == "environment" || at[2] == "labels" || at[2] == "command" || at[2] == "entrypoint" || at[2] == "pre_stop")
		if needed := map[string]bool{}; !free {
			found, _ := placeholders(s)
			for _, p := range found {
				p.missing(nil, needed)
			}
			able = able && len(needed) == 0
		}
	})
	if !able {
		return nil
	}
	bare(m)
	if _, err := fill(m, values, nil); err != nil {
		return f.libraryFault(err)
	}
	return nil
}

// makeUp gives every placeholder without a value and a default the same one.
func makeUp(m map[string]any, values map[string]string) {
	for names := missing(m, values); len(names) > 0; names = missing(m, values) {
		for _, name := range names {
			values[name] = "/value"
		}
	}
}

// bare makes a model one that can be filled in without images, and without
// what has no place in a workload: those are findings, for a gate to judge.
func bare(m map[string]any) {
	for _, s := range services(m) {
		s.spec["image"] = "rehearsal"
		for _, key := range unrunnable {
			delete(s.spec, key)
		}
		delete(object(object(object(s.spec["deploy"])["resources"])["reservations"]), "devices")
	}
}

// read takes a model apart that came from a release.
func read(model []byte) (map[string]any, error) {
	if len(model) > maxModel {
		return nil, modelFault("larger than %d bytes", maxModel)
	}
	canonical, err := release.CanonicalJSON(model) // bounds its depth, refuses repeated keys
	if err != nil {
		return nil, modelFault("%w", err)
	}
	m, err := decode(canonical)
	if err != nil {
		return nil, err
	}
	if !projectName.MatchString(text(m["name"])) {
		return nil, modelFault("project name %q is not allowed", clip(text(m["name"])))
	}
	if _, ok := m["include"]; ok {
		return nil, modelFault("it holds include, which Model works in")
	}
	for _, s := range services(m) {
		for _, key := range []string{"build", "extends", "image"} {
			if _, ok := s.spec[key]; ok {
				return nil, modelFault("service %s holds %s, which Model leaves out", s.name, key)
			}
		}
	}
	return m, nil
}

func modelFault(format string, args ...any) *release.Fault {
	f := release.Faultf(release.KindConfig, "make a new release of the commit", format, args...)
	f.Op = "reading the release's compose model"
	return f
}

func missingFault(names []string) *release.Fault {
	plural, them := "variable", "it"
	if len(names) > 1 {
		plural, them = "variables", "them"
	}
	return release.Faultf(release.KindConfig,
		fmt.Sprintf("set %s in the environment of promote, or in the file that environments.E.envFile names", them),
		"%s %s of the compose model without a value", plural, strings.Join(names, ", "))
}

// rejudge checks the model as it will run. What values bring in can only be
// what a placeholder was allowed for; this is the second lock on that door.
func rejudge(m map[string]any, values map[string]string) error {
	filled, err := interpolation.Interpolate(m, interpolation.Options{
		LookupValue: lookup(values),
		Substitute:  substitute,
	})
	if err != nil {
		return modelFault("%w", err)
	}
	if bad := check(filled); len(bad) > 0 {
		return modelFault("%s", bad[0].message)
	}
	before := map[string]bool{}
	for _, f := range findings(m) {
		before[f.rule+" "+f.place.String()] = true
	}
	for _, f := range findings(filled) {
		if !before[f.rule+" "+f.place.String()] {
			return &release.Fault{Kind: release.KindDenied, Op: "filling in the compose model", Hint: f.fix,
				Err: fmt.Errorf("%s: %s", f.rule, f.message)}
		}
	}
	return nil
}

func lookup(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

// substitute is the library's, without its warnings to the terminal.
func substitute(s string, m template.Mapping) (string, error) {
	return template.SubstituteWithOptions(s, m, template.WithoutLogging)
}

func setImages(m map[string]any, images map[string]release.Subject) error {
	var absent []string
	for _, s := range services(m) {
		subject, ok := images[s.name]
		if !ok || subject.IsZero() {
			absent = append(absent, s.name)
			continue
		}
		s.spec["image"] = subject.String()
	}
	if len(absent) > 0 {
		return modelFault("the release has no image for %s", strings.Join(absent, ", "))
	}
	return nil
}

// typed runs compose-go once more, now with values, to get its types: they
// know every short form, and their JSON is what Compose hashes.
func typed(m map[string]any, name string, values map[string]string) (*types.Project, error) {
	details := types.ConfigDetails{
		WorkingDir:  "/",
		Environment: values,
		ConfigFiles: []types.ConfigFile{{Filename: "model.json", Config: m}},
	}
	return loader.LoadWithContext(context.Background(), details, func(o *loader.Options) {
		o.SetProjectName(name, true)
		o.Interpolate.Substitute = substitute
		o.SkipInclude = true
		o.SkipExtends = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.ResolvePaths = false
	})
}

// workload maps the typed project.
func workload(p *types.Project, images map[string]release.Subject) (release.Workload, error) {
	w := release.Workload{Project: p.Name, Networks: networkSpecs(p), Volumes: volumeSpecs(p), Services: []release.ServiceSpec{}}
	dependsOn := map[string][]string{}
	awaited := map[string]bool{}
	for name, s := range p.Services {
		dependsOn[name] = s.GetDependencies()
		for other, d := range s.DependsOn {
			awaited[other] = awaited[other] || d.Condition == types.ServiceConditionCompletedSuccessfully
		}
	}
	sorted, err := order(dependsOn)
	if err != nil {
		return release.Workload{}, err
	}
	for _, name := range sorted {
		spec, err := serviceSpec(p, p.Services[name])
		if err != nil {
			return release.Workload{}, fmt.Errorf("services.%s: %w", name, err)
		}
		spec.Image = images[name]
		spec.OneShot = awaited[name]
		w.Services = append(w.Services, spec)
	}
	return w, nil
}

func networkSpecs(p *types.Project) []release.NetworkSpec {
	out := []release.NetworkSpec{}
	for _, key := range slices.Sorted(maps.Keys(p.Networks)) {
		n := p.Networks[key]
		out = append(out, release.NetworkSpec{Key: key, Name: n.Name, Driver: n.Driver, Internal: n.Internal,
			External: bool(n.External), Options: filled(n.DriverOpts), Labels: filled(n.Labels)})
	}
	return out
}

func volumeSpecs(p *types.Project) []release.VolumeSpec {
	out := []release.VolumeSpec{}
	for _, key := range slices.Sorted(maps.Keys(p.Volumes)) {
		v := p.Volumes[key]
		out = append(out, release.VolumeSpec{Key: key, Name: v.Name, Driver: v.Driver,
			External: bool(v.External), Options: filled(v.DriverOpts), Labels: filled(v.Labels)})
	}
	return out
}

// filled gives nil for an empty mapping.
func filled[M ~map[string]string](m M) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
