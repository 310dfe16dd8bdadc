package release

import (
	"slices"
	"time"
)

// FreezeFacts is a freeze that is in force.
type FreezeFacts struct {
	Sequence int64     `json:"sequence"` // of its record
	By       string    `json:"by"`       // who signed it, by name
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"` // zero: until it is lifted
	Reason   string    `json:"reason"`
}

// Thaw gives the freezes that are left of a list after somebody lifted them:
// an approver lifts all, whoever froze only their own. Names count, not keys.
func Thaw(frozen History, by Signer) History {
	if by.Has(Approver) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(frozen), func(e Entry) bool { return by.Name != "" && e.Signer.Name == by.Name })
}

// Frozen gives the freezes of an environment that nobody lifted and that are
// not over at a time, oldest first. Several hold side by side: none shortens
// another one.
func (h History) Frozen(environment string, now time.Time) History {
	var list History
	for _, e := range h {
		if e.Record.Environment != environment {
			continue
		}
		switch e.Record.Phase {
		case Frozen:
			list = append(list, e)
		case Unfrozen:
			list = Thaw(list, e.Signer)
		}
	}
	return slices.DeleteFunc(list, func(e Entry) bool { return !e.Record.Until.IsZero() && !now.Before(e.Record.Until) })
}

// FreezeFactsOf gives the freezes of an environment that are in force.
func FreezeFactsOf(h History, environment string, now time.Time) []FreezeFacts {
	list := []FreezeFacts{}
	for _, e := range h.Frozen(environment, now) {
		r := e.Record
		list = append(list, FreezeFacts{Sequence: r.Sequence, By: e.Signer.Name, Since: r.Time, Until: r.Until, Reason: r.Reason})
	}
	return list
}
