package compose

import (
	"github.com/promote-dev/promote/pkg/release"
)

// Parity compares the model that smoke tests with the one of an environment,
// both made by Model, see release.Differences. Neither's values are needed:
// each placeholder that has no default gets the same made-up one in both, so
// only what the files themselves say can differ. Where that does not do, as for
// a limit that is known only at deployment, the models cannot be compared, and
// that is a grave difference of the field "model". A model that is none of ours
// is KindConfig.
func Parity(environment string, tested, there []byte) ([]release.Difference, error) {
	values := map[string]string{}
	models := make([]map[string]any, 2)
	for i, raw := range [][]byte{tested, there} {
		m, err := read(raw)
		if err != nil {
			return nil, err
		}
		values[projectVariable] = "project" // project names are meant to differ
		makeUp(m, values)
		models[i] = m
	}
	workloads := make([]release.Workload, 2)
	for i, m := range models {
		bare(m)
		w, err := fill(m, values, nil)
		if err != nil {
			d := release.Difference{Environment: environment, Field: "model", Tested: "one to compare it with", There: "one to compare it with", Grave: true}
			text := "one that says too little without values: " + clip(err.Error())
			if i == 0 {
				d.Tested = text
			} else {
				d.There = text
			}
			return []release.Difference{d}, nil
		}
		workloads[i] = w
	}
	return release.Differences(environment, workloads[0], workloads[1]), nil
}
