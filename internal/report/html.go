package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

//go:embed smoke.html
var files embed.FS

var page = template.Must(template.New("smoke.html").Funcs(template.FuncMap{
	"size": release.FormatSize,
	"word": func(r release.Result) string { return r.String() },
	"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
}).ParseFS(files, "smoke.html"))

// view is what the page shows.
type view struct {
	release.Smoke
	Took   string
	Counts [3]int // failed, warned, passed
	Groups []viewGroup
}

type viewGroup struct {
	Service *release.SmokeService
	State   string
	Rows    [][2]string // facts
	Plot    *plot
	Checks  []release.SmokeCheck
	Log     []string
}

// HTML writes a run as one page that needs nothing else: a picture of each
// service's memory with its limit and what happened when, all checks, and the
// end of each log.
func HTML(w io.Writer, s release.Smoke) error {
	total := s.Finished.Sub(s.Started)
	v := view{Smoke: s, Took: total.Round(100 * time.Millisecond).String()}
	for _, c := range s.Checks {
		switch c.Result {
		case release.Passed:
			v.Counts[2]++
		case release.Warned:
			v.Counts[1]++
		default:
			v.Counts[0]++
		}
	}
	for _, g := range groups(s) {
		one := viewGroup{Service: g.service, Checks: clean(g.checks)}
		if g.service != nil {
			one.State, one.Rows, one.Plot = state(*g.service), facts(*g.service), plotOf(*g.service, total.Seconds())
			for _, line := range g.service.Log {
				one.Log = append(one.Log, printable(line))
			}
		}
		v.Groups = append(v.Groups, one)
	}
	return page.Execute(w, v)
}

func state(s release.SmokeService) string {
	switch {
	case s.OOMKilled:
		return "out of memory"
	case !s.Healthy:
		return "not healthy"
	}
	return "healthy"
}

func facts(s release.SmokeService) [][2]string {
	m := s.Memory
	rows := [][2]string{{"restarts", fmt.Sprint(s.Restarts)}}
	add := func(name, format string, args ...any) {
		rows = append(rows, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if m.Samples > 0 || m.Peak > 0 {
		add("peak", "%s", release.FormatSize(m.Peak))
	}
	if m.Limit > 0 {
		add("limit", "%s (peak %.0f %%)", release.FormatSize(m.Limit), 100*float64(m.Peak)/float64(m.Limit))
	}
	if m.HighWater > 0 {
		add("with cache", "%s", release.FormatSize(m.HighWater))
	}
	if m.SlopeLow != nil && m.SlopeHigh != nil {
		add("slope", "%s a second (%s to %s)", signed(m.SlopePerSecond), signed(*m.SlopeLow), signed(*m.SlopeHigh))
	}
	if m.SecondsToLimit != nil {
		add("limit reached in", "%s", (time.Duration(*m.SecondsToLimit) * time.Second).String())
	}
	if s.OOMKills > 0 {
		add("killed for memory", "%d processes", s.OOMKills)
	}
	if s.Throttled > 0 {
		add("CPU cut short", "%.0f %% of periods", 100*s.Throttled)
	}
	if s.FDs > 0 {
		add("open files", "at most %d", s.FDs)
	}
	if s.Tasks > 0 {
		add("threads", "at most %d", s.Tasks)
	}
	return rows
}

func clean(checks []release.SmokeCheck) []release.SmokeCheck {
	out := make([]release.SmokeCheck, len(checks))
	for i, c := range checks {
		c.Name, c.Detail = printable(c.Name), printable(c.Detail)
		out[i] = c
	}
	return out
}

// printable leaves out control characters; the template escapes the rest.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
