package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/pkg/release"
)

// mostObjects bounds what one listing of an engine may hold.
const mostObjects = 10_000

// mostLooks is how many containers are looked at at the same time.
const mostLooks = 8

// Observe reports the containers of a Compose project, stopped ones too, and
// the engine's volumes and networks. It asks side by side: an engine behind a
// long way costs three answers' time, however many containers there are.
func (h *Host) Observe(ctx context.Context, project string) (seen release.Observed, err error) {
	var ids []string
	var habits *habits
	lists, listing := errgroup.WithContext(ctx)
	for _, list := range []func() error{
		func() (err error) { seen.Volumes, err = h.volumes(listing); return err },
		func() (err error) { seen.NetworkSpecs, err = h.networks(listing); return err },
		func() (err error) { habits, err = h.habits(listing); return err },
		func() (err error) { ids, err = h.containers(listing, release.LabelProject+"="+project); return err },
	} {
		lists.Go(list)
	}
	if err := lists.Wait(); err != nil {
		return release.Observed{}, err
	}
	for _, n := range seen.NetworkSpecs {
		seen.Networks = append(seen.Networks, n.Name)
	}
	found := make([]*release.Container, len(ids))
	looks, looking := errgroup.WithContext(ctx)
	looks.SetLimit(mostLooks)
	for i, id := range ids {
		looks.Go(func() error {
			c, err := h.inspect(looking, id, seen, habits)
			switch {
			case absent(err): // it went away between the list and now
				return nil
			case err == nil:
				found[i] = &c
			}
			return err
		})
	}
	if err := looks.Wait(); err != nil {
		return release.Observed{}, err
	}
	for _, c := range found {
		if c != nil {
			seen.Containers = append(seen.Containers, *c)
		}
	}
	slices.SortFunc(seen.Containers, func(a, b release.Container) int { return strings.Compare(a.Name, b.Name) })
	seen.TakeOver(project)
	return seen, nil
}

// Inspect reports one container by id or name, without the identities of its
// volumes.
func (h *Host) Inspect(ctx context.Context, id string) (release.Container, error) {
	return h.inspect(ctx, id, release.Observed{}, nil)
}

// Volume reports one volume by name; release.ErrNotFound is in the chain of the
// error if there is none.
func (h *Host) Volume(ctx context.Context, name string) (release.ObservedVolume, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	if err != nil {
		return release.ObservedVolume{}, h.fault("inspecting volume", name, err)
	}
	return observed(result.Volume, h.steadyCreation()), nil
}

// inspect reports one container; with the engine's habits also how it was made.
func (h *Host) inspect(ctx context.Context, id string, seen release.Observed, habits *habits) (release.Container, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return release.Container{}, h.fault("inspecting container", id, err)
	}
	c := convert(result.Container)
	if habits != nil {
		c.Made = made(result.Container, result.Raw, *habits)
	}
	for i, m := range c.Mounts {
		if v, ok := seen.Volume(m.Name); ok && m.Type == "volume" {
			c.Mounts[i].Identity = v.Identity
		}
	}
	return c, nil
}

// containers lists the ids of all containers with a label ("key" or "key=value").
func (h *Host) containers(ctx context.Context, label string) ([]string, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
	if err != nil {
		return nil, h.fault("listing containers", h.Name(), err)
	}
	if len(result.Items) > mostObjects {
		return nil, tooMany("containers", len(result.Items))
	}
	var ids []string
	for _, c := range result.Items {
		ids = append(ids, c.ID)
	}
	return ids, nil
}

func (h *Host) volumes(ctx context.Context) ([]release.ObservedVolume, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return nil, h.fault("listing volumes", h.Name(), err)
	}
	if len(result.Items) > mostObjects {
		return nil, tooMany("volumes", len(result.Items))
	}
	steady := h.steadyCreation()
	var list []release.ObservedVolume
	for _, v := range result.Items {
		list = append(list, observed(v, steady))
	}
	slices.SortFunc(list, func(a, b release.ObservedVolume) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func observed(v volume.Volume, steady bool) release.ObservedVolume {
	return release.ObservedVolume{Name: v.Name, Driver: v.Driver, Identity: identity(v, steady), Labels: v.Labels, Options: v.Options}
}

func (h *Host) networks(ctx context.Context) ([]release.NetworkSpec, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, h.fault("listing networks", h.Name(), err)
	}
	if len(result.Items) > mostObjects {
		return nil, tooMany("networks", len(result.Items))
	}
	var list []release.NetworkSpec
	for _, n := range result.Items {
		list = append(list, release.NetworkSpec{Key: n.Labels[release.LabelNetwork], Name: n.Name, Driver: n.Driver, Internal: n.Internal, Options: n.Options, Labels: n.Labels})
	}
	slices.SortFunc(list, func(a, b release.NetworkSpec) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// habits asks the engine once for what it does by itself.
func (h *Host) habits(ctx context.Context) (*habits, error) {
	if known := h.known.Load(); known != nil {
		return known, nil
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, h.fault("asking engine", h.Name(), err)
	}
	known := &habits{api: h.client.ClientVersion(), runtime: cmp.Or(result.Info.DefaultRuntime, "runc"), cgroups2: result.Info.CgroupVersion == "2"}
	h.known.Store(known)
	return known, nil
}

// Outsiders lists the containers that are not part of a project, stopped ones
// too, without promote's own helpers: locks, probes, smoke runs.
func (h *Host) Outsiders(ctx context.Context, project string) ([]release.Outsider, error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	result, err := h.client.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, h.fault("listing containers", h.Name(), err)
	}
	if len(result.Items) > mostObjects {
		return nil, tooMany("containers", len(result.Items))
	}
	var list []release.Outsider
	for _, c := range result.Items {
		if c.Labels[release.LabelProject] == project || helper(c.Labels) {
			continue
		}
		o := release.Outsider{ID: c.ID, Image: c.ImageID, Reference: c.Image, State: string(c.State), Project: c.Labels[release.LabelProject], Promoted: c.Labels[release.LabelSequence] != ""}
		if len(c.Names) > 0 {
			o.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		if c.ImageManifestDescriptor != nil && c.ImageManifestDescriptor.Digest != "" {
			o.Image = c.ImageManifestDescriptor.Digest.String()
		}
		for _, m := range c.Mounts {
			if m.Type == "volume" {
				o.Volumes = append(o.Volumes, m.Name)
			}
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b release.Outsider) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func helper(labels map[string]string) bool {
	for _, label := range []string{labelLock, labelProbe, release.LabelArchive, release.LabelSmoke} {
		if labels[label] != "" {
			return true
		}
	}
	return false
}

func tooMany(what string, n int) error {
	return release.Unavailable("remove what nobody needs (docker system prune), then try again", "listing %s: the engine has %d, more than %d", what, n, mostObjects)
}

// identity tells a volume from a later one of the same name. Engines before
// 23.0 report the last change of a local volume's directory as its creation
// time (moby issue 38274), which says nothing; there only our label does.
func identity(v volume.Volume, steady bool) string {
	switch {
	case v.Labels[release.LabelIdentity] != "":
		return v.Name + "@" + v.Labels[release.LabelIdentity]
	case steady && v.Driver == "local" && v.CreatedAt != "":
		return v.Name + "@" + v.CreatedAt
	}
	return v.Name
}

// steadyCreation reports whether the engine is 23.0 (API 1.42) or later.
func (h *Host) steadyCreation() bool {
	return versions.GreaterThanOrEqualTo(h.client.ClientVersion(), "1.42")
}

func convert(r container.InspectResponse) release.Container {
	c := release.Container{
		ID:       r.ID,
		Name:     strings.TrimPrefix(r.Name, "/"),
		Image:    r.Image,
		Restarts: r.RestartCount,
		Health:   string(container.NoHealthcheck),
		Networks: map[string]string{},
	}
	if r.ImageManifestDescriptor != nil && r.ImageManifestDescriptor.Digest != "" {
		c.Image = r.ImageManifestDescriptor.Digest.String()
	}
	if r.Config != nil {
		c.Reference, c.User, c.Labels = r.Config.Image, r.Config.User, r.Config.Labels
		c.Service, c.ConfigHash = c.Labels[release.LabelService], c.Labels[release.LabelConfigHash]
		c.HealthTest = healthTest(r.Config)
	}
	if r.HostConfig != nil {
		convertLimits(&c, *r.HostConfig)
	}
	if r.State != nil {
		convertState(&c, *r.State)
	}
	c.Mounts = observedMounts(r)
	if r.NetworkSettings != nil {
		convertNetwork(&c, *r.NetworkSettings)
	}
	return c
}

func convertLimits(c *release.Container, h container.HostConfig) {
	c.ReadOnly, c.Privileged, c.Memory = h.ReadonlyRootfs, h.Privileged, h.Memory
	c.NoNewPrivileges = noNewPrivileges(h.SecurityOpt)
	c.CPUs, c.Restart = float64(h.NanoCPUs)/1e9, string(h.RestartPolicy.Name)
	if h.PidsLimit != nil && *h.PidsLimit > 0 {
		c.PIDs = *h.PidsLimit
	}
}

// noNewPrivileges reads the last option of that name, as the engine does.
func noNewPrivileges(options []string) (set bool) {
	for _, o := range options {
		name, value, given := strings.Cut(strings.ReplaceAll(o, "=", ":"), ":")
		if name == "no-new-privileges" {
			set = !given || value == "true"
		}
	}
	return set
}

// healthTest gives a health check's command as exec takes it; nil is none.
func healthTest(c *container.Config) []string {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return slices.Clone(h.Test[1:])
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), h.Test[1])
	}
	return nil
}

func convertState(c *release.Container, s container.State) {
	c.State, c.ExitCode, c.Error, c.OOMKilled, c.PID = string(s.Status), s.ExitCode, s.Error, s.OOMKilled, s.Pid
	c.Started, _ = time.Parse(time.RFC3339Nano, s.StartedAt) // the engine's own form; never started stays zero
	if s.Health == nil || s.Health.Status == "" {
		return
	}
	c.Health = string(s.Health.Status)
	if n := len(s.Health.Log); n > 0 && s.Health.Log[n-1] != nil {
		last := s.Health.Log[n-1]
		c.HealthLog = clip(fmt.Sprintf("exit code %d: %s", last.ExitCode, strings.TrimSpace(last.Output)), 2000)
	}
}

func convertNetwork(c *release.Container, s container.NetworkSettings) {
	for name, endpoint := range s.Networks {
		if endpoint == nil {
			continue
		}
		c.Networks[name] = ""
		if endpoint.IPAddress.IsValid() {
			c.Networks[name] = endpoint.IPAddress.String()
		}
	}
	c.Ports = ports(s.Ports)
}

// clip keeps the first bytes of a text that others wrote.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
