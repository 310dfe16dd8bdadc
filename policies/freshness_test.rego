# What the freshness gate says about broken facts.
package promote.gates.freshness_test

import data.promote.gates.freshness
import data.promote.testdata

test_good if {
	count(freshness.deny | freshness.warn | freshness.unknown) == 0 with input as testdata.good
}

test_just_young_enough if {
	count(freshness.deny) == 0 with input as testdata.broken("/services/0/scan/ageSeconds", 86400)
}

test_old_scan if {
	denied := freshness.deny with input as testdata.broken("/services/0/scan/ageSeconds", 90060)
	testdata.rules(denied) == {"freshness/age"}
	some reason in denied
	contains(reason.message, "25 h 1 min")
	contains(reason.message, "24 h 0 min")
}

test_old_database if {
	testdata.rules(freshness.deny) == {"freshness/database"} with input as testdata.broken("/services/0/scan/database/ageSeconds", 86401)
}

test_going_back_does_not_wait_for_a_scanner if {
	facts := json.patch(testdata.broken("/services/0/scan/ageSeconds", 90060), [{"op": "replace", "path": "/kind", "value": "rollback"}])
	count(freshness.deny) == 0 with input as facts
	testdata.rules(freshness.warn) == {"freshness/age"} with input as facts
}

test_no_limit if {
	testdata.rules(freshness.deny) == {"freshness/limit", "freshness/age", "freshness/database"} with input as testdata.broken("/limits/maxAgeSeconds", 0)
}

test_no_scan if {
	testdata.rules(freshness.deny) == {"freshness/scan"} with input as testdata.without("/services/1/scan")
}

test_scan_to_come if {
	count(freshness.deny) == 0 with input as testdata.planned("/services/0/scan")
	testdata.rules(freshness.unknown) == {"freshness/scan"} with input as testdata.planned("/services/0/scan")
}

test_uncovered if {
	gap := object.union(testdata.finding("coverage", "debian 12"), {"title": "52 packages of debian 12 could not be judged"})
	testdata.rules(freshness.deny) == {"freshness/coverage"} with input as testdata.added("/services/0/scan/findings", gap)
	denied := freshness.deny with input as testdata.added("/services/0/match/findings", gap)
	some reason in denied
	contains(reason.message, "52 packages")
	contains(reason.fix, "debian 12")
}

test_waived_stays_visible if {
	gap := object.union(testdata.finding("coverage", "debian 12"), {"suppressedBy": "a demo"})
	facts := testdata.added("/services/0/scan/waived", gap)
	count(freshness.deny) == 0 with input as facts
	warned := freshness.warn with input as facts
	testdata.rules(warned) == {"freshness/waived"}
	some reason in warned
	contains(reason.message, "debian 12")
	contains(reason.message, "a demo")
}

test_going_back_to_an_old_database if {
	facts := testdata.also(testdata.good, {"/services/0/scan/database/ageSeconds": 90060, "/kind": "fix"})
	count(freshness.deny) == 0 with input as facts
	testdata.rules(freshness.warn) == {"freshness/database"} with input as facts
}

test_going_forward_is_not_warned if {
	facts := testdata.also(testdata.good, {"/services/0/scan/ageSeconds": 90060, "/services/0/scan/database/ageSeconds": 90060})
	testdata.rules(freshness.deny) == {"freshness/age", "freshness/database"} with input as facts
	count(freshness.warn) == 0 with input as facts
}

test_other_classes_are_not_ours if {
	secret := [testdata.finding("secret", "private-key")]
	facts := testdata.also(testdata.good, {"/services/0/scan/findings": secret, "/services/0/match/findings": secret, "/services/0/scan/waived": secret})
	count(freshness.deny | freshness.warn) == 0 with input as facts
}

test_unverified_contents_say_nothing if {
	gap := [testdata.finding("coverage", "debian 12")]
	facts := testdata.also(testdata.without("/services/0/scan"), {
		"/services/0/scan/findings": gap, "/services/0/scan/waived": gap,
		"/services/0/scan/ageSeconds": 90060, "/services/0/scan/database/ageSeconds": 90060,
	})
	testdata.rules(freshness.deny) == {"freshness/scan"} with input as facts
	count(freshness.warn) == 0 with input as facts
}
