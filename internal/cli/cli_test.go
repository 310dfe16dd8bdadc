package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"--to staging", "to -- staging"},
		{"--to=staging --dry-run", "to --dry-run -- staging"},
		{"--dry-run --to staging", "to --dry-run -- staging"},
		{"to staging --dry-run", "to --dry-run -- staging"},
		{"to --dry-run staging -o json", "-o json to --dry-run -- staging"},
		{"status -o json=a.json -c x.yaml", "-o json=a.json -c x.yaml status"},
		{"-c x.yaml log production -n 3", "-c x.yaml log -n 3 -- production"},
		{"rollback production --to v1 --reason why", "rollback --to v1 --reason why -- production"},
		{"plan --to production", "plan --to production"},
		{"--to staging --plan p.json", "to --plan p.json -- staging"},
		{"to staging --wait", "to --wait -- staging"},
		{"to --wait staging", "to --wait -- staging"},
		{"to staging --wait 10m", "to --wait=10m -- staging"},
		{"--to staging --wait=90s --dry-run", "to --wait=90s --dry-run -- staging"},
		{"to --wait 2d staging", "to --wait=2d -- staging"},
		{"keys generate k.key --debug", "--debug keys generate -- k.key"},
		{"pin -- --odd", "pin -- --odd"},
		{"--version", "version"},
		{"to --help", "to --help"},
		{"", ""},
	} {
		got, err := normalize(strings.Fields(c.in), (&run{}).app())
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for in, says := range map[string]string{
		"to staging --dyr-run":    "--dry-run",
		"--to staging status":     "--to",
		"status --to staging":     "--to",
		"statsu":                  "promote status",
		"--to":                    "needs an environment",
		"--to staging --to prod":  "twice",
		"to staging extra more":   "",
		"log -n":                  "needs a value",
		"--dry-run status":        "--dry-run",
		"--dry-run":               "without a command",
		"--to staging production": "unexpected",
	} {
		r, errOut := testRun(t, Wiring{})
		code := r.main(context.Background(), strings.Fields(in))
		if text := errOut(); code != 2 || !strings.Contains(text, says) {
			t.Errorf("%q: exit %d, %s", in, code, text)
		}
	}
}

// testRun gives a run in a directory with a configuration; its output is in
// files, as a shell's would be.
func testRun(t *testing.T, w Wiring) (*run, func() string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	text := "name: agent\nregistry: registry.example.com/agent\ncompose: {files: [compose.yaml]}\nsign: {key: promote.key}\n"
	for name, content := range map[string]string{"promote.yaml": text, "compose.yaml": "name: agent\n", "promote.key": "", "promote.pub": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &run{std: Streams{Out: open("out"), Err: open("err")}, wiring: w, dir: dir}
	return r, func() string { return read(t, r.std.Err) }
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// failing gives a wiring whose pipeline cannot be built, for a reason.
func failing(err error) Wiring {
	return Wiring{Pipeline: func(context.Context, *config.Config, PipelineOptions) (*pipeline.Pipeline, func(), error) {
		return nil, nil, err
	}}
}

func TestEveryKindHasItsExitCode(t *testing.T) {
	want := map[release.Kind]int{
		release.KindUnavailable: 1, release.KindIntegrity: 1, release.KindInternal: 1, release.KindFindings: 1,
		release.KindUsage: 2, release.KindConfig: 2, release.KindDenied: 3, release.KindRolledBack: 4, release.KindBroken: 5,
		release.KindHeld: 6, release.KindChanged: 7, release.KindInterrupted: 130,
	}
	for kind, code := range want {
		r, _ := testRun(t, failing(&release.Fault{Kind: kind, Err: errors.New("why")}))
		if got := r.main(context.Background(), []string{"status"}); got != code {
			t.Errorf("%s: exit %d, want %d", kind, got, code)
		}
	}
	for _, odd := range []error{errors.New("plain"), &release.Fault{Kind: "new", Err: errors.New("x")}} {
		if got := exitCode(odd); got != 1 {
			t.Errorf("%v: exit %d, want 1", odd, got)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	fault := &release.Fault{Kind: release.KindDenied, Hint: "do this", File: "promote.yaml", Line: 3, Err: errors.New("no")}
	r, errOut := testRun(t, failing(fmt.Errorf("judging: %w", fault)))
	if code := r.main(context.Background(), []string{"status", "-o", "json"}); code != 3 {
		t.Fatalf("exit %d", code)
	}
	var got errorResult
	if err := json.Unmarshal([]byte(errOut()), &got); err != nil {
		t.Fatalf("%v: %s", err, errOut())
	}
	want := errorBody{Code: 3, Kind: "denied", Message: "judging: promote.yaml:3: no", Hint: "do this", File: "promote.yaml", Line: 3}
	if got.Error != want {
		t.Errorf("got %+v, want %+v", got.Error, want)
	}
	if out := read(t, r.std.Out); out != "" {
		t.Errorf("standard output holds %q", out)
	}
}

func TestAPanicIsNoSuccess(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := Wiring{Doctor: func(*config.Config) []Check { panic("boom") }}
	if code := Main([]string{"doctor"}, Streams{Out: f, Err: f}, w); code != 1 {
		t.Errorf("exit %d", code)
	}
	if text := read(t, f); !strings.Contains(text, "boom") {
		t.Errorf("it says %q", text)
	}
}

func TestDoctorSaysWhatToMend(t *testing.T) {
	w := Wiring{Doctor: func(*config.Config) []Check {
		return []Check{
			{Name: "git", Run: func(context.Context) (string, error) { return "2.39", nil }},
			{Name: "engine", Run: func(context.Context) (string, error) { return "", release.Unavailable("start it", "no answer") }},
		}
	}}
	r, _ := testRun(t, w)
	if code := r.main(context.Background(), []string{"doctor", "-o", "json"}); code != 1 {
		t.Errorf("exit %d", code)
	}
	var got doctorResult
	if err := json.Unmarshal([]byte(read(t, r.std.Out)), &got); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got.Findings, func(f finding) bool { return f.Check == "engine" })
	if got.Result != "failed" || i < 0 || got.Findings[i].Fix != "start it" {
		t.Errorf("got %+v", got)
	}
}

func TestVersionInBothForms(t *testing.T) {
	r, _ := testRun(t, Wiring{Version: VersionResult{Version: "v1", Scanner: true}})
	if code := r.main(context.Background(), []string{"version", "-o", "text", "-o", "json=" + filepath.Join(r.dir, "v.json")}); code != 0 {
		t.Fatalf("exit %d", code)
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "v.json"))
	if err != nil || !bytes.Contains(raw, []byte(`"version": "v1"`)) {
		t.Errorf("got %s, %v", raw, err)
	}
	if out := read(t, r.std.Out); !strings.HasPrefix(out, "promote v1 ") {
		t.Errorf("got %q", out)
	}
	r, errOut := testRun(t, Wiring{})
	if code := r.main(context.Background(), []string{"version", "-o", "yaml"}); code != 2 || !strings.Contains(errOut(), "yaml") {
		t.Errorf("exit %d, %s", code, errOut())
	}
}

// copy and pin reach registries as promote.yaml says, and need nothing else of it.
func TestCopyKnowsTheRegistries(t *testing.T) {
	var asked map[string]config.RegistrySettings
	w := Wiring{
		Copy: func(_ context.Context, o CopyOptions) (CopyResult, error) {
			asked = o.Registries
			return CopyResult{}, nil
		},
		Pin: func(_ context.Context, o PinOptions) (PinResult, error) {
			asked = o.Registries
			return PinResult{}, nil
		},
	}
	for _, args := range [][]string{{"copy", "a.example/app:v1", "b.example/app"}, {"pin"}} {
		for text, want := range map[string]int{
			"name: x\nregistries: {a.example: {mirrors: [m.example]}}\nsign: {key: absent}\n": 0,
			"registries: {a.example: {mirrors: ['u:p@m.example']}}\n":                         2,
		} {
			r, _ := testRun(t, w)
			asked = nil
			if err := os.WriteFile(filepath.Join(r.dir, config.FileName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if code := r.main(t.Context(), args); code != want || (len(asked) == 1) != (want == 0) {
				t.Errorf("%v: exit %d, registries %v", args, code, asked)
			}
		}
	}
}

func TestCopy(t *testing.T) {
	var asked CopyOptions
	answer := CopyResult{Source: "a.example/app", Destination: "b.example/app", Digest: release.DigestOf([]byte("x")), Tags: []string{"v1"},
		Bytes: 3 << 20, Blobs: 1, Mounted: 2, Present: 4, Manifests: 4, Referrers: 2, Legacy: 1, Kept: []string{"sha256-ab.att"}, Requests: 17}
	w := Wiring{Copy: func(_ context.Context, o CopyOptions) (CopyResult, error) {
		asked = o
		answer.DryRun = o.DryRun
		return answer, nil
	}}
	for _, c := range []struct {
		args string
		want CopyOptions
		says []string
	}{
		{"copy a.example/app:v1 b.example/app", CopyOptions{Source: "a.example/app:v1", Destination: "b.example/app", Referrers: true},
			[]string{"copied a.example/app to b.example/app", answer.Digest.String(), "3MiB in 1 blob, 2 mounted, 4 there already", "4, of which 2 referrers", "cosign    1 tag\n", "kept      sha256-ab.att, which", "17"}},
		{"copy a.example/app:v1 oci:dir --dry-run --referrers=false", CopyOptions{Source: "a.example/app:v1", Destination: "oci:dir", DryRun: true},
			[]string{"would copy", "to send   3MiB"}},
	} {
		r, _ := testRun(t, w)
		if code := r.main(t.Context(), strings.Fields(c.args)); code != 0 || !reflect.DeepEqual(asked, c.want) {
			t.Errorf("%s: exit %d, asked %+v", c.args, code, asked)
		}
		out := read(t, r.std.Out)
		for _, words := range c.says {
			if !strings.Contains(out, words) {
				t.Errorf("%s: %q is missing in\n%s", c.args, words, out)
			}
		}
	}
}

// Work that failed before it found anything has no result to show.
func TestNothingFoundShowsNothing(t *testing.T) {
	for _, c := range []struct {
		result any
		work   error
		want   string
	}{
		{pipeline.SignResult{}, release.Unavailable("", "no registry"), ""},
		{pipeline.BuildResult{}, release.Denied("", "no"), ""},
		{nil, release.Unavailable("", "no registry"), ""},
		{release.Smoke{Services: []release.SmokeService{{}}}, release.Denied("", "no"), "text"},
		{pipeline.BuildResult{}, nil, "text"},
		{release.Smoke{Services: []release.SmokeService{{}}}, release.Faultf(release.KindConfig, "", "no"), ""},
	} {
		path := filepath.Join(t.TempDir(), "out")
		r := &run{outputs: []output{{format: "text", path: path}}}
		err := r.emitWith(c.work, c.result, func(w io.Writer) error { _, err := io.WriteString(w, "text"); return err })
		out, _ := os.ReadFile(path)
		if !errors.Is(err, c.work) || string(out) != c.want {
			t.Errorf("%T, %v: got %q, %v, want %q", c.result, c.work, out, err, c.want)
		}
	}
}
