# What the approvals gate says about broken facts.
package promote.gates.approvals_test

import data.promote.gates.approvals
import data.promote.testdata

test_good if {
	count(approvals.deny | approvals.warn) == 0 with input as testdata.good
}

test_one_is_missing if {
	denied := approvals.deny with input as testdata.also(testdata.good, {
		"/approvals/votes/0/counts": false,
		"/approvals/votes/0/reason": "it ended at 2026-01-01T00:00:00Z",
	})
	testdata.rules(denied) == {"approvals/quorum"}
	some reason in denied
	contains(reason.message, "needs 2 approvals of 1.0.0 and has 1 (alice); record 6 does not count: it ended at")
	contains(reason.fix, "promote approve production eeeeeeeeeeee, by carol")
}

# Two keys of one name are one party, and nobody is no party.
test_names_count if {
	testdata.rules(approvals.deny) == {"approvals/quorum"} with input as testdata.broken("/approvals/votes/0/name", "alice")
	testdata.rules(approvals.deny) == {"approvals/quorum"} with input as testdata.broken("/approvals/votes/0/name", "")
}

# What Go counted is not believed over the votes themselves.
test_the_votes_decide if {
	testdata.rules(approvals.deny) == {"approvals/quorum"} with input as testdata.broken("/approvals/votes", [])
}

test_nobody_is_left if {
	denied := approvals.deny with input as testdata.also(testdata.good, {"/approvals/votes": [], "/approvals/approvers": []})
	some reason in denied
	contains(reason.message, "has none")
	contains(reason.fix, "trust.approver")
}

test_none_needed if {
	count(approvals.deny) == 0 with input as testdata.also(testdata.good, {"/approvals/votes": [], "/approvals/required": 0})
}

test_resuming_needs_them_still if {
	testdata.rules(approvals.deny) == {"approvals/quorum"} with input as testdata.also(testdata.good, {"/approvals/votes": [], "/resumed": true})
}

test_going_back_does_not_wait if {
	every kind in ["rollback", "fix"] {
		facts := testdata.also(testdata.good, {"/approvals/votes": [], "/kind": kind})
		count(approvals.deny) == 0 with input as facts
		testdata.rules(approvals.warn) == {"approvals/quorum"} with input as facts
	}
}
