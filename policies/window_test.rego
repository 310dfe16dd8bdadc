# What the window gate says about broken facts.
package promote.gates.window_test

import data.promote.gates.window
import data.promote.testdata

shut := {"open": false, "why": "it is Fri 17:00 CET", "changesAt": "2026-01-05T08:00:00Z", "changes": "Mon 2026-01-05 09:00 CET"}

test_good if {
	count(window.deny | window.warn) == 0 with input as testdata.good
}

test_closed_says_when_it_opens if {
	denied := window.deny with input as testdata.broken("/window", shut)
	testdata.rules(denied) == {"window/closed"}
	some reason in denied
	contains(reason.message, "Fri 17:00 CET")
	contains(reason.fix, "Mon 2026-01-05 09:00 CET")
}

test_closed_for_ever if {
	denied := window.deny with input as testdata.broken("/window", object.union(shut, {"changes": ""}))
	some reason in denied
	contains(reason.fix, "environments.production.windows")
}

# At night one can go back, and end what was begun.
test_what_does_not_wait if {
	every later in [{"/kind": "rollback"}, {"/kind": "fix"}, {"/resumed": true}] {
		facts := testdata.also(testdata.good, object.union({"/window": shut}, later))
		count(window.deny) == 0 with input as facts
		testdata.rules(window.warn) == {"window/closed"} with input as facts
	}
}
