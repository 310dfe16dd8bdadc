package sign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

const (
	// maxToken bounds an identity token, in bytes: those of CI services have
	// about 2 KiB.
	maxToken = 64 << 10
	// audience is whom a token for signing is made out to.
	audience = "sigstore"
)

// Token is an OpenID Connect identity token: who is running this, for a few
// minutes, as its issuer says. It is a secret until it has expired; no
// formatting verb prints it. What it claims is unproven here: the certificate
// authority verifies it.
type Token struct {
	raw     string
	claims  []byte
	Issuer  string
	Subject string
	Expires time.Time
}

var _ fmt.Formatter = Token{}

// Format writes who it is about for every verb.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "identity token of "+envelope.Tidy(t.Subject))
}

// ParseToken reads an identity token in the compact form of a signed JWT: three
// parts of base64url. It must be for sigstore, name its issuer and subject, and
// have an expiry. Its signature and its expiry are not judged. No error shows a
// part of it.
func ParseToken(raw string) (Token, error) {
	raw = strings.TrimSpace(raw)
	if len(raw) > maxToken {
		return Token{}, fmt.Errorf("%d bytes: at most %d are read", len(raw), maxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return Token{}, errors.New("not a signed token: want three parts with dots between them")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || len(decoded[i]) == 0 {
			return Token{}, fmt.Errorf("part %d is not base64url", i+1)
		}
	}
	var claims struct {
		Issuer   string    `json:"iss"`
		Subject  string    `json:"sub"`
		Audience audiences `json:"aud"`
		Expires  int64     `json:"exp"`
	}
	if err := json.Unmarshal(decoded[1], &claims); err != nil {
		return Token{}, errors.New("its claims are not JSON of the expected types")
	}
	switch {
	case claims.Issuer == "" || claims.Subject == "":
		return Token{}, errors.New("it names no issuer or no subject")
	case !slices.Contains(claims.Audience, audience):
		return Token{}, fmt.Errorf("it is not made out to %q", audience)
	case claims.Expires <= 0 || claims.Expires > 1<<40:
		return Token{}, errors.New("it has no expiry")
	}
	return Token{raw: raw, claims: decoded[1], Issuer: claims.Issuer, Subject: claims.Subject, Expires: time.Unix(claims.Expires, 0).UTC()}, nil
}

// audiences is one text or a list of texts.
type audiences []string

// UnmarshalJSON reads either form.
func (a *audiences) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// AmbientToken gets an identity token from where this program runs:
// SIGSTORE_ID_TOKEN, or GitHub Actions, which gives one to jobs with
// `permissions: id-token: write`. A token that is no token, has expired or is
// of another issuer than the one that is wanted ("" takes any) is a KindConfig
// fault; so is none at all.
func AmbientToken(ctx context.Context, issuer string) (Token, error) {
	raw, source, err := ambient(ctx)
	if err != nil {
		return Token{}, err
	}
	t, err := ParseToken(raw)
	switch hint := "get a fresh token for the audience " + audience; {
	case err != nil:
		return Token{}, release.Faultf(release.KindConfig, hint, "reading the identity token of %s: %w", source, err)
	case !t.Expires.After(time.Now()):
		return Token{}, release.Faultf(release.KindConfig, hint, "the identity token of %s expired at %s", source, t.Expires.Format(time.RFC3339))
	case issuer != "" && t.Issuer != issuer:
		return Token{}, release.Faultf(release.KindConfig, "set sign.keyless.issuer, or get a token of that issuer",
			"the identity token of %s is of %s, want %s", source, envelope.Tidy(t.Issuer), issuer)
	}
	return t, nil
}

func ambient(ctx context.Context) (raw, source string, err error) {
	if raw := os.Getenv("SIGSTORE_ID_TOKEN"); raw != "" {
		return raw, "SIGSTORE_ID_TOKEN", nil
	}
	at, bearer := os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if at == "" || bearer == "" {
		return "", "", release.Faultf(release.KindConfig,
			"in GitHub Actions give the job `permissions: {id-token: write}`; elsewhere put a token for the audience sigstore into SIGSTORE_ID_TOKEN, or sign with a key",
			"getting an identity token: neither SIGSTORE_ID_TOKEN nor GitHub's ACTIONS_ID_TOKEN_REQUEST_URL is set")
	}
	raw, err = actionsToken(ctx, at, bearer)
	return raw, "GitHub Actions", err
}

// actionsToken asks GitHub's service for a token.
// https://docs.github.com/en/actions/reference/security/oidc
func actionsToken(ctx context.Context, at, bearer string) (string, error) {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" {
		return "", release.Faultf(release.KindConfig, "leave it as GitHub sets it", "getting an identity token: ACTIONS_ID_TOKEN_REQUEST_URL is not a URL")
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	github := service{name: "GitHub's identity service", base: u.String(), client: newTransport(ctx, nil), secrets: []string{bearer}}
	_, _, body, err := github.call(ctx, http.MethodGet, "", http.Header{"Authorization": {"Bearer " + bearer}}, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	var answer struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Value == "" {
		return "", release.Unavailable("try again", "GitHub's identity service answered with no token")
	}
	return answer.Value, nil
}
