package deploy

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// field is one thing about a container that a model decides. Plans, drift and
// docs/drift.md come from the one table of them.
type field struct {
	name string // of differences; one with parts is "name PART"
	keys string // of the Compose model, that decide it
	// read gives the texts of a service's spec by part; a field without parts
	// has the part "". What is not set, and what engines do by themselves, is
	// left out, so that both sides of a comparison are in one form.
	read func(s release.ServiceSpec) parts
	// firm fields are compared always, and a container that differs in one just
	// after it was made is not what was meant. The others are compared where it
	// is known what they were: engines may fill them in.
	firm bool
	// strict fields are compared like the others, but an engine may not fill
	// them in.
	strict bool
	// secret texts are never shown, only their fingerprints.
	secret bool
}

// parts are the texts of one field.
type parts map[string]string

func one(text string) parts {
	if text == "" {
		return nil
	}
	return parts{"": text}
}

func flag(set bool) parts { return one(strconv.FormatBool(set)) }

func list(items []string) parts {
	if len(items) == 0 {
		return nil
	}
	raw, _ := json.Marshal(items) // a list of texts always encodes
	return one(string(raw))
}

func set(items []string) parts { return list(slices.Compact(slices.Sorted(slices.Values(items)))) }

// fields is the table. Image, configuration, state and what is not one
// container's are compared by themselves: see Differences and Drift.
var fields = []field{
	{name: "memory", keys: "mem_limit deploy", firm: true, read: func(s release.ServiceSpec) parts { return one(size(s.MemoryLimit)) }},
	{name: "cpus", keys: "cpus deploy", firm: true, read: func(s release.ServiceSpec) parts { return one(number(s.CPUs)) }},
	{name: "pids", keys: "pids_limit deploy", firm: true, read: func(s release.ServiceSpec) parts { return one(number(float64(max(s.PIDs, 0)))) }},
	{name: "restart", keys: "restart deploy", firm: true, read: func(s release.ServiceSpec) parts { return one(policy(s.Restart)) }},
	{name: "readOnly", keys: "read_only", firm: true, read: func(s release.ServiceSpec) parts { return flag(s.ReadOnly) }},
	{name: "privileged", keys: "privileged", firm: true, read: func(s release.ServiceSpec) parts { return flag(s.Privileged) }},
	{name: "user", keys: "user", firm: true, read: func(s release.ServiceSpec) parts { return one(s.User) }},
	{name: "network", keys: "networks", firm: true, read: readNetworks},
	{name: "volume", keys: "volumes", firm: true, read: readVolumes},
	{name: "mount", keys: "volumes tmpfs secrets configs", read: readMounts},
	{name: "capAdd", keys: "cap_add", strict: true, read: func(s release.ServiceSpec) parts { return set(capabilities(s.CapAdd)) }},
	{name: "capDrop", keys: "cap_drop", strict: true, read: func(s release.ServiceSpec) parts { return set(capabilities(s.CapDrop)) }},
	{name: "securityOpt", keys: "security_opt", strict: true, read: func(s release.ServiceSpec) parts { return set(securityOptions(s.SecurityOpt)) }},
	{name: "command", keys: "command", read: func(s release.ServiceSpec) parts { return list(s.Command) }},
	{name: "entrypoint", keys: "entrypoint", read: func(s release.ServiceSpec) parts { return list(s.Entrypoint) }},
	{name: "environment", keys: "environment", secret: true, read: func(s release.ServiceSpec) parts { return parts(s.Environment) }},
	{name: "groupAdd", keys: "group_add", read: func(s release.ServiceSpec) parts { return set(s.GroupAdd) }},
	{name: "workingDir", keys: "working_dir", read: func(s release.ServiceSpec) parts { return one(directory(s.WorkingDir)) }},
	{name: "hostname", keys: "hostname", read: func(s release.ServiceSpec) parts { return one(s.Hostname) }},
	{name: "init", keys: "init", read: func(s release.ServiceSpec) parts { return flag(s.Init != nil && *s.Init) }},
	{name: "tty", keys: "tty", read: func(s release.ServiceSpec) parts { return flag(s.TTY) }},
	{name: "stdinOpen", keys: "stdin_open", read: func(s release.ServiceSpec) parts { return flag(s.StdinOpen) }},
	{name: "stopSignal", keys: "stop_signal", read: func(s release.ServiceSpec) parts { return one(signal(s.StopSignal)) }},
	{name: "stopGrace", keys: "stop_grace_period", read: func(s release.ServiceSpec) parts { return one(grace(s.StopGrace)) }},
	{name: "sysctl", keys: "sysctls", read: func(s release.ServiceSpec) parts { return parts(s.Sysctls) }},
	{name: "ulimit", keys: "ulimits", read: readUlimits},
	{name: "shmSize", keys: "shm_size", read: func(s release.ServiceSpec) parts { return one(shm(s.ShmSize)) }},
	{name: "memoryReservation", keys: "mem_reservation deploy", read: func(s release.ServiceSpec) parts { return one(size(s.MemoryReservation)) }},
	{name: "memorySwap", keys: "memswap_limit", read: func(s release.ServiceSpec) parts { return one(swap(s)) }},
	{name: "oomScoreAdj", keys: "oom_score_adj", read: func(s release.ServiceSpec) parts { return one(number0(s.OOMScoreAdj)) }},
	{name: "port", keys: "ports", read: readPorts},
	{name: "expose", keys: "expose", read: func(s release.ServiceSpec) parts { return set(exposed(s)) }},
	{name: "extraHosts", keys: "extra_hosts", read: func(s release.ServiceSpec) parts { return set(hosts(s.ExtraHosts)) }},
	{name: "dns", keys: "dns", read: func(s release.ServiceSpec) parts { return list(s.DNS) }},
	{name: "healthcheck", keys: "healthcheck", read: readHealth},
	{name: "label", keys: "labels", read: readLabels},
	{name: "logDriver", keys: "logging", read: func(s release.ServiceSpec) parts { return one(driver(s.LogDriver)) }},
	{name: "logOption", keys: "logging", read: func(s release.ServiceSpec) parts { return parts(s.LogOptions) }},
	{name: "dependsOn", keys: "depends_on", read: readDependencies},
}

func readNetworks(s release.ServiceSpec) parts {
	p := parts{}
	for _, a := range s.Networks {
		text := "joined"
		known := []string{s.Name, s.ContainerName, s.Hostname} // engines add the hostname
		if aliases := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(a.Aliases))), func(n string) bool { return slices.Contains(known, n) }); len(aliases) > 0 {
			text += " as " + strings.Join(aliases, ", ")
		}
		if a.IPv4 != "" {
			text += " with " + a.IPv4
		}
		p[a.Network] = text
	}
	return p
}

func readVolumes(s release.ServiceSpec) parts {
	p := parts{}
	for _, m := range s.Mounts {
		if m.Type == "volume" && m.Source != "" {
			p[m.Target] = m.Source + access(m)
		}
	}
	return p
}

func readMounts(s release.ServiceSpec) parts {
	p := parts{}
	for _, m := range s.Mounts {
		if m.Type == "volume" {
			continue
		}
		text := m.Type
		if m.Source != "" {
			text += " " + path.Clean(m.Source)
		}
		if m.Size != 0 {
			text += " size=" + strconv.FormatInt(m.Size, 10)
		}
		if m.Mode != 0 {
			text += " mode=" + strconv.FormatUint(uint64(m.Mode), 8)
		}
		p[path.Clean(m.Target)] = text + access(m)
	}
	return p
}

func access(m release.Mount) string {
	if m.ReadOnly {
		return ", read-only"
	}
	return ""
}

// capabilities are written without the prefix that newer engines add.
func capabilities(list []string) []string {
	var out []string
	for _, c := range list {
		out = append(out, strings.TrimPrefix(strings.ToUpper(c), "CAP_"))
	}
	return out
}

// securityOptions writes both forms of an option as one, and leaves out what
// says nothing. A profile is shown by its digest.
func securityOptions(list []string) []string {
	var out []string
	for _, o := range list {
		name, value, given := strings.Cut(o, "=")
		if !given {
			name, value, given = strings.Cut(o, ":")
		}
		switch {
		case name == "no-new-privileges" && value == "false":
			continue
		case name == "no-new-privileges":
			o = name
		case given && strings.HasPrefix(strings.TrimSpace(value), "{"):
			o = name + "=" + release.DigestOf([]byte(value)).String()
		case given:
			o = name + "=" + value
		}
		out = append(out, o)
	}
	return out
}

func directory(dir string) string {
	if dir == "" || path.Clean(dir) == "/" {
		return ""
	}
	return path.Clean(dir)
}

func signal(name string) string {
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if name == "TERM" || name == "15" {
		return ""
	}
	return name
}

// grace is in whole seconds, rounded up as it is given to engines; they wait
// for ten by themselves.
func grace(d time.Duration) string {
	seconds := int64((d + time.Second - 1) / time.Second)
	if seconds <= 0 || seconds == 10 {
		return ""
	}
	return strconv.FormatInt(seconds, 10) + "s"
}

func readUlimits(s release.ServiceSpec) parts {
	p := parts{}
	for _, u := range s.Ulimits {
		p[u.Name] = strconv.FormatInt(u.Soft, 10) + ":" + strconv.FormatInt(u.Hard, 10)
	}
	return p
}

// shm leaves the 64 MiB of every engine out.
func shm(n int64) string {
	if n == 64<<20 {
		return ""
	}
	return size(n)
}

// swap leaves out what engines make of a memory limit: as much again.
func swap(s release.ServiceSpec) string {
	switch {
	case s.MemorySwap < 0:
		return "unlimited"
	case s.MemorySwap == 2*s.MemoryLimit:
		return ""
	}
	return size(s.MemorySwap)
}

func number0(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func readPorts(s release.ServiceSpec) parts {
	all := map[string][]string{}
	for _, p := range s.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		key := strconv.FormatUint(uint64(p.Target), 10) + "/" + protocol
		at := p.Published
		if at == "" || at == "0" {
			at = "any"
		}
		if p.HostIP != "" && p.HostIP != "0.0.0.0" {
			at = p.HostIP + ":" + at
		}
		all[key] = append(all[key], at)
	}
	out := parts{}
	for key, list := range all {
		out[key] = strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), ", ")
	}
	return out
}

func exposed(s release.ServiceSpec) []string {
	var out []string
	add := func(port, protocol string) {
		if protocol == "" {
			protocol = "tcp"
		}
		first, last, isRange := strings.Cut(port, "-")
		from, err := strconv.Atoi(first)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(last)
		}
		if err != nil || to-from > 65535 {
			out = append(out, port+"/"+protocol)
			return
		}
		for n := from; n <= to; n++ {
			out = append(out, strconv.Itoa(n)+"/"+protocol)
		}
	}
	for _, e := range s.Expose {
		port, protocol, _ := strings.Cut(e, "/")
		add(port, protocol)
	}
	for _, p := range s.Ports {
		add(strconv.FormatUint(uint64(p.Target), 10), p.Protocol)
	}
	return out
}

func hosts(list []string) []string {
	var out []string
	for _, h := range list {
		name, address, ok := strings.Cut(h, "=")
		if !ok {
			name, address, _ = strings.Cut(h, ":")
		}
		out = append(out, name+":"+strings.Trim(address, "[]"))
	}
	return out
}

// readHealth leaves out what engines take for a part that is not given.
func readHealth(s release.ServiceSpec) parts {
	h := s.Health
	if h == nil || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return one("none")
	}
	p := list(h.Test)
	add := func(name string, d, usual time.Duration) {
		if d != 0 && d != usual {
			p[name] = d.String()
		}
	}
	add("interval", h.Interval, 30*time.Second)
	add("timeout", h.Timeout, 30*time.Second)
	add("startPeriod", h.StartPeriod, 0)
	add("startInterval", h.StartInterval, 5*time.Second)
	if h.Retries != 0 && h.Retries != 3 {
		p["retries"] = strconv.Itoa(h.Retries)
	}
	return p
}

// readLabels leaves out Compose's labels, which other fields read, and ours.
func readLabels(s release.ServiceSpec) parts {
	p := parts{}
	for key, value := range s.Labels {
		if !strings.HasPrefix(key, "com.docker.compose.") && !strings.HasPrefix(key, "dev.promote.") {
			p[key] = value
		}
	}
	return p
}

// driver leaves the one of every engine out.
func driver(name string) string {
	if name == "json-file" {
		return ""
	}
	return name
}

func readDependencies(s release.ServiceSpec) parts {
	var list []string
	for _, d := range s.DependsOn {
		list = append(list, d.Service+":"+d.Condition)
	}
	return set(list)
}

// asked is a service as an engine would make it: what the image says is worked
// in where the model leaves it open.
func asked(w release.Workload, s release.ServiceSpec, image release.PlatformImage) release.ServiceSpec {
	s.ContainerName = containerName(s, w.Project)
	if s.User == "" {
		s.User = image.User
	}
	labels := maps.Clone(w.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, s.Labels)
	s.Labels = labels
	d := image.Defaults
	if d == nil {
		return s
	}
	s.Environment = under(s.Environment, d.Environment)
	s.Labels = under(s.Labels, d.Labels)
	if len(s.Entrypoint) == 0 && len(s.Command) == 0 {
		s.Command = d.Command
	}
	if s.Entrypoint == nil {
		s.Entrypoint = d.Entrypoint
	}
	if s.WorkingDir == "" {
		s.WorkingDir = d.WorkingDir
	}
	if s.StopSignal == "" {
		s.StopSignal = d.StopSignal
	}
	s.Expose = slices.Concat(s.Expose, d.Expose)
	s.Health = underHealth(s.Health, d.Health)
	return s
}

func under(over, below map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, below)
	maps.Copy(all, over)
	return all
}

func underHealth(over, below *release.Health) *release.Health {
	if over == nil || below == nil {
		if over == nil {
			return below
		}
		return over
	}
	h := *over
	if len(h.Test) == 0 {
		h.Test = below.Test
	}
	for _, d := range []struct {
		to   *time.Duration
		from time.Duration
	}{{&h.Interval, below.Interval}, {&h.Timeout, below.Timeout}, {&h.StartPeriod, below.StartPeriod}, {&h.StartInterval, below.StartInterval}} {
		if *d.to == 0 {
			*d.to = d.from
		}
	}
	if h.Retries == 0 {
		h.Retries = below.Retries
	}
	return &h
}

// found is a container in the form of a service. Volumes at the image's own
// paths that no model names are left out: what tells them apart is recorded.
func found(c release.Container, image release.PlatformImage, isAsked func(target string) bool) release.ServiceSpec {
	var s release.ServiceSpec
	if c.Made != nil {
		s = c.Made.Spec
	}
	s.Name, s.ContainerName, s.User, s.ReadOnly, s.Privileged = c.Service, c.Name, c.User, c.ReadOnly, c.Privileged
	s.MemoryLimit, s.CPUs, s.PIDs, s.Restart.Name, s.Labels = c.Memory, c.CPUs, c.PIDs, c.Restart, c.Labels
	var networks []release.Attach
	for name := range c.Networks {
		if name == "none" {
			continue
		}
		a := release.Attach{Network: name}
		for _, known := range s.Networks {
			if known.Network == name {
				a = known
			}
		}
		networks = append(networks, a)
	}
	s.Networks, s.Mounts, s.DependsOn = networks, nil, nil
	for _, m := range c.Mounts {
		if m.Type == "volume" && slices.Contains(image.Volumes, m.Target) && !isAsked(m.Target) {
			continue
		}
		s.Mounts = append(s.Mounts, observedMount(m))
	}
	for part := range strings.SplitSeq(c.Labels[composeDependsOn], ",") {
		if service, rest, ok := strings.Cut(part, ":"); ok {
			condition, _, _ := strings.Cut(rest, ":")
			s.DependsOn = append(s.DependsOn, release.Dependency{Service: service, Condition: condition})
		}
	}
	return s
}

// observedMount puts a mount into a model's words; options that a model cannot
// give become part of the source.
func observedMount(m release.ObservedMount) release.Mount {
	out := release.Mount{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
	if m.Type == "volume" {
		out.Source = m.Name
	}
	for option := range strings.SplitSeq(m.Options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case option == "":
			continue
		case name == "size":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				out.Size = n
				continue
			}
		case name == "mode":
			if n, err := strconv.ParseUint(value, 8, 32); err == nil {
				out.Mode = uint32(n)
				continue
			}
		}
		out.Source += " " + option
	}
	return out
}

// FieldTable gives the lines of docs/drift.md about the fields, in order.
func FieldTable() []string {
	var lines []string
	for _, f := range fields {
		keys := "`" + strings.Join(strings.Fields(f.keys), "`, `") + "`"
		shown := "its text"
		if f.secret {
			shown = "a fingerprint"
		}
		lines = append(lines, "| `"+f.name+"` | "+keys+" | "+shown+" |")
	}
	return lines
}
