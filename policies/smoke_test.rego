# What the smoke gate says about broken facts.
package promote.gates.smoke_test

import data.promote.gates.smoke
import data.promote.testdata

test_good if {
	count(smoke.deny | smoke.warn | smoke.unknown) == 0 with input as testdata.good
}

test_missing if {
	denied := smoke.deny with input as testdata.without("/smoke")
	testdata.rules(denied) == {"smoke/missing"}
	some reason in denied
	contains(reason.message, "there is none")
}

test_to_come if {
	count(smoke.deny) == 0 with input as testdata.planned("/smoke")
	testdata.rules(smoke.unknown) == {"smoke/missing"} with input as testdata.planned("/smoke")
}

test_result if {
	every word in ["failed", "unknown", ""] {
		testdata.rules(smoke.deny) == {"smoke/result"} with input as testdata.broken("/smoke/result", word)
	}
}

test_failed_check if {
	denied := smoke.deny with input as testdata.added("/smoke/failedChecks", {"name": "remembers", "result": "failed", "detail": "forgot 3 of 3"})
	testdata.rules(denied) == {"smoke/check"}
	some reason in denied
	contains(reason.message, "remembers failed: forgot 3 of 3")
}

# Whatever smoke learns to look at denies by its check, without another rule.
test_failed_built_in_checks if {
	every name in ["parity/production/planner", "state/planner/memory", "installs/planner", "writes/planner", "drains/planner", "unprivileged/planner"] {
		denied := smoke.deny with input as testdata.added("/smoke/failedChecks", {"name": name, "result": "failed", "detail": "why"})
		testdata.rules(denied) == {"smoke/check"}
		some reason in denied
		contains(reason.message, sprintf("%s failed: why", [name]))
	}
}

test_warned if {
	facts := testdata.broken("/smoke/result", "warned")
	count(smoke.deny) == 0 with input as facts
	testdata.rules(smoke.warn) == {"smoke/result"} with input as facts
	checks := json.patch(facts, [{"op": "add", "path": "/smoke/warnedChecks/-", "value": {"name": "growth/agent", "result": "warned", "detail": "a little"}}])
	testdata.rules(smoke.warn) == {"smoke/check"} with input as checks
}

test_memory_at_the_limit if {
	denied := smoke.deny with input as testdata.broken("/smoke/services/0/memory/peak", 134217728)
	testdata.rules(denied) == {"smoke/memory"}
	some reason in denied
	contains(reason.message, "128 MiB")
	count(smoke.deny) == 0 with input as testdata.broken("/smoke/services/0/memory/peak", 134217727)
}

test_killed if {
	denied := smoke.deny with input as testdata.broken("/smoke/services/1/oomKilled", true)
	testdata.rules(denied) == {"smoke/memory"}
	some reason in denied
	contains(reason.message, "redis was killed")
}

test_unhealthy if {
	testdata.rules(smoke.deny) == {"smoke/health"} with input as testdata.broken("/smoke/services/1/healthy", false)
}

test_left_out if {
	testdata.rules(smoke.deny) == {"smoke/untested"} with input as testdata.broken("/smoke/services/0/name", "other")
}

# What is not verified is not quoted: one mistake, one reason.
test_unverified_contents_say_nothing if {
	facts := testdata.also(testdata.without("/smoke"), {
		"/smoke/result": "warned",
		"/smoke/failedChecks": [{"name": "a", "result": "failed", "detail": ""}],
		"/smoke/warnedChecks": [{"name": "b", "result": "warned", "detail": ""}],
		"/smoke/services/0/name": "other",
		"/smoke/services/0/healthy": false,
		"/smoke/services/0/oomKilled": true,
		"/smoke/services/1/memory/peak": 67108864,
	})
	testdata.rules(smoke.deny) == {"smoke/missing"} with input as facts
	count(smoke.warn) == 0 with input as facts
	testdata.rules(smoke.deny) == {"smoke/missing"} with input as testdata.also(facts, {"/smoke/result": "failed"})
}

test_killed_is_said_once if {
	facts := testdata.also(testdata.good, {"/smoke/services/0/oomKilled": true, "/smoke/services/0/memory/peak": 134217728})
	count(smoke.deny) == 1 with input as facts
}

test_without_a_limit if {
	count(smoke.deny) == 0 with input as testdata.broken("/smoke/services/0/memory/limit", 0)
}
