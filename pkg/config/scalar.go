package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is a frequency, in events a second: "20/s", "90/m", "1000/h".
type Rate float64

var rateUnits = map[string]float64{"s": 1, "m": 60, "h": 3600}

// UnmarshalText reads the text form. Zero and negative rates are errors.
func (r *Rate) UnmarshalText(b []byte) error {
	number, unit, _ := strings.Cut(string(b), "/")
	count, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	seconds, known := rateUnits[strings.TrimSpace(unit)]
	if err != nil || !known || !(count > 0 && count <= 1e6) {
		return fmt.Errorf("expected a rate such as 20/s, 90/m or 1000/h, got %.40q", b)
	}
	*r = Rate(count / seconds)
	return nil
}

// Scalar is a text, a number, or true or false, as it is written.
type Scalar string

// UnmarshalText takes the text form.
func (s *Scalar) UnmarshalText(b []byte) error {
	*s = Scalar(b)
	return nil
}

// Day is the beginning of a day in UTC, or an instant.
type Day struct{ time.Time }

// LastDay is the last second of a day in UTC, or an instant.
type LastDay struct{ time.Time }

// UnmarshalText reads 2006-01-02 or RFC 3339.
func (d *LastDay) UnmarshalText(b []byte) error {
	var day Day
	if err := day.UnmarshalText(b); err != nil {
		return err
	}
	d.Time = day.Time
	if len(b) == len(time.DateOnly) {
		d.Time = day.Add(24*time.Hour - time.Second)
	}
	return nil
}

// UnmarshalText reads 2006-01-02 or RFC 3339.
func (d *Day) UnmarshalText(b []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(b)); err == nil {
			d.Time = t.UTC()
			return nil
		}
	}
	return fmt.Errorf("expected a day such as 2027-01-31, got %.40q", b)
}
