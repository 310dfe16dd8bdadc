package compose_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

func rules(reasons []release.Reason) []string {
	var out []string
	for _, r := range reasons {
		out = append(out, fmt.Sprintf("%s:%d %s", r.File, r.Line, r.Rule))
	}
	return out
}

func TestFindings(t *testing.T) {
	const head = "name: x\nservices:\n  a:\n    image: x\n"
	for name, c := range map[string]struct {
		content string
		want    []string // line and rule
	}{
		"privileged":          {head + "    privileged: true\n", []string{"5 compose/privileged"}},
		"privileged in words": {head + "    privileged: \"yes\"\n", []string{"5 compose/privileged"}},
		"a hook as root":      {head + "    pre_stop:\n      - {command: [x]}\n      - {command: [y], user: \"0:0\"}\n", []string{"7 compose/root-user"}},
		"not privileged":      {head + "    privileged: no\n", nil},
		"namespaces": {head + "    network_mode: host\n    pid: host\n    ipc: host\n    uts: host\n    userns_mode: host\n    cgroup: host\n",
			[]string{"5 compose/host-network", "6 compose/host-pid", "7 compose/host-ipc", "8 compose/host-uts", "9 compose/host-userns", "10 compose/host-cgroup"}},
		"another's network":    {head + "    network_mode: container:other\n", []string{"5 compose/host-network"}},
		"host by its name":     {head + "    networks: [h]\nnetworks:\n  h: {external: true, name: host}\n", []string{"7 compose/host-network"}},
		"host by its key":      {head + "    networks: [host]\nnetworks:\n  host: {external: true}\n", []string{"7 compose/host-network"}},
		"socket":               {head + "    volumes:\n      - vol:/d\n      - /var/run/docker.sock:/var/run/docker.sock:ro\nvolumes: {vol: }\n", nil},
		"socket, long":         {head + "    volumes:\n      - {type: bind, source: /run/docker.sock, target: /s}\n", []string{"6 compose/docker-socket"}},
		"socket by its parent": {head + "    volumes: [\"/var/run:/host/run\"]\n", []string{"5 compose/docker-socket"}},
		"socket by the root":   {head + "    volumes: [\"/:/host\"]\n", []string{"5 compose/docker-socket"}},
		"socket, roundabout":   {head + "    volumes: [\"/var/../run/./docker.sock:/s\"]\n", []string{"5 compose/docker-socket"}},
		"socket, way back":     {head + "    volumes: [\"/srv/..:/host\"]\n", []string{"5 compose/docker-socket"}},
		"api socket":           {head + "    use_api_socket: true\n", []string{"5 compose/docker-socket"}},
		"socket as secret":     {head + "    secrets: [s]\nsecrets:\n  s: {file: /var/run/docker.sock}\n", []string{"7 compose/docker-socket"}},
		"bind mount":           {head + "    volumes: [\"/srv/data:/data\"]\n", []string{"5 compose/bind-mount"}},
		"bind as a volume":     {head + "    volumes: [data:/data]\nvolumes:\n  data: {driver_opts: {type: none, o: bind, device: /srv}}\n", []string{"7 compose/bind-mount"}},
		"root as a volume":     {head + "    volumes: [data:/data]\nvolumes:\n  data: {driver: local, driver_opts: {type: nfs, o: \"rw,bind\", device: /}}\n", []string{"7 compose/docker-socket"}},
		"nfs volume":           {head + "    volumes: [data:/data]\nvolumes:\n  data: {driver_opts: {type: nfs, o: addr=10.0.0.1, device: \":/srv\"}}\n", nil},
		"config of the host":   {head + "    configs: [c]\nconfigs:\n  c: {file: /etc/c}\n", []string{"7 compose/bind-mount"}},
		"anonymous volume":     {head + "    volumes: [/data]\n", []string{"5 compose/anonymous-volume"}},
		"devices": {head + "    devices: [\"/dev/kvm:/dev/kvm\"]\n    device_cgroup_rules: [\"a *:* rwm\"]\n    gpus: all\n    deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}\n",
			[]string{"5 compose/device", "6 compose/device", "7 compose/device", "8 compose/device"}},
		"capabilities": {head + "    cap_drop: [ALL]\n    cap_add: [CHOWN, CAP_SETUID, SYS_ADMIN, all]\n", []string{"6 compose/capability", "6 compose/capability"}},
		"protection off": {head + "    security_opt: [no-new-privileges, \"seccomp:unconfined\", apparmor=unconfined, \"label:disable\", systempaths=unconfined, \"no-new-privileges:false\"]\n",
			[]string{"5 compose/unconfined", "5 compose/unconfined", "5 compose/unconfined", "5 compose/unconfined", "5 compose/unconfined"}},
		"root":     {head + "    user: \"0:0\"\n", []string{"5 compose/root-user"}},
		"user 100": {head + "    user: \"100\"\n", nil},
		"ordinary": {agent, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := one(t, c.content)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, w := range c.want {
				want = append(want, "compose.yaml:"+w)
			}
			if name == "socket" {
				want = []string{"compose.yaml:7 compose/docker-socket"}
			}
			got := rules(f.Findings())
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			raw, _, err := f.Model()
			if err != nil {
				t.Fatal(err)
			}
			again, err := compose.Judge(raw)
			if err != nil || len(again) != len(want) {
				t.Errorf("the released model is judged differently: %v %v", again, err)
			}
			for _, r := range f.Findings() {
				if r.Message == "" || r.Fix == "" {
					t.Errorf("%s says nothing", r.Rule)
				}
			}
		})
	}
}

func TestFindingsOfTheMergedModel(t *testing.T) {
	base := "name: x\nservices:\n  a:\n    image: x\n    read_only: true\n    cap_drop: [ALL]\n    security_opt: [no-new-privileges]\n    user: \"1000\"\n    healthcheck: {test: [CMD, /h]}\n    volumes: [vol:/data]\nvolumes: {vol: }\n"
	later := "services:\n  a:\n    read_only: false\n    cap_drop: !reset []\n    security_opt: !reset []\n    user: !reset null\n    healthcheck: {disable: true}\n    volumes: [\"/srv:/data\"]\n"
	f := mustLoad(t, map[string]string{"compose.yaml": base, "later.yml": later}, "compose.yaml", "later.yml")
	got := rules(f.Findings())
	want := []string{"later.yml:8 compose/bind-mount", "later.yml:3 compose/hardening-removed", "later.yml:4 compose/hardening-removed",
		"later.yml:5 compose/hardening-removed", "later.yml:6 compose/hardening-removed", "later.yml:7 compose/hardening-removed"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if m := f.Findings()[1].Message; !strings.Contains(m, "compose.yaml line 5") {
		t.Errorf("message %q does not say where it was given", m)
	}
	f = mustLoad(t, map[string]string{"compose.yaml": base, "later.yml": "services: {a: {user: \"2000\"}}\n"}, "compose.yaml", "later.yml")
	if got := f.Findings(); len(got) != 0 {
		t.Errorf("a change that takes nothing away: %v", got)
	}
}

// TestFindingsCannotRun: what only an exception would let through, and the
// workload has no place for, ends before any effect.
func TestFindingsCannotRun(t *testing.T) {
	for _, line := range []string{"network_mode: host", "pid: host", "devices: [\"/dev/kvm\"]", "use_api_socket: true", "gpus: all"} {
		_, err := resolve(t, "name: x\nservices: {a: {image: x, "+line+"}}\n", nil, "a")
		if release.KindOf(err) != release.KindConfig {
			t.Errorf("%s: %v", line, err)
		}
	}
}
