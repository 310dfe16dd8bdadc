package smoke

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// newID gives a name of 8 hex digits for a run.
func newID() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// projectInfix is in the project names of all runs.
const projectInfix = "-smoke-"

// isolate makes a workload one that meets nothing that runs already: project,
// containers, networks and volumes get names of this run, published ports free
// ones on loopback. External networks and volumes become the run's own, and
// volumes lose their driver: a test must not reach, let alone write, the state
// of a place where the release runs for real. deny makes every network one
// without a way out.
func isolate(w release.Workload, id string, reach []reached, deny bool) release.Workload {
	project := w.Project + projectInfix + id
	out := release.Workload{Project: project, Labels: maps.Clone(w.Labels)}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.Labels[release.LabelSmoke] = id
	networks, internal := map[string]string{}, map[string]bool{}
	for _, n := range w.Networks {
		name := project + "_" + n.Key
		networks[n.Name], internal[name] = name, n.Internal || deny
		out.Networks = append(out.Networks, release.NetworkSpec{Key: n.Key, Name: name, Internal: n.Internal || deny})
	}
	volumes := map[string]string{}
	for _, v := range w.Volumes {
		name := project + "_" + v.Key
		volumes[v.Name] = name
		out.Volumes = append(out.Volumes, release.VolumeSpec{Key: v.Key, Name: name})
	}
	for _, s := range w.Services {
		old := s.ContainerName
		s.ContainerName = project + "-" + s.Name + "-1"
		s.Networks = slices.Clone(s.Networks)
		for i, a := range s.Networks {
			attach := release.Attach{Network: networks[a.Network]}
			for _, alias := range a.Aliases {
				if alias == old {
					alias = s.ContainerName
				}
				attach.Aliases = append(attach.Aliases, alias)
			}
			s.Networks[i] = attach
		}
		s.Mounts = slices.Clone(s.Mounts)
		for i, m := range s.Mounts {
			if name, ok := volumes[m.Source]; ok && m.Type == "volume" {
				s.Mounts[i].Source = name
			}
		}
		if s.Ports = freePorts(s, internal, reach); deny { // nothing is published from where nothing gets out
			s.Ports = nil
		}
		out.Services = append(out.Services, s)
	}
	return out
}

// reached is a port in a container that a check or the load talks to.
type reached struct {
	service string
	port    int
}

// freePorts publishes a service's ports on loopback where the engine finds
// room, and those that are talked to, if anything outside can be reached.
func freePorts(s release.ServiceSpec, internal map[string]bool, reach []reached) []release.Port {
	var ports []release.Port
	have := map[int]bool{}
	for _, p := range s.Ports {
		if p.Protocol == "tcp" {
			if have[int(p.Target)] {
				continue
			}
			have[int(p.Target)] = true
		}
		ports = append(ports, release.Port{HostIP: "127.0.0.1", Target: p.Target, Protocol: p.Protocol})
	}
	outward := slices.ContainsFunc(s.Networks, func(a release.Attach) bool { return !internal[a.Network] })
	for _, r := range reach {
		if outward && r.service == s.Name && !have[r.port] {
			have[r.port] = true
			ports = append(ports, release.Port{HostIP: "127.0.0.1", Target: uint32(r.port), Protocol: "tcp"})
		}
	}
	return ports
}

// portOf gives the port in a service's container that is meant; 0 if none is.
func portOf(s release.ServiceSpec, asked int) int {
	if asked > 0 {
		return asked
	}
	for _, p := range s.Ports {
		if p.Protocol == "tcp" {
			return int(p.Target)
		}
	}
	for _, e := range s.Expose {
		number, protocol, _ := strings.Cut(e, "/")
		if n, err := strconv.Atoi(number); err == nil && (protocol == "" || protocol == "tcp") {
			return n
		}
	}
	return 0
}

// reaches lists the ports that checks and load talk to.
func (o Options) reaches() []reached {
	var list []reached
	add := func(service string, port int) {
		s, _ := o.Workload.Service(service)
		if port = portOf(s, port); port > 0 {
			list = append(list, reached{service, port})
		}
	}
	for _, c := range o.Checks {
		if c.HTTP != nil {
			add(c.Service, c.HTTP.Port)
		}
		if c.Write != nil && c.Write.HTTP != nil {
			add(c.Service, c.Write.HTTP.Port)
		}
		if c.TCP > 0 {
			add(c.Service, c.TCP)
		}
	}
	if l := o.Memory.Load; l.HTTP != nil {
		add(l.Service, l.HTTP.Port)
	}
	if t := o.stopTest(); t.HTTP != nil {
		add(t.Service, t.HTTP.Port)
	}
	return list
}
