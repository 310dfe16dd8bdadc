package ledger_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// estate is a project as its ledger knows it: P-256 keys as promote makes them,
// an identity, two owners who must agree, and a history in which everything
// happens once.
type estate struct {
	keys       map[string]*ecdsa.PrivateKey
	identities *ledgertest.Trust
	ci         ledgertest.Key
	first      release.Trust // pinned by the first record
	second     release.Trust // by the owners, later
	names      []string      // who signed each record
	states     []ledger.State
	lines      [][]byte
	good       sync.Map // envelopes whose signature was found good, with the signer
	roles      sync.Map // signers with what a policy gives them
}

// plainEnvelope is a DSSE envelope as promote's keys sign it.
type plainEnvelope struct {
	Payload     string           `json:"payload"`
	PayloadType string           `json:"payloadType"`
	Signatures  []plainSignature `json:"signatures"`
}

type plainSignature struct {
	Sig string `json:"sig"`
}

// p256 derives a key from a name: good for tests, worthless elsewhere.
func p256(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte("tampering " + name))
	n := elliptic.P256().Params().N
	d := new(big.Int).Mod(new(big.Int).SetBytes(seed[:]), new(big.Int).Sub(n, big.NewInt(1)))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.Add(d, big.NewInt(1)).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func party(t testing.TB, name string) release.Party {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&p256(t, name).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return release.Party{Name: name, PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func paeOf(payloadType string, payload []byte) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	return sum[:]
}

func (h *estate) sign(name string) func(context.Context, string, []byte) ([]byte, error) {
	if name == "ci" {
		return h.ci.Sign
	}
	return func(_ context.Context, payloadType string, payload []byte) ([]byte, error) {
		key := h.keys[name]
		sig, err := key.Sign(nil, paeOf(payloadType, payload), crypto.SHA256) // deterministic
		if err != nil {
			return nil, err
		}
		return json.Marshal(plainEnvelope{base64.StdEncoding.EncodeToString(payload), payloadType, []plainSignature{{base64.StdEncoding.EncodeToString(sig)}}})
	}
}

// by is Options.VerifyBy, as strict as promote's own.
func (h *estate) by(policy release.Trust) (ledger.Check, error) {
	digest := policy.Digest().String()
	return func(raw []byte, payloadType string) ([]byte, release.Signer, error) {
		payload, signer, err := h.verify(raw, payloadType)
		if err != nil {
			return nil, release.Signer{}, err
		}
		key := digest + signer.ID
		if known, ok := h.roles.Load(key); ok && signer.Issuer == "" {
			return payload, known.(release.Signer), nil
		}
		signer.Name, signer.Roles = "", nil
		for _, role := range release.Roles {
			if name, ok := policy.Holds(signer, role, time.Now()); ok {
				signer.Name, signer.Roles = name, append(signer.Roles, role)
			}
		}
		if signer.Name == "" {
			return nil, release.Signer{}, release.Denied("", "no trusted key made this signature")
		}
		if signer.Issuer == "" {
			h.roles.Store(key, signer)
		}
		return payload, signer, nil
	}, nil
}

func (h *estate) verify(raw []byte, payloadType string) ([]byte, release.Signer, error) {
	if bytes.Contains(raw, []byte(`"dsseEnvelope"`)) {
		return h.identities.Verify(raw, payloadType)
	}
	no := release.Denied("", "no envelope of %s", payloadType)
	var e plainEnvelope
	if json.Unmarshal(raw, &e) != nil || e.PayloadType != payloadType || len(e.Signatures) != 1 {
		return nil, release.Signer{}, no
	}
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, raw) {
		return nil, release.Signer{}, no
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil {
		return nil, release.Signer{}, no
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(e.Signatures[0].Sig)
	if err != nil {
		return nil, release.Signer{}, no
	}
	if known, ok := h.good.Load(string(raw)); ok {
		return payload, known.(release.Signer), nil
	}
	for _, key := range h.keys {
		if ecdsa.VerifyASN1(&key.PublicKey, paeOf(payloadType, payload), sig) {
			der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
			signer := release.Signer{ID: release.DigestOf(der).String()}
			h.good.Store(string(raw), signer)
			return payload, signer, nil
		}
	}
	return nil, release.Signer{}, release.Denied("", "no trusted key made this signature")
}

// open opens the project's ledger in a store, for somebody to write to it.
func (h *estate) open(t testing.TB, s ledger.Store, origin, name string) *ledger.Ledger {
	t.Helper()
	check, _ := h.by(h.first)
	o := ledger.Options{Store: s, Origin: origin, Verify: check, VerifyBy: h.by, Now: clock()}
	if name != "" {
		o.Sign = h.sign(name)
	}
	return opened(t, o)
}

// clock begins where the identity's proven times lie.
func clock() func() time.Time {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return func() time.Time { return at }
}

// step is one record of the history.
type step struct {
	phase       release.Phase
	environment string
	signer      string
	intent      int64 // 0 is none
}

var story = []step{
	{"released", "", "ops", 0}, {"intended", "staging", "ops", 0}, {"deployed", "staging", "ops", 1}, {"approved", "production", "alice", 0},
	{"intended", "production", "ops", 0}, {"deployed", "production", "ops", 4}, {"frozen", "production", "ops", 0}, {"unfrozen", "production", "alice", 0},
	{"released", "", "ci", 0}, {"trustChanged", "", "alice", 0}, {"trustChanged", "", "carol", 0}, {"approved", "production", "dave", 0},
	{"intended", "production", "ci", 0}, {"rolledBack", "production", "ops", 12}, {"denied", "staging", "ops", 0}, {"exception", "production", "ops", 0},
	{"breakGlass", "production", "ops", 0}, {"watched", "production", "ops", 0}, {"released", "", "ops", 0}, {"intended", "staging", "ops", 0},
	{"failed", "staging", "ops", 19}, {"deployed", "staging", "ops", 19}, {"intended", "production", "ops", 0},
}

func newEstate(t testing.TB) *estate {
	t.Helper()
	h := &estate{keys: map[string]*ecdsa.PrivateKey{}}
	for _, name := range []string{"ops", "alice", "carol", "dave", "tess", "mallory"} {
		h.keys[name] = p256(t, name)
	}
	h.ci = ledgertest.NewKey("ci", release.Promoter).As("ci@acme.dev", "https://issuer.acme.dev", release.Claims{Repository: "https://acme.dev/agent"}, clock())
	h.identities = &ledgertest.Trust{Keys: []ledgertest.Key{h.ci}}
	h.first = release.Trust{OwnerThreshold: 2, Roles: map[release.Role][]release.Party{
		release.Promoter: {party(t, "ops"), {Name: "ci", Identity: "ci@acme.dev", Issuer: "https://issuer.acme.dev"}},
		release.Approver: {party(t, "alice")},
		release.Tester:   {party(t, "tess")},
		release.Owner:    {party(t, "alice"), party(t, "carol")},
	}}
	h.second = h.first
	h.second.Roles = map[release.Role][]release.Party{}
	for role, parties := range h.first.Roles {
		h.second.Roles[role] = parties
	}
	h.second.Roles[release.Approver] = []release.Party{party(t, "alice"), party(t, "dave")}
	h.states = h.tell(t, "promote/agent", func(s step) string { return s.signer }, 0)
	last := h.states[len(h.states)-1]
	h.lines = bytes.Split(bytes.TrimSuffix(last.Log, []byte{'\n'}), []byte{'\n'})
	for _, s := range story {
		h.names = append(h.names, s.signer)
	}
	return h
}

// tell writes the story and gives the state behind each record. From a record
// on it is another story, if from is not 0.
func (h *estate) tell(t testing.TB, origin string, signer func(step) string, from int) []ledger.State {
	t.Helper()
	m := &ledgertest.Memory{}
	var states []ledger.State
	writer := ""
	check, _ := h.by(h.first)
	l := opened(t, ledger.Options{Store: m, Origin: origin, Verify: check, VerifyBy: h.by, Now: clock(),
		Sign: func(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
			return h.sign(writer)(ctx, payloadType, payload)
		}})
	for n, s := range story {
		writer = signer(s)
		r := ledgertest.Released(n)
		r.Phase, r.Environment, r.Rules = s.phase, s.environment, release.DigestOf([]byte("rules"))
		switch {
		case n == 0:
			r.Trust = &h.first
		case s.phase == release.TrustChanged:
			r.Trust, r.Rules = &h.second, release.DigestOf([]byte("new rules"))
		}
		if s.intent > 0 {
			r.Intent = &s.intent
		}
		if from > 0 && n >= from {
			r.Reason = "another story"
		}
		if _, _, err := l.Append(t.Context(), r, int64(n)); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
		state, err := m.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, state)
	}
	return states
}
