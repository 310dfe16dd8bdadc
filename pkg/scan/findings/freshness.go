package findings

import (
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// skew is how far the clock of whoever made a database may run ahead of ours.
const skew = 5 * time.Minute

// CheckAge reports why a database is too old, or too young, to judge by: more
// than most behind now, or from the future. A most of zero or less accepts
// nothing. The fault is KindDenied: the database says so itself, and trying
// again does not help.
func CheckAge(d release.Database, most time.Duration, now time.Time) error {
	const update = "run promote db update; if the repository itself is behind, find out why its updates stopped"
	switch {
	case d.UpdatedAt.IsZero():
		return release.Denied(update, "the vulnerability database does not say of when it is")
	case d.UpdatedAt.After(now.Add(skew)):
		return release.Denied("check this machine's clock; if it is right, the database is forged or broken",
			"the vulnerability database is dated %s, in the future", d.UpdatedAt.UTC().Format(time.RFC3339))
	case now.Sub(d.UpdatedAt) > most:
		return release.Denied(update, "the vulnerability database is of %s, %s ago; the limit is %s",
			d.UpdatedAt.UTC().Format(time.RFC3339), now.Sub(d.UpdatedAt).Round(time.Minute), most)
	}
	return nil
}

// NeedsUpdate reports whether a newer database should be asked for: the one at
// hand is past its own next update or half way to too old, and nobody asked
// within the last hour.
func NeedsUpdate(d release.Database, next, asked time.Time, most time.Duration, now time.Time) bool {
	const interval = time.Hour
	if age := now.Sub(d.UpdatedAt); age > most || age < -skew {
		return true
	}
	if now.Sub(asked) < interval && !now.Before(asked) {
		return false
	}
	return !now.Before(next) || now.Sub(d.UpdatedAt) > most/2
}
