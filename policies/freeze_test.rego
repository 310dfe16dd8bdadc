# What the freeze gate says about broken facts.
package promote.gates.freeze_test

import data.promote.gates.freeze
import data.promote.testdata

held := {"sequence": 7, "by": "ops", "since": "2026-01-01T00:00:00Z", "until": "2026-01-05T00:00:00Z", "reason": "new year"}

endless := object.union(held, {"sequence": 8, "until": "0001-01-01T00:00:00Z"})

test_good if {
	count(freeze.deny | freeze.warn) == 0 with input as testdata.good
}

test_frozen if {
	denied := freeze.deny with input as testdata.broken("/freezes", [held])
	testdata.rules(denied) == {"freeze/frozen"}
	some reason in denied
	contains(reason.message, "until 2026-01-05T00:00:00Z by ops (record 7): new year")
	contains(reason.fix, "promote unfreeze production")
}

test_each_freeze_is_said if {
	denied := freeze.deny with input as testdata.broken("/freezes", [held, endless])
	count(denied) == 2
	some reason in denied
	contains(reason.message, "until somebody lifts it")
}

# A freeze since the beginning undoes what was interrupted.
test_resuming_is_held_up if {
	testdata.rules(freeze.deny) == {"freeze/frozen"} with input as testdata.also(testdata.good, {"/freezes": [held], "/resumed": true})
}

test_going_back_is_not_held_up if {
	every kind in ["rollback", "fix"] {
		facts := testdata.also(testdata.good, {"/freezes": [held], "/kind": kind})
		count(freeze.deny) == 0 with input as facts
		testdata.rules(freeze.warn) == {"freeze/frozen"} with input as facts
	}
}
