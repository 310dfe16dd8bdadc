package pipeline_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// TestTheLogIsFiltered: each filter alone and together, newest first, and what
// is no phase, release, environment or time is said.
func TestTheLogIsFiltered(t *testing.T) {
	w := newWorld()
	at := func(hour int) time.Time { return time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC) }
	a, b := release.DigestOf([]byte("a")), release.DigestOf([]byte("b"))
	for n, r := range []release.Record{
		{Phase: release.Released, Release: a, Version: "v1"},
		{Phase: release.Intended, Release: a, Environment: "staging"},
		{Phase: release.Deployed, Release: a, Environment: "staging"},
		{Phase: release.Released, Release: b, Version: "v2"},
		{Phase: release.DeniedPhase, Release: b, Environment: "production"},
		{Phase: release.Deployed, Release: b, Environment: "staging", Actor: release.Actor{User: "bot"}},
	} {
		r.Sequence, r.Time = int64(n), at(n)
		signer := "ops"
		if n == 4 {
			signer = "alice"
		}
		w.records = append(w.records, release.Entry{Record: r, Signer: release.Signer{Name: signer}})
	}
	p := w.pipeline()
	for name, c := range map[string]struct {
		filter pipeline.LogFilter
		want   string
	}{
		"all":           {pipeline.LogFilter{}, "5 4 3 2 1 0"},
		"limit":         {pipeline.LogFilter{Limit: 2}, "5 4"},
		"environment":   {pipeline.LogFilter{Environment: "staging"}, "5 2 1"},
		"version":       {pipeline.LogFilter{Release: "v1"}, "2 1 0"},
		"prefix":        {pipeline.LogFilter{Release: b.Short()}, "5 4 3"},
		"digest":        {pipeline.LogFilter{Release: a.String(), Limit: 1}, "2"},
		"phases":        {pipeline.LogFilter{Phases: []release.Phase{release.Deployed, release.DeniedPhase}}, "5 4 2"},
		"signer":        {pipeline.LogFilter{Actor: "alice"}, "4"},
		"user":          {pipeline.LogFilter{Actor: "bot"}, "5"},
		"since":         {pipeline.LogFilter{Since: at(4)}, "5 4"},
		"until":         {pipeline.LogFilter{Until: at(1)}, "1 0"},
		"from and to":   {pipeline.LogFilter{Since: at(1), Until: at(3)}, "3 2 1"},
		"all of it":     {pipeline.LogFilter{Environment: "staging", Release: "v2", Phases: []release.Phase{release.Deployed}, Actor: "bot", Since: at(5), Until: at(5), Limit: 9}, "5"},
		"nothing":       {pipeline.LogFilter{Actor: "nobody"}, ""},
		"! environment": {pipeline.LogFilter{Environment: "stagin"}, ""},
		"! phase":       {pipeline.LogFilter{Phases: []release.Phase{"deploid"}}, "did you mean deployed?"},
		"! release":     {pipeline.LogFilter{Release: "v3"}, ""},
		"! limit":       {pipeline.LogFilter{Limit: -1}, ""},
		"! times":       {pipeline.LogFilter{Since: at(2), Until: at(1)}, ""},
	} {
		found, err := p.Log(t.Context(), c.filter)
		got := found.Records
		if name[0] == '!' {
			if release.KindOf(err) != release.KindUsage {
				t.Errorf("%s: %v", name, err)
			}
			if fault, ok := err.(*release.Fault); c.want != "" && (!ok || fault.Hint != c.want) { //nolint:errorlint // it is that very error
				t.Errorf("%s: %+v", name, err)
			}
			continue
		}
		var list []string
		for _, e := range got {
			list = append(list, fmt.Sprint(e.Record.Sequence))
		}
		if err != nil || strings.Join(list, " ") != c.want || got == nil {
			t.Errorf("%s: %v, %v; want %s", name, list, err, c.want)
		}
	}
}
