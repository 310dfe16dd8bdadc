package release

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFreezes(t *testing.T) {
	signer := func(name string) Signer {
		if strings.HasPrefix(name, "approver") {
			return Signer{Name: name, Roles: []Role{Approver}}
		}
		return Signer{Name: name, Roles: []Role{Promoter}}
	}
	for steps, want := range map[string]string{
		"":                                               "",
		"freeze ops 10":                                  "ops",
		"freeze ops 0":                                   "", // over at this very moment
		"freeze ops -5":                                  "",
		"freeze ops never":                               "ops",
		"freeze ops 10, thaw ops":                        "",
		"freeze ops 10, thaw deputy":                     "ops",
		"freeze ops 10, thaw approver":                   "",
		"freeze ops 10, freeze deputy 20":                "ops deputy",
		"freeze ops 10, freeze deputy -1":                "ops",
		"freeze ops 10, freeze ops 5":                    "ops ops", // the longer one holds
		"freeze ops 10, freeze ops 5, thaw ops":          "",
		"freeze ops 10, freeze deputy 20, thaw deputy":   "ops", // freezing gives no say over others' freezes
		"freeze ops 10, freeze deputy 20, thaw approver": "",
		"freeze ops 10, thaw approver, freeze ops 10":    "ops",
		"freeze ops 10, elsewhere thaw approver, elsewhere freeze ops 10": "ops",
	} {
		var h History
		for step := range strings.SplitSeq(steps, ", ") {
			words := strings.Fields(step)
			r := Record{Environment: "production", Sequence: int64(len(h)), Reason: "why"}
			if len(words) > 0 && words[0] == "elsewhere" {
				r.Environment, words = "staging", words[1:]
			}
			switch {
			case len(words) == 0:
				continue
			case words[0] == "thaw":
				r.Phase = Unfrozen
			default:
				r.Phase = Frozen
				var minutes time.Duration
				if _, err := fmt.Sscan(words[2], &minutes); err == nil {
					r.Until = factsNow.Add(minutes * time.Minute)
				}
			}
			h = append(h, Entry{Record: r, Signer: signer(words[1])})
		}
		var by []string
		for _, f := range FreezeFactsOf(h, "production", factsNow) {
			by = append(by, f.By)
		}
		if got := strings.Join(by, " "); got != want {
			t.Errorf("%s: frozen by %q, want %q", steps, got, want)
		}
	}
}

// Whoever has no name froze nothing that a nameless one could lift.
func TestNobodyThaws(t *testing.T) {
	h := History{{Record: Record{Phase: Frozen, Environment: "e"}}, {Record: Record{Phase: Unfrozen, Environment: "e", Sequence: 1}}}
	if len(h.Frozen("e", factsNow)) != 1 {
		t.Error("it was lifted")
	}
}

// The soak is the time undisturbed in the environment before.
func TestSoak(t *testing.T) {
	touched := []TargetStatus{{Status: "rolledBack"}, {Status: "skipped"}}
	untouched := []TargetStatus{{Status: "skipped"}, {Status: "unreachable"}}
	at := func(minutes int) time.Time { return factsNow.Add(time.Duration(-minutes) * time.Minute) }
	for name, c := range map[string]struct {
		records []Record // all in staging, unless they say
		after   bool
		open    bool
		minutes int64
	}{
		"not there":         {nil, false, false, 0},
		"an hour":           {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}}, true, false, 60},
		"deployed again":    {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: Deployed, Release: factsRel, Time: at(10)}}, true, false, 10},
		"another one since": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: Deployed, Release: factsOther, Time: at(30)}}, false, false, 0},
		"back again": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: Deployed, Release: factsOther, Time: at(30)},
			{Phase: Deployed, Release: factsRel, Time: at(20)}}, true, false, 20},
		"another one undone":  {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: RolledBack, Release: factsOther, Time: at(5), Targets: touched}}, true, false, 5},
		"undone, it says not": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: RolledBack, Release: factsOther, Time: at(5)}}, true, false, 5},
		"nothing touched":     {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: RolledBack, Release: factsOther, Time: at(5), Targets: untouched}}, true, false, 60},
		"denied since":        {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: DeniedPhase, Release: factsOther, Time: at(5)}}, true, false, 60},
		"failed, then undone": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: FailedPhase, Release: factsOther, Time: at(9), Targets: touched},
			{Phase: RolledBack, Release: factsOther, Time: at(7), Targets: touched}}, true, false, 7},
		"elsewhere":       {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: RolledBack, Environment: "production", Time: at(5), Targets: touched}}, true, false, 60},
		"under way":       {[]Record{{Phase: Deployed, Release: factsRel, Time: at(60)}, {Phase: Intended, Release: factsOther, Time: at(5)}}, true, true, 0},
		"from the future": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(-60)}}, true, false, 0},
		"the clock went back": {[]Record{{Phase: Deployed, Release: factsRel, Time: at(10)}, {Phase: RolledBack, Release: factsOther, Time: at(600), Targets: touched}},
			true, false, 10},
	} {
		t.Run(name, func(t *testing.T) {
			var h History
			for i, r := range c.records {
				r.Sequence = int64(i)
				if r.Environment == "" {
					r.Environment = "staging"
				}
				if r.Phase == Deployed || r.Phase == RolledBack {
					r.Intent = new(int64)
				}
				h = append(h, Entry{Record: r})
			}
			got := HistoryFactsOf(h, Environment{Name: "production", After: "staging", Soak: time.Hour}, factsRel, factsNow)
			if got.DeployedToAfter != c.after || got.AfterOpen != c.open || got.SoakSeconds != c.minutes*60 || got.RequiredSoakSeconds != 3600 {
				t.Errorf("got %+v", got)
			}
		})
	}
}
