//go:build engine

package deploy_test

import (
	"context"
	"flag"
	"net"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// handmade is a service of which somebody makes containers by hand, with docker
// alone.
type handmade struct {
	*site
	job      deploy.Job
	recorded *release.TargetStatus
	labels   map[string]string
	port     string
	changes  int
	table    []string
	own      string // the anonymous volume of the image's own path
}

// busy uses everything that a model may say.
func (h *handmade) busy() release.Workload {
	yes := true
	s := release.ServiceSpec{
		Name: "agent", Image: h.subjects["1"], ConfigHash: "hash", Command: []string{"/probe", "run", ":8080"},
		Environment: map[string]string{"MODE": "calm", "DB_PASSWORD": "hunter2"}, User: "65532:65532", GroupAdd: []string{"7"}, WorkingDir: "/data",
		Hostname: "agent", Init: &yes, StopSignal: "SIGINT", StopGrace: 5 * time.Second, ReadOnly: true, CapDrop: []string{"ALL"}, CapAdd: []string{"NET_BIND_SERVICE"},
		SecurityOpt: []string{"no-new-privileges:true"}, Sysctls: map[string]string{"net.core.somaxconn": "512"},
		Ulimits: []release.Ulimit{{Name: "nofile", Soft: 512, Hard: 1024}}, ShmSize: 32 << 20,
		MemoryLimit: 64 << 20, MemorySwap: 64 << 20, CPUs: 0.5, PIDs: 64, OOMScoreAdj: 100,
		Mounts: []release.Mount{
			{Type: "volume", Source: h.name + "_memory", Target: "/data"},
			{Type: "tmpfs", Target: "/tmp", Size: 1 << 20},
		},
		Ports:      []release.Port{{HostIP: "127.0.0.1", Published: h.port, Target: 8080, Protocol: "tcp"}},
		Networks:   []release.Attach{{Network: h.name + "_front", Aliases: []string{h.name + "-agent-1", "agent", "brain"}}, {Network: h.name + "_back", Aliases: []string{h.name + "-agent-1", "agent"}}},
		ExtraHosts: []string{"llm:192.0.2.7"}, DNS: []string{"192.0.2.53"}, Restart: release.Restart{Name: "on-failure", Max: 3},
		Labels: map[string]string{"team": "agents"}, LogDriver: "json-file", LogOptions: map[string]string{"max-size": "1m"},
	}
	return release.Workload{
		Project: h.name, Services: []release.ServiceSpec{s},
		Networks: []release.NetworkSpec{{Key: "front", Name: h.name + "_front"}, {Key: "back", Name: h.name + "_back", Internal: true}},
		Volumes:  []release.VolumeSpec{{Key: "memory", Name: h.name + "_memory"}},
	}
}

func newHandmade(t *testing.T) *handmade {
	h := &handmade{site: newSite(t)}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	t.Cleanup(cancel)
	h.ctx = ctx
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, h.port, _ = net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	h.job = deploy.Job{Target: "test", Workload: h.busy(), Images: map[string]release.PlatformImage{"agent": h.images["1"]},
		Attempt: deploy.Attempt{Sequence: 1}, Timeout: 30 * time.Second, Settle: 200 * time.Millisecond}
	if err := h.deploy(h.job); err != nil {
		t.Fatal(err)
	}
	h.recorded = h.runs(h.job)
	c, err := h.Inspect(h.ctx, h.name+"-agent-1")
	if err != nil {
		t.Fatal(err)
	}
	h.labels = c.Labels
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		h.ctx = ctx
		h.docker("rm", "-f", "-v", h.name+"-agent-1", h.name+"-twin")
		h.docker("volume", "rm", "-f", h.own, h.name+"_swapped")
	})
	for _, m := range c.Mounts {
		if m.Target == "/state" {
			h.own = m.Name
		}
	}
	for _, r := range h.recorded.Running {
		if len(r.Defaults) > 0 || r.Desired.IsZero() {
			t.Errorf("the engine reads back other than was asked for: %+v", r)
		}
	}
	return h
}

func (h *handmade) docker(args ...string) {
	h.t.Helper()
	if out, err := exec.CommandContext(h.ctx, "docker", args...).CombinedOutput(); err != nil && !strings.Contains(string(out), "No such container") {
		h.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// flags are docker run's for what busy says.
func (h *handmade) flags() []string {
	list := []string{
		"--name=" + h.name + "-agent-1", "--env=MODE=calm", "--env=DB_PASSWORD=hunter2", "--user=65532:65532", "--group-add=7", "--workdir=/data",
		"--hostname=agent", "--init", "--stop-signal=SIGINT", "--stop-timeout=5", "--read-only", "--cap-drop=ALL", "--cap-add=NET_BIND_SERVICE",
		"--security-opt=no-new-privileges:true", "--sysctl=net.core.somaxconn=512", "--ulimit=nofile=512:1024", "--shm-size=33554432",
		"--memory=67108864", "--memory-swap=67108864", "--cpus=0.5", "--pids-limit=64", "--oom-score-adj=100",
		"--mount=type=volume,src=" + h.name + "_memory,dst=/data", "--mount=type=volume,src=" + h.own + ",dst=/state", "--mount=type=tmpfs,dst=/tmp,tmpfs-size=1048576", "--publish=127.0.0.1:" + h.port + ":8080",
		"--network=" + h.name + "_front", "--network-alias=" + h.name + "-agent-1", "--network-alias=agent", "--network-alias=brain",
		"--add-host=llm:192.0.2.7", "--dns=192.0.2.53", "--restart=on-failure:3", "--log-driver=json-file", "--log-opt=max-size=1m",
	}
	for key, value := range h.labels {
		list = append(list, "--label="+key+"="+value)
	}
	return list
}

// remake makes the container by hand. Each change is "flag" to add or replace
// its like, "+flag" to add, "!flag" to leave out, or "$word" for the command. It
// is not started: that takes longer than the rest, and says nothing more.
func (h *handmade) remake(changes ...string) {
	h.t.Helper()
	flags, command := h.flags(), []string{"/probe", "run", ":8080"}
	for _, change := range changes {
		key, _, _ := strings.Cut(strings.TrimLeft(change, "-"), "=")
		switch {
		case strings.HasPrefix(change, "$"):
			command = strings.Fields(change[1:])
		case strings.HasPrefix(change, "+"):
			flags = append(flags, change[1:])
		case strings.HasPrefix(change, "!"):
			flags = slices.DeleteFunc(flags, func(f string) bool { return f == change[1:] || strings.HasPrefix(f, change[1:]+"=") })
		default:
			flags = slices.DeleteFunc(flags, func(f string) bool { return strings.HasPrefix(f, "--"+key+"=") || f == "--"+key })
			flags = append(flags, change)
		}
	}
	h.docker("rm", "-f", h.name+"-agent-1")
	h.docker(slices.Concat([]string{"create"}, flags, []string{h.subjects["1"].String()}, command)...)
	if !slices.Contains(changes, "--network=host") && !slices.Contains(changes, "--network=none") {
		h.docker("network", "connect", "--alias", h.name+"-agent-1", "--alias", "agent", h.name+"_back", h.name+"-agent-1")
	}
}

// drift compares, with and without the environment's values, which must make
// no difference, and gives the fields that differ.
func (h *handmade) drift() ([]string, []deploy.Difference) {
	h.t.Helper()
	var seen release.Observed
	for range 50 {
		seen = h.seen()
		if !slices.ContainsFunc(seen.Containers, func(c release.Container) bool { return c.Health == "starting" }) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	others, err := h.Outsiders(h.ctx, h.name)
	if err != nil {
		h.t.Fatal(err)
	}
	q := deploy.Query{Project: h.name, Images: h.job.Images, Subjects: map[string]release.Subject{"agent": h.subjects["1"]}, Recorded: h.recorded, Key: "k"}
	blind := deploy.Drift(q, seen, others)
	q.Workload = &h.job.Workload
	full := deploy.Drift(q, seen, others)
	names := func(r deploy.Report) []string {
		var list []string
		for _, d := range r.Differences {
			if d.Field == "state" && d.Running == "created" {
				continue
			}
			if strings.Contains(d.Recorded+d.Running, "hunter2") {
				h.t.Errorf("a secret is shown: %+v", d)
			}
			list = append(list, strings.ReplaceAll(d.Field, h.name, "P"))
		}
		sort.Strings(list)
		return list
	}
	got := names(full)
	surroundings := func(n string) bool { return strings.HasPrefix(n, "network P") || strings.HasPrefix(n, "volume P") }
	if a, b := slices.DeleteFunc(slices.Clone(got), surroundings), slices.DeleteFunc(names(blind), surroundings); !slices.Equal(a, b) {
		h.t.Errorf("with values %q, without %q", a, b)
	}
	return got, full.Differences
}

// readable says a change as people would.
func readable(change string) string {
	switch change[0] {
	case '!':
		return "without " + change[1:]
	case '$':
		return "with the command " + change[1:]
	case '+':
		return "with " + change[1:] + " too"
	}
	return "with " + change
}

func (h *handmade) want(what string, fields ...string) {
	h.t.Helper()
	h.changes++
	if len(fields) > 0 {
		h.table = append(h.table, "| "+strings.ReplaceAll(strings.ReplaceAll(what, h.port, "PORT"), h.name, "P")+" | `"+strings.ReplaceAll(strings.Join(fields, "`, `"), h.name, "P")+"` |")
	}
	got, list := h.drift()
	sort.Strings(fields)
	if !slices.Equal(got, fields) {
		h.t.Errorf("%s: got %q, want %q\n%+v", what, got, fields, list)
	}
}

var (
	all    = flag.Bool("all", false, "make every change by hand, not only a sample")
	update = flag.String("table", "", "write the changes and what drift calls them to this `file`; implies -all")
)

// sample leaves out every second change where not all of them are asked for.
func sample[T any](list []T) []T {
	if *all || *update != "" {
		return list
	}
	var some []T
	for i, item := range list {
		if i%2 == 0 {
			some = append(some, item)
		}
	}
	return some
}

// One flag changed by hand at a time, each named, nothing else. A sample makes
// more than 25; make drift-table makes all of them.
func TestEveryFlagThatIsChangedByHandIsNamed(t *testing.T) {
	h := newHandmade(t)
	h.want("untouched")
	name := h.name + "-agent-1"

	for _, c := range sample([]struct {
		update []string
		field  string
	}{
		{[]string{"--memory=50331648"}, "memory"},
		{[]string{"--memory-swap=134217728"}, "memorySwap"},
		{[]string{"--memory-reservation=33554432"}, "memoryReservation"},
		{[]string{"--cpus=0.25"}, "cpus"},
		{[]string{"--cpu-shares=512"}, "cpuShares"},
		{[]string{"--cpuset-cpus=0"}, "cpuset"},
		{[]string{"--pids-limit=32"}, "pids"},
		{[]string{"--restart=always"}, "restart"},
	}) {
		h.remake()
		h.docker(slices.Concat([]string{"update"}, c.update, []string{name})...)
		h.want("docker update "+strings.Join(c.update, " "), c.field)
	}

	h.remake()
	h.want("made by hand just as it was")
	for _, c := range sample([]struct{ change, field string }{
		{"!--env=MODE", ""}, // replaced below
		{"+--env=EXTRA=1", "environment EXTRA"},
		{"$/probe run", "command"},
		{"--user=65533", "user"},
		{"--group-add=8", "groupAdd"},
		{"--workdir=/state", "workingDir"},
		{"--hostname=other", "hostname"},
		{"!--init", "init"},
		{"--stop-signal=SIGQUIT", "stopSignal"},
		{"--stop-timeout=6", "stopGrace"},
		{"!--read-only", "readOnly"},
		{"!--cap-drop", "capDrop"},
		{"+--cap-add=SYS_TIME", "capAdd"},
		{"!--security-opt", "securityOpt"},
		{"+--security-opt=seccomp=unconfined", "securityOpt"},
		{"--sysctl=net.core.somaxconn=256", "sysctl net.core.somaxconn"},
		{"--ulimit=nofile=512:2048", "ulimit nofile"},
		{"--shm-size=16777216", "shmSize"},
		{"--oom-score-adj=200", "oomScoreAdj"},
		{"+--mount=type=bind,src=/etc/hostname,dst=/etc/peek,readonly", "mount /etc/peek"},
		{"+--mount=type=tmpfs,dst=/scratch", "mount /scratch"},
		{"+--tmpfs=/scratch", "mount /scratch"},
		{"--publish=0.0.0.0:" + h.port + ":8080", "port 8080/tcp"},
		{"+--network-alias=boss", "network P_front"},
		{"--add-host=llm:192.0.2.8", "extraHosts"},
		{"--dns=192.0.2.54", "dns"},
		{"+--dns-search=example.com", "dnsSearch"},
		{"+--dns-option=ndots:2", "dnsOptions"},
		{"+--label=extra=1", "label extra"},
		{"+--label=team=others", "label team"},
		{"--log-opt=max-size=2m", "logOption max-size"},
		{"--log-opt=max-file=2", "logOption max-file"}, // and max-size is gone: below
		{"+--tty", "tty"},
		{"+--interactive", "stdinOpen"},
		{"+--entrypoint=/probe", "entrypoint"},
		{"+--health-interval=300ms", "healthcheck interval"},
		{"+--health-retries=7", "healthcheck retries"},
		{"+--no-healthcheck", "healthcheck"},
		{"+--pid=host", "pid"},
		{"+--ipc=host", "ipc"},
		{"+--device=/dev/null:/dev/spare", "device /dev/spare"},
		{"+--device-cgroup-rule=c 1:3 r", "deviceCgroupRules"},
		{"+--memory-swappiness=10", "memorySwappiness"},
		{"+--oom-kill-disable", "oomKillDisable"},
		{"+--cgroup-parent=/" + h.name, "cgroupParent"},
		{"+--expose=9090", "expose"},
		{"--restart=on-failure:4", "restart"},
		{"+--volume=" + h.name + "_memory:/also", "volume /also"},
		{"!--memory-swap", "memorySwap"},
	}) {
		want := []string{c.field}
		switch c.change {
		case "!--env=MODE":
			want = []string{"environment MODE"}
		case "--log-opt=max-file=2":
			want = []string{"logOption max-file", "logOption max-size"}
		case "+--no-healthcheck":
			want = []string{"healthcheck", "healthcheck interval", "healthcheck timeout"}
		}
		if c.change == "+--entrypoint=/probe" {
			h.remake(c.change, "$run :8080")
			want = []string{"command", "entrypoint"}
		} else {
			h.remake(c.change)
		}
		h.want("docker create "+readable(c.change), want...)
	}

	h.remake()
	h.docker("network", "disconnect", h.name+"_back", name)
	h.want("network disconnect", "network P_back")
	h.remake()
	h.docker("rename", name, name+"-x")
	h.want("rename", "name")
	h.docker("rename", name+"-x", name)
	h.docker("start", name)
	h.docker("pause", name)
	h.want("pause", "state")
	h.docker("unpause", name)
	h.docker("stop", name)
	h.want("stop", "state")

	h.remake()
	h.docker("network", "create", h.name+"_other", "--label", "com.docker.compose.project="+h.name)
	h.docker("network", "connect", h.name+"_other", name)
	h.want("network connect", "network P_other")

	h.docker("run", "-d", "--name", h.name+"-twin", "--label", "promote-test="+h.name, h.subjects["1"].String())
	h.remake()
	h.want("a twin", "twin P-twin")
	h.docker("rm", "-f", "-v", h.name+"-twin")
	h.docker("create", "--name", h.name+"-twin", "-v", h.name+"_memory:/x", "--label", "promote-test="+h.name, h.subjects["2"].String())
	h.want("a container on the same volume", "twin P-twin on volume P_memory")
	h.docker("rm", "-f", "-v", h.name+"-twin")
	h.docker("run", "-d", "--name", h.name+"-twin", "--label", "com.docker.compose.project="+h.name, "--label", "com.docker.compose.service=ghost", h.subjects["2"].String())
	h.want("an orphan of the project", "container P-twin")
	h.docker("rm", "-f", "-v", h.name+"-twin")

	h.docker("rm", "-f", name)
	h.want("removed", "state")
	h.docker("volume", "rm", h.name+"_memory")
	h.docker("volume", "create", h.name+"_memory", "--label", "com.docker.compose.project="+h.name)
	h.remake()
	h.want("another volume of the same name", "volume /data")
	h.remake("--mount=type=tmpfs,dst=/tmp,tmpfs-size=1048576", "+--volume="+h.own+":/state", "+--volume="+h.name+"_swapped:/data")
	h.docker("volume", "inspect", h.name+"_swapped")
	h.want("a volume swapped", "volume /data")
	if h.changes < 25 {
		t.Errorf("only %d changes", h.changes)
	}
	if *update != "" {
		h.write(*update)
	}
}

func (h *handmade) write(file string) {
	h.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), "| change |")
	if !ok {
		h.t.Fatalf("%s has no table", file)
	}
	body := head + "| change | what drift names |\n|---|---|\n" + strings.Join(h.table, "\n") + "\n"
	if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
		h.t.Fatal(err)
	}
}
