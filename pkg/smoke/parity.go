package smoke

import (
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// parity says how the tested model differs from those that the release would
// run with: a difference that makes the test worthless there fails it.
func (r *run) parity() {
	for _, env := range slices.Sorted(slices.Values(r.Environments)) {
		var services []string
		found := map[string][]release.Difference{}
		for _, d := range r.Parity {
			if d.Environment == env {
				if len(found[d.Service]) == 0 {
					services = append(services, d.Service)
				}
				found[d.Service] = append(found[d.Service], d)
			}
		}
		if len(found) == 0 {
			r.add("parity/"+env, release.Passed, "its model is the tested one in all that can decide the outcome")
			continue
		}
		for _, service := range slices.Sorted(slices.Values(services)) {
			name := "parity/" + env
			if service != "" {
				name += "/" + service
			}
			result, text := r.differ(found[service])
			r.add(name, result, "%s", text)
			r.result.Checks[len(r.result.Checks)-1].Service = service
		}
	}
}

// differ judges the differences of one service: the grave ones come first.
func (r *run) differ(list []release.Difference) (release.Result, string) {
	result := release.Warned
	var grave, rest []string
	for _, d := range list {
		text := strings.TrimPrefix(d.String(), d.Service+": ")
		switch statement, ok := r.accepted(d); {
		case ok:
			rest = append(rest, text+" (accepted: "+statement+")")
		case d.Grave:
			result = release.Failed
			grave = append(grave, text)
		default:
			rest = append(rest, text)
		}
	}
	return result, strings.Join(append(grave, rest...), "; ")
}

func (r *run) accepted(d release.Difference) (statement string, ok bool) {
	i := slices.IndexFunc(r.Accept, func(a Accepted) bool {
		return a.Environment == d.Environment && a.Service == d.Service && a.Field == d.Field
	})
	if i < 0 {
		return "", false
	}
	return oneLine(r.Accept[i].Statement), true
}

// readOnlyLater reports whether a later environment gives a service a read-only
// root that the tested model does not.
func (r *run) readOnlyLater(service string) bool {
	return slices.ContainsFunc(r.Parity, func(d release.Difference) bool {
		return d.Service == service && d.Field == "readOnly" && d.Grave
	})
}
