# What the vulnerabilities gate says about broken facts.
package promote.gates.vulnerabilities_test

import data.promote.gates.vulnerabilities
import data.promote.testdata

test_good if {
	count(vulnerabilities.deny | vulnerabilities.warn | vulnerabilities.unknown) == 0 with input as testdata.good
}

test_critical if {
	denied := vulnerabilities.deny with input as testdata.added("/services/0/scan/findings", testdata.finding("vulnerability", "CVE-2023-1"))
	testdata.rules(denied) == {"vulnerabilities/finding"}
	some reason in denied
	every part in ["agent", "CVE-2023-1", "critical", "langchain", "0.0.200", "0.0.312"] {
		contains(reason.message, part)
	}
	contains(reason.fix, "update langchain to 0.0.312")
}

test_without_a_fix if {
	finding := object.union(testdata.finding("vulnerability", "CVE-2023-1"), {"fixedIn": "", "path": ""})
	denied := vulnerabilities.deny with input as testdata.added("/services/1/scan/findings", finding)
	some reason in denied
	contains(reason.message, "not fixed yet")
	contains(reason.fix, "ignore file")
}

test_below_the_limit if {
	finding := object.union(testdata.finding("vulnerability", "CVE-2023-1"), {"severity": "high"})
	count(vulnerabilities.deny) == 0 with input as testdata.added("/services/0/scan/findings", finding)
}

test_words_that_nobody_knows if {
	finding := object.union(testdata.finding("vulnerability", "CVE-2023-1"), {"severity": "dreadful"})
	count(vulnerabilities.deny) == 1 with input as testdata.added("/services/0/scan/findings", finding)
	low := object.union(testdata.finding("vulnerability", "CVE-2023-1"), {"severity": "low"})
	facts := json.patch(testdata.added("/services/0/scan/findings", low), [{"op": "replace", "path": "/limits/failOn", "value": "severe"}])
	count(vulnerabilities.deny) == 1 with input as facts
	count(vulnerabilities.deny) == 1 with input as testdata.added("/services/0/scan/findings", testdata.finding("plague", "X-1"))
}

test_known_since if {
	denied := vulnerabilities.deny with input as testdata.added("/services/0/match/findings", testdata.finding("vulnerability", "CVE-2026-2"))
	some reason in denied
	contains(reason.message, "CVE-2026-2")
	contains(reason.message, "known since the scan")
}

test_one_finding_is_said_once if {
	finding := testdata.finding("vulnerability", "CVE-2023-1")
	facts := json.patch(testdata.added("/services/0/match/findings", finding), [{"op": "add", "path": "/services/0/scan/findings/-", "value": finding}])
	count(vulnerabilities.deny) == 1 with input as facts
}

# A match speaks although the scan does not count.
test_match_without_a_scan if {
	facts := json.patch(testdata.without("/services/0/scan"), [{"op": "add", "path": "/services/0/match/findings/-", "value": testdata.finding("vulnerability", "CVE-2026-2")}])
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/finding", "vulnerabilities/scan"} with input as facts
}

test_more if {
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/more"} with input as testdata.broken("/services/0/scan/omitted", 3)
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/more"} with input as testdata.broken("/services/0/match/omitted", 3)
}

test_the_scanners_own_word if {
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/result"} with input as testdata.broken("/services/0/scan/result", "failed")
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/result"} with input as testdata.broken("/services/0/scan/result", "")
}

test_no_scan if {
	denied := vulnerabilities.deny with input as testdata.without("/services/1/scan")
	testdata.rules(denied) == {"vulnerabilities/scan"}
	some reason in denied
	contains(reason.message, "there is none")
}

test_scan_to_come if {
	facts := testdata.planned("/services/0/scan")
	count(vulnerabilities.deny) == 0 with input as facts
	testdata.rules(vulnerabilities.unknown) == {"vulnerabilities/scan"} with input as facts
}

test_waived_stays_visible if {
	finding := object.union(testdata.finding("vulnerability", "CVE-2023-1"), {"suppressedBy": "not reachable"})
	facts := testdata.added("/services/0/scan/waived", finding)
	count(vulnerabilities.deny) == 0 with input as facts
	warned := vulnerabilities.warn with input as facts
	some reason in warned
	contains(reason.message, "not reachable")
}

test_other_classes_are_not_ours if {
	every class in ["secret", "coverage", "licence", "misconfiguration"] {
		count(vulnerabilities.deny) == 0 with input as testdata.added("/services/0/scan/findings", testdata.finding(class, "x"))
		count(vulnerabilities.deny) == 0 with input as testdata.added("/services/0/match/findings", testdata.finding(class, "x"))
		count(vulnerabilities.warn) == 0 with input as testdata.added("/services/0/scan/waived", testdata.finding(class, "x"))
	}
}

# The same id elsewhere in the image is another finding.
test_known_elsewhere if {
	finding := testdata.finding("vulnerability", "CVE-2023-1")
	every change in [{"id": "CVE-2023-2"}, {"package": "openssl"}, {"version": "9"}, {"path": "opt/x"}] {
		facts := testdata.also(testdata.good, {
			"/services/0/scan/findings": [finding],
			"/services/0/match/findings": [object.union(finding, change)],
		})
		count(vulnerabilities.deny) == 2 with input as facts
	}
}

test_unverified_contents_say_nothing if {
	finding := testdata.finding("vulnerability", "CVE-2023-1")
	facts := testdata.also(testdata.without("/services/0/scan"), {"/services/0/scan/findings": [finding], "/services/0/scan/waived": [finding]})
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/scan"} with input as facts
	count(vulnerabilities.warn) == 0 with input as facts
	testdata.rules(vulnerabilities.deny) == {"vulnerabilities/scan"} with input as testdata.also(testdata.without("/services/0/scan"), {"/services/0/scan/result": "failed"})
}

test_a_result_that_a_finding_explains_is_said_once if {
	facts := testdata.also(testdata.broken("/services/0/scan/result", "failed"), {"/services/0/scan/findings": [testdata.finding("secret", "key")]})
	count(vulnerabilities.deny) == 0 with input as facts
}
