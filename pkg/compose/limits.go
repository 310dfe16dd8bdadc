package compose

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// limits reports values that could not be carried over to a host as they are
// written.
func limits(model map[string]any) []problem {
	var list []problem
	for _, s := range services(model) {
		list = append(list, single(s)...)
		list = append(list, modes(s)...)
		list = append(list, mountable(s)...)
		list = append(list, health(s)...)
		list = append(list, replaced(s)...)
		list = append(list, reserved(s.at, s.spec)...)
	}
	for _, kind := range []string{"networks", "volumes"} {
		for _, name := range names(model[kind]) {
			at, spec := place{at: []string{kind, name}}, object(object(model[kind])[name])
			list = append(list, reserved(at, spec)...)
		}
	}
	for _, kind := range []string{"secrets", "configs"} {
		for _, name := range names(model[kind]) {
			at, source := place{at: []string{kind, name, "file"}}, text(object(object(model[kind])[name])["file"])
			if source != "" && !absolute(source) {
				list = append(list, problem{at, fmt.Sprintf("%s: %s is no absolute path", at, source),
					"write the path on the target; the project's directory is not there"})
			}
		}
	}
	return append(list, references(model)...)
}

// absolute reports whether a path is one of a host whatever directory it is
// seen from; a placeholder at its start is filled in later and judged then.
func absolute(p string) bool { return path.IsAbs(p) || strings.HasPrefix(p, "$") }

// single: one container a service.
func single(s service) []problem {
	var list []problem
	for _, r := range []struct {
		at    place
		value any
	}{
		{s.at.in("scale"), s.spec["scale"]},
		{s.at.in("deploy", "replicas"), object(s.spec["deploy"])["replicas"]},
	} {
		if n, ok := number(r.value); r.value != nil && (!ok || n != 1) {
			list = append(list, problem{r.at, fmt.Sprintf("%s: a service is one container", r.at), "remove it, or write a service for each"})
		}
	}
	return list
}

// modes: values of namespace keys that the workload has no place for. Those of
// the host are findings (rules.go) and cannot be run either.
func modes(s service) []problem {
	var list []problem
	for _, name := range []string{"network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup"} {
		v := text(s.spec[name])
		if v == "" || v == "host" || strings.HasPrefix(v, "container:") || v == "private" && name == "ipc" {
			continue
		}
		at := s.at.in(name)
		list = append(list, problem{at, fmt.Sprintf("%s: %s is not supported", at, v), "remove it; services reach each other over networks"})
	}
	return list
}

// mountable: mounts that mean the same on every host.
func mountable(s service) []problem {
	var list []problem
	add := func(at place, hint, format string, args ...any) {
		list = append(list, problem{at, fmt.Sprintf("service %s: ", s.name) + fmt.Sprintf(format, args...), hint})
	}
	for _, m := range mounts(s) {
		switch {
		case !m.readable:
			add(m.place, "write it as a mapping with type, source and target", "mount %q cannot be read", m.text)
		case m.kind != "volume" && m.kind != "bind" && m.kind != "tmpfs":
			add(m.place, "use a volume", "mounts of type %q are not supported", m.kind)
		case m.kind == "bind" && !path.IsAbs(m.source):
			add(m.place, "copy the files into the image, use a named volume, or keep this mount in a compose file for development",
				"%s is mounted from the project's directory, which is not there on a host", m.source)
		case !path.IsAbs(m.target):
			add(m.place, "write where in the container it is mounted", "mount target %q is no absolute path", m.target)
		}
	}
	for i, t := range texts(s.spec["tmpfs"]) {
		if _, err := tmpfs(t); err != nil {
			add(s.at.in("tmpfs").item(i, t), "write /path:size=64m,mode=1777", "tmpfs %q: %v", t, err)
		}
	}
	for i, o := range texts(s.spec["security_opt"]) {
		if rest, ok := strings.CutPrefix(o, "seccomp"); ok && len(rest) > 1 && rest[1:] != "unconfined" && rest[1:] != "builtin" {
			add(s.at.in("security_opt").item(i, o), "remove it: the engine's own profile applies", "seccomp profile %s is a file of this machine", rest[1:])
		}
	}
	return list
}

func health(s service) []problem {
	check := object(s.spec["healthcheck"])
	_, interval := check["start_interval"]
	_, period := check["start_period"]
	if interval && !period {
		at := s.at.in("healthcheck", "start_interval")
		return []problem{{at, at.String() + " is ignored by the engine without start_period", "write start_period too"}}
	}
	return nil
}

// replaced: two containers of a service can run side by side only where they
// share nothing that is there once.
func replaced(s service) []problem {
	at := s.at.in("deploy", "update_config", "order")
	order := text(object(object(s.spec["deploy"])["update_config"])["order"])
	switch order {
	case "", release.StopFirst:
		return nil
	case release.StartFirst:
	default:
		return []problem{{at, fmt.Sprintf("%s: want %s or %s, got %s", at, release.StartFirst, release.StopFirst, clip(order)), "write one of them, or remove it"}}
	}
	what := ""
	for _, m := range mounts(s) {
		if (m.kind == "volume" || m.kind == "bind") && object(m.item)["read_only"] != true {
			what = "what is mounted at " + m.target
		}
	}
	for _, port := range items(s.spec["ports"]) {
		if p := published(port); p != "" && !variable(p) { // a variable is judged with its value
			what = "port " + p + " of the host"
		}
	}
	for _, name := range names(s.spec["networks"]) {
		if a := text(object(object(s.spec["networks"])[name])["ipv4_address"]); a != "" && !variable(a) {
			what = "the address " + a
		}
	}
	if what == "" {
		return nil
	}
	return []problem{{at, fmt.Sprintf("%s: service %s cannot start before the old one stops: both would have %s", at, s.name, what), "remove it, or write order: stop-first"}}
}

// published gives the host's port of an entry of ports, in its long or short
// form.
func published(port any) string {
	if p := object(port); p != nil {
		return text(p["published"])
	}
	short := text(port)
	if variable(short) {
		return short
	}
	host := short[:max(0, strings.LastIndex(short, ":"))]
	return host[strings.LastIndex(host, ":")+1:]
}

// reserved: labels by which what runs is found again.
func reserved(at place, spec map[string]any) []problem {
	var list []problem
	for _, name := range names(spec["labels"]) {
		if strings.HasPrefix(name, "com.docker.compose.") || strings.HasPrefix(name, "dev.promote.") {
			at := at.in("labels", name)
			list = append(list, problem{at, fmt.Sprintf("label %s is reserved", name), "use a name of your own"})
		}
	}
	return list
}

// references: what services name must be there.
func references(model map[string]any) []problem {
	var list []problem
	all := names(model["services"])
	if len(all) == 0 {
		list = append(list, problem{place{at: []string{"services"}}, "no service", "write at least one service without profiles"})
	}
	for _, s := range services(model) {
		absent := func(at place, kind, name string) {
			if _, ok := object(model[kind])[name]; !ok {
				list = append(list, problem{at, fmt.Sprintf("service %s uses %q, which is not under %s", s.name, name, kind),
					fmt.Sprintf("write %s: under %s", name, kind)})
			}
		}
		for _, name := range names(s.spec["networks"]) {
			if name != "default" {
				absent(s.at.in("networks", name), "networks", name)
			}
		}
		for _, m := range mounts(s) {
			if m.kind == "volume" && m.source != "" {
				absent(m.place, "volumes", m.source)
			}
		}
		for _, kind := range []string{"secrets", "configs"} {
			for i, item := range items(s.spec[kind]) {
				source := text(item)
				if v := object(item); v != nil {
					source = text(v["source"])
				}
				absent(s.at.in(kind).item(i, source), kind, source)
			}
		}
		for _, name := range names(s.spec["depends_on"]) {
			if !slices.Contains(all, name) {
				list = append(list, problem{s.at.in("depends_on", name), fmt.Sprintf("service %s depends on %q, which is not part of the release", s.name, name),
					"write the service, or required: false, or remove its profiles"})
			}
		}
	}
	return append(list, circles(model)...)
}

// circles: services that wait for each other.
func circles(model map[string]any) []problem {
	if _, err := order(dependencies(model)); err != nil {
		return []problem{{place{at: []string{"services"}}, err.Error(), "remove one depends_on"}}
	}
	return nil
}

func dependencies(model map[string]any) map[string][]string {
	out := map[string][]string{}
	for _, s := range services(model) {
		out[s.name] = names(s.spec["depends_on"])
	}
	return out
}
