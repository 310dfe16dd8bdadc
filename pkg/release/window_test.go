package release

import (
	"strings"
	"testing"
	"time"
)

func window(t *testing.T, text, zone string) Window {
	t.Helper()
	span, deny := strings.CutPrefix(text, "not ")
	w, err := NewWindow(deny, span, zone)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWindows(t *testing.T) {
	// 2026-11-16 is a Monday. Berlin's clocks jump from 02:00 to 03:00 on
	// 2026-03-29 at 01:00Z, and back from 03:00 to 02:00 on 2026-10-25 at 01:00Z.
	for name, c := range map[string]struct {
		zone    string
		windows string // separated by semicolons
		at      string
		open    bool
		changes string // as it is shown; empty: never
	}{
		"no window":             {"UTC", "", "2026-11-16T03:00:00Z", true, ""},
		"the first minute":      {"UTC", "Mon-Thu 09:00-16:00", "2026-11-16T09:00:00Z", true, "Mon 2026-11-16 16:00 UTC"},
		"before it":             {"UTC", "Mon-Thu 09:00-16:00", "2026-11-16T08:59:59.999Z", false, "Mon 2026-11-16 09:00 UTC"},
		"the last second":       {"UTC", "Mon-Thu 09:00-16:00", "2026-11-16T15:59:59Z", true, "Mon 2026-11-16 16:00 UTC"},
		"the end is outside":    {"UTC", "Mon-Thu 09:00-16:00", "2026-11-16T16:00:00Z", false, "Tue 2026-11-17 09:00 UTC"},
		"over the weekend":      {"UTC", "Mon-Thu 09:00-16:00", "2026-11-20T12:00:00Z", false, "Mon 2026-11-23 09:00 UTC"},
		"another zone":          {"America/New_York", "Mon 09:00-10:00", "2026-11-16T14:30:00Z", true, "Mon 2026-11-16 10:00 EST"},
		"another zone, closed":  {"America/New_York", "Mon 09:00-10:00", "2026-11-16T09:30:00Z", false, "Mon 2026-11-16 09:00 EST"},
		"half an hour off":      {"Asia/Kolkata", "Mon 09:00-10:00", "2026-11-16T03:30:00Z", true, "Mon 2026-11-16 10:00 IST"},
		"another day there":     {"Pacific/Auckland", "Tue 09:00-10:00", "2026-11-16T20:15:00Z", true, "Tue 2026-11-17 10:00 NZDT"},
		"the whole day":         {"UTC", "Sun 00:00-24:00", "2026-11-22T23:59:59Z", true, "Mon 2026-11-23 00:00 UTC"},
		"days that wrap":        {"UTC", "Sat-Mon 08:00-09:00", "2026-11-22T08:30:00Z", true, "Sun 2026-11-22 09:00 UTC"},
		"two allow":             {"UTC", "Mon 09:00-10:00;Mon 10:00-11:00", "2026-11-16T10:00:00Z", true, "Mon 2026-11-16 11:00 UTC"},
		"deny beats allow":      {"UTC", "00:00-24:00;not Fri 15:00-24:00", "2026-11-20T15:00:00Z", false, "Sat 2026-11-21 00:00 UTC"},
		"deny comes first":      {"UTC", "not Fri 15:00-24:00;00:00-24:00", "2026-11-20T15:00:00Z", false, "Sat 2026-11-21 00:00 UTC"},
		"deny only":             {"UTC", "not Sat,Sun 00:00-24:00", "2026-11-20T15:00:00Z", true, "Sat 2026-11-21 00:00 UTC"},
		"deny only, within":     {"UTC", "not Sat,Sun 00:00-24:00", "2026-11-21T15:00:00Z", false, "Mon 2026-11-23 00:00 UTC"},
		"never open":            {"UTC", "Mon 09:00-10:00;not 00:00-24:00", "2026-11-16T09:30:00Z", false, ""},
		"over midnight":         {"UTC", "Fri 22:00-Sat 02:00", "2026-11-21T01:59:00Z", true, "Sat 2026-11-21 02:00 UTC"},
		"over midnight, before": {"UTC", "Fri 22:00-Sat 02:00", "2026-11-20T21:59:59Z", false, "Fri 2026-11-20 22:00 UTC"},
		"over midnight, behind": {"UTC", "Fri 22:00-Sat 02:00", "2026-11-21T02:00:00Z", false, "Fri 2026-11-27 22:00 UTC"},
		"over the week's end":   {"UTC", "Sun 22:00-Mon 02:00", "2026-11-16T01:00:00Z", true, "Mon 2026-11-16 02:00 UTC"},
		"a long weekend":        {"UTC", "not Fri 12:00-Mon 08:00", "2026-11-22T12:00:00Z", false, "Mon 2026-11-23 08:00 UTC"},
		"to midnight":           {"UTC", "Sun 22:00-Sun 24:00", "2026-11-22T23:00:00Z", true, "Mon 2026-11-23 00:00 UTC"},

		// The clocks jump over 02:00-03:00: a window of just that hour has no
		// instant on that day.
		"the gap, before":      {"Europe/Berlin", "Sun 02:00-03:00", "2026-03-29T00:59:59Z", false, "Sun 2026-04-05 02:00 CEST"},
		"the gap, behind":      {"Europe/Berlin", "Sun 02:00-03:00", "2026-03-29T01:00:00Z", false, "Sun 2026-04-05 02:00 CEST"},
		"it begins in the gap": {"Europe/Berlin", "Sun 02:30-04:00", "2026-03-29T00:30:00Z", false, "Sun 2026-03-29 03:00 CEST"},
		"half of it is left":   {"Europe/Berlin", "Sun 02:30-04:00", "2026-03-29T01:00:00Z", true, "Sun 2026-03-29 04:00 CEST"},
		"it ends in the gap":   {"Europe/Berlin", "Sun 01:00-02:30", "2026-03-29T00:59:59Z", true, "Sun 2026-03-29 03:00 CEST"},
		"deny over the gap":    {"Europe/Berlin", "not Sun 00:00-06:00", "2026-03-29T03:59:00Z", false, "Sun 2026-03-29 06:00 CEST"},
		// The clocks show 02:00-03:00 twice: both hours count.
		"the first time":   {"Europe/Berlin", "Sun 02:00-03:00", "2026-10-25T00:30:00Z", true, "Sun 2026-10-25 03:00 CET"},
		"the second time":  {"Europe/Berlin", "Sun 02:00-03:00", "2026-10-25T01:30:00Z", true, "Sun 2026-10-25 03:00 CET"},
		"half of it twice": {"Europe/Berlin", "Sun 02:30-03:00", "2026-10-25T00:45:00Z", true, "Sun 2026-10-25 02:00 CET"},
		"between the two":  {"Europe/Berlin", "Sun 02:30-03:00", "2026-10-25T01:15:00Z", false, "Sun 2026-10-25 02:30 CET"},
		// The same hour of the day, whatever is added to UTC.
		"winter": {"Europe/Berlin", "Mon-Thu 09:00-16:00", "2026-11-16T08:00:00Z", true, "Mon 2026-11-16 16:00 CET"},
		"summer": {"Europe/Berlin", "Mon-Thu 09:00-16:00", "2026-07-13T07:00:00Z", true, "Mon 2026-07-13 16:00 CEST"},
	} {
		t.Run(name, func(t *testing.T) {
			var windows []Window
			for text := range strings.SplitSeq(c.windows, ";") {
				if text != "" {
					windows = append(windows, window(t, text, c.zone))
				}
			}
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			got := WindowFactsOf(windows, at)
			if got.Open != c.open || got.Changes != c.changes || got.ChangesAt.IsZero() != (c.changes == "") || got.Open != (got.Why == "") {
				t.Errorf("got %+v", got)
			}
			if !got.ChangesAt.IsZero() && WindowFactsOf(windows, got.ChangesAt).Open == got.Open {
				t.Errorf("at %s nothing changes", got.ChangesAt)
			}
			if !got.ChangesAt.IsZero() && WindowFactsOf(windows, got.ChangesAt.Add(-time.Second)).Open != got.Open {
				t.Errorf("it changes before %s", got.ChangesAt)
			}
		})
	}
}

func TestAWindowSaysWhyItIsClosed(t *testing.T) {
	at := time.Date(2026, 11, 20, 16, 30, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"Mon-Thu 09:00-16:00": "it is Fri 17:30 CET, and promotions may begin Mon-Thu 09:00-16:00 (Europe/Berlin)",
		"not Fri 15:00-24:00": "it is Fri 17:30 CET, and promotions may not begin Fri 15:00-24:00 (Europe/Berlin)",
	} {
		if got := WindowFactsOf([]Window{window(t, text, "Europe/Berlin")}, at).Why; got != want {
			t.Errorf("got %q", got)
		}
	}
}

func TestWindowsThatMeanNothing(t *testing.T) {
	for span, want := range map[string]string{
		"": "days and times", "Mon": "days and times", "Mon 9:00-16:00": "days and times", "mon 09:00-16:00": "days out of",
		"Mon 16:00-09:00": "is not later", "Mon 09:00-09:00": "is not later", "Mon 09:00-24:01": "24:00, got 24:01", "Mon 23:60-24:00": "got 23:60",
		"Fri 22:00-Fri 22:00": "where it begins", "Fri 22:00-Samstag 02:00": "days out of", "Mon,,Tue 09:00-10:00": "days out of", "Mon- 09:00-10:00": "days out of",
		"Sun 24:00-Mon 00:00": "where it begins",
	} {
		if _, err := NewWindow(false, span, "UTC"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", span, err, want)
		}
	}
	for _, zone := range []string{"Europe/Atlantis", "Local", "CEST/now", "../etc/passwd"} {
		if _, err := NewWindow(false, "00:00-24:00", zone); err == nil {
			t.Errorf("zone %q is taken", zone)
		}
	}
	// A window that nobody made holds nothing, and as a denial everything.
	if WindowFactsOf([]Window{{}}, time.Now()).Open || WindowFactsOf([]Window{{Deny: true}}, time.Now()).Open {
		t.Error("a window without a meaning is open")
	}
}
