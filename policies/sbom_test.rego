# What the sbom gate says about broken facts.
package promote.gates.sbom_test

import data.promote.gates.sbom
import data.promote.testdata

test_good if {
	count(sbom.deny | sbom.unknown) == 0 with input as testdata.good
}

test_missing if {
	testdata.rules(sbom.deny) == {"sbom/missing"} with input as testdata.without("/services/0/sbom")
	testdata.rules(sbom.deny) == {"sbom/missing"} with input as testdata.without("/services/1/sbom")
}

test_to_come if {
	count(sbom.deny) == 0 with input as testdata.planned("/services/0/sbom")
	testdata.rules(sbom.unknown) == {"sbom/missing"} with input as testdata.planned("/services/0/sbom")
}

test_empty if {
	testdata.rules(sbom.deny) == {"sbom/empty"} with input as testdata.broken("/services/1/sbom/components", 0)
}

test_unverified_contents_say_nothing if {
	facts := testdata.also(testdata.without("/services/0/sbom"), {"/services/0/sbom/components": 0})
	testdata.rules(sbom.deny) == {"sbom/missing"} with input as facts
}
