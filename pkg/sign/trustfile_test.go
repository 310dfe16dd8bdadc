package sign

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// ownersFile gives keys and a trust file of a threshold that names them as owners,
// the last one as a promoter only.
func ownersFile(t *testing.T, threshold int, names ...string) (map[string]*Key, release.TrustFile) {
	t.Helper()
	keys := map[string]*Key{}
	f := release.TrustFile{SchemaVersion: 1, Version: 1, Roles: map[release.Role][]release.Party{}, Thresholds: map[release.Role]int{release.Owner: threshold}}
	for i, name := range names {
		key, err := newKey(newECDSA(t))
		check(t, err)
		keys[name] = key
		role := release.Owner
		if i == len(names)-1 {
			role = release.Promoter
		}
		party, _, _ := strings.Cut(name, " ")
		f.Roles[role] = append(f.Roles[role], release.Party{Name: party, PublicKey: string(key.PublicPEM())})
	}
	return keys, f
}

func sealedBy(t *testing.T, f release.TrustFile, by ...*Key) release.SignedTrust {
	t.Helper()
	s, err := release.SealTrust(f)
	check(t, err)
	for _, key := range by {
		s, err = key.SignTrust(t.Context(), s)
		check(t, err)
	}
	text, err := s.Encode()
	check(t, err)
	s, err = release.ParseTrust(text)
	check(t, err)
	return s
}

// TestATrustFileCountsOnceItsOwnersSigned: distinct names, not keys.
func TestATrustFileCountsOnceItsOwnersSigned(t *testing.T) {
	keys, f := ownersFile(t, 2, "alice", "alice again", "carol", "ops")
	for _, c := range []struct {
		by     []string
		names  string
		enough bool
	}{
		{nil, "[]", false}, {[]string{"alice"}, "[alice]", false}, {[]string{"alice", "alice"}, "[alice]", false},
		{[]string{"alice", "alice again"}, "[alice]", false}, {[]string{"alice", "carol"}, "[alice carol]", true},
		{[]string{"carol", "alice again", "alice"}, "[alice carol]", true},
	} {
		var by []*Key
		for _, name := range c.by {
			by = append(by, keys[name])
		}
		s := sealedBy(t, f, by...)
		names, reasons, err := TrustSigners(s, time.Now())
		if err != nil || fmt.Sprint(names) != c.names {
			t.Errorf("%v: %v, %v", c.by, names, err)
		}
		if fault := EnoughSigned(s, names, reasons); (fault == nil) != c.enough {
			t.Errorf("%v: %v", c.by, fault)
		}
	}
}

// TestSignaturesOfNoOwnerSpoilATrustFile: a promoter's, a stranger's, one over
// another version, a record's.
func TestSignaturesOfNoOwnerSpoilATrustFile(t *testing.T) {
	keys, f := ownersFile(t, 1, "alice", "ops")
	stranger, err := newKey(newECDSA(t))
	check(t, err)
	older := f
	older.Version = 2
	record, _, err := keys["alice"].sign(t.Context(), []byte("DSSEv1 3 abc 1 x"))
	check(t, err)
	forged := sealedBy(t, f)
	forged.Signatures = [][]byte{record}
	moved := sealedBy(t, f)
	moved.Signatures = sealedBy(t, older, keys["alice"]).Signatures
	for name, s := range map[string]release.SignedTrust{
		"promoter": sealedBy(t, f, keys["alice"], keys["ops"]), "stranger": sealedBy(t, f, keys["alice"], stranger),
		"something else": forged, "another version": moved,
	} {
		if _, _, err := TrustSigners(s, time.Now()); release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), "by no owner") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOwnersOfATrustFileWhoCountNoMore sign in vain, and are told.
func TestOwnersOfATrustFileWhoCountNoMore(t *testing.T) {
	keys, f := ownersFile(t, 1, "alice", "carol", "ops")
	f.Roles[release.Owner][0].NotAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Revoked = []release.Revocation{{Key: keys["carol"].Fingerprint(), Reason: "stolen"}}
	s := sealedBy(t, f, keys["alice"], keys["carol"])
	names, reasons, err := TrustSigners(s, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	if err != nil || len(names) != 0 {
		t.Fatalf("%v, %v", names, err)
	}
	fault := EnoughSigned(s, names, reasons)
	if fault == nil || !strings.Contains(fault.Error(), "not after 2026-01-01") || !strings.Contains(fault.Error(), "stolen") || fault.Kind != release.KindConfig {
		t.Errorf("%v", fault)
	}
	names, _, err = TrustSigners(s, time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC))
	if err != nil || fmt.Sprint(names) != "[alice]" {
		t.Errorf("before: %v, %v", names, err)
	}
}
