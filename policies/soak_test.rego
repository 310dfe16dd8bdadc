# What the soak gate says about broken facts.
package promote.gates.soak_test

import data.promote.gates.soak
import data.promote.testdata

test_good if {
	count(soak.deny | soak.warn) == 0 with input as testdata.good
}

test_soak if {
	denied := soak.deny with input as testdata.broken("/history/soakSeconds", 3599)
	testdata.rules(denied) == {"soak/short"}
	some reason in denied
	contains(reason.message, "59 min 59 s of 1 h 0 min")
	contains(reason.fix, "wait 1 s")
	count(soak.deny) == 0 with input as testdata.broken("/history/soakSeconds", 3600)
}

# There is nothing to soak where the release does not run, and neither going
# back nor ending what was begun soaks again: it is only said.
test_soak_is_asked_once if {
	facts := testdata.also(testdata.good, {"/history/deployedToAfter": false, "/history/soakSeconds": 0})
	count(soak.deny | soak.warn) == 0 with input as facts
	first := {"name": "staging", "after": "", "first": true}
	count(soak.deny | soak.warn) == 0 with input as testdata.also(testdata.good, {"/environment": first, "/history/soakSeconds": 0})
	every later in [{"/kind": "rollback"}, {"/kind": "fix"}, {"/resumed": true}] {
		again := testdata.also(testdata.good, object.union({"/history/soakSeconds": 0}, later))
		count(soak.deny) == 0 with input as again
		testdata.rules(soak.warn) == {"soak/short"} with input as again
	}
}
