package compose

import (
	"maps"
	"slices"

	"github.com/promote-dev/promote/pkg/release"
)

// Model gives the merged model as canonical JSON (RFC 8785) and what a target
// must provide for it. Placeholders stay; build, and the image of every
// service, are left out: the release's digests decide. The environment of each
// service is a mapping of names to texts. Nothing of this machine is in it: the
// same files give the same bytes.
func (f *Files) Model() ([]byte, release.Requirements, error) {
	model, err := plain(f.model) // a copy
	if err != nil {
		return nil, release.Requirements{}, err
	}
	for _, s := range services(model) {
		delete(s.spec, "build")
		delete(s.spec, "image")
	}
	raw, err := release.Canonical(model)
	if err != nil {
		return nil, release.Requirements{}, release.Faultf(release.KindConfig, "", "writing the model: %w", err)
	}
	return raw, requirements(model), nil
}

// requirements reads from a model what it needs from where it runs.
func requirements(model map[string]any) release.Requirements {
	used := map[string]map[string]bool{"networks": {}, "volumes": {}, "secrets": {}}
	for _, s := range services(model) {
		joined := names(s.spec["networks"])
		if len(joined) == 0 {
			joined = []string{"default"}
		}
		for _, name := range joined {
			used["networks"][name] = true
		}
		for _, m := range mounts(s) {
			if m.kind == "volume" && m.source != "" {
				used["volumes"][m.source] = true
			}
		}
		for _, item := range items(s.spec["secrets"]) {
			used["secrets"][text(object(item)["source"])] = true
		}
	}
	r := release.Requirements{Environment: variables(model), Secrets: []string{}, Volumes: []string{}, Networks: []string{}}
	for name := range used["networks"] {
		r.Networks = append(r.Networks, fullName(model, "networks", name))
	}
	for name := range used["volumes"] {
		r.Volumes = append(r.Volumes, fullName(model, "volumes", name))
	}
	for name := range used["secrets"] {
		r.Secrets = append(r.Secrets, text(object(object(model["secrets"])[name])["file"]))
	}
	for _, l := range []*[]string{&r.Secrets, &r.Volumes, &r.Networks} {
		slices.Sort(*l)
		*l = slices.Compact(*l)
	}
	return r
}

// fullName is a network's or volume's name on the engine, as Compose makes it.
func fullName(model map[string]any, kind, name string) string {
	spec := object(object(model[kind])[name])
	switch full := text(spec["name"]); {
	case full != "":
		return full
	case truthy(spec["external"]):
		return name
	}
	return text(model["name"]) + "_" + name
}

// variables gives the model's placeholders in order of their names.
func variables(model map[string]any) []release.Variable {
	needed := map[string]bool{}
	eachText(model, func(_ []string, s string) {
		found, _ := placeholders(s)
		for _, p := range found {
			p.needs(needed)
		}
	})
	delete(needed, projectVariable)
	out := []release.Variable{}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		out = append(out, release.Variable{Name: name, Required: needed[name]})
	}
	return out
}

// Findings gives what the merged model asks for that a host should not be
// asked for, services in order of their names. They are reasons for a gate, not
// errors, so that an exception can name one.
func (f *Files) Findings() []release.Reason {
	return f.reasons(append(findings(f.model), f.weakened()...))
}

func (f *Files) reasons(list []finding) []release.Reason {
	out := []release.Reason{}
	for _, v := range list {
		at := f.locate(v.place)
		out = append(out, release.Reason{Rule: v.rule, Message: v.message, File: at.File, Line: at.Line, Fix: v.fix})
	}
	return out
}

// Judge gives the findings of a model that Model made, without the places in
// files that only Load knows. It lets a gate judge the very bytes of a release.
func Judge(model []byte) ([]release.Reason, error) {
	m, err := read(model)
	if err != nil {
		return nil, err
	}
	out := []release.Reason{}
	for _, v := range findings(m) {
		out = append(out, release.Reason{Rule: v.rule, Message: v.message, Fix: v.fix})
	}
	return out, nil
}
