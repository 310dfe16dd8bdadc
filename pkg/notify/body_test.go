package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// TestEvents: each message is a CloudEvent whose data is a CDEvent with just
// the members that its schema allows.
func TestEvents(t *testing.T) {
	t.Parallel()
	from := release.DigestOf([]byte("before"))
	change := func(e release.Entry, f func(*release.Record)) release.Entry { f(&e.Record); return e }
	production := func(d release.Digest) string {
		return "pkg:oci/openclaw@sha256%3A" + d.Hex() + "?repository_url=registry.prod.acme.dev%3A5000/openclaw/openclaw"
	}
	shipped := release.DigestOf([]byte("release"))
	for name, c := range map[string]struct {
		entry                   release.Entry
		kind, subject, artifact string
	}{
		"first deployment": {entry(1, release.Deployed), "dev.cdevents.service.deployed.0.3.0", "openclaw", production(shipped)},
		"next deployment": {change(entry(1, release.Deployed), func(r *release.Record) { r.From = from }),
			"dev.cdevents.service.upgraded.0.3.0", "openclaw", production(shipped)},
		"redeployment": {change(entry(1, release.Deployed), func(r *release.Record) { r.From = r.Release }),
			"dev.cdevents.service.deployed.0.3.0", "openclaw", production(shipped)},
		"rollback": {change(entry(1, release.Deployed), func(r *release.Record) { r.From, r.Kind = from, release.KindRollback }),
			"dev.cdevents.service.rolledback.0.3.0", "openclaw", production(shipped)},
		"undone": {change(entry(1, release.RolledBack), func(r *release.Record) {
			r.From, r.Targets = from, []release.TargetStatus{{Name: "prod-1", Status: "rolledBack"}}
		}), "dev.cdevents.service.rolledback.0.3.0", "openclaw", production(from)},
		"ended before it began": {change(entry(1, release.RolledBack), func(r *release.Record) { r.From = from }),
			"dev.cdeventsx.promote-record.rolledback.0.1.0", entry(1, "").Digest.String(), production(shipped)},
		"released": {change(entry(1, release.Released), func(r *release.Record) { r.Environment = "" }),
			"dev.cdevents.artifact.published.0.3.0", "pkg:oci/openclaw@sha256%3A" + shipped.Hex() + "?repository_url=ghcr.io/acme/openclaw/openclaw", ""},
		"denied": {entry(1, release.DeniedPhase), "dev.cdeventsx.promote-record.denied.0.1.0", entry(1, "").Digest.String(), production(shipped)},
		"frozen": {change(entry(1, release.Frozen), func(r *release.Record) { r.Release = release.Digest{} }),
			"dev.cdeventsx.promote-record.frozen.0.1.0", entry(1, "").Digest.String(), ""},
		"trust": {entry(1, release.TrustChanged), "dev.cdeventsx.promote-record.trustchanged.0.1.0", entry(1, "").Digest.String(), production(shipped)},
	} {
		t.Run(name, func(t *testing.T) {
			raw := newRun(t, "").open().body(FormatCloudEvents, c.entry)
			var e map[string]any
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			data := e["data"].(map[string]any)
			context, subject := data["context"].(map[string]any), data["subject"].(map[string]any)
			members(t, e, "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data")
			members(t, data, "context", "subject", "customData", "customDataContentType")
			members(t, context, "specversion", "id", "source", "type", "timestamp")
			members(t, subject, "id", "source", "content")
			for outer, inner := range map[string]string{"id": "id", "source": "source", "type": "type", "time": "timestamp"} {
				if e[outer] != context[inner] {
					t.Errorf("%s is %v outside and %v inside", outer, e[outer], context[inner])
				}
			}
			if e["specversion"] != "1.0" || context["specversion"] != "0.5.1" || e["source"] != "promote/openclaw" || e["subject"] != subject["id"] {
				t.Errorf("%s", raw)
			}
			if _, err := time.Parse(time.RFC3339, e["time"].(string)); err != nil {
				t.Error(err)
			}
			if e["type"] != c.kind || subject["id"] != c.subject {
				t.Errorf("type %v, subject %v", e["type"], subject["id"])
			}
			content := subject["content"].(map[string]any)
			if artifact, _ := content["artifactId"].(string); artifact != c.artifact {
				t.Errorf("artifact %q, want %q", artifact, c.artifact)
			}
			if strings.Contains(c.kind, ".service.") {
				members(t, content, "environment", "artifactId")
			}
		})
	}
}

func members(t *testing.T, object map[string]any, want ...string) {
	t.Helper()
	for _, name := range want {
		if _, ok := object[name]; !ok {
			t.Errorf("%s is missing in %v", name, object)
		}
	}
	if len(object) != len(want) {
		t.Errorf("%v has %d members, want %q", object, len(object), want)
	}
}

func denied() release.Entry {
	e := entry(7, release.DeniedPhase)
	reasons := make([]release.Reason, 0, 100)
	for range 100 {
		reasons = append(reasons, release.Reason{Rule: "scan/critical", Message: strings.Repeat("é", 4000)})
	}
	e.Record.Decision = &release.Decision{Verdicts: []release.Verdict{
		{Gate: "signed", Result: release.Passed, Reasons: []release.Reason{{Rule: "signed/fine", Message: "fine"}}},
		{Gate: "scan", Result: release.Failed, Reasons: reasons},
	}}
	for range 1000 {
		e.Record.Targets = append(e.Record.Targets, release.TargetStatus{Name: "host", Status: "skipped", Message: strings.Repeat("x", 1000)})
	}
	return e
}

func TestADenialSaysWhyAndStaysSmall(t *testing.T) {
	t.Parallel()
	n := newRun(t, "").open()
	raw := n.body(FormatCloudEvents, denied())
	var e cloudEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	why := e.Data.CustomData.Denied
	if len(why) != mostReasons || why[0].Gate != "scan" || why[0].Rule != "scan/critical" || len(raw) > 64<<10 {
		t.Errorf("%d reasons, %d bytes", len(why), len(raw))
	}
	if text := n.text(denied()); strings.Contains(text, "signed/fine") || !strings.Contains(text, "• scan/critical: éé") || len(text) > 16<<10 {
		t.Errorf("%d bytes: %.200s", len(text), text)
	}
}

func TestSlack(t *testing.T) {
	t.Parallel()
	box := newInbox(t)
	r := newRun(t, box.URL)
	r.hooks[0].Format = FormatSlack
	r.tell(entry(42, release.Deployed))
	got := box.deliveries()
	if len(got) != 1 || got[0].header.Get("Content-Type") != "application/json" || !verifies(got[0], []byte(hmacKey)) {
		t.Fatalf("got %+v", got)
	}
	var message map[string]string
	if err := json.Unmarshal(got[0].body, &message); err != nil || len(message) != 1 {
		t.Fatalf("%v: %s", err, got[0].body)
	}
	want := "*openclaw*: 1.4.2 (" + release.DigestOf([]byte("release")).Short() + ") was deployed to production\n" +
		"> because &lt;!channel&gt; &amp; more\nrecord 42 by ops (alice) at 2026-11-21 10:00:00 UTC"
	if message["text"] != want {
		t.Errorf("got %q", message["text"])
	}
}

func TestEveryPhaseHasASentence(t *testing.T) {
	t.Parallel()
	for _, p := range []release.Phase{release.Released, release.Intended, release.Deployed, release.RolledBack, release.FailedPhase, release.DeniedPhase,
		release.Approved, release.Frozen, release.Unfrozen, release.Exception, release.BreakGlassed, release.TrustChanged, release.Watched} {
		if s := sentence(entry(1, p).Record); len(s) < 10 || s != strings.TrimSpace(s) {
			t.Errorf("%s: %q", p, s)
		}
	}
}
