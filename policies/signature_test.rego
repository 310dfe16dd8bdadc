# What the signature gate says about broken facts.
package promote.gates.signature_test

import data.promote.gates.signature
import data.promote.testdata

test_good if {
	count(signature.deny | signature.unknown) == 0 with input as testdata.good
}

test_no_signature if {
	denied := signature.deny with input as testdata.without("/services/0/signature")
	testdata.rules(denied) == {"signature/signature"}
	some reason in denied
	contains(reason.message, "there is none")
}

test_no_provenance if {
	testdata.rules(signature.deny) == {"signature/provenance"} with input as testdata.without("/services/0/provenance")
}

test_another_commit if {
	testdata.rules(signature.deny) == {"signature/revision"} with input as testdata.broken("/services/0/provenance/revision", "badcafe")
}

test_no_commit_at_all if {
	facts := json.patch(testdata.broken("/services/0/provenance/revision", ""), [{"op": "replace", "path": "/release/revision", "value": ""}])
	testdata.rules(signature.deny) == {"signature/revision"} with input as facts
}

test_dirty_is_of_no_commit if {
	facts := json.patch(testdata.broken("/services/0/provenance/revision", ""), [{"op": "replace", "path": "/release/dirty", "value": true}])
	count(signature.deny) == 0 with input as facts
}

test_to_come if {
	facts := json.patch(testdata.planned("/services/0/provenance"), [
		{"op": "replace", "path": "/services/0/signature/verified", "value": false},
		{"op": "replace", "path": "/services/0/signature/absent", "value": true},
	])
	count(signature.deny) == 0 with input as facts
	testdata.rules(signature.unknown) == {"signature/signature", "signature/provenance"} with input as facts
}

# Evidence that is there and bad is never unknown.
test_bad_in_a_plan if {
	facts := json.patch(testdata.planned("/services/0/signature"), [{"op": "replace", "path": "/services/0/signature/absent", "value": false}])
	testdata.rules(signature.deny) == {"signature/signature"} with input as facts
	count(signature.unknown) == 0 with input as facts
}

test_unknown_origin_is_asked_for_everything if {
	testdata.rules(signature.deny) == {"signature/origin", "signature/signature", "signature/provenance"} with input as testdata.broken("/services/1/origin", "found")
}

test_verified_is_not_missing if {
	facts := testdata.also(testdata.good, {"/producible": true, "/services/0/signature/absent": true})
	count(signature.unknown | signature.deny) == 0 with input as facts
}
