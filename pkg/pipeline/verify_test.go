package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// older is evidence in cosign's older form.
type older struct {
	w      *world
	writes bool
	found  []release.Evidence
	signed []release.Subject
}

func (o *older) Writes() bool { return o.writes }

func (o *older) Evidence(_ context.Context, s release.Subject) ([]release.Evidence, error) {
	o.w.note("legacy evidence")
	var list []release.Evidence
	for _, e := range o.found {
		if e.Subject.Digest == s.Digest {
			list = append(list, e)
		}
	}
	return list, nil
}

func (o *older) Sign(_ context.Context, s release.Subject, by pipeline.Signer) error {
	o.signed = append(o.signed, s)
	e := signature(s, "", release.Builder)
	e.Signer = by.Party()
	o.found = append(o.found, e)
	return nil
}

// layouts is one image layout.
type layouts struct {
	subject release.Subject
	found   []release.Evidence
}

func (l layouts) Evidence(context.Context, string) (release.Subject, []release.Evidence, error) {
	return l.subject, l.found, nil
}

func signature(s release.Subject, name string, roles ...release.Role) release.Evidence {
	return release.Evidence{Subject: s, PredicateType: release.PredicateSignature, Role: release.Builder, Digest: release.DigestOf([]byte(name)),
		Verified: true, Signer: release.Signer{Name: name, Roles: roles}}
}

var app = release.Subject{Repository: registry + "/app", Digest: release.DigestOf([]byte("app"))}

func TestVerifyShowsAReleaseWhole(t *testing.T) {
	w, p := fixture(t)
	made, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Verify(t.Context(), "v1")
	if err != nil || got.Result != "passed" || got.Subject.Digest != made.Release || len(got.Services) != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	planner := got.Services[0]
	if planner.Service != "planner" || planner.Result != "passed" || len(planner.Attestations) != 4 {
		t.Errorf("service %+v", planner)
	}
	if w.count("legacy evidence") != 0 {
		t.Error("there is no legacy to look at")
	}
	// The release's own signature does not stand in for its image's.
	stripped := w.attachments[planner.Subject]
	w.attachments[planner.Subject] = slices.DeleteFunc(slices.Clone(stripped), func(a release.Attachment) bool { return a.PredicateType == release.PredicateSignature })
	got, err = p.Verify(t.Context(), "v1")
	wantKind(t, err, release.KindDenied)
	if got.Result != "failed" || got.Services[0].Result != "failed" || !strings.Contains(err.Error(), planner.Subject.String()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Two signatures of one party are one: a verification is no vote.
// early resolves only after the attestations were asked for.
type early struct {
	*world
	asked chan struct{}
	once  sync.Once
	gone  error
}

func (e *early) Attachments(ctx context.Context, s release.Subject) ([]release.Attachment, error) {
	e.once.Do(func() { close(e.asked) })
	return e.world.Attachments(ctx, s)
}

func (e *early) Resolve(_ context.Context, reference string) (release.Subject, error) {
	select {
	case <-e.asked:
	case <-time.After(10 * time.Second):
		return release.Subject{}, errors.New("nobody asked for the attestations")
	}
	if e.gone != nil {
		return release.Subject{}, e.gone
	}
	return release.ParseSubject(reference)
}

// A digest's evidence is read while the registry is asked whether it is there,
// and says nothing if it is not.
func TestVerifyReadsTheEvidenceOfADigestAhead(t *testing.T) {
	w, p := fixture(t)
	made, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	planner := registry + "/planner@" + made.Services[0].Digest.String()
	e := &early{world: w, asked: make(chan struct{})}
	p.Images, p.Attestations = e, e
	got, err := p.Verify(t.Context(), planner)
	if err != nil || got.Result != "passed" || got.Subject.String() != planner {
		t.Errorf("got %+v, %v", got, err)
	}
	e.gone = release.Unavailable("", "no such manifest")
	if got, err := p.Verify(t.Context(), planner); release.KindOf(err) != release.KindUnavailable || !reflect.ValueOf(got).IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestVerifyCountsParties(t *testing.T) {
	_, p := fixture(t)
	p.Project.Trust.Thresholds = map[release.Role]int{release.Builder: 2}
	again := signature(app, "ci", release.Builder)
	again.Digest = release.DigestOf([]byte("another key of ci"))
	stranger := signature(app, "scan", release.Scanner)
	for name, c := range map[string]struct {
		found []release.Evidence
		want  string
		names int
	}{
		"two parties": {[]release.Evidence{signature(app, "ci", release.Builder), signature(app, "anna", release.Builder)}, "passed", 2},
		"one twice":   {[]release.Evidence{signature(app, "ci", release.Builder), again}, "failed", 1},
		"other role":  {[]release.Evidence{signature(app, "ci", release.Builder), stranger}, "failed", 1},
		"none":        {nil, "failed", 0},
	} {
		p.Layouts = layouts{app, c.found}
		got, err := p.Verify(t.Context(), "oci:dir")
		if got.Result != c.want || len(got.Threshold.Signers) != c.names || got.Threshold.Required != 2 || (err == nil) != (c.want == "passed") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for _, a := range got.Attestations {
			if a.Verified != (a.Reason == "") {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
}

// Cosign's older form costs three requests: it is asked for by `verify`, and
// otherwise only when something is missing.
func TestLegacyEvidenceIsLookedAtWhenNeeded(t *testing.T) {
	w, p := fixture(t)
	legacy := &older{w: w, writes: true}
	p.Legacy = legacy
	made, err := p.Release(t.Context(), pipeline.ReleaseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(legacy.signed) != 2 { // the image and the release
		t.Errorf("signed %v", legacy.signed)
	}
	legacy.writes, legacy.found = false, nil
	before := w.count("legacy evidence")
	to(t, p, "staging")
	if n := w.count("legacy evidence") - before; n != 0 {
		t.Errorf("a promotion with all its bundles asked %d times", n)
	}
	var planner release.Subject
	for s := range w.attachments {
		if s.Digest != made.Release {
			planner = s
		}
	}
	w.attachments[planner] = slices.DeleteFunc(w.attachments[planner], func(a release.Attachment) bool { return a.PredicateType == release.PredicateSignature })
	if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging", Release: "v1", Redeploy: true}); err == nil {
		t.Fatal("an unsigned image is promoted")
	}
	legacy.found = []release.Evidence{signature(planner, "ci", release.Builder)}
	if _, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "staging", Release: "v1", Redeploy: true}); err != nil {
		t.Errorf("signed in the older form: %v", err)
	}
	before = w.count("legacy evidence")
	if _, err := p.Verify(t.Context(), "v1"); err != nil || w.count("legacy evidence") != before+2 {
		t.Errorf("verify: %v, asked %d times", err, w.count("legacy evidence")-before)
	}
}

// Where the older form is asked for, it is written beside a bundle that is there
// already, once by each signer, and the key is opened for nothing else.
func TestLegacySignaturesFollowBundles(t *testing.T) {
	w, p := fixture(t)
	older := &older{w: w}
	p.Legacy = older
	if _, err := p.Release(t.Context(), pipeline.ReleaseOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Sign(t.Context(), app.String(), false); err != nil || len(older.signed) != 0 {
		t.Fatalf("signed %v, %v", older.signed, err)
	}
	older.writes = true
	bundles := len(w.attachments[app])
	if got, err := p.Sign(t.Context(), app.String(), true); err != nil || !got.Existing || len(older.signed) != 0 {
		t.Errorf("dry run: %+v, %v, signed %v", got, err, older.signed)
	}
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || !got.Existing || len(older.signed) != 1 {
		t.Errorf("got %+v, %v, signed %v", got, err, older.signed)
	}
	w.journal = nil
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || !got.Existing || len(older.signed) != 1 || w.count("open key") != 0 {
		t.Errorf("again: %+v, %v, signed %v, %q", got, err, older.signed, w.journal)
	}
	older.signed = nil
	for range 2 { // the image and the release, once
		if _, err := p.Release(t.Context(), pipeline.ReleaseOptions{}); err != nil || len(older.signed) != 2 {
			t.Errorf("released again: signed %v, %v", older.signed, err)
		}
	}
	// What one of them lost is written again, and nothing for the other.
	lost := older.signed[1]
	older.signed = nil
	older.found = slices.DeleteFunc(older.found, func(e release.Evidence) bool { return e.Subject == lost })
	if _, err := p.Release(t.Context(), pipeline.ReleaseOptions{}); err != nil || len(older.signed) != 1 || older.signed[0] != lost {
		t.Errorf("signed %v, %v, want %s", older.signed, err, lost)
	}
	if len(w.attachments[app]) != bundles {
		t.Errorf("%d bundles, there were %d", len(w.attachments[app]), bundles)
	}
	// Whoever is no builder leaves it to those who are.
	older.found, older.signed = nil, nil
	p.Keys = asScanner{w}
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || !got.Existing || len(older.signed) != 0 {
		t.Errorf("a scanner: %+v, %v, signed %v", got, err, older.signed)
	}
}

// asScanner is a key that may only say what scanners say.
type asScanner struct{ *world }

func (s asScanner) Open(context.Context) (pipeline.Signer, error) { return s, nil }
func (s asScanner) Ready(context.Context)                         {}

func (asScanner) Party() release.Signer {
	return release.Signer{Name: "scanner", Roles: []release.Role{release.Scanner}}
}

func TestAttest(t *testing.T) {
	w, p := fixture(t)
	ask := pipeline.AttestOptions{Reference: app.String(), Type: "test-result", Predicate: []byte(`{"result":"PASSED"}`)}
	dry := ask
	dry.DryRun = true
	if got, err := p.Attest(t.Context(), dry); err != nil || len(w.attachments[app]) != 0 || !got.Digest.IsZero() {
		t.Fatalf("dry run: %+v, %v", got, err)
	}
	got, err := p.Attest(t.Context(), ask)
	if err != nil || got.Existing || len(w.attachments[app]) != 1 || got.Digest != w.attachments[app][0].Digest {
		t.Fatalf("got %+v, %v", got, err)
	}
	var st release.Statement
	if err := json.Unmarshal(w.attachments[app][0].Bundle, &st); err != nil || !st.About(app.Digest) || st.PredicateType != release.PredicateTestResult {
		t.Errorf("signed %+v, %v", st, err)
	}
	ask.Predicate = []byte("{ \"result\" : \"PASSED\" }\n")
	if again, err := p.Attest(t.Context(), ask); err != nil || !again.Existing || again.Digest != got.Digest || len(w.attachments[app]) != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	ask.Predicate = []byte(`{"result":"FAILED"}`)
	if other, err := p.Attest(t.Context(), ask); err != nil || other.Existing || len(w.attachments[app]) != 2 {
		t.Errorf("another result: %+v, %v", other, err)
	}
}

func TestAttestRefuses(t *testing.T) {
	w, p := fixture(t)
	w.roles = []release.Role{release.Builder}
	for name, c := range map[string]struct {
		of, predicate string
		want          release.Kind
		says          string
	}{
		"role of another":  {"vuln", `{"a":1}`, release.KindDenied, "scanner"},
		"unknown type":     {"https://example.com/x", `{"a":1}`, release.KindUsage, "no role"},
		"signature":        {"signature", `{"a":1}`, release.KindUsage, "no predicate"},
		"no JSON":          {"slsaprovenance1", `hello`, release.KindUsage, "predicate"},
		"two objects":      {"slsaprovenance1", `{"a":1}{"a":2}`, release.KindUsage, "predicate"},
		"duplicate member": {"slsaprovenance1", `{"a":1,"a":2}`, release.KindUsage, "predicate"},
		"a list":           {"slsaprovenance1", `[1]`, release.KindUsage, "no JSON object"},
		"null":             {"slsaprovenance1", `null`, release.KindUsage, "no JSON object"},
		"empty":            {"slsaprovenance1", `{}`, release.KindUsage, "empty"},
		"whole statement":  {"slsaprovenance1", `{"_type":"https://in-toto.io/Statement/v1","subject":[]}`, release.KindUsage, "statement"},
	} {
		for _, dry := range []bool{false, true} {
			_, err := p.Attest(t.Context(), pipeline.AttestOptions{Reference: app.String(), Type: c.of, Predicate: []byte(c.predicate), DryRun: dry})
			if release.KindOf(err) != c.want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v of kind %q", name, err, release.KindOf(err))
			}
		}
	}
	if len(w.attachments) != 0 {
		t.Errorf("attached %v", w.attachments)
	}
}

// A second party signs, too, where two are asked for; the first one doesn't again.
func TestSignUntilTheThresholdIsMet(t *testing.T) {
	w, p := fixture(t)
	p.Project.Trust.Thresholds = map[release.Role]int{release.Builder: 2}
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || got.Existing {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || !got.Existing || len(w.attachments[app]) != 1 {
		t.Errorf("the same party again: %+v, %v", got, err)
	}
	p.Legacy = &older{w: w, found: []release.Evidence{signature(app, "anna", release.Builder)}}
	w.journal = nil
	if got, err := p.Sign(t.Context(), app.String(), false); err != nil || !got.Existing || w.count("open key") != 0 {
		t.Errorf("two have signed: %+v, %v, %q", got, err, w.journal)
	}
}
