# What the user gate says about broken facts.
package promote.gates.user_test

import data.promote.gates.user
import data.promote.testdata

test_good if {
	count(user.deny | user.unknown) == 0 with input as testdata.good
}

test_root if {
	denied := user.deny with input as testdata.broken("/services/0/config/nonRoot", false)
	testdata.rules(denied) == {"user/root"}
	some reason in denied
	contains(reason.fix, "USER")
}

test_external_root if {
	denied := user.deny with input as testdata.broken("/services/1/config/nonRoot", false)
	testdata.rules(denied) == {"user/root"}
	some reason in denied
	contains(reason.fix, "user: for redis")
}

test_not_known if {
	denied := user.deny with input as testdata.broken("/services/0/config/known", false)
	testdata.rules(denied) == {"user/unknown"}
}

test_not_built_yet if {
	facts := json.patch(testdata.planned("/services/0/provenance"), [{"op": "replace", "path": "/services/0/config/known", "value": false}])
	count(user.deny) == 0 with input as facts
	testdata.rules(user.unknown) == {"user/unknown"} with input as facts
}

# An external image is there already: nothing is still to be made.
test_external_not_known_in_a_plan if {
	facts := json.patch(testdata.planned("/services/1/provenance"), [{"op": "replace", "path": "/services/1/config/known", "value": false}])
	testdata.rules(user.deny) == {"user/unknown"} with input as facts
}

test_not_known_is_said_once if {
	facts := testdata.also(testdata.good, {"/services/0/config/known": false, "/services/0/config/nonRoot": false})
	testdata.rules(user.deny) == {"user/unknown"} with input as facts
}

test_what_is_known_is_not_unknown if {
	count(user.unknown) == 0 with input as testdata.planned("/services/0/provenance")
}
