package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Fixture is an engine under test, and images that it can pull.
type Fixture struct {
	Engine Engine
	Image  release.Subject // of the probe, without a health check
	Facts  release.PlatformImage
	Absent release.Subject // that the registry does not have
	Prefix string          // of every name: tests may share an engine
}

// Run holds an engine against the contract. open gives a fixture whose objects
// of Prefix's project do not exist yet.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	cases := []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"pull", (*suite).pull},
		{"lifecycle", (*suite).lifecycle},
		{"names", (*suite).names},
		{"networks and volumes are made once", (*suite).idempotent},
		{"what is external must exist", (*suite).external},
		{"a volume has an identity", (*suite).identity},
		{"volumes are read, emptied and filled", (*suite).archives},
		{"health and exit are events", (*suite).events},
		{"exec and logs", (*suite).execAndLogs},
		{"usage", (*suite).usage},
		{"lock", (*suite).lock},
		{"checkpoint", (*suite).checkpoint},
		{"labelled", (*suite).labelled},
		{"absent is not unreachable", (*suite).absent},
		{"cancelled", (*suite).cancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			s := &suite{Fixture: open(t), ctx: ctx, t: t}
			t.Cleanup(s.clean)
			c.run(s, t)
		})
	}
}

type suite struct {
	Fixture
	ctx context.Context
	t   *testing.T
}

const labelSuite = "dev.promote.smoke" // so that a clean-up by label finds everything

func (s *suite) project() string           { return s.Prefix }
func (s *suite) labels() map[string]string { return map[string]string{labelSuite: s.Prefix} }

func (s *suite) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.Engine.RemoveLabelled(ctx, labelSuite+"="+s.Prefix); err != nil {
		s.t.Errorf("cleaning up: %v", err)
	}
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// spec is a service of the probe.
func (s *suite) spec(name string, command ...string) release.ServiceSpec {
	return release.ServiceSpec{Name: name, Image: s.Image, ConfigHash: strings.Repeat("a", 64), Command: command, StopGrace: 5 * time.Second}
}

// create pulls and creates a container.
func (s *suite) create(spec release.ServiceSpec) string {
	s.t.Helper()
	s.must(s.Engine.Pull(s.ctx, spec.Image))
	id, err := s.Engine.Create(s.ctx, s.project(), spec, s.Prefix+"-"+spec.Name+"-1", s.labels())
	s.must(err)
	return id
}

func (s *suite) inspect(id string) release.Container {
	s.t.Helper()
	c, err := s.Engine.Inspect(s.ctx, id)
	s.must(err)
	return c
}

// until waits for a container to fulfil a condition.
func (s *suite) until(id, what string, done func(release.Container) bool) release.Container {
	s.t.Helper()
	for {
		c := s.inspect(id)
		if done(c) {
			return c
		}
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("never %s: %+v", what, c)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *suite) pull(t *testing.T) {
	err := s.Engine.Pull(s.ctx, s.Absent)
	if !errors.Is(err, release.ErrNotFound) || release.KindOf(err) != release.KindUnavailable {
		t.Errorf("pulling what the registry does not have: %v (%s)", err, release.KindOf(err))
	}
	if _, present, err := s.Engine.ImageID(s.ctx, s.Absent); present || err != nil {
		t.Errorf("an absent image: present %t, %v", present, err)
	}
	for range 2 {
		s.must(s.Engine.Pull(s.ctx, s.Image))
	}
	id, present, err := s.Engine.ImageID(s.ctx, s.Image)
	if !present || err != nil || (id != s.Facts.Config.String() && id != s.Facts.Manifest.String()) {
		t.Errorf("a pulled image: %s present %t, %v; want %s or %s", id, present, err, s.Facts.Config, s.Facts.Manifest)
	}
	container := s.create(s.spec("agent", "/probe", "run"))
	if err := s.Engine.RemoveImage(s.ctx, s.Image); err == nil {
		t.Error("an image in use was removed")
	}
	prefix, _, _ := strings.Cut(s.Image.Repository, "/")
	s.unused("an image in use", 0, prefix+"/", s.Image.Digest)
	s.must(s.Engine.Remove(s.ctx, container))
	s.unused("an image with another digest", 0, prefix+"/", s.Absent.Digest)
	s.unused("an image of another registry", 0, "registry.invalid/", s.Image.Digest)
	fence := errors.New("not ours any more")
	if removed, err := s.Engine.RemoveUnused(s.ctx, prefix+"/", []release.Digest{s.Image.Digest}, func(context.Context) error { return fence }); len(removed) > 0 || !errors.Is(err, fence) {
		t.Errorf("past its guard: removed %v, %v", removed, err)
	}
	if _, present, err := s.Engine.ImageID(s.ctx, s.Image); !present || err != nil {
		t.Errorf("an image that was to stay: present %t, %v", present, err)
	}
	s.unused("an image that nothing uses", 1, prefix+"/", s.Absent.Digest, s.Image.Digest)
	s.unused("an image that is gone", 0, prefix+"/", s.Image.Digest)
	if _, present, err := s.Engine.ImageID(s.ctx, s.Image); present || err != nil {
		t.Errorf("an image that nothing uses: present %t, %v", present, err)
	}
	s.must(s.Engine.Pull(s.ctx, s.Image))
	for range 2 {
		s.must(s.Engine.RemoveImage(s.ctx, s.Image))
	}
	if _, present, err := s.Engine.ImageID(s.ctx, s.Image); present || err != nil {
		t.Errorf("a removed image: present %t, %v", present, err)
	}
}

func (s *suite) unused(what string, want int, prefix string, digests ...release.Digest) {
	s.t.Helper()
	guard := func(context.Context) error { return nil }
	if removed, err := s.Engine.RemoveUnused(s.ctx, prefix, digests, guard); len(removed) != want || err != nil {
		s.t.Errorf("removing %s: %v, %v; want %d", what, removed, err, want)
	}
}

func (s *suite) lifecycle(t *testing.T) {
	spec := s.spec("agent", "/probe", "run")
	spec.Labels = map[string]string{"team": "agents"}
	spec.MemoryLimit, spec.ReadOnly, spec.User = 32<<20, true, "1000:1000"
	spec.CPUs, spec.PIDs, spec.Restart = 0.5, 32, release.Restart{Name: "unless-stopped"}
	id := s.create(spec)
	c := s.inspect(id)
	if c.State != "created" || c.Name != s.Prefix+"-agent-1" || c.Service != "agent" || c.ConfigHash != spec.ConfigHash || c.Reference != s.Image.String() {
		t.Errorf("created: %+v", c)
	}
	if image, _, _ := s.Engine.ImageID(s.ctx, s.Image); c.Image != image {
		t.Errorf("the container's image is %s, the engine's id %s", c.Image, image)
	}
	if c.Memory != 32<<20 || !c.ReadOnly || c.User != "1000:1000" || c.Labels["team"] != "agents" || c.Labels[labelSuite] != s.Prefix || c.Labels[release.LabelProject] != s.Prefix {
		t.Errorf("what was asked is not there: %+v", c)
	}
	if c.CPUs != 0.5 || c.PIDs != 32 || c.Restart != "unless-stopped" || c.Privileged {
		t.Errorf("limits: %+v", c)
	}
	s.must(s.Engine.Start(s.ctx, id))
	s.must(s.Engine.Start(s.ctx, id)) // again is fine
	c = s.inspect(id)
	if c.State != "running" || c.PID == 0 || c.Started.IsZero() || c.Health != "none" {
		t.Errorf("started: %+v", c)
	}
	seen, err := s.Engine.Observe(s.ctx, s.project())
	s.must(err)
	if len(seen.Containers) != 1 || seen.Containers[0].ID != id {
		t.Errorf("observed: %+v", seen.Containers)
	}
	s.must(s.Engine.Restart(s.ctx, id, time.Second))
	if again := s.inspect(id); again.State != "running" || !again.Started.After(c.Started) {
		t.Errorf("restarted: %s, started %s, before %s", again.State, again.Started, c.Started)
	}
	s.must(s.Engine.Stop(s.ctx, id, 5*time.Second))
	s.must(s.Engine.Stop(s.ctx, id, 5*time.Second)) // again is fine
	if c = s.inspect(id); c.State != "exited" || c.ExitCode != 0 || c.PID != 0 {
		t.Errorf("stopped: %+v", c)
	}
	seen, err = s.Engine.Observe(s.ctx, s.project())
	s.must(err)
	if len(seen.Containers) != 1 {
		t.Errorf("a stopped container is not observed: %+v", seen.Containers)
	}
	s.must(s.Engine.Start(s.ctx, id))
	s.must(s.Engine.Kill(s.ctx, id, "SIGKILL"))
	if c = s.until(id, "dead", func(c release.Container) bool { return c.State == "exited" }); c.ExitCode != 137 {
		t.Errorf("killed: exit code %d", c.ExitCode)
	}
	s.must(s.Engine.Remove(s.ctx, id))
	s.must(s.Engine.Remove(s.ctx, id)) // again is fine
}

func (s *suite) names(t *testing.T) {
	id := s.create(s.spec("agent", "/probe", "run"))
	if _, err := s.Engine.Create(s.ctx, s.project(), s.spec("agent"), s.Prefix+"-agent-1", s.labels()); err == nil {
		t.Error("two containers have one name")
	}
	s.must(s.Engine.Start(s.ctx, id))
	s.must(s.Engine.Rename(s.ctx, id, s.Prefix+"-agent-1.promote-old-7"))
	if c := s.inspect(id); c.Name != s.Prefix+"-agent-1.promote-old-7" || c.State != "running" {
		t.Errorf("renamed: %s %s", c.Name, c.State)
	}
	other, err := s.Engine.Create(s.ctx, s.project(), s.spec("agent"), s.Prefix+"-agent-1", s.labels())
	s.must(err)
	if err := s.Engine.Rename(s.ctx, id, s.Prefix+"-agent-1"); err == nil {
		t.Error("a container took the name of another")
	}
	if c := s.inspect(s.Prefix + "-agent-1"); c.ID != other {
		t.Errorf("found by name: %s, want %s", c.ID, other)
	}
}

func (s *suite) idempotent(t *testing.T) {
	network := release.NetworkSpec{Key: "back", Name: s.Prefix + "_back", Internal: true}
	volume := release.VolumeSpec{Key: "memory", Name: s.Prefix + "_memory"}
	var identity string
	for range 2 {
		s.must(s.Engine.CreateNetwork(s.ctx, s.project(), network, s.labels()))
		s.must(s.Engine.CreateVolume(s.ctx, s.project(), volume, s.labels()))
		seen, err := s.Engine.Observe(s.ctx, s.project())
		s.must(err)
		if n := count(seen.Networks, network.Name); n != 1 {
			t.Errorf("%d networks of one name", n)
		}
		v, ok := seen.Volume(volume.Name)
		if !ok || v.Labels[release.LabelProject] != s.Prefix || identity != "" && v.Identity != identity {
			t.Errorf("volume %+v, identity before %s", v, identity)
		}
		identity = v.Identity
	}
	network.Internal = false
	if err := s.Engine.CreateNetwork(s.ctx, s.project(), network, s.labels()); release.KindOf(err) != release.KindConfig {
		t.Errorf("a network of another kind: %v", err)
	}
	spec := s.spec("agent", "/probe", "run")
	spec.Networks = []release.Attach{{Network: network.Name, Aliases: []string{"brain"}}}
	spec.Mounts = []release.Mount{{Type: "volume", Source: volume.Name, Target: "/data"}}
	id := s.create(spec)
	seen, err := s.Engine.Observe(s.ctx, s.project())
	s.must(err)
	for _, c := range append(seen.Containers, s.inspect(id)) {
		if _, joined := c.Networks[network.Name]; !joined || len(c.Mounts) != 1 || c.Mounts[0].Name != volume.Name {
			t.Errorf("networks %v, mounts %+v", c.Networks, c.Mounts)
		}
	}
	if v, err := s.Engine.Volume(s.ctx, volume.Name); err != nil || v.Identity != identity || len(seen.Containers) != 1 || seen.Containers[0].Mounts[0].Identity != identity {
		t.Errorf("volume %+v, %v; containers %+v", v, err, seen.Containers)
	}
	if _, err := s.Engine.Volume(s.ctx, volume.Name+"-not"); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
	if err := s.Engine.RemoveVolume(s.ctx, volume.Name); err == nil {
		t.Error("a volume in use was removed")
	}
	s.must(s.Engine.Discard(s.ctx, id))
	for range 2 {
		s.must(s.Engine.RemoveNetwork(s.ctx, network.Name))
		s.must(s.Engine.RemoveVolume(s.ctx, volume.Name))
	}
}

func count(list []string, want string) (n int) {
	for _, s := range list {
		if s == want {
			n++
		}
	}
	return n
}

func (s *suite) external(t *testing.T) {
	err := s.Engine.CreateNetwork(s.ctx, s.project(), release.NetworkSpec{Key: "edge", Name: s.Prefix + "-edge", External: true}, nil)
	if release.KindOf(err) != release.KindConfig {
		t.Errorf("a missing external network: %v", err)
	}
	err = s.Engine.CreateVolume(s.ctx, s.project(), release.VolumeSpec{Key: "shared", Name: s.Prefix + "-shared", External: true}, nil)
	if release.KindOf(err) != release.KindConfig {
		t.Errorf("a missing external volume: %v", err)
	}
}

func (s *suite) identity(t *testing.T) {
	volume := release.VolumeSpec{Key: "memory", Name: s.Prefix + "_memory"}
	look := func() string {
		seen, err := s.Engine.Observe(s.ctx, s.project())
		s.must(err)
		v, _ := seen.Volume(volume.Name)
		return v.Identity
	}
	s.must(s.Engine.CreateVolume(s.ctx, s.project(), volume, s.labels()))
	first := look()
	if first == "" || !strings.HasPrefix(first, volume.Name+"@") {
		t.Errorf("identity %q", first)
	}
	spec := s.spec("agent", "/probe", "write", "/data/x", "y")
	spec.Mounts = []release.Mount{{Type: "volume", Source: volume.Name, Target: "/data"}}
	id := s.create(spec)
	s.must(s.Engine.Start(s.ctx, id))
	time.Sleep(10 * time.Millisecond)
	if again := look(); again != first {
		t.Errorf("use changed the identity: %q, before %q", again, first)
	}
	s.must(s.Engine.Discard(s.ctx, id))
	s.must(s.Engine.RemoveVolume(s.ctx, volume.Name))
	s.must(s.Engine.CreateVolume(s.ctx, s.project(), volume, s.labels()))
	if again := look(); again == first {
		t.Errorf("another volume of the same name has the same identity %q", again)
	}
}

func (s *suite) events(t *testing.T) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	events, err := s.Engine.Events(ctx, s.project())
	s.must(err)
	well, ill, short := s.spec("well", "/probe", "run"), s.spec("ill", "/probe", "run"), s.spec("short", "/probe", "exit", "3")
	well.Health = &release.Health{Test: []string{"CMD", "/probe", "ok"}, Interval: 50 * time.Millisecond, Retries: 1}
	ill.Health = &release.Health{Test: []string{"CMD", "/probe", "fail"}, Interval: 50 * time.Millisecond, Retries: 1}
	ids := map[string]string{}
	for _, spec := range []release.ServiceSpec{well, ill, short} {
		ids[spec.Name] = s.create(spec)
		s.must(s.Engine.Start(s.ctx, ids[spec.Name]))
	}
	want := map[string]bool{"well start": true, "well health_status: healthy": true, "ill start": true, "ill health_status: unhealthy": true, "short start": true, "short die 3": true}
	for len(want) > 0 {
		select {
		case e := <-events:
			key := e.Service + " " + e.Action
			if e.Action == "die" {
				key += fmt.Sprint(" ", e.ExitCode)
			}
			if want[key] && e.Container != ids[e.Service] {
				t.Errorf("%s is about %s, want %s", key, e.Container, ids[e.Service])
			}
			delete(want, key)
		case <-s.ctx.Done():
			t.Fatalf("never heard: %v", want)
		}
	}
	if c := s.inspect(ids["well"]); c.Health != "healthy" {
		t.Errorf("well: %s", c.Health)
	}
	if c := s.inspect(ids["ill"]); c.Health != "unhealthy" || !strings.Contains(c.HealthLog, "not well") {
		t.Errorf("ill: %s, %q", c.Health, c.HealthLog)
	}
	if c := s.inspect(ids["short"]); c.State != "exited" || c.ExitCode != 3 {
		t.Errorf("short: %s %d", c.State, c.ExitCode)
	}
	cancel()
	for range events { // it is closed, or this never ends
	}
}

func (s *suite) execAndLogs(t *testing.T) {
	id := s.create(s.spec("agent", "/probe", "run"))
	s.must(s.Engine.Start(s.ctx, id))
	s.until(id, "running", func(c release.Container) bool { return c.State == "running" })
	exit, _, err := s.Engine.Exec(s.ctx, id, []string{"/probe", "ok"})
	if exit != 0 || err != nil {
		t.Errorf("exec: %d %v", exit, err)
	}
	for range 100 { // the log follows the process at a distance
		log, err := s.Engine.Logs(s.ctx, id, 5)
		s.must(err)
		if string(log) == "running\n" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	log, err := s.Engine.Logs(s.ctx, id, 5)
	if string(log) != "running\n" || err != nil {
		t.Errorf("log: %q %v", log, err)
	}
	s.must(s.Engine.Stop(s.ctx, id, 5*time.Second))
	if _, _, err := s.Engine.Exec(s.ctx, id, []string{"/probe", "ok"}); err == nil {
		t.Error("a command ran in a stopped container")
	}
	if log, err = s.Engine.Logs(s.ctx, id, 1); bytes.Count(log, []byte("\n")) != 1 || err != nil {
		t.Errorf("the last line of the log: %q %v", log, err)
	}
}

func (s *suite) usage(t *testing.T) {
	spec := s.spec("agent", "/probe", "run")
	spec.MemoryLimit = 64 << 20
	id := s.create(spec)
	s.must(s.Engine.Start(s.ctx, id))
	u, err := s.Engine.Usage(s.ctx, id)
	s.must(err)
	if u.Memory <= 0 || u.Memory > 64<<20 || u.Limit != 64<<20 || u.PIDs < 1 || u.Time.IsZero() {
		t.Errorf("usage: %+v", u)
	}
	id = s.create(s.spec("unlimited", "/probe", "run"))
	s.must(s.Engine.Start(s.ctx, id))
	if u, err = s.Engine.Usage(s.ctx, id); u.Limit != 0 || err != nil {
		t.Errorf("without a limit: %+v, %v", u, err)
	}
}

func (s *suite) lock(t *testing.T) {
	name := s.Prefix + "-lock"
	note := release.LockNote{Environment: "production", Sequence: 7, Release: release.DigestOf([]byte("r")), Holder: "ci-1"}
	t.Cleanup(func() { _ = s.Engine.Unlock(context.Background(), name, 0) })
	if _, held, err := s.Engine.ReadLock(s.ctx, name); held || err != nil {
		t.Errorf("a free lock: %t %v", held, err)
	}
	s.must(s.Engine.Lock(s.ctx, name, note))
	err := s.Engine.Lock(s.ctx, name, release.LockNote{Holder: "ci-2"})
	if release.KindOf(err) != release.KindHeld || !strings.Contains(err.Error(), "ci-1") {
		t.Errorf("a held lock: %v", err)
	}
	if got, held, err := s.Engine.ReadLock(s.ctx, name); got != note || !held || err != nil {
		t.Errorf("read %+v %t %v", got, held, err)
	}
	s.must(s.Engine.Unlock(s.ctx, name, note.Sequence-1)) // whose lock is gone takes nobody else's
	if got, held, err := s.Engine.ReadLock(s.ctx, name); got != note || !held || err != nil {
		t.Errorf("after another one's unlocking: %+v %t %v", got, held, err)
	}
	for range 2 {
		s.must(s.Engine.Unlock(s.ctx, name, note.Sequence))
	}
	winners := make(chan error, 8)
	for i := range cap(winners) {
		go func() { winners <- s.Engine.Lock(s.ctx, name, release.LockNote{Holder: fmt.Sprint(i)}) }()
	}
	won := 0
	for range cap(winners) {
		switch err := <-winners; {
		case err == nil:
			won++
		case release.KindOf(err) != release.KindHeld:
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d won", won, cap(winners))
	}
}

func (s *suite) checkpoint(t *testing.T) {
	name := s.Prefix + "-production"
	t.Cleanup(func() { _, _ = s.Engine.RemoveLabelled(context.Background(), "dev.promote.checkpoint="+name) })
	if text, err := s.Engine.ReadCheckpoint(s.ctx, name); text != "" || err != nil {
		t.Errorf("before: %q %v", text, err)
	}
	long := "promote\n42\n" + strings.Repeat("x", 8000) + "\n"
	for _, text := range []string{"promote\n1\nabc\n", "promote\n2\ndef\n", long} {
		s.must(s.Engine.SaveCheckpoint(s.ctx, name, text))
		if got, err := s.Engine.ReadCheckpoint(s.ctx, name); got != text || err != nil {
			t.Errorf("%q, want %q, %v", got, text, err)
		}
	}
	if text, err := s.Engine.ReadCheckpoint(s.ctx, s.Prefix+"-staging"); text != "" || err != nil {
		t.Errorf("another name: %q %v", text, err)
	}
}

func (s *suite) labelled(t *testing.T) {
	s.must(s.Engine.CreateNetwork(s.ctx, s.project(), release.NetworkSpec{Key: "a", Name: s.Prefix + "_a"}, s.labels()))
	s.must(s.Engine.CreateNetwork(s.ctx, s.project(), release.NetworkSpec{Key: "b", Name: s.Prefix + "_b"}, s.labels()))
	s.must(s.Engine.CreateVolume(s.ctx, s.project(), release.VolumeSpec{Key: "v", Name: s.Prefix + "_v"}, s.labels()))
	spec := s.spec("agent", "/probe", "run")
	spec.Networks = []release.Attach{{Network: s.Prefix + "_a"}, {Network: s.Prefix + "_b"}}
	spec.Mounts = []release.Mount{{Type: "volume", Source: s.Prefix + "_v", Target: "/data"}}
	id := s.create(spec)
	s.must(s.Engine.Start(s.ctx, id))
	if c := s.inspect(id); len(c.Networks) != 2 {
		t.Errorf("networks: %v", c.Networks)
	}
	label := labelSuite + "=" + s.Prefix
	found, err := s.Engine.ListLabelled(s.ctx, label)
	s.must(err)
	slices.Sort(found.Networks)
	if !slices.Equal(found.Containers, []string{id}) || !slices.Equal(found.Networks, []string{s.Prefix + "_a", s.Prefix + "_b"}) || !slices.Equal(found.Volumes, []string{s.Prefix + "_v"}) {
		t.Errorf("found %+v", found)
	}
	if found, err = s.Engine.RemoveLabelled(s.ctx, label); err != nil || found.Count() != 4 {
		t.Errorf("removed %+v, %v", found, err)
	}
	if found, err = s.Engine.ListLabelled(s.ctx, label); err != nil || found.Count() != 0 {
		t.Errorf("left %+v, %v", found, err)
	}
}

func (s *suite) absent(t *testing.T) {
	nobody := s.Prefix + "-nobody"
	_, err := s.Engine.Inspect(s.ctx, nobody)
	_, created := s.Engine.Create(s.ctx, s.project(), release.ServiceSpec{Name: "x", Image: s.Absent}, nobody, s.labels())
	for what, err := range map[string]error{
		"inspect": err, "start": s.Engine.Start(s.ctx, nobody), "stop": s.Engine.Stop(s.ctx, nobody, 0), "create": created,
	} {
		if !errors.Is(err, release.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func (s *suite) cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.Engine.Observe(ctx, s.project())
	if release.KindOf(err) != release.KindInterrupted {
		t.Errorf("observing: %v (%s)", err, release.KindOf(err))
	}
	if err := s.Engine.Pull(ctx, s.Image); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("pulling: %v (%s)", err, release.KindOf(err))
	}
}
