package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

func TestSignLegacy(t *testing.T) {
	key := p256(t)
	subject := signtest.Subject("planner")
	a, err := key.SignLegacy(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	var payload map[string]map[string]any
	if err := json.Unmarshal(a.Content, &payload); err != nil {
		t.Fatal(err)
	}
	if got := payload["critical"]["image"].(map[string]any)["docker-manifest-digest"]; got != subject.Digest.String() || payload["critical"]["type"] != signatureType {
		t.Errorf("signed %s", a.Content)
	}
	sig, err := base64.StdEncoding.DecodeString(a.Annotations[release.AnnotationLegacySignature])
	if err != nil {
		t.Fatal(err)
	}
	check, err := signature.LoadDefaultVerifier(key.public)
	if err != nil {
		t.Fatal(err)
	}
	if err := check.VerifySignature(bytes.NewReader(sig), bytes.NewReader(a.Content)); err != nil {
		t.Error(err)
	}
	again, err := key.SignLegacy(t.Context(), subject)
	if err != nil || again.Digest != a.Digest || again.Annotations[release.AnnotationLegacySignature] != a.Annotations[release.AnnotationLegacySignature] {
		t.Errorf("signing again gives another signature: %v", err)
	}
	key.Close()
	if _, err := key.SignLegacy(t.Context(), subject); err == nil {
		t.Error("signs after it was closed")
	}
}
