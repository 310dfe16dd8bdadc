package compose

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// findings judges what the merged model asks of a host. It is an allow-list:
// what is not known to be harmless is a finding.
func findings(model map[string]any) []finding {
	var list []finding
	for _, s := range services(model) {
		list = append(list, namespaces(s)...)
		list = append(list, privileges(s)...)
		list = append(list, devices(s)...)
		list = append(list, mounted(s)...)
	}
	list = append(list, hostNetworks(model)...)
	list = append(list, disguised(model)...)
	list = append(list, hostFiles(model)...)
	return list
}

// namespaces: a container that shares the host's or another container's
// namespace is no longer confined to itself.
func namespaces(s service) []finding {
	var list []finding
	for _, n := range []struct{ key, rule string }{
		{"network_mode", "compose/host-network"}, {"pid", "compose/host-pid"}, {"ipc", "compose/host-ipc"},
		{"uts", "compose/host-uts"}, {"userns_mode", "compose/host-userns"}, {"cgroup", "compose/host-cgroup"},
	} {
		v := text(s.spec[n.key])
		if v == "host" || strings.HasPrefix(v, "container:") {
			list = append(list, finding{s.at.in(n.key), n.rule,
				fmt.Sprintf("service %s shares the namespace of %s (%s: %s)", s.name, owner(v), n.key, v),
				"remove " + n.key})
		}
	}
	return list
}

func owner(v string) string {
	if v == "host" {
		return "the host"
	}
	return "a container outside of the release"
}

// ordinary are the capabilities that the engine gives every container by
// itself: adding one back after cap_drop: [ALL] asks for nothing special.
var ordinary = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
	"NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

func privileges(s service) []finding {
	var list []finding
	add := func(at place, rule, fix, format string, args ...any) {
		list = append(list, finding{at, rule, "service " + s.name + " " + fmt.Sprintf(format, args...), fix})
	}
	if truthy(s.spec["privileged"]) {
		add(s.at.in("privileged"), "compose/privileged", "remove privileged; add the one capability that is needed with cap_add",
			"is privileged: it owns the host")
	}
	for i, c := range texts(s.spec["cap_add"]) {
		if name := strings.TrimPrefix(strings.ToUpper(c), "CAP_"); !slices.Contains(ordinary, name) {
			add(s.at.in("cap_add").item(i, c), "compose/capability", "remove it", "asks for the capability %s", name)
		}
	}
	for i, o := range texts(s.spec["security_opt"]) {
		if !harmlessOption(o) {
			add(s.at.in("security_opt").item(i, o), "compose/unconfined", "remove it", "switches protection off (security_opt: %s)", o)
		}
	}
	if isRoot(text(s.spec["user"])) {
		add(s.at.in("user"), "compose/root-user", "remove user, or write the number of a user without privileges", "runs as root")
	}
	for i, hook := range items(s.spec["pre_stop"]) {
		if user := text(object(hook)["user"]); isRoot(user) {
			add(s.at.in("pre_stop").item(i, user).in("user"), "compose/root-user", "remove user, or write the number of a user without privileges", "has a hook that runs as root")
		}
	}
	return list
}

// isRoot reports whether a user, "name:group" or "id:group", is root.
func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "root" || name != "" && strings.Trim(name, "0") == ""
}

// harmlessOption reports whether a security option only takes away.
func harmlessOption(o string) bool {
	name, value, _ := strings.Cut(strings.Replace(o, ":", "=", 1), "=")
	switch name {
	case "no-new-privileges":
		return value == "" || value == "true"
	case "seccomp":
		return value == "builtin"
	case "apparmor":
		return value != "unconfined" && value != ""
	}
	return false
}

func devices(s service) []finding {
	var list []finding
	resources := s.at.in("deploy", "resources", "reservations", "devices")
	for _, d := range []struct {
		at    place
		value any
	}{
		{s.at.in("devices"), s.spec["devices"]},
		{s.at.in("device_cgroup_rules"), s.spec["device_cgroup_rules"]},
		{s.at.in("gpus"), s.spec["gpus"]},
		{resources, object(object(object(s.spec["deploy"])["resources"])["reservations"])["devices"]},
	} {
		if !empty(d.value) {
			list = append(list, finding{d.at, "compose/device", fmt.Sprintf("service %s asks for devices of the host", s.name), "remove it"})
		}
	}
	if truthy(s.spec["use_api_socket"]) {
		list = append(list, finding{s.at.in("use_api_socket"), "compose/docker-socket",
			fmt.Sprintf("service %s gets the engine's socket: it owns the host", s.name), "remove it"})
	}
	return list
}

// sockets are where engines listen; whoever may write to one owns the host.
var sockets = []string{"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
	"/var/run/containerd/containerd.sock", "/run/podman/podman.sock", "/var/run/podman/podman.sock", "/run/buildkit/buildkitd.sock"}

// opens reports whether a path of the host leads to an engine's socket.
func opens(source string) bool {
	source = path.Clean(source)
	if strings.HasSuffix(source, "docker.sock") {
		return true
	}
	for _, socket := range sockets {
		if socket == source || strings.HasPrefix(socket, strings.TrimSuffix(source, "/")+"/") {
			return true
		}
	}
	return false
}

func mounted(s service) []finding {
	var list []finding
	for _, m := range mounts(s) {
		switch {
		case m.kind == "bind" && opens(m.source):
			list = append(list, socketFinding(m.place, "service "+s.name, m.source))
		case m.kind == "bind":
			list = append(list, finding{m.place, "compose/bind-mount",
				fmt.Sprintf("service %s mounts %s of the host, which no release holds", s.name, m.source),
				"use a named volume for data, and copy everything else into the image"})
		case m.kind == "volume" && m.source == "":
			list = append(list, finding{m.place, "compose/anonymous-volume",
				fmt.Sprintf("service %s keeps %s in a volume without a name, which the next release would not find", s.name, m.target),
				"give the volume a name under volumes, or use tmpfs"})
		}
	}
	return list
}

func socketFinding(at place, who, source string) finding {
	return finding{at, "compose/docker-socket", fmt.Sprintf("%s gets %s and with it the engine's socket: it owns the host", who, source), "remove it"}
}

// hostNetworks: the engine's own network "host", joined by its name.
func hostNetworks(model map[string]any) []finding {
	var list []finding
	for _, name := range names(model["networks"]) {
		n := object(object(model["networks"])[name])
		full := text(n["name"])
		if full == "" && truthy(n["external"]) {
			full = name
		}
		if full == "host" || text(n["driver"]) == "host" {
			list = append(list, finding{place{at: []string{"networks", name}}, "compose/host-network",
				fmt.Sprintf("network %s is the host's own", name), "remove it, and publish the ports that are needed"})
		}
	}
	return list
}

// disguised: a volume of the local driver that binds a path of the host.
func disguised(model map[string]any) []finding {
	var list []finding
	for _, name := range names(model["volumes"]) {
		options := object(object(object(model["volumes"])[name])["driver_opts"])
		device := text(options["device"])
		kind := text(options["type"])
		remote := kind == "nfs" || kind == "nfs4" || kind == "cifs" || kind == "tmpfs"
		if device == "" || remote && !strings.Contains(text(options["o"]), "bind") {
			continue
		}
		at := place{at: []string{"volumes", name, "driver_opts"}}
		if opens(device) {
			list = append(list, socketFinding(at, "volume "+name, device))
			continue
		}
		list = append(list, finding{at, "compose/bind-mount", fmt.Sprintf("volume %s is %s of the host", name, device), "remove driver_opts"})
	}
	return list
}

// hostFiles: configs are files of the host that no release holds; secrets are
// too, by intent, but not any file.
func hostFiles(model map[string]any) []finding {
	var list []finding
	for _, kind := range []string{"secrets", "configs"} {
		for _, name := range names(model[kind]) {
			source := text(object(object(model[kind])[name])["file"])
			at := place{at: []string{kind, name, "file"}}
			switch {
			case source == "":
			case opens(source):
				list = append(list, socketFinding(at, strings.TrimSuffix(kind, "s")+" "+name, source))
			case kind == "configs":
				list = append(list, finding{at, "compose/bind-mount",
					fmt.Sprintf("config %s is %s of the host, which no release holds", name, source),
					"copy it into the image"})
			}
		}
	}
	return list
}
