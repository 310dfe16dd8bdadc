package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

var subject = release.Subject{Repository: "oci:here", Digest: release.DigestOf([]byte("app"))}

// shelf is a pipeline's world with one image on this machine, and a key.
type shelf struct {
	found    []release.Evidence
	attached []release.Attachment
	options  PipelineOptions
}

func (s *shelf) wiring() Wiring {
	return Wiring{Pipeline: func(_ context.Context, _ *config.Config, o PipelineOptions) (*pipeline.Pipeline, func(), error) {
		s.options = o
		return &pipeline.Pipeline{Ledger: emptyLedger{}, Layouts: s, Images: s, Attestations: s, Verifier: s, Keys: s, Now: time.Now}, func() {}, nil
	}}
}

func (s *shelf) Evidence(context.Context, string) (release.Subject, []release.Evidence, error) {
	return subject, s.found, nil
}

func (s *shelf) Attachments(context.Context, release.Subject) ([]release.Attachment, error) {
	return nil, nil
}

func (s *shelf) Attach(_ context.Context, _ release.Subject, a release.Attachment) error {
	s.attached = append(s.attached, a)
	return nil
}

func (s *shelf) Verify(context.Context, release.Subject, []release.Attachment) []release.Evidence {
	return s.found
}

func (s *shelf) Resolve(context.Context, string) (release.Subject, error) { return subject, nil }

func (s *shelf) Platform(context.Context, release.Subject, string) (release.PlatformImage, error) {
	return release.PlatformImage{}, nil
}

func (s *shelf) Copy(context.Context, release.Subject, string, bool) error { return nil }

func (s *shelf) Tag(context.Context, release.Subject, string) error { return nil }

func (s *shelf) Open(context.Context) (pipeline.Signer, error) { return s, nil }
func (s *shelf) Ready(context.Context)                         {}

func (s *shelf) Party() release.Signer {
	return release.Signer{Name: "scan", ID: "sha256:key", Roles: []release.Role{release.Scanner}}
}

func (s *shelf) Sign(_ context.Context, st release.Statement) (release.Attachment, error) {
	return release.Attachment{Digest: release.DigestOf(st.Predicate), PredicateType: st.PredicateType, Bundle: st.Predicate}, nil
}

// emptyLedger has no record.
type emptyLedger struct{ pipeline.Ledger }

func (emptyLedger) Read(context.Context) (release.History, release.Checkpoint, error) {
	return nil, release.Checkpoint{}, nil
}

func evidence() []release.Evidence {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	return []release.Evidence{
		{Subject: subject, PredicateType: release.PredicateSignature, Digest: release.DigestOf([]byte("1")), Role: release.Builder, Verified: true, Time: at,
			Signer: release.Signer{Name: "ci", Issuer: "https://issuer.example.com", ID: "ci@example.com", Roles: []release.Role{release.Builder}}},
		{Subject: subject, PredicateType: release.PredicateVulnerability, Digest: release.DigestOf([]byte("2")), Role: release.Scanner,
			Signer: release.Signer{ID: "sha256:some"}, Reason: "no trusted key made this signature \x1b[2J"},
		{Subject: subject, PredicateType: "https://example.com/other", Digest: release.DigestOf([]byte("3")), Signer: release.Signer{Name: "ci"}},
	}
}

func TestVerifyTable(t *testing.T) {
	s := &shelf{found: evidence()}
	r, errOut := testRun(t, s.wiring())
	if code := r.main(t.Context(), []string{"verify", "oci:here"}); code != 0 {
		t.Fatalf("exit %d, %s", code, errOut())
	}
	out := read(t, r.std.Out)
	for _, want := range []string{
		"SIGNER       ISSUER                      ROLE     TYPE                       TIME                  RESULT        REASON",
		"ci           https://issuer.example.com  builder  signature                  2026-03-01T11:00:00Z  verified",
		"sha256:some  -                           scanner  vuln                       -                     NOT VERIFIED  no trusted key made this signature ?[2J",
		"ci           -                           -        https://example.com/other  -                     NOT VERIFIED  no role may say this",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
	if s.options.Offline || s.options.Key != "" {
		t.Errorf("options %+v", s.options)
	}
}

// The fields that others rely on, and a denial with its result.
func TestVerifyJSON(t *testing.T) {
	s := &shelf{found: evidence()[1:]}
	r, errOut := testRun(t, s.wiring())
	if code := r.main(t.Context(), []string{"--offline", "verify", "oci:here", "-o", "json"}); code != 3 {
		t.Fatalf("exit %d, %s", code, errOut())
	}
	var got struct {
		Subject      map[string]string `json:"subject"`
		Attestations []map[string]any  `json:"attestations"`
		Threshold    map[string]any    `json:"threshold"`
		Result       string            `json:"result"`
	}
	if err := json.Unmarshal([]byte(read(t, r.std.Out)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Result != "failed" || got.Subject["digest"] != subject.Digest.String() || len(got.Attestations) != 2 || got.Threshold["required"] != 1.0 {
		t.Errorf("got %+v", got)
	}
	for _, a := range got.Attestations {
		for _, field := range []string{"signer", "issuer", "role", "predicateType", "verified", "reason"} {
			if _, ok := a[field]; !ok {
				t.Errorf("%v lacks %q", a, field)
			}
		}
	}
	if !s.options.Offline {
		t.Error("the pipeline does not know that it is offline")
	}
}

// What needs the network says so before it touches anything.
func TestOfflineRefuses(t *testing.T) {
	for _, line := range []string{
		"to staging", "plan --to staging", "release", "build", "scan app:v1", "sign app:v1", "attest app:v1 --type vuln --predicate x", "copy a b", "pin",
		"resume staging", "rollback staging --reason x", "smoke", "doctor", "db build r", "keys public awskms:///alias/x",
	} {
		r, errOut := testRun(t, Wiring{})
		if code := r.main(t.Context(), append([]string{"--offline"}, strings.Fields(line)...)); code != 2 || !strings.Contains(errOut(), "network") {
			t.Errorf("%s: exit %d, %s", line, code, errOut())
		}
	}
	var asked BundleOptions
	w := Wiring{VerifyBundle: func(_ context.Context, o BundleOptions) (BundleResult, error) { asked = o; return BundleResult{}, nil }}
	b, bundleErr := testRun(t, w)
	if code := b.main(t.Context(), strings.Fields("--offline verify-bundle --bundle b --key k sha256:00")); code == 2 && strings.Contains(bundleErr(), "network") || !asked.Offline {
		t.Errorf("verify-bundle: exit %d, %+v, %s", code, asked, bundleErr())
	}
	r, errOut := testRun(t, Wiring{})
	if code := r.main(t.Context(), []string{"version", "--offline"}); code != 0 {
		t.Errorf("exit %d, %s", code, errOut())
	}
}

func TestAttestReadsAPredicate(t *testing.T) {
	body := `{"a": 1}`
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{in, "-"} {
		s := &shelf{}
		r, errOut := testRun(t, s.wiring())
		f, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r.std.In = f
		code := r.main(t.Context(), []string{"attest", "app:v1", "--type", "vuln", "--predicate", from, "--key", "scan.key"})
		if code != 0 || len(s.attached) != 1 || string(s.attached[0].Bundle) != `{"a":1}` {
			t.Fatalf("%s: exit %d, attached %v, %s", from, code, s.attached, errOut())
		}
		if s.options.Key != filepath.Join(r.dir, "scan.key") {
			t.Errorf("signs with %q", s.options.Key)
		}
		if out := read(t, r.std.Out); out != "attested: vuln about "+subject.String()+", by scan (sha256:key)\n" {
			t.Errorf("says %q", out)
		}
		if text := errOut(); !strings.Contains(text, "no gate will rely on this: the scan holds no result") {
			t.Errorf("no warning in %q", text)
		}
	}
}

func TestAttestRefuses(t *testing.T) {
	long := filepath.Join(t.TempDir(), "long")
	f, err := os.Create(long)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxPredicate + 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for line, says := range map[string]string{
		"attest app:v1 --type vuln":                             "--predicate",
		"attest app:v1 --predicate x":                           "--type",
		"attest app:v1 --type vuln --predicate missing":         "no such file",
		"attest app:v1 --type vuln --predicate .":               "directory",
		"attest app:v1 --type vuln --predicate " + long:         "16777216",
		"attest app:v1 --type odd --predicate promote.yaml":     "cyclonedx",
		"attest app:v1 --type vuln --predicate promote.yaml":    "JSON",
		"attest --type vuln --predicate promote.yaml":           "takes REF",
		"attest app:v1 --typ vuln --predicate promote.yaml":     "--type",
		"attest app:v1 more --type vuln --predicate promote.ya": "takes REF",
	} {
		s := &shelf{}
		r, errOut := testRun(t, s.wiring())
		if code := r.main(t.Context(), strings.Fields(line)); code != 2 || !strings.Contains(errOut(), says) || len(s.attached) > 0 {
			t.Errorf("%s: exit %d, %s", line, code, errOut())
		}
	}
}
