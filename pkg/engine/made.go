package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/promote-dev/promote/pkg/release"
)

// habits are what an engine does by itself, as far as it differs from one
// engine to another.
type habits struct {
	api      string // the version spoken
	runtime  string // of containers that ask for none
	cgroups2 bool
}

// made reads how a container was made. What the engine fills in by itself
// everywhere is left out, so that engines of all versions say the same.
func made(r container.InspectResponse, raw json.RawMessage, h habits) *release.Made {
	m := &release.Made{Further: map[string]string{}}
	if r.Config != nil {
		madeConfig(&m.Spec, *r.Config, r.ID)
	}
	if r.HostConfig != nil {
		madeHost(&m.Spec, *r.HostConfig)
		further(m.Further, *r.HostConfig, h)
	}
	if r.Config != nil && r.Config.Domainname != "" {
		m.Further["domainname"] = r.Config.Domainname
	}
	if mac := givenAddress(raw); mac != "" {
		m.Further["macAddress"] = mac
	}
	if r.NetworkSettings != nil {
		m.Spec.Networks = attached(r.NetworkSettings.Networks, r.ID)
		for name, e := range r.NetworkSettings.Networks {
			if e != nil && len(e.Links) > 0 {
				m.Further["links in "+name] = strings.Join(slices.Sorted(slices.Values(e.Links)), ",")
			}
			if e != nil && len(e.DriverOpts) > 0 {
				m.Further["options of "+name] = pairs(e.DriverOpts)
			}
		}
	}
	if versions.LessThan(h.api, "1.44") {
		m.Untold = append(m.Untold, "healthcheck startInterval")
	}
	return m
}

// givenAddress reads a hardware address that was asked for: engines before 25.0
// keep it where the client library does not look any more.
func givenAddress(raw json.RawMessage) string {
	var c struct {
		Config struct{ MacAddress string }
	}
	_ = json.Unmarshal(raw, &c) // the library has read the same bytes
	return c.Config.MacAddress
}

func madeConfig(s *release.ServiceSpec, c container.Config, id string) {
	s.Command, s.Entrypoint, s.WorkingDir = c.Cmd, c.Entrypoint, c.WorkingDir
	s.Environment = map[string]string{}
	for _, pair := range c.Env {
		key, value, _ := strings.Cut(pair, "=")
		s.Environment[key] = value
	}
	if c.Hostname != shortID(id) {
		s.Hostname = c.Hostname
	}
	s.TTY, s.StdinOpen, s.StopSignal = c.Tty, c.OpenStdin, c.StopSignal
	if c.StopTimeout != nil {
		s.StopGrace = time.Duration(*c.StopTimeout) * time.Second
	}
	for port := range c.ExposedPorts {
		s.Expose = append(s.Expose, port.String())
	}
	slices.Sort(s.Expose)
	if h := c.Healthcheck; h != nil {
		s.Health = &release.Health{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	s.Labels = c.Labels
}

func shortID(id string) string { return id[:min(12, len(id))] }

func madeHost(s *release.ServiceSpec, h container.HostConfig) {
	s.GroupAdd, s.CapAdd, s.CapDrop, s.Sysctls, s.ShmSize = h.GroupAdd, h.CapAdd, h.CapDrop, h.Sysctls, h.ShmSize
	s.SecurityOpt, s.Init, s.OOMScoreAdj, s.ExtraHosts = h.SecurityOpt, h.Init, h.OomScoreAdj, h.ExtraHosts
	if sharesHost(h) { // the engine adds it by itself
		s.SecurityOpt = slices.DeleteFunc(slices.Clone(s.SecurityOpt), func(o string) bool { return o == "label=disable" })
	}
	s.MemoryReservation, s.MemorySwap = h.MemoryReservation, h.MemorySwap
	s.LogDriver, s.LogOptions = h.LogConfig.Type, h.LogConfig.Config
	s.Restart = release.Restart{Name: string(h.RestartPolicy.Name), Max: h.RestartPolicy.MaximumRetryCount}
	for _, u := range h.Ulimits {
		if u != nil {
			s.Ulimits = append(s.Ulimits, release.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
		}
	}
	for _, ip := range h.DNS {
		s.DNS = append(s.DNS, ip.String())
	}
	s.Ports = ports(h.PortBindings)
}

func sharesHost(h container.HostConfig) bool {
	return h.Privileged || h.IpcMode.IsHost() || h.PidMode.IsHost()
}

// ports are those of a map of bindings, in order.
func ports(m network.PortMap) []release.Port {
	var list []release.Port
	for port, bindings := range m {
		for _, b := range bindings {
			p := release.Port{Published: b.HostPort, Target: uint32(port.Num()), Protocol: string(port.Proto())}
			if b.HostIP.IsValid() {
				p.HostIP = b.HostIP.String()
			}
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b release.Port) int {
		return strings.Compare(fmt.Sprintf("%05d/%s %s %s", a.Target, a.Protocol, a.HostIP, a.Published), fmt.Sprintf("%05d/%s %s %s", b.Target, b.Protocol, b.HostIP, b.Published))
	})
	return list
}

// attached are the networks of a container. Engines before 25.0 put its short
// id among the aliases.
func attached(networks map[string]*network.EndpointSettings, id string) []release.Attach {
	var list []release.Attach
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		e := networks[name]
		if e == nil {
			continue
		}
		a := release.Attach{Network: name, Aliases: slices.DeleteFunc(slices.Clone(e.Aliases), func(alias string) bool { return alias == shortID(id) })}
		if e.IPAMConfig != nil && e.IPAMConfig.IPv4Address.IsValid() {
			a.IPv4 = e.IPAMConfig.IPv4Address.String()
		}
		list = append(list, a)
	}
	return list
}

// further collects what no model can ask for.
func further(all map[string]string, h container.HostConfig, habits habits) {
	text := func(name, value string, usual ...string) {
		if value != "" && !slices.Contains(usual, value) {
			all[name] = value
		}
	}
	number := func(name string, n int64) {
		if n != 0 {
			all[name] = strconv.FormatInt(n, 10)
		}
	}
	flag := func(name string, set bool) {
		if set {
			all[name] = "true"
		}
	}
	list := func(name string, items []string) {
		text(name, strings.Join(slices.Sorted(slices.Values(items)), ","))
	}
	text("pid", string(h.PidMode))
	text("ipc", string(h.IpcMode), "private", "shareable")
	text("uts", string(h.UTSMode))
	text("userns", string(h.UsernsMode))
	usual := "host"
	if habits.cgroups2 {
		usual = "private"
	}
	text("cgroup", string(h.CgroupnsMode), usual)
	text("cgroupParent", h.CgroupParent)
	text("runtime", h.Runtime, habits.runtime)
	text("cpuset", h.CpusetCpus)
	text("cpusetMems", h.CpusetMems)
	text("volumeDriver", h.VolumeDriver)
	text("isolation", string(h.Isolation), "default")
	if h.NetworkMode.IsHost() || h.NetworkMode.IsContainer() {
		text("networkMode", string(h.NetworkMode))
	}
	number("cpuShares", h.CPUShares)
	number("cpuPeriod", h.CPUPeriod)
	number("cpuQuota", h.CPUQuota)
	number("cpuRealtimePeriod", h.CPURealtimePeriod)
	number("cpuRealtimeRuntime", h.CPURealtimeRuntime)
	number("blkioWeight", int64(h.BlkioWeight))
	flag("oomKillDisable", h.OomKillDisable != nil && *h.OomKillDisable)
	flag("autoRemove", h.AutoRemove)
	flag("publishAll", h.PublishAllPorts)
	if h.MemorySwappiness != nil && *h.MemorySwappiness >= 0 {
		all["memorySwappiness"] = strconv.FormatInt(*h.MemorySwappiness, 10)
	}
	list("dnsOptions", h.DNSOptions)
	list("dnsSearch", h.DNSSearch)
	list("volumesFrom", h.VolumesFrom)
	list("links", h.Links)
	list("deviceCgroupRules", h.DeviceCgroupRules)
	text("storageOptions", pairs(h.StorageOpt))
	text("annotations", pairs(h.Annotations))
	furtherDevices(all, h)
	if h.MaskedPaths != nil && len(h.MaskedPaths) == 0 && !h.Privileged {
		all["maskedPaths"] = "none"
	}
	if h.ReadonlyPaths != nil && len(h.ReadonlyPaths) == 0 && !h.Privileged {
		all["readonlyPaths"] = "none"
	}
}

func furtherDevices(all map[string]string, h container.HostConfig) {
	for _, d := range h.Devices {
		all["device "+d.PathInContainer] = d.PathOnHost + ":" + d.CgroupPermissions
	}
	for i, d := range h.DeviceRequests {
		all["deviceRequest "+strconv.Itoa(i)] = fmt.Sprintf("%s %d %v %v", d.Driver, d.Count, d.DeviceIDs, d.Capabilities)
	}
	for name, n := range map[string]int{
		"blkioWeightDevice": len(h.BlkioWeightDevice), "deviceReadBps": len(h.BlkioDeviceReadBps), "deviceWriteBps": len(h.BlkioDeviceWriteBps),
		"deviceReadIOps": len(h.BlkioDeviceReadIOps), "deviceWriteIOps": len(h.BlkioDeviceWriteIOps),
	} {
		if n > 0 {
			all[name] = strconv.Itoa(n) + " devices"
		}
	}
}

// pairs writes a mapping in one line.
func pairs(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ",")
}

// observedMounts are a container's mounts. What docker run calls --tmpfs is
// among them, which engines report elsewhere.
func observedMounts(r container.InspectResponse) []release.ObservedMount {
	var list []release.ObservedMount
	asked := map[string]mount.Mount{}
	if r.HostConfig != nil {
		for _, m := range r.HostConfig.Mounts {
			asked[m.Target] = m
		}
	}
	for _, m := range r.Mounts {
		list = append(list, release.ObservedMount{Type: string(m.Type), Name: m.Name, Source: m.Source, Target: m.Destination,
			ReadOnly: !m.RW, Options: mountOptions(m, asked[m.Destination])})
	}
	if r.HostConfig != nil {
		for target, options := range r.HostConfig.Tmpfs {
			list = append(list, tmpfsMount(target, options))
		}
	}
	slices.SortFunc(list, func(a, b release.ObservedMount) int { return strings.Compare(a.Target, b.Target) })
	return list
}

func mountOptions(m container.MountPoint, asked mount.Mount) string {
	var list []string
	if m.Propagation != "" && m.Propagation != mount.PropagationRPrivate {
		list = append(list, "propagation="+string(m.Propagation))
	}
	if t := asked.TmpfsOptions; t != nil && m.Type == mount.TypeTmpfs {
		if t.Mode != 0 {
			list = append(list, "mode="+strconv.FormatUint(uint64(t.Mode), 8))
		}
		if t.SizeBytes != 0 {
			list = append(list, "size="+strconv.FormatInt(t.SizeBytes, 10))
		}
	}
	if v := asked.VolumeOptions; v != nil && v.Subpath != "" {
		list = append(list, "subpath="+v.Subpath)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// tmpfsMount reads the form of docker run: "size=64m,mode=1777,ro". What every
// tmpfs has by itself is left out.
func tmpfsMount(target, options string) release.ObservedMount {
	m := release.ObservedMount{Type: "tmpfs", Target: target}
	var list []string
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "", "rw", "noexec", "nosuid", "nodev":
		case "ro":
			m.ReadOnly = true
		case "size":
			if n, ok := sizeOf(value); ok {
				value = strconv.FormatInt(n, 10)
			}
			list = append(list, "size="+value)
		case "mode":
			list = append(list, "mode="+strings.TrimLeft(value, "0"))
		default:
			list = append(list, option)
		}
	}
	slices.Sort(list)
	m.Options = strings.Join(list, ",")
	return m
}

// sizeOf reads a size as mount(8) writes it: 64m.
func sizeOf(s string) (int64, bool) {
	unit := int64(1)
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			unit = 1 << 10
		case 'm', 'M':
			unit = 1 << 20
		case 'g', 'G':
			unit = 1 << 30
		}
		if unit > 1 {
			s = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n * unit, err == nil
}
