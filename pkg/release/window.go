package release

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // windows name zones; minimal hosts have no database of them
)

// Window is a span of every week, by the clocks of a time zone, in which
// promotions may begin or, with Deny, may not. Make it with NewWindow; the zero
// value is a span without an instant.
type Window struct {
	Deny bool   `json:"deny"`
	Span string `json:"span"` // as it is written
	Zone string `json:"zone"` // of the IANA database

	spans    []span
	location *time.Location
}

// span is from one minute of the week, counted from Monday 00:00, to before
// another one. Where the end is not later, it goes on into the next week.
type span struct{ from, to int }

const (
	day  = 24 * 60 // minutes
	week = 7 * day
)

var (
	weekdays    = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	dailySpan   = regexp.MustCompile(`^(?:([A-Za-z,-]+) )?(\d\d:\d\d)-(\d\d:\d\d)$`)
	nightlySpan = regexp.MustCompile(`^([A-Za-z]+) (\d\d:\d\d)-([A-Za-z]+) (\d\d:\d\d)$`)
)

// NewWindow reads a window. Its span is days (single ones, or first-last,
// separated by commas; none is every day) and two times of day, of which the
// second is later: "Mon-Thu 09:00-16:00". The day ends at 24:00. A span over
// midnight says both days: "Fri 22:00-Sat 02:00".
//
// The clocks of the zone decide: where they jump over a time, as in spring, a
// window of just that time has no instant in that week; where they show it
// twice, as in autumn, it holds both times.
func NewWindow(deny bool, text, zone string) (Window, error) {
	spans, err := parseSpan(text)
	if err != nil {
		return Window{}, err
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" { // "Local" differs from machine to machine
		return Window{}, fmt.Errorf("no time zone %.60q", zone)
	}
	if zone == "" {
		zone = "UTC"
	}
	return Window{Deny: deny, Span: text, Zone: zone, spans: spans, location: location}, nil
}

func parseSpan(text string) ([]span, error) {
	if m := nightlySpan.FindStringSubmatch(text); m != nil {
		return parseNights(m[1], m[2], m[3], m[4])
	}
	m := dailySpan.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("expected days and times, got %.60q", text)
	}
	days, err := parseDays(m[1])
	if err != nil {
		return nil, err
	}
	from, err := parseClock(m[2])
	if err != nil {
		return nil, err
	}
	to, err := parseClock(m[3])
	if err != nil {
		return nil, err
	}
	if from >= to {
		return nil, fmt.Errorf("%s is not later than %s; a span over midnight says both days: Fri 22:00-Sat 02:00", m[3], m[2])
	}
	var spans []span
	for _, d := range days {
		spans = append(spans, span{d*day + from, d*day + to})
	}
	return spans, nil
}

func parseNights(firstDay, fromClock, lastDay, toClock string) ([]span, error) {
	first, err := parseDays(firstDay)
	if err != nil {
		return nil, err
	}
	last, err := parseDays(lastDay)
	if err != nil {
		return nil, err
	}
	from, err := parseClock(fromClock)
	if err != nil {
		return nil, err
	}
	to, err := parseClock(toClock)
	if err != nil {
		return nil, err
	}
	s := span{(first[0]*day + from) % week, (last[0]*day + to) % week}
	if s.from == s.to {
		return nil, fmt.Errorf("%s %s is where it begins", lastDay, toClock)
	}
	return []span{s}, nil
}

// parseDays gives days from 0, Monday; nothing written is every day.
func parseDays(text string) ([]int, error) {
	if text == "" {
		return []int{0, 1, 2, 3, 4, 5, 6}, nil
	}
	var days []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
		if !ranged {
			to = from
		}
		if from < 0 || to < 0 {
			return nil, fmt.Errorf("expected days out of %s, got %.60q", strings.Join(weekdays, ", "), part)
		}
		for d := from; ; d = (d + 1) % 7 {
			days = append(days, d)
			if d == to {
				break
			}
		}
	}
	return days, nil
}

func parseClock(text string) (minutes int, err error) {
	if text == "24:00" {
		return day, nil
	}
	at, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("expected a time from 00:00 to 24:00, got %s", text)
	}
	return at.Hour()*60 + at.Minute(), nil
}

// Contains reports whether the window holds an instant.
func (w Window) Contains(at time.Time) bool {
	if w.location == nil {
		return false
	}
	local := at.In(w.location)
	minute := (int(local.Weekday())+6)%7*day + local.Hour()*60 + local.Minute()
	return slices.ContainsFunc(w.spans, func(s span) bool {
		if s.from < s.to {
			return s.from <= minute && minute < s.to
		}
		return s.from <= minute || minute < s.to
	})
}

// String gives the window as a person reads it.
func (w Window) String() string { return w.Span + " (" + w.Zone + ")" }

// WindowFacts says whether promotions may begin now.
type WindowFacts struct {
	Open bool `json:"open"`
	// Why says what keeps it closed; empty if it is open.
	Why string `json:"why"`
	// ChangesAt is when it opens or closes next; zero if not within
	// WindowHorizon.
	ChangesAt time.Time `json:"changesAt"`
	// Changes is ChangesAt for people, by the clocks of the window's zone.
	Changes string `json:"changes"`
}

// WindowHorizon is how far ahead the next opening is looked for: a week has
// every span once, and a clock change may take one of them.
const WindowHorizon = 15 * 24 * time.Hour

// WindowFactsOf says whether windows let a promotion begin at an instant, and
// when that changes: a deny window beats every allow window; without an allow
// window everything that is not denied is allowed.
func WindowFactsOf(windows []Window, now time.Time) WindowFacts {
	by, open := decides(windows, now)
	facts := WindowFacts{Open: open}
	if len(windows) == 0 {
		return facts
	}
	location := windows[0].location
	if by != nil {
		location = by.location
	}
	if location == nil {
		location = time.UTC
	}
	if !open {
		facts.Why = closedBy(windows, by, now.In(location))
	}
	// Windows begin and end with a minute, also where clocks change.
	for at := now.Truncate(time.Minute).Add(time.Minute); at.Sub(now) < WindowHorizon; at = at.Add(time.Minute) {
		if _, then := decides(windows, at); then != open {
			facts.ChangesAt, facts.Changes = at.UTC(), at.In(location).Format("Mon 2006-01-02 15:04 MST")
			break
		}
	}
	return facts
}

// decides gives whether windows are open at an instant, and the one that says
// so: nil where none holds it.
func decides(windows []Window, at time.Time) (by *Window, open bool) {
	open = true
	for i := range windows {
		w := &windows[i]
		switch {
		case w.Deny && (w.location == nil || w.Contains(at)): // what cannot be read is closed
			return w, false
		case !w.Deny && by == nil:
			open = false
			if w.Contains(at) {
				by = w
			}
		}
	}
	return by, open || by != nil
}

func closedBy(windows []Window, by *Window, local time.Time) string {
	clock := local.Format("Mon 15:04 MST")
	if by != nil {
		return fmt.Sprintf("it is %s, and promotions may not begin %s", clock, by)
	}
	var allowed []string
	for _, w := range windows {
		if !w.Deny {
			allowed = append(allowed, w.String())
		}
	}
	return fmt.Sprintf("it is %s, and promotions may begin %s", clock, strings.Join(allowed, ", "))
}
