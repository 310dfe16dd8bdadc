package release_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func document() release.Document {
	model := []byte(`{"name":"agent"}`)
	return release.Document{
		Release: release.Release{
			SchemaVersion: 1, Name: "agent", Version: "v1.0.0", Revision: strings.Repeat("a", 40),
			Services:   map[string]release.Service{"planner": {Path: "planner", Digest: release.DigestOf([]byte("p")), Origin: release.Built}},
			Models:     map[string]release.Digest{"smoke": release.DigestOf(model), "staging": release.DigestOf(model)},
			Dimensions: map[string]release.Digest{"code": release.DigestOf([]byte("c"))},
		},
		Models: map[string][]byte{"smoke": model, "staging": model},
		Lock:   release.Lock{Models: map[string]release.Requirements{"staging": {Environment: []release.Variable{{Name: "DB_PASS", Required: true}}}}},
	}
}

func layers(t *testing.T, raw release.Blob, blobs []release.Blob) [][]byte {
	t.Helper()
	digests, err := release.Layers(raw.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	byDigest := map[release.Digest][]byte{}
	for _, b := range blobs {
		byDigest[b.Digest] = b.Bytes
	}
	var list [][]byte
	for _, d := range digests {
		list = append(list, byDigest[d])
	}
	return list
}

func TestReleaseSurvivesItsManifest(t *testing.T) {
	doc := document()
	raw, blobs, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := release.Decode(raw.Bytes, layers(t, raw, blobs))
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Identity()
	if err != nil || again != raw.Digest {
		t.Errorf("identity %s, want %s, %v", again, raw.Digest, err)
	}
	if back.Release.Services["planner"].Digest != doc.Release.Services["planner"].Digest {
		t.Errorf("got %+v", back.Release)
	}
}

func TestIdentityChangesWithEveryPart(t *testing.T) {
	base, _ := document().Identity()
	for name, change := range map[string]func(*release.Document){
		"version":   func(d *release.Document) { d.Release.Version = "v1.0.1" },
		"revision":  func(d *release.Document) { d.Release.Revision = strings.Repeat("b", 40) },
		"dimension": func(d *release.Document) { d.Release.Dimensions["prompts"] = release.DigestOf([]byte("x")) },
		"lock":      func(d *release.Document) { d.Lock.Models["smoke"] = release.Requirements{Volumes: []string{"v"}} },
		"model": func(d *release.Document) {
			d.Models["staging"] = []byte(`{"name":"other"}`)
			d.Release.Models["staging"] = release.DigestOf(d.Models["staging"])
		},
	} {
		doc := document()
		change(&doc)
		if got, err := doc.Identity(); err != nil || got == base {
			t.Errorf("%s: identity %s, %v", name, got, err)
		}
	}
}

func TestDecodeRefusesWhatWasTamperedWith(t *testing.T) {
	raw, blobs, err := document().Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := layers(t, raw, blobs)
	for i := range good {
		bad := append([][]byte(nil), good...)
		bad[i] = append([]byte(nil), good[i]...)
		bad[i][0] ^= 1
		if _, err := release.Decode(raw.Bytes, bad); err == nil {
			t.Errorf("layer %d was changed and went through", i)
		}
	}
	if _, err := release.Decode(raw.Bytes, good[1:]); err == nil {
		t.Error("a missing layer went through")
	}
	spaced := append([]byte(" "), raw.Bytes...)
	if _, err := release.Decode(spaced, good); err == nil {
		t.Error("a manifest that is not canonical went through")
	}
	twice := []byte(strings.Replace(string(raw.Bytes), `"schemaVersion":2`, `"schemaVersion":2,"schemaVersion":2`, 1))
	if _, err := release.Decode(twice, good); err == nil {
		t.Error("duplicate keys went through")
	}
}

func TestEncodeRefusesAModelThatIsNotTheOneNamed(t *testing.T) {
	doc := document()
	doc.Models["smoke"] = []byte(`{"name":"swapped"}`)
	if _, _, err := doc.Encode(); err == nil {
		t.Error("a swapped model went through")
	}
}

// The cases of RFC 8785, sections 3.2.2 and 3.2.3.
func TestCanonicalJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":2}`:                                            `{"a":2,"b":1}`,
		`[333333333.33333329, 1E30, 4.50, 2e-3]`:                   `[333333333.3333333,1e+30,4.5,0.002]`,
		`{"\ud83d\ude00":1,"\ufb33":2}`:                            "{\"\U0001F600\":1,\"\ufb33\":2}",
		`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/<>&\u2028"`: "\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/<>&\u2028\"",
		` { "x" : [ null , true , -0 ] } `:                         `{"x":[null,true,0]}`,
	} {
		got, err := release.CanonicalJSON([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s:\ngot  %s %v\nwant %s", in, got, err, want)
		}
	}
	for _, bad := range []string{`{"a":1,"a":1}`, `{} x`, `{"a":1}{}`, `1e400`, "\"\xff\"", strings.Repeat("[", 300) + strings.Repeat("]", 300), ``} {
		if got, err := release.CanonicalJSON([]byte(bad)); err == nil {
			t.Errorf("%.40q went through as %s", bad, got)
		}
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	f.Add([]byte(`{"b":[1,2.5,"x\u0000"],"a":{}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		once, err := release.CanonicalJSON(in)
		if err != nil {
			return
		}
		twice, err := release.CanonicalJSON(once)
		if err != nil || string(once) != string(twice) {
			t.Errorf("%q is not stable: %q, %v", once, twice, err)
		}
	})
}

func TestDigest(t *testing.T) {
	good := release.DigestOf([]byte("x"))
	back, err := release.ParseDigest(good.String())
	if err != nil || back != good {
		t.Errorf("got %v, %v", back, err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:" + strings.Repeat("A", 64), "sha512:" + strings.Repeat("a", 64), good.String() + "0", " " + good.String(), good.Hex()} {
		if d, err := release.ParseDigest(bad); err == nil {
			t.Errorf("%q went through as %s", bad, d)
		}
	}
	raw, err := json.Marshal(struct{ D release.Digest }{good})
	if err != nil || string(raw) != `{"D":"`+good.String()+`"}` {
		t.Errorf("got %s, %v", raw, err)
	}
}

func TestNoSubjectTakesATag(t *testing.T) {
	d := release.DigestOf([]byte("x"))
	for _, repository := range []string{"", "a/b:latest", "a/b@" + d.String(), "a b"} {
		if s, err := release.NewSubject(repository, d); err == nil {
			t.Errorf("%q went through as %s", repository, s)
		}
	}
	if _, err := release.NewSubject("localhost:5000/a", release.Digest{}); err == nil {
		t.Error("no digest went through")
	}
	s, err := release.ParseSubject("localhost:5000/a/b:v1@" + d.String())
	if err != nil || s.Repository != "localhost:5000/a/b" || s.Digest != d {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestNothingIsNeverAPass(t *testing.T) {
	if (release.Decision{}).Allowed() {
		t.Error("a decision without verdicts allows")
	}
	if (release.Decision{Verdicts: []release.Verdict{{}}}).Allowed() {
		t.Error("a verdict nobody set allows")
	}
	if (release.Decision{Verdicts: []release.Verdict{{Result: release.Passed}, {Result: release.Unknown}}}).Allowed() {
		t.Error("an unknown verdict allows")
	}
	if !(release.Decision{Verdicts: []release.Verdict{{Result: release.Passed}, {Result: release.Warned}}}).Allowed() {
		t.Error("a warning denies")
	}
	var r release.Result
	if err := r.UnmarshalText([]byte("ok")); err == nil {
		t.Error("an unknown word is a result")
	}
}

func TestHistory(t *testing.T) {
	at := func(n int64) *int64 { return &n }
	h := release.History{
		{Record: release.Record{Sequence: 0, Phase: release.Released}},
		{Record: release.Record{Sequence: 1, Phase: release.Intended, Environment: "staging"}},
		{Record: release.Record{Sequence: 2, Phase: release.Intended, Environment: "production"}},
		{Record: release.Record{Sequence: 3, Phase: release.Deployed, Environment: "staging", Intent: at(1)}},
		{Record: release.Record{Sequence: 4, Phase: release.FailedPhase, Environment: "production", Intent: at(2)}},
		{Record: release.Record{Sequence: 5, Phase: release.DeniedPhase, Environment: "staging"}},
	}
	if e, ok := h.Open("staging"); ok {
		t.Errorf("staging is open at %d", e.Record.Sequence)
	}
	if e, ok := h.Open("production"); !ok || e.Record.Sequence != 2 {
		t.Error("a failed promotion stays open")
	}
	if e, ok := h.Deployed("staging"); !ok || e.Record.Sequence != 3 {
		t.Error("the deployed record of staging is not found")
	}
}
