package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine/enginetest"
	"github.com/promote-dev/promote/pkg/release"
)

const memory = project + "_memory"

// turned stands for encryption: it changes every byte, and says who can open it.
type turned struct {
	w io.Writer
}

func (s turned) Write(b []byte) (int, error) {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= 0x55
	}
	return s.w.Write(out)
}

func (s turned) Close() error { return nil }

func seal(w io.Writer) (io.WriteCloser, error) {
	_, err := io.WriteString(w, "sealed:")
	return turned{w}, err
}

func open(r io.Reader) (io.Reader, error) {
	head := make([]byte, 7)
	if _, err := io.ReadFull(r, head); err != nil || string(head) != "sealed:" {
		return nil, fmt.Errorf("no snapshot: %q, %w", head, err)
	}
	return readTurned{r}, nil
}

type readTurned struct{ r io.Reader }

func (s readTurned) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	for i := range b[:n] {
		b[i] ^= 0x55
	}
	return n, err
}

func locked(io.Reader) (io.Reader, error) { return nil, errors.New("no key fits") }

// keeping is a job that keeps the memory.
func (w *world) keeping(work release.Workload, sequence int64, recorded *release.TargetStatus) deploy.Job {
	j := w.job(work, sequence)
	j.Recorded, j.Options.Snapshots = recorded, []string{"memory"}
	j.Keeping = deploy.Keeping{Keep: 5, Seal: seal, Open: open, Release: release.DigestOf([]byte("release before " + fmt.Sprint(sequence)))}
	return j
}

// remembers is a target whose first version has something in its memory.
func remembers(t *testing.T, schema string) (*world, *release.TargetStatus) {
	w := newWorld(t)
	recorded := w.runsIn(schema)
	w.fake.WriteFile(memory, "tasks", "seven")
	w.fake.WriteFile(memory, "notes/one", strings.Repeat("learned ", 1000))
	return w, recorded
}

func (w *world) snapshots() []release.Snapshot { return deploy.Snapshots(project, w.seen()) }

// leftovers are what no attempt may leave behind.
func (w *world) leftovers() []string {
	var list []string
	for _, v := range w.seen().Volumes {
		_, whole := w.seen().Volume(v.Name + ".note")
		if v.Labels[release.LabelRestoring] != "" && !strings.Contains(v.Name, "-done-") || v.Labels[release.LabelSnapshotData] != "" && !whole {
			list = append(list, v.Name)
		}
		if data, is := strings.CutSuffix(v.Name, ".note"); is {
			if _, there := w.seen().Volume(data); !there {
				list = append(list, v.Name)
			}
		}
	}
	return list
}

// restored are the notes of attempts that restored.
func (w *world) restored() []string {
	var list []string
	for _, v := range w.seen().Volumes {
		if v.Labels[release.LabelRestoring] != "" {
			list = append(list, v.Name)
		}
	}
	return list
}

func migrates(f *enginetest.Fake, sequence string) func(string, string) error {
	return func(op, subject string) error {
		if op == "start" && subject == "agent-store-1" {
			c, err := f.Inspect(context.Background(), subject)
			if err == nil && c.Labels[release.LabelSequence] == sequence {
				f.WriteFile(memory, "tasks", "migrated by "+sequence)
				f.WriteFile(memory, "journal", "new")
			}
		}
		return nil
	}
}

func TestASnapshotIsTakenBetweenTheStopAndTheStart(t *testing.T) {
	w, recorded := remembers(t, "1")
	was := w.fake.Files(memory)
	calls := len(w.fake.Calls())
	j := w.keeping(in(w.stack("2"), "2"), 2, recorded)
	p := w.plan(j)
	i := slices.IndexFunc(p.Steps, func(s release.Step) bool { return s.Action == deploy.ActionSnapshot })
	if i < 0 || p.Steps[i].From != memory || !strings.Contains(p.Steps[i].Cause, "size is not known") || p.Steps[i+1].Service != "store" || p.Steps[i+1].Action != deploy.ActionRecreate {
		t.Fatalf("plan %+v", p.Steps)
	}
	w.fake.After = migrates(w.fake, "2")
	w.mustDeploy(j)
	var order []string
	for _, call := range w.fake.Calls()[calls:] {
		if strings.Contains(call, "store") || strings.Contains(call, "snapshot") {
			order = append(order, call)
		}
	}
	want := []string{
		"rename agent-store-1", "hook agent-store-1.promote-old-2", "stop agent-store-1.promote-old-2", "removeVolume agent_promote-snapshot-2-memory", "createVolume agent_promote-snapshot-2-memory",
		"fillVolume agent_promote-snapshot-2-memory", "createVolume agent_promote-snapshot-2-memory.note", "create agent-store-1", "start agent-store-1", "remove agent-store-1.promote-old-2",
	}
	order = slices.DeleteFunc(order, func(c string) bool { return strings.HasPrefix(c, "pull") })
	if !slices.Equal(order, want) {
		t.Errorf("order\n%s\nwant\n%s", strings.Join(order, "\n"), strings.Join(want, "\n"))
	}
	list := w.snapshots()
	if len(list) != 1 {
		t.Fatalf("snapshots %+v", list)
	}
	s := list[0]
	if s.Sequence != 2 || s.Key != "memory" || !strings.HasPrefix(s.Volume, memory+"@") || s.Release != j.Keeping.Release || s.Schemas["store"] != 1 || s.Entries != 3 || s.Size < 8000 || s.Digest.IsZero() || s.Sealed.IsZero() || s.Sealed == s.Digest {
		t.Errorf("snapshot %+v", s)
	}
	for name, text := range w.fake.Files(s.Name) {
		if strings.Contains(text, "learned") {
			t.Errorf("%s is not encrypted", name)
		}
	}
	if err := deploy.CheckSnapshot(context.Background(), w.fake, project, s, open); err != nil {
		t.Error(err)
	}
	if now := w.fake.Files(memory); maps.Equal(now, was) {
		t.Error("nothing was migrated: the test shows nothing")
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// A snapshot that fails ends the switch before the new container is there, and
// what ran before runs on.
func TestASnapshotThatFailsEndsTheSwitch(t *testing.T) {
	for name, breakIt := range map[string]func(*world, *deploy.Job){
		"the volume cannot be read": func(w *world, _ *deploy.Job) {
			w.fake.Before = func(op, subject string) error {
				if op == "readVolume" && subject == memory {
					return errors.New("input/output error")
				}
				return nil
			}
		},
		"the disk is full": func(w *world, _ *deploy.Job) {
			w.fake.Before = func(op, _ string) error {
				if op == "fillVolume" {
					return errors.New("no space left on device")
				}
				return nil
			}
		},
		"it reads back as something else": func(w *world, _ *deploy.Job) {
			w.fake.After = func(op, subject string) error {
				if op == "fillVolume" {
					w.fake.WriteFile(subject, "part-000000", "sealed:other")
				}
				return nil
			}
		},
		"nobody to encrypt it to": func(_ *world, j *deploy.Job) { j.Keeping.Seal = nil },
		"encrypting fails": func(_ *world, j *deploy.Job) {
			j.Keeping.Seal = func(io.Writer) (io.WriteCloser, error) { return nil, errors.New("no entropy") }
		},
		"the archive is cut off": func(w *world, j *deploy.Job) {
			j.Keeping.Seal = seal
			w.fake.CutArchives = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, recorded := remembers(t, "1")
			was := w.fake.Files(memory)
			j := w.keeping(w.stack("2"), 2, recorded)
			breakIt(w, &j)
			err := deploy.Finish(context.Background(), w.fake, j)
			if release.KindOf(err) != release.KindRolledBack {
				t.Fatalf("%v", err)
			}
			w.fake.Before, w.fake.After, w.fake.CutArchives = nil, nil, false
			for _, c := range w.seen().Containers {
				if c.Service == "store" && c.Reference != subject("store", "1").String() {
					t.Errorf("a new store was made: %+v", c)
				}
			}
			old := newWorld(t)
			if err := (&world{t: t, fake: w.fake, images: old.imagesOf("1")}).whole(in(old.stack("1"), "1")); err != nil {
				t.Error(err)
			}
			if len(w.snapshots()) != 0 || len(w.leftovers()) != 0 || !maps.Equal(was, w.fake.Files(memory)) {
				t.Errorf("snapshots %+v, left %q", w.snapshots(), w.leftovers())
			}
		})
	}
}

// Whoever else has the volume stands still while it is kept, and runs again.
func TestOthersStandStillMeanwhile(t *testing.T) {
	w := newWorld(t)
	first := w.stack("1")
	first.Services[0].Mounts = []release.Mount{{Type: "volume", Source: memory, Target: "/shared"}}
	w.mustDeploy(w.job(first, 1))
	bus := w.container("bus").ID
	recorded := w.recorded(first)
	second := w.stack("2")
	second.Services[0].Mounts = first.Services[0].Mounts
	j := w.keeping(second, 2, recorded)
	w.fake.Before = func(op, subject string) error {
		if op == "readVolume" && subject == memory {
			for _, c := range w.seen().Containers {
				if c.State == "running" && (c.Service == "bus" || c.Service == "store") {
					t.Errorf("%s runs", c.Name)
				}
			}
		}
		return nil
	}
	w.mustDeploy(j)
	if now := w.container("bus"); now.ID != bus || now.State != "running" {
		t.Errorf("the bus: %+v", now)
	}
	if len(w.snapshots()) != 1 {
		t.Errorf("%+v", w.snapshots())
	}
}

// After the new release migrated the state, what it was before comes back with
// what ran before, from the snapshot of that very attempt.
func TestAMigratedStateIsBroughtBack(t *testing.T) {
	w, recorded := remembers(t, "1")
	was := w.fake.Files(memory)
	j := w.keeping(in(w.stack("2"), "2"), 2, recorded)
	w.fake.After = migrates(w.fake, "2")
	w.fake.Health = func(c release.Container) string {
		if c.Service == "planner" && c.Labels[release.LabelSequence] == "2" {
			return "unhealthy"
		}
		return "healthy"
	}
	j.Keeping.Open = locked
	err := deploy.Finish(context.Background(), w.fake, j)
	if release.KindOf(err) != release.KindBroken || maps.Equal(was, w.fake.Files(memory)) {
		t.Fatalf("without a key: %v", err)
	}
	before, calls := snapshot(w.seen()), len(w.fake.Calls())
	if err := deploy.Undo(context.Background(), w.fake, j); release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("%v", err)
	}
	if len(w.fake.Calls()) != calls || !slices.Equal(before, snapshot(w.seen())) {
		t.Errorf("without a key something was touched: %q", w.fake.Calls()[calls:])
	}
	j.Keeping.Open = open
	if err := deploy.Undo(context.Background(), w.fake, j); err != nil {
		t.Fatal(err)
	}
	if now := w.fake.Files(memory); !maps.Equal(now, was) {
		t.Errorf("memory %v, was %v", slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(was)))
	}
	if len(w.snapshots()) != 1 || len(w.leftovers()) != 0 {
		t.Errorf("snapshots %+v, left %q", w.snapshots(), w.leftovers())
	}
	old := newWorld(t)
	if err := (&world{t: t, fake: w.fake, images: old.imagesOf("1")}).whole(in(old.stack("1"), "1")); err != nil {
		t.Error(err)
	}
}

// back is a target that went from schema 1 to 2, with a job that goes back to
// the first release and the state before.
func back(t *testing.T) (w *world, was, changed map[string]string, j deploy.Job) {
	w, recorded := remembers(t, "1")
	was = w.fake.Files(memory)
	second := in(w.stack("2"), "2")
	w.fake.After = migrates(w.fake, "2")
	w.mustDeploy(w.keeping(second, 2, recorded))
	w.fake.After = nil
	changed = w.fake.Files(memory)
	recorded = w.recorded(second)
	w.images = map[string]release.PlatformImage{}
	j = w.keeping(in(w.stack("1"), "1"), 3, recorded)
	return w, was, changed, j
}

func TestRestore(t *testing.T) {
	w, was, changed, j := back(t)
	p := w.plan(j)
	if len(p.Blocking) != 1 || p.Blocking[0].Rule != "state/schema" || !strings.Contains(p.Blocking[0].Fix, "--restore 2 ") {
		t.Fatalf("not restored: %+v", p.Blocking)
	}
	j.Options.Restore = w.snapshots()
	j.Options.Empty = []string{memory} // what is brought back may have been lost
	p = w.plan(j)
	var steps []string
	for _, s := range p.Steps {
		if s.Action == deploy.ActionSnapshot || s.Action == deploy.ActionRestore || s.Service == "store" && s.Action != deploy.ActionPull {
			steps = append(steps, s.Action)
		}
	}
	if len(p.Blocking) > 0 || !slices.Equal(steps, []string{"snapshot", "restore", "recreate"}) {
		t.Fatalf("blocking %+v, steps %q", p.Blocking, steps)
	}
	w.fake.Before = func(op, subject string) error {
		if op == "clearVolume" || op == "fillVolume" && subject == memory {
			for _, c := range w.seen().Containers {
				if c.State == "running" && c.Service == "store" {
					t.Errorf("%s runs during %s", c.Name, op)
				}
			}
		}
		return nil
	}
	w.mustDeploy(j)
	if now := w.fake.Files(memory); !maps.Equal(now, was) {
		t.Errorf("memory %q, want %q", now, was)
	}
	list := w.snapshots()
	if len(list) != 2 || list[1].Sequence != 3 || len(w.leftovers()) != 0 {
		t.Fatalf("snapshots %+v, left %q", list, w.leftovers())
	}
	if err := w.whole(j.Workload); err != nil {
		t.Error(err)
	}
	// What was there is not lost either: it was kept on the way.
	again := w.keeping(j.Workload, 4, w.recorded(j.Workload))
	again.Options.Restore, again.Options.AcceptLoss = list[1:], []string{memory}
	w.mustDeploy(again)
	if now := w.fake.Files(memory); !maps.Equal(now, changed) {
		t.Errorf("memory %q, want %q", now, changed)
	}
	if notes := w.restored(); !slices.Equal(notes, []string{project + "_promote-restore-4-done-" + memory}) {
		t.Errorf("notes %q", notes)
	}
	// Taken up once more, after all was done: what was learned since stays.
	w.fake.WriteFile(memory, "since", "more")
	if err := deploy.Finish(context.Background(), w.fake, again); err != nil || w.fake.Files(memory)["since"] != "more" {
		t.Errorf("restored twice: %v, %q", err, w.fake.Files(memory))
	}
}

// A snapshot that is not what was kept changes nothing, or is taken back.
func TestARestoreThatFailsTakesItselfBack(t *testing.T) {
	for name, breakIt := range map[string]func(*world, *deploy.Job){
		"another digest":   func(_ *world, j *deploy.Job) { j.Options.Restore[0].Digest = release.DigestOf([]byte("x")) },
		"other parts":      func(_ *world, j *deploy.Job) { j.Options.Restore[0].Sealed = release.DigestOf([]byte("x")) },
		"other contents":   func(_ *world, j *deploy.Job) { j.Options.Restore[0].Content = release.DigestOf([]byte("x")) },
		"a part is gone":   func(w *world, j *deploy.Job) { w.fake.WriteFile(j.Options.Restore[0].Name, "part-000001", "more") },
		"not a part of it": func(w *world, j *deploy.Job) { w.fake.WriteFile(j.Options.Restore[0].Name, "other", "more") },
		"filling fails": func(w *world, _ *deploy.Job) {
			failed := false
			w.fake.After = func(op, subject string) error {
				if op == "fillVolume" && subject == memory && !failed {
					failed = true
					return errors.New("no space left on device")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, changed, j := back(t)
			j.Options.Restore = w.snapshots()
			breakIt(w, &j)
			check := deploy.CheckSnapshot(context.Background(), w.fake, project, j.Options.Restore[0], open)
			if (check == nil) != (name == "filling fails") {
				t.Errorf("checked: %v", check)
			}
			err := deploy.Finish(context.Background(), w.fake, j)
			if release.KindOf(err) != release.KindRolledBack {
				t.Fatalf("%v", err)
			}
			if now := w.fake.Files(memory); !maps.Equal(now, changed) {
				t.Errorf("memory %q, was %q", now, changed)
			}
			second := newWorld(t)
			if err := (&world{t: t, fake: w.fake, images: second.imagesOf("2")}).whole(in(second.stack("2"), "2")); err != nil {
				t.Error(err)
			}
			if left := append(w.leftovers(), w.restored()...); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// Killed anywhere, before or after an effect, it ends fully new or fully old,
// the state with it.
func TestKilledWhileRestoring(t *testing.T) {
	for _, late := range []bool{false, true} {
		for at, more := 1, true; more; at++ {
			for _, forward := range []bool{true, false} {
				w, was, changed, j := back(t)
				j.Options.Restore = w.snapshots()
				k := &killer{at: at, late: late}
				k.arm(w.fake)
				err := deploy.Finish(context.Background(), w.fake, j)
				disarm(w.fake)
				if more = k.dead; !more {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				want := was
				if !forward {
					want = changed
				}
				images, work, err := w.takeUp(j, forward)
				if !forward && errors.Is(err, deploy.ErrCommitted) {
					continue // forward is the only way
				}
				if err != nil {
					t.Fatalf("at %d, late %v, forward %v: %v", at, late, forward, err)
				}
				if err := (&world{t: t, fake: w.fake, images: images}).whole(work); err != nil {
					t.Errorf("at %d, late %v, forward %v: %v", at, late, forward, err)
				}
				if now := w.fake.Files(memory); !maps.Equal(now, want) {
					t.Errorf("at %d, late %v, forward %v: memory %q", at, late, forward, now)
				}
				if left := w.leftovers(); len(left) > 0 {
					t.Errorf("at %d, late %v, forward %v: left %q", at, late, forward, left)
				}
			}
		}
	}
}

// takeUp ends an interrupted restore, forward or back to release 2, and gives what
// then has to run.
func (w *world) takeUp(j deploy.Job, forward bool) (images map[string]release.PlatformImage, work release.Workload, err error) {
	if forward {
		return w.images, j.Workload, deploy.Finish(context.Background(), w.fake, j)
	}
	second := newWorld(w.t)
	images, work = second.imagesOf("2"), in(second.stack("2"), "2")
	return images, work, deploy.Undo(context.Background(), w.fake, j)
}

// Killed while it was being undone, it can still end either way.
func TestKilledWhileUndoingARestore(t *testing.T) {
	for at, more := 1, true; more; at++ {
		for _, forward := range []bool{true, false} {
			w, was, changed, j := back(t)
			j.Options.Restore, j.KeepBroken = w.snapshots(), true
			w.fake.Health = func(c release.Container) string {
				if c.Service == "planner" && c.Labels[release.LabelSequence] == "3" {
					return "unhealthy"
				}
				return "healthy"
			}
			if err := deploy.Finish(context.Background(), w.fake, j); release.KindOf(err) != release.KindBroken {
				t.Fatal(err)
			}
			w.fake.Health = nil
			k := &killer{at: at}
			k.arm(w.fake)
			err := deploy.Undo(context.Background(), w.fake, j)
			disarm(w.fake)
			if more = k.dead; !more {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			want := was
			if !forward {
				want = changed
			}
			images, work, err := w.takeUp(j, forward)
			if err != nil {
				t.Fatalf("at %d, forward %v: %v", at, forward, err)
			}
			if forward {
				err = deploy.Clean(context.Background(), w.fake, j)
			}
			if err := errors.Join(err, (&world{t: t, fake: w.fake, images: images}).whole(work)); err != nil {
				t.Errorf("at %d, forward %v: %v", at, forward, err)
			}
			if now := w.fake.Files(memory); !maps.Equal(now, want) {
				t.Errorf("at %d, forward %v: memory %q", at, forward, now)
			}
		}
	}
}

func TestPruningKeepsWhatRollbackNeeds(t *testing.T) {
	w, recorded := remembers(t, "1")
	first := in(w.stack("1"), "1")
	candidate := release.DigestOf([]byte("the candidate"))
	for sequence := int64(2); sequence <= 7; sequence++ {
		j := w.keeping(first, sequence, recorded)
		j.Options.Redeploy, j.Keeping.Keep, j.Keeping.Needed = true, 2, []release.Digest{candidate}
		if sequence == 2 || sequence == 3 {
			j.Keeping.Release = candidate
		}
		w.mustDeploy(j)
		recorded = w.recorded(first)
	}
	var left []int64
	for _, s := range w.snapshots() {
		left = append(left, s.Sequence)
	}
	if !slices.Equal(left, []int64{3, 6, 7}) {
		t.Errorf("left: %v", left)
	}
	if names := w.leftovers(); len(names) > 0 {
		t.Errorf("halves: %q", names)
	}
	// A volume that does not go is no reason to undo what runs.
	w.fake.Before = func(op, subject string) error {
		if op == "removeVolume" && strings.HasSuffix(subject, ".note") {
			return errors.New("in use")
		}
		return nil
	}
	j := w.keeping(first, 8, recorded)
	j.Options.Redeploy, j.Keeping.Keep = true, 1
	w.mustDeploy(j)
}

// A snapshot larger than a part comes back whole.
func TestManyParts(t *testing.T) {
	w, recorded := remembers(t, "1")
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 9<<16)) // 9 MiB
	w.fake.WriteFile(memory, "big", big)
	w.mustDeploy(w.keeping(in(w.stack("2"), "2"), 2, recorded))
	list := w.snapshots()
	if parts := w.fake.Files(list[0].Name); len(parts) != 3 {
		t.Errorf("%d parts", len(parts))
	}
	if err := deploy.CheckSnapshot(context.Background(), w.fake, project, list[0], open); err != nil {
		t.Error(err)
	}
}
