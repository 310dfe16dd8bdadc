package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/promote-dev/promote/pkg/release"
)

// serviceSpec maps one service as docker compose's create does.
func serviceSpec(p *types.Project, s types.ServiceConfig) (release.ServiceSpec, error) {
	if err := runnable(s); err != nil {
		return release.ServiceSpec{}, err
	}
	hash, err := configHash(s)
	if err != nil {
		return release.ServiceSpec{}, err
	}
	mounts, err := serviceMounts(p, s)
	if err != nil {
		return release.ServiceSpec{}, err
	}
	ports, err := servicePorts(s)
	if err != nil {
		return release.ServiceSpec{}, err
	}
	restart, err := serviceRestart(s)
	if err != nil {
		return release.ServiceSpec{}, err
	}
	spec := release.ServiceSpec{
		Name:          s.Name,
		ContainerName: s.ContainerName,
		ConfigHash:    hash,
		Command:       s.Command,
		Entrypoint:    s.Entrypoint,
		Environment:   filled(s.Environment.ToMapping()),
		User:          s.User,
		GroupAdd:      s.GroupAdd,
		WorkingDir:    s.WorkingDir,
		Hostname:      s.Hostname,
		Init:          s.Init,
		TTY:           s.Tty,
		StdinOpen:     s.StdinOpen,
		StopSignal:    s.StopSignal,
		ReadOnly:      s.ReadOnly,
		Privileged:    s.Privileged,
		CapAdd:        s.CapAdd,
		CapDrop:       s.CapDrop,
		SecurityOpt:   s.SecurityOpt,
		Sysctls:       filled(s.Sysctls),
		Ulimits:       serviceUlimits(s),
		ShmSize:       int64(s.ShmSize),
		OOMScoreAdj:   int(s.OomScoreAdj),
		Mounts:        mounts,
		Ports:         ports,
		Expose:        s.Expose,
		ExtraHosts:    s.ExtraHosts.AsList(":"),
		DNS:           s.DNS,
		Health:        serviceHealth(s),
		Restart:       restart,
		PreStop:       serviceHooks(s.PreStop),
		Labels:        filled(s.Labels),
	}
	slices.Sort(spec.ExtraHosts)
	if spec.ContainerName == "" {
		spec.ContainerName = p.Name + "-" + s.Name + "-1"
	}
	if s.StopGracePeriod != nil {
		spec.StopGrace = time.Duration(*s.StopGracePeriod)
	}
	if s.Logging != nil {
		spec.LogDriver, spec.LogOptions = s.Logging.Driver, filled(s.Logging.Options)
	}
	setLimits(&spec, s)
	if s.Deploy != nil && s.Deploy.UpdateConfig != nil {
		spec.UpdateOrder = s.Deploy.UpdateConfig.Order
	}
	spec.Networks = serviceNetworks(p, s, spec.ContainerName)
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		spec.DependsOn = append(spec.DependsOn, release.Dependency{Service: name, Condition: s.DependsOn[name].Condition})
	}
	return spec, nil
}

// unrunnable are keys that are findings and have no place in a workload: not
// even an exception makes them run.
var unrunnable = []string{"cgroup", "device_cgroup_rules", "devices", "gpus", "ipc", "network_mode", "pid", "use_api_socket", "userns_mode", "uts"}

func runnable(s types.ServiceConfig) error {
	reserved := s.Deploy != nil && s.Deploy.Resources.Reservations != nil && len(s.Deploy.Resources.Reservations.Devices) > 0
	asked := map[string]bool{
		"cgroup": s.Cgroup != "", "device_cgroup_rules": len(s.DeviceCgroupRules) > 0, "devices": len(s.Devices) > 0 || reserved,
		"gpus": len(s.Gpus) > 0, "ipc": s.Ipc != "" && s.Ipc != "private", "network_mode": s.NetworkMode != "", "pid": s.Pid != "",
		"use_api_socket": s.UseAPISocket, "userns_mode": s.UserNSMode != "", "uts": s.Uts != "",
	}
	for _, key := range unrunnable {
		if asked[key] {
			return fmt.Errorf("%s is not supported, and no exception makes it so", key)
		}
	}
	return nil
}

// setLimits takes deploy.resources over the older keys, as Compose does.
func setLimits(spec *release.ServiceSpec, s types.ServiceConfig) {
	spec.MemoryLimit, spec.MemoryReservation = int64(s.MemLimit), int64(s.MemReservation)
	spec.MemorySwap, spec.PIDs, spec.CPUs = int64(s.MemSwapLimit), s.PidsLimit, exact(s.CPUS)
	if s.Deploy == nil {
		return
	}
	if l := s.Deploy.Resources.Limits; l != nil {
		if l.MemoryBytes != 0 {
			spec.MemoryLimit = int64(l.MemoryBytes)
		}
		if l.NanoCPUs != 0 {
			spec.CPUs = exact(float32(l.NanoCPUs))
		}
		if l.Pids > 0 {
			spec.PIDs = l.Pids
		}
	}
	if r := s.Deploy.Resources.Reservations; r != nil && r.MemoryBytes != 0 {
		spec.MemoryReservation = int64(r.MemoryBytes)
	}
}

// exact widens as the number was written: 0.3 stays 0.3.
func exact(f float32) float64 {
	wide, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	return wide
}

func serviceHooks(list []types.ServiceHook) []release.Hook {
	var out []release.Hook
	for _, h := range list {
		out = append(out, release.Hook{Command: h.Command, User: h.User, WorkingDir: h.WorkingDir, Environment: filled(h.Environment.ToMapping())})
	}
	return out
}

func serviceUlimits(s types.ServiceConfig) []release.Ulimit {
	var out []release.Ulimit
	for _, name := range slices.Sorted(maps.Keys(s.Ulimits)) {
		u := s.Ulimits[name]
		limit := release.Ulimit{Name: name, Soft: int64(u.Single), Hard: int64(u.Single)}
		if u.Soft != 0 {
			limit.Soft = int64(u.Soft)
		}
		if u.Hard != 0 {
			limit.Hard = int64(u.Hard)
		}
		out = append(out, limit)
	}
	return out
}

func serviceHealth(s types.ServiceConfig) *release.Health {
	h := s.HealthCheck
	if h == nil {
		return nil
	}
	out := &release.Health{Test: h.Test}
	if h.Disable {
		out.Test = []string{"NONE"}
	}
	for _, d := range []struct {
		from *types.Duration
		to   *time.Duration
	}{{h.Interval, &out.Interval}, {h.Timeout, &out.Timeout}, {h.StartPeriod, &out.StartPeriod}, {h.StartInterval, &out.StartInterval}} {
		if d.from != nil {
			*d.to = time.Duration(*d.from)
		}
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out
}

// serviceRestart reads restart, and deploy.restart_policy over it.
func serviceRestart(s types.ServiceConfig) (release.Restart, error) {
	name, count, limited := strings.Cut(s.Restart, ":")
	r := release.Restart{Name: name}
	if limited {
		var err error
		if r.Max, err = strconv.Atoi(count); err != nil || r.Max < 0 || name != "on-failure" {
			return r, fmt.Errorf("restart %q: want on-failure:<count>", clip(s.Restart))
		}
	}
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		policy := s.Deploy.RestartPolicy
		r = release.Restart{Name: policy.Condition}
		if policy.MaxAttempts != nil {
			r.Max = int(*policy.MaxAttempts)
		}
	}
	switch r.Name {
	case "", "none":
		r.Name = "no"
	case "any":
		r.Name = "always"
	case "no", "always", "on-failure", "unless-stopped":
	default:
		return r, fmt.Errorf("restart %q: want no, always, on-failure or unless-stopped", clip(r.Name))
	}
	return r, nil
}

func servicePorts(s types.ServiceConfig) ([]release.Port, error) {
	var out []release.Port
	for _, p := range s.Ports {
		if p.Target == 0 || p.Target > 65535 {
			return nil, fmt.Errorf("port %d: want 1 to 65535", p.Target)
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		out = append(out, release.Port{HostIP: p.HostIP, Published: p.Published, Target: p.Target, Protocol: protocol})
	}
	return out, nil
}

// serviceNetworks joins networks by priority; in each the service is known by
// its container's name, its own, and its aliases. The engine adds the
// container's short id.
func serviceNetworks(p *types.Project, s types.ServiceConfig, container string) []release.Attach {
	var out []release.Attach
	for _, key := range s.NetworksByPriority() {
		attach := release.Attach{Network: p.Networks[key].Name, Aliases: []string{container, s.Name}}
		if n := s.Networks[key]; n != nil {
			attach.Aliases = append(attach.Aliases, n.Aliases...)
			attach.IPv4 = n.Ipv4Address
		}
		out = append(out, attach)
	}
	return out
}
