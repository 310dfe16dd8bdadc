package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// createTimeout bounds creating a container: the engine may copy an image's
// files into a new volume on the way.
const createTimeout = 5 * time.Minute

// Create makes a container for a service, under a name and with labels beyond
// those of the service and of Compose, and joins its networks. It does not
// start it. When joining fails, the container is removed again.
func (h *Host) Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (id string, err error) {
	known, image, present, err := h.image(ctx, s.Image)
	if err != nil {
		return "", err
	}
	if !present {
		return "", release.Unavailable("pull it first: docker pull "+s.Image.String(), "creating container %s: %w: image %s", name, release.ErrNotFound, s.Image)
	}
	options, others, err := creation(project, s, image, labels)
	if err != nil {
		return "", err
	}
	options.Name = name
	options.Config.Image = known
	ctx, cancel := context.WithTimeoutCause(ctx, createTimeout, errors.New("no answer within "+createTimeout.String()))
	defer cancel()
	created, err := h.client.ContainerCreate(ctx, options)
	if err != nil {
		return "", h.fault("creating container", name, err)
	}
	for _, attach := range others {
		if err = h.join(ctx, created.ID, s, attach); err != nil {
			return "", errors.Join(err, h.Discard(context.WithoutCancel(ctx), created.ID))
		}
	}
	return created.ID, nil
}

func (h *Host) join(ctx context.Context, id string, s release.ServiceSpec, a release.Attach) error {
	endpoint, err := endpoint(s, a)
	if err != nil {
		return err
	}
	_, err = h.client.NetworkConnect(ctx, a.Network, client.NetworkConnectOptions{Container: id, EndpointConfig: endpoint})
	return h.fault("joining network", a.Network, err)
}

// creation translates a service into the engine's words. Engines before 25.0
// take one network at creation, so the further ones are joined afterwards.
func creation(project string, s release.ServiceSpec, image string, labels map[string]string) (client.ContainerCreateOptions, []release.Attach, error) {
	ports, exposed, err := portMaps(s)
	if err != nil {
		return client.ContainerCreateOptions{}, nil, err
	}
	host, err := hostConfig(s)
	if err != nil {
		return client.ContainerCreateOptions{}, nil, err
	}
	host.PortBindings = ports
	options := client.ContainerCreateOptions{
		Config: &container.Config{
			Hostname: s.Hostname, User: s.User, WorkingDir: s.WorkingDir,
			Env: environment(s.Environment), Cmd: s.Command, Entrypoint: s.Entrypoint,
			Image: reference(s.Image), Tty: s.TTY, OpenStdin: s.StdinOpen,
			ExposedPorts: exposed, Healthcheck: healthcheck(s.Health),
			StopSignal: s.StopSignal, StopTimeout: seconds(s.StopGrace),
			Labels: serviceLabels(project, s, image, labels),
		},
		HostConfig: host,
	}
	if len(s.Networks) == 0 {
		host.NetworkMode = "none"
		return options, nil, nil
	}
	first, err := endpoint(s, s.Networks[0])
	if err != nil {
		return client.ContainerCreateOptions{}, nil, err
	}
	host.NetworkMode = container.NetworkMode(s.Networks[0].Network)
	options.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.Networks[0].Network: first}}
	return options, s.Networks[1:], nil
}

func hostConfig(s release.ServiceSpec) (*container.HostConfig, error) {
	dns, err := addresses(s.DNS)
	if err != nil {
		return nil, err
	}
	host := &container.HostConfig{
		LogConfig:      container.LogConfig{Type: s.LogDriver, Config: s.LogOptions},
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyMode(s.Restart.Name), MaximumRetryCount: s.Restart.Max},
		CapAdd:         s.CapAdd,
		CapDrop:        s.CapDrop,
		DNS:            dns,
		ExtraHosts:     extraHosts(s.ExtraHosts),
		GroupAdd:       s.GroupAdd,
		OomScoreAdj:    s.OOMScoreAdj,
		Privileged:     s.Privileged,
		ReadonlyRootfs: s.ReadOnly,
		SecurityOpt:    s.SecurityOpt,
		ShmSize:        s.ShmSize,
		Sysctls:        s.Sysctls,
		Init:           s.Init,
		Resources: container.Resources{
			Memory: s.MemoryLimit, MemoryReservation: s.MemoryReservation, MemorySwap: s.MemorySwap,
			NanoCPUs: int64(math.Round(s.CPUs * 1e9)),
		},
	}
	if host.RestartPolicy.Name == "" {
		host.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if s.PIDs != 0 {
		host.PidsLimit = &s.PIDs
	}
	for _, u := range s.Ulimits {
		host.Ulimits = append(host.Ulimits, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, engineMount(m))
	}
	return host, nil
}

func engineMount(m release.Mount) mount.Mount {
	out := mount.Mount{Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	switch out.Type {
	case mount.TypeVolume:
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: m.NoCopy}
	case mount.TypeTmpfs:
		out.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: m.Size, Mode: os.FileMode(m.Mode)}
	}
	return out
}

// serviceLabels are the service's own labels, ours and Compose's; Compose's win.
func serviceLabels(project string, s release.ServiceSpec, image string, labels map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, s.Labels)
	maps.Copy(all, labels)
	maps.Copy(all, map[string]string{
		release.LabelProject:                  project,
		release.LabelService:                  s.Name,
		release.LabelConfigHash:               s.ConfigHash,
		"com.docker.compose.container-number": "1",
		"com.docker.compose.oneoff":           "False",
		"com.docker.compose.image":            image,
		"com.docker.compose.version":          composeVersion,
		"com.docker.compose.depends_on":       dependsOn(s.DependsOn),
	})
	return all
}

// dependsOn writes Compose's form: service:condition:restart, comma-separated.
func dependsOn(list []release.Dependency) string {
	var parts []string
	for _, d := range list {
		parts = append(parts, d.Service+":"+d.Condition+":false")
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func environment(m map[string]string) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return list
}

func healthcheck(h *release.Health) *container.HealthConfig {
	if h == nil {
		return nil
	}
	return &container.HealthConfig{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

// seconds rounds a grace period up, so that nobody gets less than was asked.
func seconds(d time.Duration) *int {
	if d <= 0 {
		return nil
	}
	n := int(math.Ceil(d.Seconds()))
	return &n
}

func portMaps(s release.ServiceSpec) (network.PortMap, network.PortSet, error) {
	bindings, exposed := network.PortMap{}, network.PortSet{}
	for _, p := range s.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		port, err := network.ParsePort(fmt.Sprintf("%d/%s", p.Target, protocol))
		if err != nil {
			return nil, nil, badSpec(s, "port", err)
		}
		b := network.PortBinding{HostPort: p.Published}
		if p.HostIP != "" {
			if b.HostIP, err = netip.ParseAddr(p.HostIP); err != nil {
				return nil, nil, badSpec(s, "port", err)
			}
		}
		exposed[port] = struct{}{}
		bindings[port] = append(bindings[port], b)
	}
	for _, text := range s.Expose {
		ports, err := network.ParsePortRange(text)
		if err != nil {
			return nil, nil, badSpec(s, "expose", err)
		}
		for port := range ports.All() {
			exposed[port] = struct{}{}
		}
	}
	return bindings, exposed, nil
}

// endpoint joins a service to a network under its own name and its aliases.
func endpoint(s release.ServiceSpec, a release.Attach) (*network.EndpointSettings, error) {
	out := &network.EndpointSettings{Aliases: slices.Clone(a.Aliases)}
	if !slices.Contains(out.Aliases, s.Name) {
		out.Aliases = append(out.Aliases, s.Name)
	}
	if a.IPv4 != "" {
		ip, err := netip.ParseAddr(a.IPv4)
		if err != nil {
			return nil, badSpec(s, "network address", err)
		}
		out.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: ip}
	}
	return out, nil
}

// extraHosts takes Compose's "name=address" as well as the engine's "name:address".
func extraHosts(list []string) []string {
	var out []string
	for _, h := range list {
		if name, ip, ok := strings.Cut(h, "="); ok {
			h = name + ":" + ip
		}
		out = append(out, h)
	}
	return out
}

func addresses(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range list {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, release.Faultf(release.KindConfig, "write an IP address", "dns server: %w", err)
		}
		out = append(out, ip)
	}
	return out, nil
}

func badSpec(s release.ServiceSpec, what string, err error) error {
	return release.Faultf(release.KindConfig, "correct it in the compose file", "service %s: %s: %w", s.Name, what, err)
}
