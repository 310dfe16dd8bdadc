package sign

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/virtual with what a new virtual instance signs")

// vectors are what one virtual instance signed once and for all. Fuzzing needs
// them: each of its processes would make other keys.
type vectors struct {
	root                   *Root
	rootText               []byte
	trust                  release.Trust // ci by certificate, and the holder of the key
	certificate, key       []byte        // bundles
	signature, attestation release.LegacyAttachment
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata", "virtual", name))
		check(t, err)
		return text
	}
	v := vectors{rootText: read("root.json"), trust: oldTrust(read("key.pub")), certificate: read("certificate.json"), key: read("key.json")}
	var err error
	v.root, err = ParseRoot(v.rootText)
	check(t, err)
	check(t, json.Unmarshal(read("signature.json"), &v.signature))
	check(t, json.Unmarshal(read("attestation.json"), &v.attestation))
	return v
}

func (v vectors) verifier(t testing.TB) *Verifier {
	t.Helper()
	verifier, err := New(Options{Trust: v.trust, Root: v.root})
	check(t, err)
	return verifier
}

// What was signed once stays verified: no date but those that are proven counts.
func TestVectors(t *testing.T) {
	if *rewrite {
		writeVectors(t)
	}
	v := readVectors(t)
	for _, bundle := range [][]byte{v.certificate, v.key} {
		if e := v.verifier(t).Verify(t.Context(), planner, []release.Attachment{{Bundle: bundle}})[0]; !e.Counts(release.PredicateVulnerability) || e.Time.IsZero() {
			t.Error(e.Reason)
		}
	}
	for _, e := range v.verifier(t).VerifyLegacy(t.Context(), planner, []release.LegacyAttachment{v.signature, v.attestation}) {
		if !e.Verified || e.Time.IsZero() {
			t.Error(e.Reason)
		}
	}
}

func writeVectors(t *testing.T) {
	v, key := newVirtual(t, noon.Add(time.Hour)), newECDSA(t)
	byKey := howSigned{key: key, logged: noon, stamped: noon}
	_, public, _ := v.signer(t, byKey)
	write := func(name string, text []byte) {
		check(t, os.WriteFile(filepath.Join("testdata", "virtual", name), text, 0o644))
	}
	asJSON := func(value any) []byte {
		text, err := json.Marshal(value)
		check(t, err)
		return text
	}
	check(t, os.MkdirAll(filepath.Join("testdata", "virtual"), 0o755))
	write("root.json", v.rootText(t, true, true))
	write("key.pub", public)
	write("certificate.json", packed(t, v.attest(t, signtest.Scan(planner), good())).Bundle)
	write("key.json", packed(t, v.attest(t, signtest.Scan(planner), byKey)).Bundle)
	write("signature.json", asJSON(v.older(t, planner.Digest, good())))
	write("attestation.json", asJSON(v.olderStatement(t, signtest.Scan(planner), good())))
}
