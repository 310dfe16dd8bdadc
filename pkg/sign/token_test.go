package sign

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// jwt makes a token whose signature nobody has to believe.
func jwt(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"ES256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("canary-signature"))
}

func fresh(issuer string) string {
	return jwt(fmt.Sprintf(`{"iss":%q,"sub":"canary-subject","aud":"sigstore","exp":%d}`, issuer, time.Now().Add(time.Hour).Unix()))
}

func TestParseToken(t *testing.T) {
	for name, raw := range map[string]string{
		"text":           "hello",
		"empty":          "",
		"two parts":      "e30.e30",
		"four parts":     fresh("https://a.example") + ".e30",
		"no signature":   strings.TrimSuffix(fresh("https://a.example"), "Y2FuYXJ5LXNpZ25hdHVyZQ"),
		"padding":        fresh("https://a.example") + "==",
		"not JSON":       jwt("hello"),
		"other types":    jwt(`{"iss":7}`),
		"no issuer":      jwt(`{"sub":"x","aud":"sigstore","exp":9999999999}`),
		"no subject":     jwt(`{"iss":"x","aud":"sigstore","exp":9999999999}`),
		"other audience": jwt(`{"iss":"x","sub":"x","aud":"vault","exp":9999999999}`),
		"no expiry":      jwt(`{"iss":"x","sub":"x","aud":"sigstore"}`),
		"endless expiry": jwt(`{"iss":"x","sub":"x","aud":"sigstore","exp":9223372036854775807}`),
		"too long":       jwt(`{"iss":"x","sub":"x","aud":"sigstore","exp":1,"x":"` + strings.Repeat("x", maxToken) + `"}`),
	} {
		if got, err := ParseToken(raw); err == nil {
			t.Errorf("%s: read as %v", name, got)
		} else if raw != "" && len(raw) > 10 && strings.Contains(err.Error(), raw[:10]) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error shows the token: %v", name, err)
		}
	}
	got, err := ParseToken(jwt(`{"iss":"https://a.example","sub":"x","aud":["other","sigstore"],"exp":1700000000}`) + "\n")
	if err != nil || got.Issuer != "https://a.example" || !got.Expires.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	token, err := ParseToken(fresh("https://a.example"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if shown := fmt.Sprintf(verb, token) + fmt.Sprintf(verb, struct{ T Token }{token}); strings.Contains(shown, "Y2FuYXJ5") {
			t.Errorf("%s shows the token: %s", verb, shown)
		}
	}
}

func TestAmbientToken(t *testing.T) {
	github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer canary-bearer" || r.URL.RawQuery != "audience=sigstore&run=7" {
			http.Error(w, "no: "+r.Header.Get("Authorization")+r.URL.RawQuery, http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"value":%q}`, fresh("https://github.example"))
	}))
	defer github.Close()
	expired := jwt(`{"iss":"https://a.example","sub":"x","aud":"sigstore","exp":1}`)
	for name, c := range map[string]struct {
		token, url, bearer, issuer string
		kind                       release.Kind
		from                       string
	}{
		"nothing":         {"", "", "", "", release.KindConfig, ""},
		"variable":        {fresh("https://a.example"), "", "", "https://a.example", "", "https://a.example"},
		"variable first":  {fresh("https://a.example"), github.URL, "x", "", "", "https://a.example"},
		"other issuer":    {fresh("https://a.example"), "", "", "https://b.example", release.KindConfig, ""},
		"expired":         {expired, "", "", "", release.KindConfig, ""},
		"garbage":         {"canary", "", "", "", release.KindConfig, ""},
		"GitHub":          {"", github.URL + "/?run=7", "canary-bearer", "", "", "https://github.example"},
		"GitHub says no":  {"", github.URL + "/?run=8", "canary-bearer", "", release.KindDenied, ""},
		"GitHub half set": {"", github.URL, "", "", release.KindConfig, ""},
		"GitHub no URL":   {"", "::", "canary-bearer", "", release.KindConfig, ""},
		"GitHub in clear": {"", "http://192.0.2.1/", "canary-bearer", "", release.KindConfig, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SIGSTORE_ID_TOKEN", c.token)
			t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", c.url)
			t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", c.bearer)
			got, err := AmbientToken(t.Context(), c.issuer)
			if (err == nil) != (c.kind == "") || err != nil && release.KindOf(err) != c.kind || got.Issuer != c.from {
				t.Errorf("%v, %s: %v", got, release.KindOf(err), err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("error shows a secret: %v", err)
			}
		})
	}
}

// FuzzIdentityToken: what is read is for sigstore and names its issuer, and no
// error shows what could not be read.
func FuzzIdentityToken(f *testing.F) {
	f.Add(fresh("https://a.example"))
	f.Add(jwt(`{"iss":"x","sub":"x","aud":["a","sigstore"],"exp":1}`))
	f.Add(jwt(`{"iss":"x","iss":"y","sub":null,"aud":{},"exp":1e3}`))
	f.Add("a.b.c")
	f.Add("...")
	f.Fuzz(func(t *testing.T, raw string) {
		token, err := ParseToken(raw)
		if err != nil {
			for _, part := range strings.Split(raw, ".") {
				if len(part) > 20 && strings.Contains(err.Error(), part) {
					t.Errorf("error shows the token: %v", err)
				}
			}
			return
		}
		if token.Issuer == "" || token.Subject == "" || token.Expires.IsZero() || len(token.raw) > maxToken {
			t.Errorf("read %v", token)
		}
	})
}
