# What the secrets gate says about broken facts.
package promote.gates.secrets_test

import data.promote.gates.secrets
import data.promote.testdata

test_good if {
	count(secrets.deny | secrets.warn | secrets.unknown) == 0 with input as testdata.good
}

test_secret if {
	denied := secrets.deny with input as testdata.added("/services/0/scan/findings", testdata.finding("secret", "private-key"))
	testdata.rules(denied) == {"secrets/finding"}
	some reason in denied
	contains(reason.message, "private-key")
	contains(reason.message, "/app/key.pem")
	contains(reason.fix, "revoke")
}

test_layer if {
	finding := object.union(testdata.finding("secret", "private-key"), {"layer": "sha256:aabbccddeeff00112233"})
	denied := secrets.deny with input as testdata.added("/services/0/scan/findings", finding)
	some reason in denied
	contains(reason.message, "layer aabbccddeeff")
}

test_found_by_the_match if {
	count(secrets.deny) == 1 with input as testdata.added("/services/1/match/findings", testdata.finding("secret", "private-key"))
}

test_vulnerabilities_are_not_ours if {
	count(secrets.deny) == 0 with input as testdata.added("/services/0/scan/findings", testdata.finding("vulnerability", "CVE-2023-1"))
}

test_no_scan if {
	testdata.rules(secrets.deny) == {"secrets/scan"} with input as testdata.without("/services/1/scan")
}

test_scan_to_come if {
	count(secrets.deny) == 0 with input as testdata.planned("/services/0/scan")
	testdata.rules(secrets.unknown) == {"secrets/scan"} with input as testdata.planned("/services/0/scan")
}

test_waived_stays_visible if {
	finding := object.union(testdata.finding("secret", "private-key"), {"suppressedBy": "a test key"})
	warned := secrets.warn with input as testdata.added("/services/0/scan/waived", finding)
	some reason in warned
	contains(reason.message, "a test key")
}

test_other_classes_are_not_ours if {
	count(secrets.deny) == 0 with input as testdata.added("/services/0/match/findings", testdata.finding("vulnerability", "CVE-2023-1"))
	count(secrets.warn) == 0 with input as testdata.added("/services/0/scan/waived", testdata.finding("vulnerability", "CVE-2023-1"))
}

test_unverified_contents_say_nothing if {
	found := [testdata.finding("secret", "private-key")]
	facts := testdata.also(testdata.without("/services/0/scan"), {"/services/0/scan/findings": found, "/services/0/scan/waived": found})
	testdata.rules(secrets.deny) == {"secrets/scan"} with input as facts
	count(secrets.warn) == 0 with input as facts
}
