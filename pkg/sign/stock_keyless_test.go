//go:build engine

package sign

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// stockPaths hands the binaries of cosign to the run in a network of its own,
// where nothing can be built.
const stockPaths = "SIGN_TEST_COSIGNS"

// documented gives the commands of the documentation for one purpose: the blocks
// that say so behind "sh".
func documented(t *testing.T, purpose string, least int) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/verify-with-stock-tools.md")
	check(t, err)
	script := "set -eu\n"
	for _, block := range regexp.MustCompile("(?s)\n```sh"+purpose+"\n(.*?)```").FindAllSubmatch(text, -1) {
		script += string(block[1])
	}
	if n := strings.Count(script, "cosign "); n < least {
		t.Fatalf("%d commands of cosign for %q in the documentation", n, purpose)
	}
	return script
}

// stockKeyless has us verify what stock cosign signs with the services of an
// instance, by the documentation's commands. It gives what stock cosign is to
// verify of ours when they are gone.
func stockKeyless(t *testing.T, in *instance) (verifies func(*testing.T)) {
	ours := map[int]stand{}
	for _, rekor := range []int{1, 2} {
		ours[rekor] = signedWithIdentity(t, in, rekor)
	}
	each := func(t *testing.T, does string, wanted func(version string, rekor int) bool, f func(t *testing.T, cosign, version string, rekor int)) {
		for _, cosign := range strings.Split(os.Getenv(stockPaths), "\n") {
			version := cosignVersion(t, cosign)
			for _, rekor := range []int{1, 2} {
				if wanted(version, rekor) {
					t.Run(fmt.Sprintf("%s %s, Rekor v%d", version, does, rekor), func(t *testing.T) { f(t, cosign, version, rekor) })
				}
			}
		}
	}
	// v2.6 writes to Rekor's second version by a signing configuration only, with
	// which it announces attestations as signatures.
	able := func(version string, rekor int) bool { return rekor == 1 || !strings.HasPrefix(version, "v2") }
	each(t, "is verified by us", able, func(t *testing.T, cosign, version string, rekor int) {
		identityIsVerifiedByUs(t, in, cosign, version, rekor)
	})
	older := signedInTheOlderForm(t, in)
	return func(t *testing.T) {
		for _, cosign := range strings.Split(os.Getenv(stockPaths), "\n") {
			t.Run(cosignVersion(t, cosign)+" verifies the older form", func(t *testing.T) { verifiesOurOlderForm(t, in, cosign, older) })
		}
		all := func(string, int) bool { return true }
		each(t, "verifies ours", all, func(t *testing.T, cosign, _ string, rekor int) { verifiesOurIdentity(t, in, cosign, ours[rekor]) })
	}
}

// signedWithIdentity is a stand with a signature and a scan of ours.
func signedWithIdentity(t *testing.T, in *instance, rekor int) stand {
	t.Helper()
	s := newStand(t, ggcr.WithReferrersSupport(true))
	i, err := OpenIdentity(t.Context(), in.services(t, rekor))
	check(t, err)
	defer i.Close()
	client := registrytest.NewClient(t, registry.Limits{})
	for _, st := range []release.Statement{{PredicateType: release.PredicateSignature}, types["vuln"]} {
		a, err := i.Sign(t.Context(), release.NewStatement(s.subject, st.PredicateType, st.Predicate))
		check(t, err)
		check(t, client.Attach(t.Context(), s.subject, a))
	}
	return s
}

// commands prepares a stand for the documentation's commands.
func (s stand) commands(t *testing.T, in *instance, cosign string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(s.dir, "trusted_root.json"), in.rootText, 0o600))
	dir := t.TempDir()
	check(t, os.Symlink(cosign, filepath.Join(dir, "cosign")))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, value := range map[string]string{"IMAGE": s.image.String(), "IDENTITY": email, "ISSUER": in.people.server.URL, "FULCIO": fulcioURL, "TIMESTAMP": timestampURL} {
		t.Setenv(name, value)
	}
}

func verifiesOurIdentity(t *testing.T, in *instance, cosign string, s stand) {
	s.commands(t, in, cosign)
	script := documented(t, " identity", 2)
	if out, err := s.run(t, "sh", "-c", script); err != nil {
		t.Errorf("%v: %s", err, tail([]byte(out)))
	}
	for name, value := range map[string]string{"IDENTITY": "bob@example.com", "ISSUER": in.actions.server.URL, "IMAGE": newStand(t).image.String()} {
		t.Run("another "+name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := s.run(t, "sh", "-c", script); err == nil {
				t.Error("cosign verifies it")
			}
		})
	}
}

// signedInTheOlderForm is a stand with a signature of ours and no bundle.
func signedInTheOlderForm(t *testing.T, in *instance) stand {
	t.Helper()
	s := newStand(t)
	i, err := OpenIdentity(t.Context(), in.services(t, 2))
	check(t, err)
	defer i.Close()
	if _, err := i.SignLegacy(t.Context(), s.subject); release.KindOf(err) != release.KindConfig {
		t.Errorf("with Rekor's second version: %v", err)
	}
	i, err = OpenIdentity(t.Context(), in.services(t, 1))
	check(t, err)
	defer i.Close()
	a, err := i.SignLegacy(t.Context(), s.subject)
	check(t, err)
	client := registrytest.NewClient(t, registry.Limits{})
	check(t, client.AttachLegacy(t.Context(), s.subject, a))
	list, err := client.LegacyAttachments(t.Context(), s.subject)
	check(t, err)
	for name, party := range map[string]release.Party{"alice": personally(in), "bob": {Name: "bob", Identity: "bob@example.com", Issuer: in.people.server.URL}} {
		v, err := New(Options{Root: in.root, Trust: release.Trust{Roles: map[release.Role][]release.Party{release.Builder: {party}}}})
		check(t, err)
		if e := v.VerifyLegacy(t.Context(), s.subject, list)[0]; e.Counts(release.PredicateSignature) != (name == "alice") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	return s
}

func verifiesOurOlderForm(t *testing.T, in *instance, cosign string, s stand) {
	s.commands(t, in, cosign)
	verify := func(identity string) (string, error) {
		return s.run(t, cosign, "verify", "--certificate-identity", identity, "--certificate-oidc-issuer", in.people.server.URL,
			"--new-bundle-format=false", "--trusted-root", "trusted_root.json", s.image.String())
	}
	if out, err := verify(email); err != nil {
		t.Errorf("%v: %s", err, tail([]byte(out)))
	}
	if _, err := verify("bob@example.com"); err == nil {
		t.Error("cosign verifies it for somebody else")
	}
}

func identityIsVerifiedByUs(t *testing.T, in *instance, cosign, version string, rekor int) {
	purpose := " identity v3"
	if strings.HasPrefix(version, "v2") {
		purpose = " identity v2"
	}
	s := newStand(t, ggcr.WithReferrersSupport(true))
	s.commands(t, in, cosign)
	in.services(t, rekor) // sets the claims
	t.Setenv("REKOR", map[int]string{1: rekor1URL, 2: rekor2URL}[rekor])
	t.Setenv("REKOR_VERSION", fmt.Sprint(rekor))
	t.Setenv("SIGSTORE_ID_TOKEN", in.people.token(t, nil))
	if out, err := s.run(t, "sh", "-c", documented(t, purpose, 2)); err != nil {
		t.Fatalf("%v: %s", err, tail([]byte(out)))
	}
	list, err := registrytest.NewClient(t, registry.Limits{}).Attachments(t.Context(), s.subject)
	check(t, err)
	party := personally(in)
	trust := release.Trust{Roles: map[release.Role][]release.Party{release.Builder: {party}, release.Scanner: {party}}}
	v, err := New(Options{Root: in.root, Trust: trust})
	check(t, err)
	found := map[string]bool{}
	for _, e := range v.Verify(t.Context(), s.subject, list) {
		if !e.Verified || e.Signer.Name != "alice" || e.Time.IsZero() {
			t.Errorf("%s: %+v: %s", e.PredicateType, e.Signer, e.Reason)
		}
		found[e.PredicateType] = e.Counts(e.PredicateType)
	}
	if !found[release.PredicateSignature] || !found[release.PredicateVulnerability] {
		t.Errorf("found %v", found)
	}
}
