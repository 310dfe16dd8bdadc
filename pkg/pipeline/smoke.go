package pipeline

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// smokeRequest is a run of a release: its smoke model, and those of the
// environments that it is compared with.
func smokeRequest(identity release.Digest, d release.Document, images map[string]release.Subject) SmokeRequest {
	r := SmokeRequest{Release: identity, Model: d.Models[release.SmokeModel], Images: images, Environments: map[string][]byte{},
		Variables: variableNames(d.Lock.Models[release.SmokeModel])}
	for name, model := range d.Models {
		if name != release.SmokeModel {
			r.Environments[name] = model
		}
	}
	return r
}

// variableNames names what a model's placeholders take from the environment.
func variableNames(r release.Requirements) []string {
	var names []string
	for _, v := range r.Environment {
		names = append(names, v.Name)
	}
	return names
}

// SmokeTree runs the working tree under production's conditions, with the
// images that docker compose build left on the engine of this machine. Nothing
// is read or written but them: no ledger, no registry, no key. The result is no
// evidence of any release.
func (p *Pipeline) SmokeTree(ctx context.Context) (release.Smoke, error) {
	r := SmokeRequest{Environments: map[string][]byte{}, Local: map[string]string{}}
	for _, name := range sortedKeys(p.Project.Models) {
		c, err := p.Models.Load(ctx, p.Project.Models[name])
		if err != nil {
			return release.Smoke{}, err
		}
		if name != release.SmokeModel {
			r.Environments[name] = c.Model
			continue
		}
		for _, f := range c.Findings {
			event.Warnf(ctx, "promote release will refuse this model: %s", f.Message)
		}
		project, err := projectOf(c.Model)
		if err != nil {
			return release.Smoke{}, err
		}
		for _, s := range c.Sources {
			// As docker compose build names what it builds.
			r.Local[s.Service] = cmp.Or(s.Image, s.Tag, project+"-"+s.Service)
		}
		r.Model, r.Variables = c.Model, variableNames(c.Requirements)
	}
	result, err := p.Smoker.Smoke(ctx, r)
	if err != nil {
		return result, err
	}
	result.Predicate = nil
	if result.Result < release.Warned {
		return result, denial("the prod-like run failed", SmokeReasons(result))
	}
	event.Noticef(ctx, "this run is no evidence: it tested this machine's images, not a release")
	return result, nil
}

func projectOf(model []byte) (string, error) {
	var m struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(model, &m); err != nil {
		return "", release.Faultf(release.KindInternal, "", "reading the merged model: %w", err)
	}
	return m.Name, nil
}
