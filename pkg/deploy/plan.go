package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// The actions of a plan's steps, in the order in which they are taken.
const (
	ActionPull          = "pull"          // fetch an image; nothing that runs changes
	ActionCreateNetwork = "createNetwork" // To is the network
	ActionCreateVolume  = "createVolume"  // To is the volume
	ActionCreate        = "create"        // a service that has no container
	ActionRecreate      = "recreate"      // a service whose container differs
	ActionStart         = "start"         // a container that was stopped
	ActionRemove        = "remove"        // a container that nobody asked for
)

// Options say what a plan should take into account beyond what was observed.
type Options struct {
	// Missing names the services whose image the target does not have yet.
	Missing map[string]bool
	// Redeploy recreates every service, for secrets that changed.
	Redeploy bool
	// AcceptLoss names volumes, by their full names, that may be new, other ones,
	// empty or gone.
	AcceptLoss []string
	// Empty names volumes that were looked into and hold nothing; AcceptedEmpty
	// those of which the record says that it was accepted.
	Empty, AcceptedEmpty []string
	// Recreate names services to recreate whatever else is found, because they
	// drifted.
	Recreate map[string]bool
	// Adopt takes containers over that somebody else made and that are just what
	// the workload asks for, and what volumes there are with them.
	Adopt bool
	// Snapshots names, by their keys in the model, the volumes that are kept
	// before a service that mounts them is replaced.
	Snapshots []string
	// Restore are snapshots that their volumes are brought back to.
	Restore []release.Snapshot
	// Attempt is the one under way, whose containers no record knows yet.
	Attempt Attempt
}

// Plan says what would make the target run the workload, in order: pulls,
// networks, volumes, then each service in the order of the workload, then what
// is in the way. It is pure. images holds, by service, the verified platform
// image that each container must run. recorded is what the ledger says about
// the target, nil before its first deployment; volumes that its services
// mounted and that are missing now, or other ones, are Blocking.
func Plan(target string, w release.Workload, images map[string]release.PlatformImage, seen release.Observed, recorded *release.TargetStatus, o Options) release.Plan {
	p := planner{target: target, w: w, images: images, seen: seen, recorded: recorded, o: o}
	p.pulls()
	p.networks()
	p.volumes()
	p.restores()
	for _, s := range w.Services {
		p.service(s)
	}
	p.extras()
	p.state()
	p.schemas()
	p.remember()
	return p.plan
}

type planner struct {
	target string
	w      release.Workload
	images map[string]release.PlatformImage
	seen   release.Observed
	// recorded is what the ledger says about the target, nil for nothing.
	recorded *release.TargetStatus
	o        Options
	plan     release.Plan
}

func (p *planner) add(s release.Step) {
	s.Target = p.target
	p.plan.Steps = append(p.plan.Steps, s)
}

func (p *planner) block(rule, message, fix string) {
	p.plan.Blocking = append(p.plan.Blocking, release.Reason{Rule: rule, Message: message, Fix: fix})
}

func (p *planner) pulls() {
	pulled := map[release.Subject]bool{}
	for _, s := range p.w.Services {
		if p.o.Missing[s.Name] && !pulled[s.Image] {
			pulled[s.Image] = true
			p.add(release.Step{Service: s.Name, Action: ActionPull, To: s.Image.String(), Cause: "the image is not on the target"})
		}
	}
}

func (p *planner) networks() {
	for _, n := range p.w.Networks {
		switch there := slices.Contains(p.seen.Networks, n.Name); {
		case there:
		case n.External:
			p.block("target/network-missing", fmt.Sprintf("network %s is external to the project and missing on %s", n.Name, p.target), "create it on the host: docker network create "+n.Name)
		default:
			p.add(release.Step{Action: ActionCreateNetwork, To: n.Name, Cause: "missing"})
		}
	}
}

func (p *planner) volumes() {
	for _, v := range p.w.Volumes {
		switch _, there := p.seen.Volume(v.Name); {
		case there:
		case v.External:
			p.block("state/volume-missing", fmt.Sprintf("volume %s is external to the project and missing on %s", v.Name, p.target), "restore it from its backup, or create it on the host: docker volume create "+v.Name)
		default:
			p.add(release.Step{Action: ActionCreateVolume, To: v.Name, Cause: "missing"})
		}
	}
}

func (p *planner) service(s release.ServiceSpec) {
	have, there := standing(p.seen, s, p.w.Project)
	to := s.Image.Digest.String()
	if !there {
		p.keepsOf(s)
		p.add(release.Step{Service: s.Name, Action: ActionCreate, To: to, Cause: "missing"})
		return
	}
	if p.adoption(s, have) {
		return
	}
	action, cause := p.verdict(s, have)
	if action == "" && p.o.Redeploy {
		action, cause = ActionRecreate, "a redeploy was asked for"
	}
	if action == "" && p.o.Recreate[s.Name] && !p.o.Attempt.made(have) {
		action, cause = ActionRecreate, "it drifted from its record"
	}
	if volume, is := p.restoring(s); is && action != ActionRecreate && (!p.o.Attempt.made(have) || !p.o.Attempt.marked(p.w.Project, p.seen, volume, restoreDone)) {
		action, cause = ActionRecreate, "its volume "+volume+" is restored"
	}
	if action == ActionRecreate {
		p.keepsOf(s)
	}
	if action != "" {
		p.add(p.replacing(release.Step{Service: s.Name, Action: action, From: imageOf(have), To: to, Cause: cause}, s, have))
	}
}

// keepsOf plans the snapshots before a service gets a new container.
func (p *planner) keepsOf(s release.ServiceSpec) {
	for _, v := range kept(p.w, p.o.Snapshots, s, p.seen) {
		p.keeps(v, "before "+s.Name+" is replaced")
	}
}

// verdict says what must be done about a service's container, and why; "" is
// nothing.
func (p *planner) verdict(s release.ServiceSpec, c release.Container) (action, cause string) {
	if list := differences(p.w, s, c, p.images[s.Name], was(p.recorded, s.Name), p.o.Attempt); len(list) > 0 {
		var causes []string
		for _, d := range list {
			causes = append(causes, causeOf(d))
		}
		return ActionRecreate, strings.Join(causes, "; ")
	}
	switch {
	case s.OneShot && c.State == "exited" && c.ExitCode == 0:
		return "", ""
	case c.State == "running" && c.Health == "unhealthy":
		return ActionRecreate, "unhealthy"
	case c.State == "running":
		return "", ""
	case c.State == "exited" && !s.OneShot:
		return ActionStart, fmt.Sprintf("stopped, exit code %d", c.ExitCode)
	}
	return ActionRecreate, fmt.Sprintf("%s, exit code %d", c.State, c.ExitCode)
}

// extras are containers of services that the workload does not have, second
// containers of a service, and what an earlier attempt left.
func (p *planner) extras() {
	for _, c := range inOrder(current(p.seen)) {
		s, known := p.w.Service(c.Service)
		if !known {
			p.add(release.Step{Service: c.Service, Action: ActionRemove, From: imageOf(c), Cause: "the release has no such service"})
			continue
		}
		if first, _ := standing(p.seen, s, p.w.Project); first.ID != c.ID {
			p.add(release.Step{Service: c.Service, Action: ActionRemove, From: imageOf(c), Cause: "a second container, " + c.Name})
		}
	}
	for _, c := range p.seen.Containers {
		if isAside(c) {
			p.add(release.Step{Service: c.Service, Action: ActionRemove, From: imageOf(c), Cause: "put aside by an earlier attempt, " + c.Name})
		}
	}
}

// imageOf names what a container runs: the digest it was created from, else
// the engine's id.
func imageOf(c release.Container) string {
	if _, digest, ok := strings.Cut(c.Reference, "@"); ok {
		return digest
	}
	return c.Image
}
