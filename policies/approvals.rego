# Enough people agreed: distinct ones by name, who may, to this very release,
# environment and configuration, not long ago, and none to their own.
package promote.gates.approvals

import data.promote.lib

# given are those whose approval counts, each once, whatever keys they used.
given contains vote.name if {
	some vote in input.approvals.votes
	vote.counts == true
	vote.name != ""
}

deny contains missing if {
	not lib.back
	too_few
}

# Going back does not wait for people: on-call at night is alone.
warn contains missing if {
	lib.back
	too_few
}

too_few if count(given) < input.approvals.required

missing := {
	"rule": "approvals/quorum",
	"message": sprintf("%s needs %d approvals of %s and has %s%s", [input.environment.name, input.approvals.required, input.release.version, have, passed_over]),
	"fix": fix,
}

have := sprintf("%d (%s)", [count(given), concat(", ", sort(given))]) if count(given) > 0

have := "none" if count(given) == 0

# What people signed and why it is not enough, so that nobody has to guess.
passed_over := sprintf("; %s", [concat("; ", sort(rejected))]) if count(rejected) > 0

passed_over := "" if count(rejected) == 0

rejected contains text if {
	some vote in input.approvals.votes
	not vote.name in given
	text := sprintf("record %d does not count: %s", [vote.sequence, vote.reason])
}

fix := sprintf("promote approve %s %s, by %s", [input.environment.name, lib.short(input.release.digest), concat(" or ", input.approvals.approvers)]) if {
	count(input.approvals.approvers) > 0
}

fix := "name more approvers under trust.approver: nobody is left who could approve it" if count(input.approvals.approvers) == 0
