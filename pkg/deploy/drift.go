package deploy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Query is what the ledger and the release say about one target.
type Query struct {
	Project string
	// Images holds, by service, the verified image for the target's platform,
	// Subjects what each was deployed as. Their services are the release's.
	Images   map[string]release.PlatformImage
	Subjects map[string]release.Subject
	// Built names the services whose image is the project's own: another
	// project that runs such a one runs a twin.
	Built map[string]bool
	// Recorded is what the ledger says about the target, nil for nothing.
	Recorded *release.TargetStatus
	// Workload is the resolved model, nil where the environment's values are
	// not known: then containers are compared with what they say they were made
	// to be, as far as the ledger vouches for it.
	Workload *release.Workload
	// Key is for fingerprints that are compared between targets.
	Key string
}

// Report is what a target was found to be.
type Report struct {
	Differences []Difference
	// Texts are what each container was found to be, by service and field, for
	// a comparison between targets. What may be secret is a fingerprint under
	// the query's key.
	Texts map[string]map[string]string
	// Untold names fields that the target's engine cannot tell.
	Untold []string
	// Unknown names services of which only image and state were compared:
	// nothing says what else was recorded.
	Unknown []string
}

// Drift says in what a target differs from its record: each container's
// settings, image and volumes, services that are missing or unwell, containers
// that nobody asked for, twins outside the project, networks and volumes of
// another kind. It is pure.
func Drift(q Query, seen release.Observed, others []release.Outsider) Report {
	r := Report{Texts: map[string]map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(q.Images)) {
		r.service(q, name, seen)
	}
	r.extras(q, seen)
	if q.Workload != nil {
		r.surroundings(*q.Workload, seen)
	}
	r.twins(q, seen, others)
	return r
}

func (r *Report) add(service, field, recorded, running string) {
	if !slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.Service == service && d.Field == field }) {
		r.Differences = append(r.Differences, Difference{Service: service, Field: field, Recorded: recorded, Running: running})
	}
}

func (r *Report) addAll(list []Difference) {
	for _, d := range list {
		r.add(d.Service, d.Field, d.Recorded, d.Running)
	}
}

func (r *Report) service(q Query, name string, seen release.Observed) {
	s := release.ServiceSpec{Name: name, Image: q.Subjects[name]}
	if q.Workload != nil {
		if known, ok := q.Workload.Service(name); ok {
			s = known
		}
	}
	image := q.Images[name]
	c, there := standing(seen, s, q.Project)
	if !there {
		r.add(name, "state", wanted(s), "missing")
		return
	}
	if !runs(c, s, image) {
		r.add(name, "image", s.Image.Digest.String(), imageOf(c))
	}
	s.OneShot = s.OneShot || c.Labels[labelOneShot] == "true"
	r.settings(q, s, c)
	r.addAll(condition(s, c))
	if recorded := was(q.Recorded, name); recorded != nil {
		r.addAll(origin(*recorded, c))
		now := release.Running{Service: name, Volumes: map[string]string{}}
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				now.Volumes[m.Target] = m.Identity
			}
		}
		r.addAll(volumeDifferences(now, q.Recorded, nil))
	}
}

// settings compares a container with what it was made to be, where the ledger
// vouches for that, else with the model.
func (r *Report) settings(q Query, s release.ServiceSpec, c release.Container) {
	image := q.Images[s.Name]
	recorded := was(q.Recorded, s.Name)
	said, ok := readDesired(c)
	if ok && (recorded == nil || recorded.Desired.IsZero() || recorded.Desired == desiredDigest(c)) {
		var defaults map[string]string
		if recorded != nil {
			defaults = recorded.Defaults
		}
		_, have := comparable(release.Workload{Project: q.Project}, s, c, image)
		have.Mounts = mountsAsked(c, image, said)
		r.identity(s.Name, said, c)
		r.addAll(said.compare(c, have, defaults, func(field) bool { return true }))
		r.texts(q, c, have, said.Hidden)
		return
	}
	if q.Workload == nil {
		r.Unknown = append(r.Unknown, s.Name)
		return
	}
	want, have := comparable(*q.Workload, s, c, image)
	meant := desiredOf(want, q.Key)
	r.identity(s.Name, meant, c)
	r.addAll(meant.compare(c, have, nil, func(f field) bool { return f.firm || image.Defaults != nil }))
	r.texts(q, c, have, meant.Hidden)
}

// identity compares what Compose knows a container by.
func (r *Report) identity(service string, want desired, c release.Container) {
	if hash := want.Fields["configuration"]; hash != c.ConfigHash {
		r.add(service, "configuration", hash, c.ConfigHash)
	}
	if name := want.Fields["name"]; name != c.Name {
		r.add(service, "name", name, c.Name)
	}
}

// mountsAsked leaves out the anonymous volumes of a container that was made
// without a volume at the image's own path.
func mountsAsked(c release.Container, image release.PlatformImage, said desired) []release.Mount {
	return found(c, image, func(target string) bool {
		_, asked := said.Fields["volume "+target]
		return asked
	}).Mounts
}

func (r *Report) texts(q Query, c release.Container, have release.ServiceSpec, hidden []string) {
	all := map[string]string{}
	for _, f := range fields {
		for name, text := range f.texts(have) {
			if slices.Contains(hidden, f.name) {
				text = fingerprint(q.Key, name, text)
			}
			all[name] = text
		}
	}
	if c.Made != nil {
		maps.Copy(all, c.Made.Further)
		r.Untold = c.Made.Untold
	}
	r.Texts[c.Service] = all
}

// extras are containers of the project that no service of the release asks for.
func (r *Report) extras(q Query, seen release.Observed) {
	for _, c := range seen.Containers {
		_, known := q.Images[c.Service]
		first, _ := standing(seen, release.ServiceSpec{Name: c.Service, ContainerName: nameIn(q, c.Service)}, q.Project)
		switch {
		case isAside(c):
			r.add(c.Service, "container "+c.Name, "", c.State+", put aside by an earlier attempt")
		case c.Service == "" || c.Labels[composeOneOff] == "True":
			r.add(c.Service, "container "+c.Name, "", c.State+", made by hand in the project")
		case !known:
			r.add(c.Service, "container "+c.Name, "", c.State+", of a service that the release does not have")
		case first.ID != c.ID:
			r.add(c.Service, "container "+c.Name, "", c.State+", a second one of its service")
		}
	}
}

func nameIn(q Query, service string) string {
	if q.Workload != nil {
		if s, ok := q.Workload.Service(service); ok {
			return s.ContainerName
		}
	}
	return ""
}

// surroundings compares the project's networks and volumes with the model's.
func (r *Report) surroundings(w release.Workload, seen release.Observed) {
	for _, n := range w.Networks {
		i := slices.IndexFunc(seen.NetworkSpecs, func(have release.NetworkSpec) bool { return have.Name == n.Name })
		if !slices.Contains(seen.Networks, n.Name) {
			r.add("", "network "+n.Name, "there", "missing")
		}
		if i < 0 || n.External {
			continue
		}
		have := seen.NetworkSpecs[i]
		r.differ("network "+n.Name+" driver", orWord(n.Driver, "bridge"), have.Driver)
		r.differ("network "+n.Name+" internal", fmt.Sprint(n.Internal), fmt.Sprint(have.Internal))
		r.options("network "+n.Name, n.Options, have.Options)
	}
	for _, v := range w.Volumes {
		have, there := seen.Volume(v.Name)
		switch {
		case !there:
			r.add("", "volume "+v.Name, "there", "missing")
			continue
		case v.External:
			continue
		}
		r.differ("volume "+v.Name+" driver", orWord(v.Driver, "local"), have.Driver)
		r.options("volume "+v.Name, v.Options, have.Options)
	}
}

func (r *Report) differ(field, want, have string) {
	if want != have {
		r.add("", field, want, have)
	}
}

func (r *Report) options(what string, want, have map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(under(want, have))) {
		r.differ(what+" option "+key, want[key], have[key])
	}
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// twins are containers outside the project that run one of the release's
// images, or mount one of the volumes that its services have. What promote made
// for another environment is none, nor is a public image in another project.
func (r *Report) twins(q Query, seen release.Observed, others []release.Outsider) {
	owners := map[string]string{} // volume → service
	for _, c := range current(seen) {
		for _, m := range c.Mounts {
			if m.Type == "volume" && owners[m.Name] == "" {
				owners[m.Name] = c.Service
			}
		}
	}
	for _, o := range others {
		if o.Promoted && o.Project != "" {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(q.Images)) {
			if q.sameImage(name, o) && (o.Project == "" || q.Built[name]) {
				r.add(name, "twin "+o.Name, "", o.State+", runs the same image outside the project")
				break
			}
		}
		for _, volume := range o.Volumes {
			if service := owners[volume]; service != "" {
				r.add(service, "twin "+o.Name+" on volume "+volume, "", o.State+", mounts the same volume outside the project")
			}
		}
	}
}

func (q Query) sameImage(service string, o release.Outsider) bool {
	if isImage(o.Image, q.Images[service]) {
		return true
	}
	_, digest, ok := strings.Cut(o.Reference, "@")
	subject := q.Subjects[service]
	return ok && digest == subject.Digest.String() || o.Image != "" && o.Image == subject.Digest.String()
}
