package engine

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/promote-dev/promote/pkg/release"
)

// inspected is one container as engines answer GET /containers/ID/json. What
// versions say differently stands in OLD (API 1.41, cgroups 1) and NEW (API
// 1.51, cgroups 2, containerd's image store).
const inspected = `{
  "Id": "d2a8127038b5a3913dbd759913787d57c8cf1f76641d2088dc71410274b77ca9",
  "Name": "/agent-planner-1",
  "Image": "sha256:33dabcf114669e54792e297e725864157b9593458ab03ea344f2a8b6c5dafda3",
  "State": {"Status": "running", "Running": true, "Pid": 7, "ExitCode": 0, "StartedAt": "2026-01-02T03:04:05.000000006Z"},
  "Config": {
    "Hostname": "d2a8127038b5", "Domainname": "", "User": "10001:10001", "Tty": false, "OpenStdin": false,
    "ExposedPorts": {"8080/tcp": {}}, "Env": ["DB_PASSWORD=secret", "PATH=/usr/bin:/bin"], "Cmd": null,
    "Healthcheck": {"Test": ["CMD", "python3", "-m", "agent.health"], "Interval": 3000000000, "Retries": 3},
    "Image": "registry.test/planner@sha256:f47ed6a0e7307d3b6d429ceb194d0d19de38358d75d339dbac4e89dc58139ada",
    "Volumes": null, "WorkingDir": "/srv/agent", "Entrypoint": ["python3", "-m", "agent"],
    "Labels": {"com.docker.compose.service": "planner"}, "StopSignal": "SIGTERM", "StopTimeout": 10
  },
  "HostConfig": {
    "Binds": null, "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}}, "NetworkMode": "agent_back",
    "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45327"}]},
    "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}, "CapDrop": ["ALL"], "IpcMode": "private",
    "ReadonlyRootfs": true, "SecurityOpt": ["no-new-privileges:true"], "ShmSize": 67108864, "Runtime": "runc",
    "Memory": 134217728, "MemorySwap": 134217728, "NanoCpus": 500000000, "PidsLimit": 64,
    "Mounts": [{"Type": "volume", "Source": "agent_memory", "Target": "/var/lib/agent", "VolumeOptions": {}}, {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {}}],
    "MaskedPaths": ["/proc/asound"], "ReadonlyPaths": ["/proc/bus"],
    HOST
  },
  "Mounts": [
    {"Type": "tmpfs", "Source": "", "Destination": "/tmp", "Mode": "", "RW": true, "Propagation": ""},
    {"Type": "volume", "Name": "agent_memory", "Source": "/var/lib/docker/volumes/agent_memory/_data", "Destination": "/var/lib/agent", "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""}
  ],
  "NetworkSettings": {
    "SandboxID": "73919ffe77bd", "Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45327"}]},
    "Networks": {"agent_back": {"IPAMConfig": null, "Links": null, "NetworkID": "8714b1e464fa", "EndpointID": "b270d29bd28c", "Gateway": "10.213.169.1",
      "IPAddress": "10.213.169.5", "IPPrefixLen": 24, "MacAddress": "02:42:0a:d5:a9:05", "DriverOpts": null, ENDPOINT}}
  }
  MORE
}`

var answers = map[string]struct {
	text   string
	habits habits
}{
	"1.41": {strings.NewReplacer(
		"HOST", `"CgroupnsMode": "host", "CapAdd": null, "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null, "OomKillDisable": false,
    "KernelMemory": 0, "KernelMemoryTCP": 0, "MemorySwappiness": null, "Devices": null, "Ulimits": null, "ConsoleSize": [0, 0], "Isolation": ""`,
		"ENDPOINT", `"Aliases": ["agent-planner-1", "planner", "d2a8127038b5"]`,
		"MORE", "").Replace(inspected), habits{api: "1.41", runtime: "runc"}},
	"1.51": {strings.NewReplacer(
		"HOST", `"CgroupnsMode": "private", "CapAdd": [], "Dns": null, "DnsOptions": null, "DnsSearch": null, "ExtraHosts": [], "GroupAdd": [], "OomKillDisable": null,
    "Devices": [], "DeviceRequests": [], "Ulimits": [], "ConsoleSize": [0, 0], "Isolation": ""`,
		"ENDPOINT", `"Aliases": ["agent-planner-1", "planner"], "DNSNames": ["agent-planner-1", "planner", "d2a8127038b5"], "GwPriority": 0`,
		"MORE", `, "ImageManifestDescriptor": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:f47ed6a0e7307d3b6d429ceb194d0d19de38358d75d339dbac4e89dc58139ada", "size": 7}`).Replace(inspected),
		habits{api: "1.51", runtime: "runc", cgroups2: true}},
}

func answer(t *testing.T, version string) (container.InspectResponse, *release.Made) {
	t.Helper()
	var r container.InspectResponse
	if err := json.Unmarshal([]byte(answers[version].text), &r); err != nil {
		t.Fatal(err)
	}
	return r, made(r, json.RawMessage(answers[version].text), answers[version].habits)
}

// What engines of different versions say of one container is one thing.
func TestEveryVersionSaysTheSameOfAContainer(t *testing.T) {
	_, older := answer(t, "1.41")
	_, newer := answer(t, "1.51")
	empty := func(m *release.Made) string {
		raw, err := json.Marshal(m.Spec) // nil and empty lists are one
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if empty(older) != empty(newer) {
		t.Errorf("1.41: %s\n1.51: %s", empty(older), empty(newer))
	}
	if len(older.Further) != 0 || len(newer.Further) != 0 {
		t.Errorf("1.41: %v\n1.51: %v", older.Further, newer.Further)
	}
	if len(older.Untold) != 1 || len(newer.Untold) != 0 {
		t.Errorf("untold: %q and %q", older.Untold, newer.Untold)
	}
	s := older.Spec
	if s.Hostname != "" || s.Environment["DB_PASSWORD"] != "secret" || s.WorkingDir != "/srv/agent" || len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" ||
		!reflect.DeepEqual(s.Networks, []release.Attach{{Network: "agent_back", Aliases: []string{"agent-planner-1", "planner"}}}) {
		t.Errorf("spec %+v", s)
	}
}

// What no model can ask for is told by its name, on every version.
func TestFurtherSettingsAreTold(t *testing.T) {
	for version := range answers {
		for name, change := range map[string]func(*container.InspectResponse){
			"pid":          func(r *container.InspectResponse) { r.HostConfig.PidMode = "host" },
			"ipc":          func(r *container.InspectResponse) { r.HostConfig.IpcMode = "host" },
			"uts":          func(r *container.InspectResponse) { r.HostConfig.UTSMode = "host" },
			"userns":       func(r *container.InspectResponse) { r.HostConfig.UsernsMode = "host" },
			"runtime":      func(r *container.InspectResponse) { r.HostConfig.Runtime = "runsc" },
			"cgroupParent": func(r *container.InspectResponse) { r.HostConfig.CgroupParent = "/x" },
			"cpuset":       func(r *container.InspectResponse) { r.HostConfig.CpusetCpus = "0" },
			"cpuQuota":     func(r *container.InspectResponse) { r.HostConfig.CPUQuota = 7 },
			"networkMode":  func(r *container.InspectResponse) { r.HostConfig.NetworkMode = "container:x" },
			"device /dev/kvm": func(r *container.InspectResponse) {
				r.HostConfig.Devices = []container.DeviceMapping{{PathInContainer: "/dev/kvm"}}
			},
			"annotations":         func(r *container.InspectResponse) { r.HostConfig.Annotations = map[string]string{"a": "b"} },
			"publishAll":          func(r *container.InspectResponse) { r.HostConfig.PublishAllPorts = true },
			"maskedPaths":         func(r *container.InspectResponse) { r.HostConfig.MaskedPaths = []string{} },
			"domainname":          func(r *container.InspectResponse) { r.Config.Domainname = "x" },
			"links in agent_back": func(r *container.InspectResponse) { r.NetworkSettings.Networks["agent_back"].Links = []string{"a:b"} },
			"options of agent_back": func(r *container.InspectResponse) {
				r.NetworkSettings.Networks["agent_back"].DriverOpts = map[string]string{"a": "b"}
			},
		} {
			r, _ := answer(t, version)
			change(&r)
			if m := made(r, nil, answers[version].habits); len(m.Further) != 1 || m.Further[name] == "" {
				t.Errorf("%s, %s: %v", version, name, m.Further)
			}
		}
	}
	m := made(container.InspectResponse{}, json.RawMessage(`{"Config":{"MacAddress":"02:42:00:00:00:07"}}`), habits{api: "1.41"})
	if m.Further["macAddress"] != "02:42:00:00:00:07" {
		t.Errorf("further %v", m.Further)
	}
}

func TestTmpfsOfDockerRun(t *testing.T) {
	for options, want := range map[string]release.ObservedMount{
		"":                            {Type: "tmpfs", Target: "/t"},
		"rw,noexec,nosuid,size=64m":   {Type: "tmpfs", Target: "/t", Options: "size=67108864"},
		"ro,mode=01777":               {Type: "tmpfs", Target: "/t", ReadOnly: true, Options: "mode=1777"},
		"size=1k,exec,uid=7,mode=700": {Type: "tmpfs", Target: "/t", Options: "exec,mode=700,size=1024,uid=7"},
		"size=10%":                    {Type: "tmpfs", Target: "/t", Options: "size=10%"},
	} {
		if got := tmpfsMount("/t", options); got != want {
			t.Errorf("%q: got %+v, want %+v", options, got, want)
		}
	}
}
