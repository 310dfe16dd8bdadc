//go:build engine

package wire

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// TestALedgerIsCompacted into a file and into a layout, is audited with and
// without them, and gets its lines back. What lies at an archive's place is never
// written over.
func TestALedgerIsCompacted(t *testing.T) {
	o := newOffice(t, "ops")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	p := o.pipeline("ops", "")
	if err := o.record(p, &p.Project.Trust, release.DigestOf([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	add := func(n int) {
		for range n {
			_, c, err := p.Ledger.Read(t.Context())
			if err == nil {
				_, _, err = p.Ledger.Append(t.Context(), release.Record{Phase: release.Released, Release: release.DigestOf([]byte{byte(c.TreeSize)}), Version: "v1"}, c.TreeSize)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Millisecond) // older than that
	}
	compact := func(place cli.LedgerOptions) (pipeline.CompactResult, error) {
		c, err := openCompactor(t.Context(), o.config(), place)
		if err != nil {
			t.Fatal(err)
		}
		return p.Compact(t.Context(), c, pipeline.CompactOptions{Keep: 2, OlderThan: time.Millisecond, Reason: "x"})
	}
	audited := func(compacted, archived int64, archives ...string) {
		t.Helper()
		found, err := audit(t.Context(), o.config(), cli.AuditOptions{Archives: archives})
		if err != nil || found.Result != "passed" || found.Compacted != compacted || found.Archived != archived {
			t.Errorf("%+v, %v", found, err)
		}
	}
	dir := t.TempDir()
	file := cli.LedgerOptions{Place: filepath.Join(dir, "first")}
	layout := cli.LedgerOptions{Place: "oci:" + filepath.Join(dir, "layout") + ":second", Artifact: true}
	add(5)
	if done, err := compact(file); err != nil || done.Compacted != 4 || done.Archive.Records != 6 || done.Finished {
		t.Fatalf("%+v, %v", done, err)
	}
	audited(4, 0)
	audited(4, 4, file.Place)
	text, err := os.ReadFile(file.Place)
	if err != nil {
		t.Fatal(err)
	}
	add(3)
	if _, err := compact(file); release.KindOf(err) != release.KindUsage {
		t.Errorf("over an archive: %v", err)
	}
	if now, _ := os.ReadFile(file.Place); string(now) != string(text) {
		t.Error("the archive was written over")
	}
	if done, err := compact(layout); err != nil || done.Compacted != 3 || done.Earlier != 4 {
		t.Fatalf("%+v, %v", done, err)
	}
	add(3)
	if _, err := compact(layout); release.KindOf(err) != release.KindUsage {
		t.Errorf("over an archive in a layout: %v", err)
	}
	stranger := cli.LedgerOptions{Place: filepath.Join(dir, "stranger")}
	if err := os.WriteFile(stranger.Place, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := compact(stranger); err == nil {
		t.Error("over something else")
	}
	audited(7, 5, file.Place)
	log, _, err := projectsLedger(t.Context(), o.config(), cli.AuditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := log.Read(t.Context())
	if err != nil || h.Stubs() != 7 {
		t.Fatalf("%d stubs, %v", h.Stubs(), err)
	}
	for _, from := range []cli.LedgerOptions{file, layout} {
		if out, err := importLedger(t.Context(), o.config(), from); err != nil || out.Added != 0 || out.Restored == 0 {
			t.Errorf("%+v, %v", out, err)
		}
	}
	audited(0, 0)
	if done, err := compact(cli.LedgerOptions{Place: filepath.Join(dir, "third")}); err != nil || done.Compacted != 10 || done.Earlier != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}
