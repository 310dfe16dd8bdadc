//go:build engine

package sign

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

var update = flag.Bool("update", false, "rewrite testdata/stock with bundles that stock cosign makes now")

const stockModule = "github.com/sigstore/cosign/v2"

// stock2 is cosign v2, built once.
var stock2 struct {
	sync.Once
	dir, binary string
	err         error
}

// stockCosigns gives the cosign binaries to check against: v2 of the version in
// go.mod and v3, built from their modules, and those that PROMOTE_TEST_COSIGN
// lists.
func stockCosigns(t *testing.T) []string {
	t.Helper()
	stock2.Do(func() {
		var err error
		if stock2.dir, err = os.MkdirTemp("", "cosign2-"); err == nil {
			stock2.binary, err = buildCosign(t, stock2.dir)
		}
		stock2.err = err
	})
	binary, err := stock2.binary, stock2.err
	if err != nil {
		missing(t, "cannot build stock cosign from its module: %v", err)
	}
	return append([]string{binary, cosign3.built(t)}, filepath.SplitList(os.Getenv("PROMOTE_TEST_COSIGN"))...)
}

// buildCosign builds in a module of its own with our versions, because the
// command needs modules that the project doesn't, and the cache is warm.
func buildCosign(t *testing.T, dir string) (string, error) {
	gomod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		text = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(text, []byte("module scratch"))
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return "", err
		}
	}
	source := "package main\n\nimport _ \"" + stockModule + "/cmd/cosign/cli\"\n\nfunc main() {}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "cosign")
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", binary, stockModule+"/cmd/cosign")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, tail(out))
	}
	return binary, nil
}

func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// stand is a registry with an image in it, and a key pair in files as the
// documentation names them.
type stand struct {
	dir     string
	image   name.Digest
	subject release.Subject
	key     *Key
}

func newStand(t *testing.T, options ...ggcr.Option) stand {
	t.Helper()
	quiet := ggcr.Logger(log.New(io.Discard, "", 0))
	server := httptest.NewServer(ggcr.New(append(options, quiet)...))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/agent/planner"
	tag, err := name.NewTag(repository + ":1")
	check(t, err)
	image, err := random.Image(64, 1)
	check(t, err)
	check(t, remote.Write(tag, image))
	digest, err := image.Digest()
	check(t, err)

	s := stand{dir: t.TempDir(), image: tag.Context().Digest(digest.String())}
	s.subject = release.Subject{Repository: repository, Digest: release.MustDigest(digest.String())}
	private, public := generated(t)
	for file, text := range map[string][]byte{"cosign.key": private, "cosign.pub": public, "trusted_root.json": EmptyTrustedRoot(),
		"vuln.json": []byte(`{"scanner":{"uri":"x","result":{}},"metadata":{"scanStartedOn":"2026-01-01T00:00:00Z","scanFinishedOn":"2026-01-01T00:00:00Z"}}`)} {
		check(t, os.WriteFile(filepath.Join(s.dir, file), text, 0o600))
	}
	s.key, err = LoadKey(t.Context(), filepath.Join(s.dir, "cosign.key"), given(passphrase))
	check(t, err)
	t.Cleanup(s.key.Close)
	return s
}

// run runs cosign in the stand's directory, without a home of its own to find
// a cached trusted root in.
func (s stand) run(t *testing.T, cosign string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cosign, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD="+passphrase, "HOME="+s.dir, "HTTPS_PROXY=http://127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// accepts fails unless cosign verifies the image with the key in a file.
func (s stand) accepts(t *testing.T, cosign, key string, command ...string) error {
	t.Helper()
	args := append(command, "--key", key, "--new-bundle-format", "--trusted-root", "trusted_root.json", "--insecure-ignore-tlog=true", s.image.String())
	out, err := s.run(t, cosign, args...)
	if err != nil {
		return fmt.Errorf("cosign %s: %w: %s", strings.Join(args, " "), err, tail([]byte(out)))
	}
	return nil
}

var types = map[string]release.Statement{
	"vuln":                      release.NewStatement(release.Subject{}, release.PredicateVulnerability, json.RawMessage(`{"scanner":{"uri":"x","result":{}}}`)),
	"slsaprovenance1":           release.NewStatement(release.Subject{}, release.PredicateProvenance, json.RawMessage(`{"buildDefinition":{"buildType":"x"}}`)),
	"cyclonedx":                 release.NewStatement(release.Subject{}, release.PredicateCycloneDX, json.RawMessage(`{"bomFormat":"CycloneDX"}`)),
	release.PredicateTestResult: release.NewStatement(release.Subject{}, release.PredicateTestResult, json.RawMessage(`{"result":"PASSED"}`)),
	release.PredicateDecision:   release.NewStatement(release.Subject{}, release.PredicateDecision, json.RawMessage(`{"verificationResult":"PASSED"}`)),
}

func TestStockCosign(t *testing.T) {
	cosigns := stockCosigns(t)
	t.Run("verifies ours", func(t *testing.T) { verifiesOurs(t, cosigns) })
	t.Run("verifies our files", func(t *testing.T) { verifiesOurFiles(t, cosigns) })
	t.Run("as documented", func(t *testing.T) { asDocumented(t, cosigns) })
	t.Run("is verified by us", func(t *testing.T) { isVerifiedByUs(t, cosigns) })
	t.Run("in the older form", func(t *testing.T) { inTheOlderForm(t, cosigns) })
}

// What we sign, stock cosign verifies, on a registry with the referrers API and
// on one without.
func verifiesOurs(t *testing.T, cosigns []string) {
	for registry, options := range map[string][]ggcr.Option{
		"referrers API": {ggcr.WithReferrersSupport(true)},
		"fallback tag":  nil,
	} {
		for _, cosign := range cosigns {
			t.Run(registry+" "+filepath.Base(cosign), func(t *testing.T) {
				s := newStand(t, options...)
				s.attach(t, release.NewStatement(s.subject, release.PredicateSignature, nil))
				check(t, s.accepts(t, cosign, "cosign.pub", "verify"))
				for kind, st := range types {
					if s.accepts(t, cosign, "cosign.pub", "verify-attestation", "--type", kind) == nil {
						t.Errorf("cosign finds %s before it is there", kind)
					}
					s.attach(t, release.NewStatement(s.subject, st.PredicateType, st.Predicate))
					check(t, s.accepts(t, cosign, "cosign.pub", "verify-attestation", "--type", kind))
				}
				_, stranger := generated(t)
				check(t, os.WriteFile(filepath.Join(s.dir, "stranger.pub"), stranger, 0o600))
				if s.accepts(t, cosign, "stranger.pub", "verify") == nil {
					t.Error("cosign verifies our signature with another key")
				}
			})
		}
	}
}

// attach writes the referrer as stock cosign writes it.
func (s stand) attach(t *testing.T, st release.Statement) {
	t.Helper()
	a, err := s.key.Sign(t.Context(), st)
	check(t, err)
	check(t, ociremote.WriteAttestationNewBundleFormat(s.image, a.Bundle, a.PredicateType))
}

// The commands of the documentation work as they stand.
func asDocumented(t *testing.T, cosigns []string) {
	for _, tool := range []string{"sh", "curl", "jq", "openssl", "base64"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "%s is not installed", tool)
		}
	}
	script := documented(t, "", 4)
	for _, cosign := range cosigns {
		t.Run(filepath.Base(cosign), func(t *testing.T) {
			s := newStand(t, ggcr.WithReferrersSupport(true))
			check(t, os.Remove(filepath.Join(s.dir, "trusted_root.json")))
			s.attach(t, release.NewStatement(s.subject, release.PredicateSignature, nil))
			for _, st := range types {
				s.attach(t, release.NewStatement(s.subject, st.PredicateType, st.Predicate))
			}
			check(t, os.Symlink(cosign, filepath.Join(s.dir, "cosign")))
			t.Setenv("PATH", s.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			t.Setenv("IMAGE", s.image.String())
			t.Setenv("SCHEME", "http")
			if out, err := s.run(t, "sh", "-c", script); err != nil {
				t.Errorf("%v: %s", err, tail([]byte(out)))
			}
		})
	}
}

// A bundle in a file needs no registry.
func verifiesOurFiles(t *testing.T, cosigns []string) {
	for _, cosign := range cosigns {
		t.Run(filepath.Base(cosign), func(t *testing.T) {
			s := newStand(t)
			a, err := s.key.Sign(t.Context(), signtest.Scan(s.subject))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(s.dir, "bundle.json"), a.Bundle, 0o600))
			verify := func(hex string) (string, error) {
				return s.run(t, cosign, "verify-blob-attestation", "--key", "cosign.pub", "--bundle", "bundle.json", "--new-bundle-format",
					"--trusted-root", "trusted_root.json", "--insecure-ignore-tlog=true", "--type", "vuln", "--digest", hex, "--digestAlg", "sha256")
			}
			if out, err := verify(s.subject.Digest.Hex()); err != nil {
				t.Errorf("%v: %s", err, tail([]byte(out)))
			}
			if _, err := verify(signtest.Subject("other").Digest.Hex()); err == nil {
				t.Error("cosign verifies it about another digest")
			}
		})
	}
}

// What stock cosign signs, with a key that it made itself, we verify.
func isVerifiedByUs(t *testing.T, cosigns []string) {
	for _, cosign := range cosigns {
		version := cosignVersion(t, cosign)
		t.Run(version, func(t *testing.T) {
			s := newStand(t, ggcr.WithReferrersSupport(true))
			for _, file := range []string{"cosign.key", "cosign.pub"} {
				check(t, os.Remove(filepath.Join(s.dir, file)))
			}
			commands := [][]string{{"generate-key-pair"},
				{"sign", "--key", "cosign.key", "--yes", "--tlog-upload=false", "--new-bundle-format", s.image.String()},
				{"attest", "--key", "cosign.key", "--yes", "--tlog-upload=false", "--new-bundle-format", "--type", "vuln", "--predicate", "vuln.json", s.image.String()}}
			for _, args := range commands {
				if !strings.HasPrefix(version, "v2") && args[0] != "generate-key-pair" {
					args = append(args, "--use-signing-config=false")
				}
				if out, err := s.run(t, cosign, args...); err != nil {
					t.Fatalf("cosign %s: %v: %s", strings.Join(args, " "), err, tail([]byte(out)))
				}
			}
			// The key that cosign made is one of ours.
			key, err := LoadKey(t.Context(), filepath.Join(s.dir, "cosign.key"), given(passphrase))
			check(t, err)
			key.Close()

			list := s.attachments(t)
			if len(list) != 2 {
				t.Fatalf("%d attachments, want a signature and a scan", len(list))
			}
			v, err := NewVerifier(TrustOf(key.PublicPEM(), "ci"))
			check(t, err)
			found := map[string]bool{}
			evidence := v.Verify(t.Context(), s.subject, list)
			for _, e := range evidence {
				if !e.Verified {
					t.Errorf("%s: %s", e.PredicateType, e.Reason)
				}
				found[e.PredicateType] = e.Counts(e.PredicateType)
			}
			if !found[release.PredicateSignature] || !found[release.PredicateVulnerability] {
				t.Errorf("found %v", found)
			}
			if *update {
				keep(t, filepath.Join("testdata", "stock", version), s.subject, list, evidence, key.PublicPEM())
			}
		})
	}
}

func cosignVersion(t *testing.T, cosign string) string {
	t.Helper()
	out, err := exec.Command(cosign, "version", "--json").Output()
	check(t, err)
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	check(t, json.Unmarshal(out, &v))
	return v.GitVersion
}

// attachments reads the referrers with cosign's own library.
func (s stand) attachments(t *testing.T) []release.Attachment {
	t.Helper()
	index, err := ociremote.Referrers(s.image, "")
	check(t, err)
	var list []release.Attachment
	for _, m := range index.Manifests {
		image, err := remote.Image(s.image.Context().Digest(m.Digest.String()))
		check(t, err)
		layers, err := image.Layers()
		check(t, err)
		r, err := layers[0].Compressed()
		check(t, err)
		text, err := io.ReadAll(r)
		check(t, err)
		list = append(list, release.Attachment{Digest: release.DigestOf(text), PredicateType: m.Annotations[release.AnnotationPredicateType], Bundle: text})
	}
	return list
}

func keep(t *testing.T, dir string, s release.Subject, list []release.Attachment, evidence []release.Evidence, public []byte) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	for i, a := range list {
		file := "attest.json"
		if evidence[i].PredicateType == release.PredicateSignature {
			file = "sign.json"
		}
		check(t, os.WriteFile(filepath.Join(dir, file), a.Bundle, 0o644))
	}
	check(t, os.WriteFile(filepath.Join(dir, "cosign.pub"), public, 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "subject"), []byte(s.Digest.String()+"\n"), 0o644))
}
