# What the order gate says about broken facts.
package promote.gates.order_test

import data.promote.gates.order
import data.promote.testdata

test_good if {
	count(order.deny | order.warn) == 0 with input as testdata.good
}

first := {"name": "staging", "after": "", "first": true}

test_the_first_needs_no_history if {
	facts := json.patch(testdata.broken("/environment", first), [{"op": "replace", "path": "/history", "value": {"released": false, "deployedToAfter": false, "ranHere": false, "afterOpen": false, "soakSeconds": 0, "requiredSoakSeconds": 0}}])
	count(order.deny) == 0 with input as facts
}

test_not_released if {
	testdata.rules(order.deny) == {"order/released"} with input as testdata.broken("/history/released", false)
}

test_not_in_the_environment_before if {
	denied := order.deny with input as testdata.broken("/history/deployedToAfter", false)
	testdata.rules(denied) == {"order/after"}
	some reason in denied
	contains(reason.fix, "promote --to staging")
}

# An environment that calls itself first and names one before it is not first.
test_both_first_and_after if {
	facts := json.patch(testdata.broken("/history/deployedToAfter", false), [{"op": "replace", "path": "/environment/first", "value": true}])
	testdata.rules(order.deny) == {"order/after"} with input as facts
}

test_the_environment_before_is_settled if {
	denied := order.deny with input as testdata.broken("/history/afterOpen", true)
	testdata.rules(denied) == {"order/open"}
	some reason in denied
	contains(reason.fix, "promote resume staging")
	back := testdata.also(testdata.good, {"/kind": "rollback", "/history/ranHere": true, "/history/afterOpen": true})
	count(order.deny) == 0 with input as back
}

test_dirty_goes_nowhere if {
	testdata.rules(order.deny) == {"order/dirty"} with input as testdata.broken("/release/dirty", true)
}

test_dirty_is_shown_in_the_first if {
	facts := json.patch(testdata.broken("/release/dirty", true), [{"op": "replace", "path": "/environment", "value": first}])
	count(order.deny) == 0 with input as facts
	testdata.rules(order.warn) == {"order/dirty"} with input as facts
}

test_going_back if {
	every kind in ["rollback", "fix"] {
		back := json.patch(testdata.broken("/kind", kind), [
			{"op": "replace", "path": "/history/deployedToAfter", "value": false},
			{"op": "replace", "path": "/history/ranHere", "value": true},
		])
		count(order.deny) == 0 with input as back
		testdata.rules(order.deny) == {"order/back"} with input as testdata.broken("/kind", kind)
	}
}

test_a_kind_that_nobody_knows if {
	testdata.rules(order.deny) == {"order/kind"} with input as testdata.broken("/kind", "")
}

test_clean_is_not_warned if {
	count(order.warn) == 0 with input as testdata.broken("/environment", first)
	count(order.warn) == 0 with input as testdata.broken("/release/dirty", true)
}
