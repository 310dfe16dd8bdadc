//go:build engine

package sign

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// signsRecords signs a ledger's record with an identity and reads it back.
func signsRecords(t *testing.T, in *instance, i *Identity) {
	t.Helper()
	payload := []byte(`{"a":1}`)
	before := i.leaf
	text, err := i.SignEnvelope(t.Context(), "application/x", payload)
	check(t, err)
	if i.leaf != before {
		t.Error("another certificate for the next signature")
	}
	if canonical, err := release.CanonicalJSON(text); err != nil || !bytes.Equal(canonical, text) {
		t.Errorf("not canonical: %v", err)
	}
	t.Logf("a record of %d bytes takes %d", len(payload), len(text))
	got, signer, err := in.judge(t, personally(in)).VerifyEnvelope(text, "application/x")
	if err != nil || !bytes.Equal(got, payload) || signer.Name != "alice" || !signer.Has(release.Scanner) || time.Since(signer.Time).Abs() > time.Hour {
		t.Fatalf("%s by %+v: %v", got, signer, err)
	}
	if _, _, err := in.judge(t, personally(in)).VerifyEnvelope(text, "application/y"); release.KindOf(err) != release.KindDenied {
		t.Errorf("as another type: %v", err)
	}
	other := personally(in)
	other.Issuer = in.actions.server.URL
	if _, _, err := in.judge(t, other).VerifyEnvelope(text, "application/x"); release.KindOf(err) != release.KindDenied {
		t.Errorf("by another issuer: %v", err)
	}
	var members map[string]any
	check(t, json.Unmarshal(text, &members))
	members["dsseEnvelope"].(map[string]any)["payload"] = "eyJhIjoyfQ=="
	forged, err := json.Marshal(members)
	check(t, err)
	if _, _, err := in.judge(t, personally(in)).VerifyEnvelope(forged, "application/x"); release.KindOf(err) != release.KindDenied {
		t.Errorf("another payload: %v", err)
	}
}
