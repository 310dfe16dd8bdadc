//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client/pkg/versions"

	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

// open reaches the engine that docker would reach.
func open(t *testing.T) *engine.Host {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{Name: "test"}, engine.Options{})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("no engine: %v", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

var unique atomic.Int64

// prefix gives names that nobody else has.
func prefix() string {
	return fmt.Sprintf("promote-engine-%d-%d", os.Getpid(), unique.Add(1))
}

func TestEngineKeepsTheContract(t *testing.T) {
	h := open(t)
	registry := enginetest.NewRegistry(t)
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		name := prefix()
		image, facts := registry.Push(t, name, enginetest.Image{Version: name})
		t.Cleanup(func() { removeImage(t, image) })
		absent := image
		absent.Digest = release.DigestOf([]byte(strings.ToUpper(name)))
		return enginetest.Fixture{Engine: h, Image: image, Facts: facts, Absent: absent, Prefix: name}
	})
}

// An index is run as this platform's manifest: the engine's id of the image, and
// of what a container runs, is that manifest or its configuration. Engines before
// 28 that have the containerd store give the index, from which it cannot be told;
// pkg/deploy refuses that.
func TestAnImageOfSeveralPlatforms(t *testing.T) {
	h := open(t)
	ctx, name := t.Context(), prefix()
	image, facts := enginetest.NewRegistry(t).Push(t, name, enginetest.Image{Version: name, Index: true})
	t.Cleanup(func() { removeImage(t, image) })
	info, err := h.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	verified := func(what, id string) {
		t.Helper()
		if info.Containerd && versions.LessThan(info.APIVersion, "1.48") {
			if id != image.Digest.String() {
				t.Errorf("%s is %s; this engine gives the index %s", what, id, image.Digest)
			}
			return
		}
		if id != facts.Config.String() && id != facts.Manifest.String() {
			t.Errorf("%s is %s; want the configuration %s or the manifest %s", what, id, facts.Config, facts.Manifest)
		}
	}
	if err := h.Pull(ctx, image); err != nil {
		t.Fatal(err)
	}
	id, present, err := h.ImageID(ctx, image)
	if !present || err != nil {
		t.Errorf("present %t, %v", present, err)
	}
	verified("the image", id)
	container, err := h.Create(ctx, name, release.ServiceSpec{Name: "agent", Image: image}, name+"-agent-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Remove(context.Background(), container) })
	c, err := h.Inspect(ctx, container)
	if err != nil {
		t.Fatal(err)
	}
	verified("what the container runs", c.Image)
	others, err := h.Outsiders(ctx, "another")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(others, func(o release.Outsider) bool { return o.ID == container })
	if i < 0 {
		t.Fatalf("%s is not among %+v", container, others)
	}
	verified("what the container is listed with", others[i].Image)
}

func removeImage(t *testing.T, s release.Subject) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h, err := engine.Open(ctx, release.Target{}, engine.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer h.Close()
	if err := h.RemoveImage(ctx, s); err != nil {
		t.Error(err)
	}
}

// world is one project on a real engine, taken down when the test ends.
type world struct {
	*engine.Host
	t     *testing.T
	ctx   context.Context
	name  string
	image release.Subject
}

func newWorld(t *testing.T, i enginetest.Image) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w := &world{Host: open(t), t: t, ctx: ctx, name: prefix()}
	i.Version = w.name
	w.image, _ = enginetest.NewRegistry(t).Push(t, w.name, i)
	if err := w.Pull(ctx, w.image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.RemoveLabelled(context.Background(), release.LabelProject+"="+w.name); err != nil {
			t.Error(err)
		}
		if err := w.RemoveImage(context.Background(), w.image); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start creates and starts a container of the probe.
func (w *world) start(s release.ServiceSpec) string {
	w.t.Helper()
	s.Image = w.image
	id, err := w.Create(w.ctx, w.name, s, w.name+"-"+s.Name+"-1", nil)
	if err == nil {
		err = w.Start(w.ctx, id)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// The kernel kills a child, the first process survives: the engine says
// nothing, the cgroup does.
func TestOOMKillsOfChildrenCount(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	id := w.start(release.ServiceSpec{Name: "agent", Command: []string{"/probe", "child", "leak"}, MemoryLimit: 24 << 20, MemorySwap: 24 << 20})
	for {
		u, err := w.Usage(w.ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if u.OOMKills > 0 {
			break
		}
		if u.OOMKills < 0 {
			t.Fatalf("the engine is local and the count unknown: %+v", u)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if c, err := w.Inspect(w.ctx, id); err != nil || c.State != "running" {
		t.Errorf("the first process: %s, %v", c.State, err)
	}
}

// A container that is killed for its own memory says so. Engine 20.10 misses the
// kernel's notice now and then on a busy machine, and never learns of it later:
// one of three containers has to say it.
func TestOOMKilled(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	var last release.Container
	for range 3 {
		id := w.start(release.ServiceSpec{Name: "agent", Command: []string{"/probe", "leak"}, MemoryLimit: 24 << 20, MemorySwap: 24 << 20})
		// The engine hears of the exit and of its reason one after the other, in
		// either order.
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
			c, err := w.Inspect(w.ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if last = c; c.State != "exited" {
				continue
			}
			if c.ExitCode != 137 {
				t.Fatalf("%+v", c)
			}
			if c.OOMKilled {
				return
			}
		}
		if err := w.Remove(w.ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("%+v", last)
}

func TestExecIsBoundedAndDemultiplexed(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	id := w.start(release.ServiceSpec{Name: "agent"})
	exit, out, err := w.Exec(w.ctx, id, []string{"/probe", "say"})
	if exit != 0 || err != nil || !strings.Contains(string(out), "to stdout\n") || !strings.Contains(string(out), "to stderr\n") {
		t.Errorf("%d %q %v", exit, out, err)
	}
	if exit, _, err = w.Exec(w.ctx, id, []string{"/probe", "exit", "7"}); exit != 7 || err != nil {
		t.Errorf("%d %v", exit, err)
	}
	exit, out, err = w.Exec(w.ctx, id, []string{"/probe", "flood"})
	if exit != 0 || err != nil || len(out) != 1<<20 {
		t.Errorf("%d, %d bytes, %v", exit, len(out), err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, _, err = w.Exec(ctx, id, []string{"/probe", "run"}); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("a command that does not end: %v after %s", err, time.Since(began))
	}
}

func TestLogsOfATerminal(t *testing.T) {
	w := newWorld(t, enginetest.Image{})
	id := w.start(release.ServiceSpec{Name: "agent", TTY: true, Command: []string{"/probe", "say"}})
	for {
		log, err := w.Logs(w.ctx, id, 10)
		if err != nil {
			t.Fatal(err)
		}
		if string(log) == "to stdout\r\nto stderr\r\n" {
			return
		}
		if w.ctx.Err() != nil {
			t.Fatalf("%q", log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Removing keeps the volume that the image asked for, discarding does not, and
// neither touches one that another container has taken over.
func TestAnonymousVolumes(t *testing.T) {
	w := newWorld(t, enginetest.Image{Volumes: []string{"/state"}})
	volumeOf := func(id string) string {
		c, err := w.Inspect(w.ctx, id)
		if err != nil || len(c.Mounts) != 1 || c.Mounts[0].Target != "/state" {
			t.Fatalf("%+v, %v", c.Mounts, err)
		}
		return c.Mounts[0].Name
	}
	there := func(volume string) bool {
		seen, err := w.Observe(w.ctx, w.name)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := seen.Volume(volume)
		return ok
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := w.start(release.ServiceSpec{Name: "first"})
	volume := volumeOf(first)
	second := w.start(release.ServiceSpec{Name: "second", Mounts: []release.Mount{{Type: "volume", Source: volume, Target: "/state"}}})
	must(w.Discard(w.ctx, first))
	if !there(volume) {
		t.Error("discarding took a volume that another container uses")
	}
	must(w.Discard(w.ctx, second))
	if !there(volume) {
		t.Error("discarding took a volume that the container was given by name")
	}
	must(w.RemoveVolume(w.ctx, volume))
	third := w.start(release.ServiceSpec{Name: "third"})
	volume = volumeOf(third)
	must(w.Remove(w.ctx, third))
	if !there(volume) {
		t.Error("removing took the volume")
	}
	must(w.RemoveVolume(w.ctx, volume))
	fourth := w.start(release.ServiceSpec{Name: "fourth"})
	volume = volumeOf(fourth)
	must(w.Discard(w.ctx, fourth))
	if there(volume) {
		t.Error("discarding left the volume")
	}
}

// All of a service arrives at the engine; what it does with it is asked with a
// tool that is not ours.
func TestTheWholeServiceArrives(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no docker command")
	}
	w := newWorld(t, enginetest.Image{})
	network := w.name + "_back"
	if err := w.CreateNetwork(w.ctx, w.name, release.NetworkSpec{Key: "back", Name: network}, nil); err != nil {
		t.Fatal(err)
	}
	yes := true
	id := w.start(release.ServiceSpec{
		Name: "agent", ConfigHash: "c0ffee", Command: []string{"/probe", "run", ":8080"}, Environment: map[string]string{"B": "2", "A": "1=x"},
		User: "1000:1000", GroupAdd: []string{"44"}, WorkingDir: "/data", Hostname: "brain", Init: &yes, StopSignal: "SIGINT", StopGrace: 1500 * time.Millisecond,
		ReadOnly: true, CapAdd: []string{"NET_BIND_SERVICE"}, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges:true"},
		Sysctls: map[string]string{"net.core.somaxconn": "512"}, Ulimits: []release.Ulimit{{Name: "nofile", Soft: 512, Hard: 1024}}, ShmSize: 8 << 20,
		MemoryLimit: 64 << 20, MemoryReservation: 32 << 20, CPUs: 0.5, PIDs: 64, OOMScoreAdj: 100,
		Mounts:   []release.Mount{{Type: "tmpfs", Target: "/tmp", Size: 1 << 20, Mode: 0o1777}, {Type: "bind", Source: "/etc/hostname", Target: "/host", ReadOnly: true}},
		Ports:    []release.Port{{HostIP: "127.0.0.1", Target: 8080, Protocol: "tcp"}},
		Expose:   []string{"9000-9001"},
		Networks: []release.Attach{{Network: network, Aliases: []string{"cortex"}}}, ExtraHosts: []string{"other=10.9.8.7"}, DNS: []string{"10.0.0.53"},
		Health:    &release.Health{Test: []string{"CMD", "/probe", "ok"}, Interval: time.Second, Timeout: 2 * time.Second, StartPeriod: 3 * time.Second, Retries: 4},
		Restart:   release.Restart{Name: "on-failure", Max: 3},
		DependsOn: []release.Dependency{{Service: "store", Condition: release.ServiceHealthy}, {Service: "bus", Condition: release.ServiceStarted}},
		LogDriver: "json-file", LogOptions: map[string]string{"max-size": "1m"},
	})
	for format, want := range map[string]string{
		`{{json .Config.Cmd}}`:                                                           `["/probe","run",":8080"]`,
		`{{index .Config.Env 0}} {{index .Config.Env 1}}`:                                `A=1=x B=2`,
		`{{.Config.User}} {{.HostConfig.GroupAdd}} {{.Config.WorkingDir}}`:               `1000:1000 [44] /data`,
		`{{.Config.Hostname}} {{.HostConfig.Init}}`:                                      `brain true`,
		`{{.Config.StopSignal}} {{.Config.StopTimeout}}`:                                 `SIGINT 2`,
		`{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}`:  `true [CAP_NET_BIND_SERVICE] [ALL]`,
		`{{.HostConfig.SecurityOpt}} {{.HostConfig.Sysctls}}`:                            `[no-new-privileges:true] map[net.core.somaxconn:512]`,
		`{{json .HostConfig.Ulimits}} {{.HostConfig.ShmSize}}`:                           `[{"Name":"nofile","Hard":1024,"Soft":512}] 8388608`,
		`{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}}`:                       `67108864 33554432`,
		`{{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.OomScoreAdj}}`: `500000000 64 100`,
		`{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}};{{end}}`:                    `bind /host false;tmpfs /tmp true;`,
		`{{json .HostConfig.RestartPolicy}}`:                                             `{"Name":"on-failure","MaximumRetryCount":3}`,
		`{{.HostConfig.ExtraHosts}} {{.HostConfig.Dns}}`:                                 `[other:10.9.8.7] [10.0.0.53]`,
		`{{json .Config.Healthcheck}}`:                                                   `{"Test":["CMD","/probe","ok"],"Interval":1000000000,"Timeout":2000000000,"StartPeriod":3000000000,"Retries":4}`,
		`{{json .HostConfig.LogConfig}}`:                                                 `{"Type":"json-file","Config":{"max-size":"1m"}}`,
		`{{index .Config.Labels "com.docker.compose.depends_on"}}`:                       `bus:service_started:false,store:service_healthy:false`,
		`{{index .Config.Labels "com.docker.compose.config-hash"}}`:                      `c0ffee`,
		`{{index .Config.Labels "com.docker.compose.oneoff"}}`:                           `False`,
	} {
		cmd := exec.Command(docker, "inspect", "-f", format, id)
		out, err := cmd.CombinedOutput()
		got := strings.TrimSpace(string(out))
		if strings.HasPrefix(format, "{{range .Mounts") { // the engine lists them in any order
			parts := strings.SplitAfter(got, ";")
			slices.Sort(parts)
			got = strings.Join(parts, "")
		}
		if err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", format, got, want, err)
		}
	}
	c, err := w.Inspect(w.ctx, id)
	if err != nil || len(c.Ports) != 1 || c.Ports[0].HostIP != "127.0.0.1" || c.Ports[0].Target != 8080 || c.Ports[0].Published == "" {
		t.Fatalf("ports %+v, %v", c.Ports, err)
	}
	if c.Networks[network] == "" {
		t.Errorf("networks %v", c.Networks)
	}
	response, err := http.Get("http://127.0.0.1:" + c.Ports[0].Published + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
}
