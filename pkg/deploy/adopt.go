package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// ActionAdopt takes a container over as it runs: it is written down beside it
// what it was found to be.
const ActionAdopt = "adopt"

// adoptable reports whether a container is one that promote did not make, and
// in what it is not what the service asks for. Where that is known of the
// image, all fields count: what an engine filled in for somebody else is not
// known, so it is a difference.
func (p *planner) adoptable(s release.ServiceSpec, c release.Container) (foreign bool, list []Difference) {
	if _, ours := readDesired(c); ours {
		return false, nil
	}
	image := p.images[s.Name]
	if !runs(c, s, image) {
		list = append(list, Difference{Service: s.Name, Field: "image", Recorded: s.Image.Digest.String(), Running: imageOf(c)})
	}
	want, have := comparable(p.w, s, c, image)
	return true, append(list, desiredOf(want, newKey()).compare(c, have, nil, func(f field) bool { return f.firm || image.Defaults != nil })...)
}

// adoption plans to take a container over; planned is false where that cannot be.
func (p *planner) adoption(s release.ServiceSpec, c release.Container) (planned bool) {
	foreign, list := p.adoptable(s, c)
	if !p.o.Adopt || !foreign {
		return false
	}
	step := release.Step{Service: s.Name, Action: ActionAdopt, From: imageOf(c), To: s.Image.Digest.String()}
	switch well := Well(c) || s.OneShot && c.State == "exited" && c.ExitCode == 0; {
	case len(list) > 0:
		var causes []string
		for _, d := range list {
			causes = append(causes, causeOf(d))
		}
		step.Action, step.Cause = ActionRecreate, "cannot be adopted as it runs: "+strings.Join(causes, "; ")
	case !well:
		step.Action, step.Cause = ActionRecreate, "cannot be adopted: "+state(c)+", "+c.Health
	default:
		step.Cause = c.Name + " runs just that already; it is not restarted" + mounted(c)
	}
	if step.Action == ActionRecreate {
		p.keepsOf(s)
	}
	p.add(p.replacing(step, s, c))
	return true
}

// mounted names the volumes that stay with an adopted container.
func mounted(c release.Container) string {
	var names []string
	for _, m := range c.Mounts {
		if m.Type == "volume" {
			names = append(names, m.Name+" at "+m.Target)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ", and keeps " + strings.Join(names, ", ")
}

// adopt writes down beside the containers that are taken over what they were
// found to be, when everything else is done.
func (d *deployment) adopt(ctx context.Context, p release.Plan) error {
	var list []release.Adoption
	for _, step := range p.Steps {
		if step.Action != ActionAdopt {
			continue
		}
		s, _ := d.Workload.Service(step.Service)
		c, there := standing(d.seen, s, d.Workload.Project)
		if !there {
			return release.Unavailable("plan and run again", "adopting %s on %s: its container is gone", step.Service, d.Target)
		}
		want, _ := comparable(d.Workload, s, c, d.Images[s.Name])
		said := desiredOf(want, d.key)
		said.Fields["name"] = c.Name // it keeps its own
		labels := workloadLabels(release.Workload{}, s)
		labels[release.LabelDesired] = said.encode()
		list = append(list, release.Adoption{Container: c.ID, Found: c.ConfigHash, ConfigHash: s.ConfigHash, Labels: labels})
	}
	if len(list) == 0 {
		return nil
	}
	step := event.Start(ctx, "[%s] %s %d containers", d.Target, ActionAdopt, len(list))
	text, err := json.Marshal(list)
	if err == nil {
		labels := d.labels()
		labels[release.LabelAdopted] = string(text)
		key := fmt.Sprintf("promote-adopted-%s", d.Attempt.Label())
		err = d.engine.CreateVolume(ctx, d.Workload.Project, release.VolumeSpec{Key: key, Name: d.Workload.Project + "_" + key}, labels)
	}
	step.Done(err)
	return err
}

// forget removes what was written down about adopted containers, where which
// says so.
func forget(ctx context.Context, e Engine, project string, seen release.Observed, which func(release.ObservedVolume) bool) error {
	for _, v := range seen.Volumes {
		if v.Labels[release.LabelAdopted] == "" || v.Labels[release.LabelProject] != project || !which(v) {
			continue
		}
		if err := e.RemoveVolume(ctx, v.Name); err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether none of the containers that a volume tells of is there.
func gone(seen release.Observed) func(release.ObservedVolume) bool {
	return func(v release.ObservedVolume) bool {
		return !slices.ContainsFunc(v.Adoptions(), func(a release.Adoption) bool {
			return slices.ContainsFunc(seen.Containers, func(c release.Container) bool { return c.ID == a.Container })
		})
	}
}
