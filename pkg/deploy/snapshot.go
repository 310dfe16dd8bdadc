package deploy

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

const (
	// ActionSnapshot keeps what a volume holds, before a service that mounts it
	// is replaced. From is the volume.
	ActionSnapshot = "snapshot"
	// ActionRestore brings a volume back to a snapshot. From is the snapshot's
	// name, To the volume.
	ActionRestore = "restore"
)

// Archives reads and fills volumes without running a program on the target.
type Archives interface {
	// ReadVolume gives what a volume holds as a tar stream, in a fixed order,
	// names relative to its top directory.
	ReadVolume(ctx context.Context, project, volume string) (io.ReadCloser, error)
	// FillVolume puts the entries of such a stream into a volume. After an error
	// some of them may be there.
	FillVolume(ctx context.Context, project, volume string, content io.Reader) error
	// ClearVolume removes everything that a volume holds.
	ClearVolume(ctx context.Context, project, volume string) error
}

// Keeping says how snapshots are made and kept; which volumes stands in Options.
type Keeping struct {
	Keep int // how many of each volume; 0 prunes nothing
	// Needed are releases that a rollback may go to: the newest snapshot of each
	// is not pruned.
	Needed []release.Digest
	// Release is what runs before the attempt.
	Release release.Digest
	// Seal encrypts; Open decrypts what this process sealed, or what somebody
	// gave a private key for.
	Seal func(io.Writer) (io.WriteCloser, error)
	Open func(io.Reader) (io.Reader, error)
}

// snapshotName names an attempt's snapshot of a volume of the model.
func (a Attempt) snapshotName(project, key string) string {
	return project + "_promote-snapshot-" + a.Label() + "-" + key
}

// noteName is the name of the empty volume that makes a snapshot count.
func noteName(snapshot string) string { return snapshot + ".note" }

// Snapshots lists a project's snapshots, oldest first: those that are whole.
func Snapshots(project string, seen release.Observed) []release.Snapshot {
	var list []release.Snapshot
	for _, v := range seen.Volumes {
		text := v.Labels[release.LabelSnapshot]
		if text == "" || len(text) > mostDesired || v.Labels[release.LabelProject] != project {
			continue
		}
		var s release.Snapshot
		if json.Unmarshal([]byte(text), &s) != nil || v.Name != noteName(s.Name) {
			continue
		}
		if _, there := seen.Volume(s.Name); there {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b release.Snapshot) int { return int(a.Sequence - b.Sequence) })
	return list
}

// taken gives the attempt's snapshot of a volume.
func (a Attempt) taken(project string, seen release.Observed, volume string) (release.Snapshot, bool) {
	for _, s := range Snapshots(project, seen) {
		if s.Attempt == a.Label() && volumeName(s.Volume) == volume {
			return s, true
		}
	}
	return release.Snapshot{}, false
}

// kept are the volumes of a service that are to be kept before it is replaced,
// as far as they are there.
func kept(w release.Workload, keys []string, s release.ServiceSpec, seen release.Observed) []release.VolumeSpec {
	var list []release.VolumeSpec
	for _, v := range w.Volumes {
		_, there := seen.Volume(v.Name)
		if there && slices.Contains(keys, v.Key) && mountsVolume(s, v.Name) {
			list = append(list, v)
		}
	}
	return list
}

func mountsVolume(s release.ServiceSpec, name string) bool {
	return slices.ContainsFunc(s.Mounts, func(m release.Mount) bool { return m.Type == "volume" && m.Source == name })
}

func hasVolume(c release.Container, name string) bool {
	return slices.ContainsFunc(c.Mounts, func(m release.ObservedMount) bool { return m.Type == "volume" && m.Name == name })
}

// keep takes the snapshots that come before a service's new container is made.
// Whoever else writes to a volume stands still meanwhile.
func (d *deployment) keep(ctx context.Context, s release.ServiceSpec) error {
	for _, v := range kept(d.Workload, d.Options.Snapshots, s, release.Observed{Volumes: d.had}) {
		if err := d.still(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func (d *deployment) still(ctx context.Context, v release.VolumeSpec) error {
	seen, err := d.engine.Observe(ctx, d.Workload.Project)
	if err != nil {
		return err
	}
	if _, done := d.Attempt.taken(d.Workload.Project, seen, v.Name); done {
		return nil
	}
	var others []release.Container
	for _, c := range inOrder(seen.Containers) {
		if !hasVolume(c, v.Name) || c.State == "exited" || c.State == "created" || c.State == "dead" {
			continue
		}
		if err := retire(ctx, d.engine, c, false); err != nil {
			return err
		}
		if !isAside(c) {
			others = append(others, c)
		}
	}
	if err := d.take(ctx, seen, v); err != nil {
		return err
	}
	for _, c := range others {
		if err := d.engine.Start(ctx, c.ID); err != nil {
			return err
		}
		if d.ids[c.Service] == c.ID {
			delete(d.fine, c.Service)
		}
	}
	return nil
}

// take makes the attempt's snapshot of a volume that nobody writes to: what it
// holds is encrypted on its way into a volume of its own, that one is read back,
// and then a note beside it makes it count.
func (d *deployment) take(ctx context.Context, seen release.Observed, v release.VolumeSpec) (err error) {
	source, there := seen.Volume(v.Name)
	if !there {
		return release.Unavailable("plan and run again", "keeping volume %s on %s: it is gone", v.Name, d.Target)
	}
	if d.Keeping.Seal == nil {
		return release.Faultf(release.KindConfig, "write environments.ENV.snapshots.encryptTo", "keeping volume %s on %s: nobody to encrypt it to", v.Name, d.Target)
	}
	project := d.Workload.Project
	s := release.Snapshot{
		Name: d.Attempt.snapshotName(project, v.Key), Sequence: d.Attempt.Sequence, Attempt: d.Attempt.Label(), Key: v.Key,
		Volume: source.Identity, Release: d.Keeping.Release, Schemas: d.schemasOf(seen, v.Name), Taken: time.Now().UTC().Truncate(time.Second),
	}
	step := event.Start(ctx, "[%s] %s %s", d.Target, ActionSnapshot, v.Name)
	defer func() { step.Done(err) }()
	if err := d.engine.RemoveVolume(ctx, s.Name); err != nil { // what an interrupted attempt had of it
		return err
	}
	labels := d.labels()
	labels[release.LabelSnapshotData] = s.Attempt
	if err := d.engine.CreateVolume(ctx, project, release.VolumeSpec{Key: strings.TrimPrefix(s.Name, project+"_"), Name: s.Name}, labels); err != nil {
		return err
	}
	if err := store(ctx, d.engine, project, v.Name, &s, d.Keeping.Seal); err != nil {
		return fmt.Errorf("keeping volume %s on %s: %w", v.Name, d.Target, err)
	}
	step.Logf("%d bytes in %d entries, encrypted, read back as %s", s.Size, s.Entries, s.Sealed.Short())
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	delete(labels, release.LabelSnapshotData)
	labels[release.LabelSnapshot] = string(text)
	note := noteName(s.Name)
	return d.engine.CreateVolume(ctx, project, release.VolumeSpec{Key: strings.TrimPrefix(note, project+"_"), Name: note}, labels)
}

// schemasOf says in which schemas a volume's services have kept it: what the
// record says of each, or its containers that ran.
func (d *deployment) schemasOf(seen release.Observed, volume string) map[string]int64 {
	all := map[string]int64{}
	if d.Recorded != nil {
		for _, was := range d.Recorded.Running {
			if slices.Contains(volumesOf(was), volume) {
				all[was.Service] = max(was.StateSchema, release.FirstStateSchema)
			}
		}
	}
	for _, c := range seen.Containers {
		if hasVolume(c, volume) && c.State != "created" && c.Service != "" {
			all[c.Service] = max(all[c.Service], wrote(c))
		}
	}
	return all
}

// store copies a volume into a snapshot's, encrypted, and reads that back. It
// says in s what it saw.
func store(ctx context.Context, e Archives, project, volume string, s *release.Snapshot, seal func(io.Writer) (io.WriteCloser, error)) error {
	source, err := e.ReadVolume(ctx, project, volume)
	if err != nil {
		return err
	}
	out, in := io.Pipe()
	sealing := make(chan error, 1)
	go func() {
		err := sealInto(in, source, s, seal)
		_ = in.CloseWithError(err)
		sealing <- err
	}()
	err = e.FillVolume(ctx, project, s.Name, out)
	_ = out.CloseWithError(errors.New("the snapshot's volume takes no more"))
	if cause := <-sealing; cause != nil && err == nil {
		err = cause
	}
	if err = errors.Join(err, source.Close()); err != nil {
		return err
	}
	stored, err := e.ReadVolume(ctx, project, s.Name)
	if err != nil {
		return err
	}
	again := sha256.New()
	_, err = io.Copy(again, &partReader{r: tar.NewReader(stored)})
	if err = errors.Join(err, stored.Close()); err != nil {
		return fmt.Errorf("reading it back: %w", err)
	}
	if got := digestOf(again); got != s.Sealed {
		return release.Faultf(release.KindIntegrity, "look at the host's disk and its log", "what was stored reads back as %s, written was %s", got, s.Sealed)
	}
	return nil
}

// sealInto encrypts a tar stream into parts, and looks on the way that it is a
// whole tar.
func sealInto(w io.Writer, source io.Reader, s *release.Snapshot, seal func(io.Writer) (io.WriteCloser, error)) error {
	parts := newPartWriter(w)
	stored, plain, end := sha256.New(), sha256.New(), &ending{}
	sealed, err := seal(io.MultiWriter(parts, stored))
	if err != nil {
		return err
	}
	stream := io.TeeReader(source, io.MultiWriter(sealed, plain, end))
	found, err := readContents(tar.NewReader(stream))
	if err != nil {
		return fmt.Errorf("reading the volume: %w", err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("reading the volume: %w", err)
	}
	if !end.whole() {
		return release.Unavailable("try again", "reading the volume: its archive ends in the middle, after %d bytes", end.size)
	}
	if err := errors.Join(sealed.Close(), parts.Close()); err != nil {
		return err
	}
	s.Digest, s.Sealed, s.Content, s.Size, s.Entries = digestOf(plain), digestOf(stored), found.digest, end.size, found.entries
	return nil
}

// opened is a snapshot's tar stream. Its last Read says whether all of it was
// what the snapshot's digests are of.
type opened struct {
	plain       io.Reader
	source      io.ReadCloser
	stored, sum hash.Hash
	snapshot    release.Snapshot
}

// openSnapshot begins to decrypt a snapshot.
func openSnapshot(ctx context.Context, e Archives, project string, s release.Snapshot, open func(io.Reader) (io.Reader, error)) (*opened, error) {
	if open == nil {
		return nil, release.Misuse("give the private key: --identity FILE, or env://VARIABLE", "no private key to open snapshot %s with", s.Name)
	}
	source, err := e.ReadVolume(ctx, project, s.Name)
	if err != nil {
		return nil, err
	}
	o := &opened{source: source, stored: sha256.New(), sum: sha256.New(), snapshot: s}
	plain, err := open(io.TeeReader(&partReader{r: tar.NewReader(source)}, o.stored))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot %s: %w", s.Name, err), source.Close())
	}
	o.plain = io.TeeReader(plain, o.sum)
	return o, nil
}

func (o *opened) Read(b []byte) (int, error) {
	n, err := o.plain.Read(b)
	if errors.Is(err, io.EOF) && (digestOf(o.sum) != o.snapshot.Digest || digestOf(o.stored) != o.snapshot.Sealed) {
		err = damaged(o.snapshot, "it holds something else than was kept")
	}
	return n, err
}

func (o *opened) Close() error { return o.source.Close() }

func damaged(s release.Snapshot, why string) error {
	return release.Faultf(release.KindIntegrity, "take another snapshot, or a backup", "snapshot %s: %s", s.Name, why)
}

// CheckSnapshot decrypts a whole snapshot, and reports why it could not be
// restored. Nothing is changed.
func CheckSnapshot(ctx context.Context, e Archives, project string, s release.Snapshot, open func(io.Reader) (io.Reader, error)) error {
	o, err := openSnapshot(ctx, e, project, s, open)
	if err != nil {
		return err
	}
	found, err := readContents(tar.NewReader(o))
	if err == nil {
		_, err = io.Copy(io.Discard, o)
	}
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("checking snapshot %s: %w", s.Name, err)
	}
	if found.digest != s.Content {
		return damaged(s, "its entries are not those that were kept")
	}
	return nil
}

// refill makes a volume hold what a snapshot does, and nothing else, and reads
// it back. It can be begun again after it was interrupted.
func refill(ctx context.Context, e Archives, project, volume string, s release.Snapshot, open func(io.Reader) (io.Reader, error)) error {
	o, err := openSnapshot(ctx, e, project, s, open)
	if err != nil {
		return err
	}
	if err = e.ClearVolume(ctx, project, volume); err == nil {
		err = e.FillVolume(ctx, project, volume, o)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, o) // to the end, which is judged
	}
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("filling volume %s: %w", volume, err)
	}
	r, err := e.ReadVolume(ctx, project, volume)
	if err != nil {
		return err
	}
	found, err := readContents(tar.NewReader(r))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading volume %s back: %w", volume, err)
	}
	if found.digest != s.Content {
		return release.Faultf(release.KindIntegrity, "look at the host's disk and its log", "volume %s does not hold what snapshot %s does: %d entries, kept were %d", volume, s.Name, found.entries, s.Entries)
	}
	return nil
}
