package release

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// PayloadTypeTrust is the DSSE payload type of a trust file.
const PayloadTypeTrust = "application/vnd.promote.trust.v1+json"

// MaxTrustFile bounds a trust file, in bytes: a thousand parties with RSA keys.
const MaxTrustFile = 1 << 20

// Bounds on what a trust file may hold.
const (
	maxTrustSignatures = 64
	maxTrustSignature  = 4 << 10
	maxTrustVersion    = 1 << 53 // beyond it not every JSON number is exact
	trustSchema        = 1
)

// TrustFile is who may say what, as a file that its owners sign. It names
// nothing outside: keys are in it.
type TrustFile struct {
	SchemaVersion int `json:"schemaVersion"`
	// Version grows with every change, so that an older file, whose signatures
	// stay good, is not taken for the newest.
	Version    int64            `json:"version"`
	Roles      map[Role][]Party `json:"roles"`
	Thresholds map[Role]int     `json:"thresholds,omitempty"`
	Revoked    []Revocation     `json:"revoked,omitempty"`
}

// TrustFileOf gives a trust policy as a file of a version. The trusted root is
// not part of it: promote.yaml names that.
func TrustFileOf(t Trust, version int64) TrustFile {
	f := TrustFile{SchemaVersion: trustSchema, Version: version, Roles: map[Role][]Party{}, Thresholds: maps.Clone(t.Thresholds), Revoked: slices.Clone(t.Revoked)}
	for role, parties := range t.Roles {
		f.Roles[role] = slices.Clone(parties)
	}
	if t.OwnerThreshold > 1 {
		if f.Thresholds == nil {
			f.Thresholds = map[Role]int{}
		}
		f.Thresholds[Owner] = t.OwnerThreshold
	}
	return f
}

// Trust gives the policy that the file is.
func (f TrustFile) Trust() Trust {
	t := Trust{Version: f.Version, Roles: f.Roles, OwnerThreshold: f.Thresholds[Owner], Thresholds: maps.Clone(f.Thresholds), Revoked: f.Revoked}
	delete(t.Thresholds, Owner)
	return t
}

// SameFile reports whether two policies are the same but for the trusted root,
// which no trust file holds.
func (t Trust) SameFile(other Trust) bool {
	t.TrustedRoot, other.TrustedRoot = Digest{}, Digest{}
	return t.Digest() == other.Digest()
}

// SignedTrust is a trust file with the signatures that it bears, unbelieved: a
// DSSE envelope of several signatures, each over the same payload.
type SignedTrust struct {
	File       TrustFile
	Payload    []byte
	Signatures [][]byte
}

type trustEnvelope struct {
	Payload     string           `json:"payload"`
	PayloadType string           `json:"payloadType"`
	Signatures  []trustSignature `json:"signatures"`
}

type trustSignature struct {
	Sig string `json:"sig"`
}

// SealTrust gives a file nobody has signed yet.
func SealTrust(f TrustFile) (SignedTrust, error) {
	payload, err := Canonical(f)
	if err != nil {
		return SignedTrust{}, err
	}
	s := SignedTrust{File: f, Payload: payload}
	text, err := s.Encode()
	if err != nil {
		return SignedTrust{}, err
	}
	return ParseTrust(text) // what could not be read back is not written
}

// Encode writes the file, indented: it lies in a repository and is reviewed.
func (s SignedTrust) Encode() ([]byte, error) {
	e := trustEnvelope{Payload: base64.StdEncoding.EncodeToString(s.Payload), PayloadType: PayloadTypeTrust, Signatures: []trustSignature{}}
	for _, sig := range s.Signatures {
		e.Signatures = append(e.Signatures, trustSignature{base64.StdEncoding.EncodeToString(sig)})
	}
	text, err := json.MarshalIndent(e, "", "  ")
	return append(text, '\n'), err
}

// Shown gives what the file says to a person, a line for each thing.
func (s SignedTrust) Shown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: %d\n", s.File.Version)
	for _, line := range s.File.Trust().lines() {
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}

// ParseTrust reads a trust file strictly: what two programs could read
// differently is an error. It says nothing about the signatures.
func ParseTrust(text []byte) (SignedTrust, error) {
	if len(text) > MaxTrustFile {
		return SignedTrust{}, fmt.Errorf("larger than %d bytes", MaxTrustFile)
	}
	var e trustEnvelope
	if err := exactly(text, &e); err != nil {
		return SignedTrust{}, fmt.Errorf("expected a DSSE envelope (payload, payloadType, signatures): %w", err)
	}
	if e.PayloadType != PayloadTypeTrust {
		return SignedTrust{}, fmt.Errorf("expected payloadType %s, got %.80q", PayloadTypeTrust, e.PayloadType)
	}
	var s SignedTrust
	var err error
	if s.Payload, err = base64.StdEncoding.Strict().DecodeString(e.Payload); err != nil {
		return SignedTrust{}, errors.New("payload: expected standard base64")
	}
	if e.Signatures == nil {
		return SignedTrust{}, errors.New("signatures: expected a list")
	}
	if len(e.Signatures) > maxTrustSignatures {
		return SignedTrust{}, fmt.Errorf("%d signatures, at most %d", len(e.Signatures), maxTrustSignatures)
	}
	for i, one := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(one.Sig)
		if err != nil || len(sig) == 0 || len(sig) > maxTrustSignature {
			return SignedTrust{}, fmt.Errorf("signatures[%d].sig: expected standard base64 of at most %d bytes", i, maxTrustSignature)
		}
		s.Signatures = append(s.Signatures, sig)
	}
	s.File, err = parseTrustPayload(s.Payload)
	return s, err
}

func parseTrustPayload(payload []byte) (TrustFile, error) {
	var f TrustFile
	if err := exactly(payload, &f); err != nil {
		return f, fmt.Errorf("payload: %w", err)
	}
	canonical, err := Canonical(f)
	switch {
	case err != nil:
		return f, fmt.Errorf("payload: %w", err)
	case len(f.Roles) == 0:
		return f, errors.New("payload: roles: nobody holds any")
	case f.SchemaVersion != trustSchema:
		return f, fmt.Errorf("payload: schemaVersion %d, this version of promote reads %d", f.SchemaVersion, trustSchema)
	case f.Version < 1 || f.Version > maxTrustVersion:
		return f, fmt.Errorf("payload: version: expected a number from 1, got %d", f.Version)
	case !bytes.Equal(canonical, payload):
		return f, errors.New("payload: not in canonical form (RFC 8785)")
	}
	for _, role := range slices.Sorted(maps.Keys(f.Roles)) {
		if !slices.Contains(Roles, role) {
			return f, fmt.Errorf("payload: unknown role %.60q%s", role, near(string(role)))
		}
		for i, party := range f.Roles[role] {
			if err := party.Check(); err != nil {
				return f, fmt.Errorf("payload: roles.%s[%d]: %w", role, i, err)
			}
		}
	}
	for _, role := range slices.Sorted(maps.Keys(f.Thresholds)) {
		if n := f.Thresholds[role]; !slices.Contains(QuorumRoles, role) || n < 1 {
			return f, fmt.Errorf("payload: thresholds.%.60s: %d: builder, scanner, tester and owner have one, from 1", role, n)
		}
	}
	return f, nil
}

// Check reports why an entry could not mean what it says. Whether its key is
// one, and good enough, whoever verifies with it says.
func (p Party) Check() error {
	identity := p.Identity != "" || p.IdentityMatch != ""
	switch {
	case p.Name == "":
		return errors.New("name: expected a value, got nothing")
	case p.PublicKey == "" && !identity:
		return errors.New("expected a public key or an identity")
	case p.PublicKey != "" && (identity || p.Issuer != "" || p.IssuerMatch != "" || p.Claims != nil):
		return errors.New("expected a public key or an identity, got both")
	case p.PublicKey != "" && p.Fingerprint() == "":
		return errors.New("publicKey: expected a PEM public key")
	case p.Identity != "" && p.IdentityMatch != "" || p.Issuer != "" && p.IssuerMatch != "":
		return errors.New("expected a text or an expression for identity and issuer, got both")
	case identity && p.Issuer == "" && p.IssuerMatch == "":
		return errors.New("an identity counts only with the issuer that vouches for it")
	case p.Claims != nil && *p.Claims == (Claims{}):
		return errors.New("claims: it asks for nothing")
	case !p.NotBefore.IsZero() && !p.NotAfter.IsZero() && p.NotAfter.Before(p.NotBefore):
		return errors.New("notAfter: it ends before notBefore")
	}
	for _, expression := range []string{p.IdentityMatch, p.IssuerMatch} {
		if expression == "" {
			continue
		}
		if err := CheckPattern(expression); err != nil {
			return err
		}
	}
	return nil
}

func near(role string) string {
	names := make([]string, len(Roles))
	for i, r := range Roles {
		names[i] = string(r)
	}
	if name := Nearest(role, names); name != "" {
		return fmt.Sprintf(", did you mean %q?", name)
	}
	return ""
}

// exactly decodes strict JSON: no duplicate, unknown or trailing member, none
// in another case, none that says nothing.
func exactly(text []byte, into any) error {
	if _, err := CanonicalJSON(text); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	want, err := Canonical(into)
	if err != nil {
		return err
	}
	if got, _ := CanonicalJSON(text); !bytes.Equal(got, want) {
		return errors.New("a member is missing, empty or spelled in another case")
	}
	return nil
}
