//go:build engine

package deploy_test

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"

	"filippo.io/age"

	sealing "github.com/promote-dev/promote/internal/seal"
	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// read gives a volume's whole archive.
func (s *site) read(volume string) []byte {
	s.t.Helper()
	stream, err := s.ReadVolume(s.ctx, s.name, volume)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := io.ReadAll(stream)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		s.t.Fatal(err)
	}
	return raw
}

func (s *site) fill(volume string, content []byte, entries ...tar.Header) {
	s.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.ModTime = time.Unix(1700000000, 0)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			s.t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			_, _ = w.Write(content)
		}
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.FillVolume(s.ctx, s.name, volume, &b); err != nil {
		s.t.Fatal(err)
	}
}

// What a volume held before an update comes back with the release before: the
// same bytes, owners, modes, links and capabilities, on a real engine, opened by
// the private key alone.
func TestASnapshotComesBack(t *testing.T) {
	s := newSite(t)
	volume := s.name + "_memory"
	first, second := s.stack("1"), s.stack("2")
	second.Services[0].Labels = map[string]string{release.LabelStateSchema: "2"}
	job := func(version string, work release.Workload, sequence int64) deploy.Job {
		j := s.job(version, sequence)
		j.Workload = work
		return j
	}
	apply := func(j deploy.Job) *release.TargetStatus {
		t.Helper()
		if err := deploy.Finish(s.ctx, s.Host, j); err != nil {
			t.Fatal(err)
		}
		seen, err := s.Observe(s.ctx, s.name)
		if err != nil {
			t.Fatal(err)
		}
		running, differences := deploy.ReadBack(j.Workload, j.Images, seen, nil, nil)
		if len(differences) > 0 {
			t.Fatalf("%+v", differences)
		}
		return &release.TargetStatus{Name: "test", Running: running}
	}
	recorded := apply(job("1", first, 1))

	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	s.fill(volume, bytes.Repeat([]byte("what the agent learned\n"), 1<<19),
		tar.Header{Typeflag: tar.TypeReg, Name: "./memory.db", Mode: 0o600, Uid: 999, Gid: 999},
		tar.Header{Typeflag: tar.TypeDir, Name: "./notes/", Mode: 0o2770, Uid: 7},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "./notes/last", Linkname: "../memory.db", Mode: 0o777},
		tar.Header{Typeflag: tar.TypeLink, Name: "./same", Linkname: "./memory.db", Mode: 0o600, Uid: 999, Gid: 999},
		tar.Header{Typeflag: tar.TypeReg, Name: "./tool", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}},
	)
	was := s.read(volume)
	if !bytes.Contains(was, []byte("security.capability")) {
		t.Error("the engine does not give a file's capabilities")
	}

	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keeping := func(j deploy.Job, recorded *release.TargetStatus) deploy.Job {
		sealer, err := sealing.New(key.Recipient().String())
		if err != nil {
			t.Fatal(err)
		}
		j.Recorded, j.Options.Snapshots = recorded, []string{"memory"}
		j.Keeping = deploy.Keeping{Keep: 3, Seal: sealer.Seal, Open: func(r io.Reader) (io.Reader, error) { return (*sealing.Sealer)(nil).Open(r, key.String()) }}
		return j
	}
	recorded = apply(keeping(job("2", second, 2), recorded))
	seen, err := s.Observe(s.ctx, s.name)
	if err != nil {
		t.Fatal(err)
	}
	list := deploy.Snapshots(s.name, seen)
	if len(list) != 1 || list[0].Size != int64(len(was)) || list[0].Digest != release.DigestOf(was) {
		t.Fatalf("snapshots %+v, the archive has %d bytes, %s", list, len(was), release.DigestOf(was))
	}
	if stored := s.read(list[0].Name); bytes.Contains(stored, []byte("what the agent learned")) {
		t.Error("it is not encrypted")
	}

	if err := s.ClearVolume(s.ctx, s.name, volume); err != nil {
		t.Fatal(err)
	}
	s.fill(volume, []byte("migrated, and broken"),
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700},
		tar.Header{Typeflag: tar.TypeReg, Name: "./notes", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "./journal", Mode: 0o644},
	)
	j := keeping(job("1", first, 3), recorded)
	j.Options.Restore = list
	apply(j)
	if now := s.read(volume); !bytes.Equal(now, was) {
		t.Errorf("the volume's archive has %d bytes, %s; it had %d, %s", len(now), release.DigestOf(now), len(was), release.DigestOf(was))
	}
	left, err := s.ListLabelled(s.ctx, release.LabelArchive+"="+s.name)
	if err != nil || len(left.Containers) > 0 {
		t.Errorf("left %q, %v", left.Containers, err)
	}
	if seen, err = s.Observe(s.ctx, s.name); err != nil || len(deploy.Snapshots(s.name, seen)) != 2 {
		t.Errorf("snapshots %+v, %v", deploy.Snapshots(s.name, seen), err)
	}
}
