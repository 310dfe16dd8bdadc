package registry

import (
	"testing"
	"time"
)

// One fault at a time ends within a minute: each is cut short by one or two of
// the limits. The watch over an answer's header begins with the connection; what
// is tried again has failed at once each time.
func TestDeadlines(t *testing.T) {
	const minute = time.Minute
	l := Limits{}.withDefaults()
	pauses, pause := time.Duration(0), l.Pause
	for range l.Attempts - 1 {
		pauses += pause + pause/4
		pause *= 3
	}
	for name, worst := range map[string]time.Duration{
		"nobody takes the connection":             min(l.Dial, l.Header),
		"the handshake stalls":                    min(2*l.Dial, l.Header),
		"no answer":                               l.Header,
		"a challenge just in time, then silence":  2 * l.Header,
		"an answer a byte at a time":              l.Small,
		"a blob a byte at a time":                 l.Header + l.Window,
		"an upload that is not taken":             l.Header + l.Window,
		"an upload that is taken and not said so": l.Commit,
		"Retry-After":                             l.Wait,
		"500 for ever":                            pauses,
		"pages without end":                       l.Listing,
	} {
		if worst >= minute {
			t.Errorf("%s: ends after %s", name, worst)
		}
	}
	if l.Rate < 2 {
		t.Error("one byte a second is progress enough")
	}
}
