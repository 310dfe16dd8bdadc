# What the pinned gate says about broken facts.
package promote.gates.pinned_test

import data.promote.gates.pinned
import data.promote.testdata

test_good if {
	count(pinned.deny | pinned.warn | pinned.unknown) == 0 with input as testdata.good
}

test_base if {
	denied := pinned.deny with input as testdata.broken("/services/0/provenance/bases/0/pinned", false)
	testdata.rules(denied) == {"pinned/base"}
	some reason in denied
	contains(reason.message, "python:bookworm")
	contains(reason.fix, "promote pin")
}

test_external_image if {
	denied := pinned.deny with input as testdata.broken("/services/1/pinned", false)
	testdata.rules(denied) == {"pinned/image"}
}

test_built_image_by_tag if {
	denied := pinned.deny with input as testdata.broken("/services/0/pinned", false)
	testdata.rules(denied) == {"pinned/image"}
}

test_no_digest if {
	denied := pinned.deny with input as testdata.broken("/services/1/digest", "")
	testdata.rules(denied) == {"pinned/digest"}
}

test_no_provenance if {
	denied := pinned.deny with input as testdata.without("/services/0/provenance")
	testdata.rules(denied) == {"pinned/unknown"}
	some reason in denied
	contains(reason.message, "there is none")
}

test_provenance_to_come if {
	count(pinned.deny) == 0 with input as testdata.planned("/services/0/provenance")
	testdata.rules(pinned.unknown) == {"pinned/unknown"} with input as testdata.planned("/services/0/provenance")
}

test_scratch_is_shown if {
	facts := testdata.broken("/services/0/provenance/bases", [])
	count(pinned.deny) == 0 with input as facts
	testdata.rules(pinned.warn) == {"pinned/scratch"} with input as facts
}

test_unverified_contents_say_nothing if {
	facts := testdata.also(testdata.without("/services/0/provenance"), {"/services/0/provenance/bases/0/pinned": false})
	testdata.rules(pinned.deny) == {"pinned/unknown"} with input as facts
	count(pinned.warn) == 0 with input as testdata.also(testdata.without("/services/0/provenance"), {"/services/0/provenance/bases": []})
}
