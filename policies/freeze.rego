# Nothing new comes in while somebody holds the environment still.
package promote.gates.freeze

import data.promote.lib

deny contains frozen(freeze) if {
	not lib.back
	some freeze in input.freezes
}

# A freeze keeps what runs; going back to what ran is not held up by it.
warn contains frozen(freeze) if {
	lib.back
	some freeze in input.freezes
}

frozen(freeze) := {
	"rule": "freeze/frozen",
	"message": sprintf("%s is frozen until %s by %s (record %d): %s", [input.environment.name, end(freeze), freeze.by, freeze.sequence, freeze.reason]),
	"fix": sprintf("wait, or let %s or an approver lift it: promote unfreeze %s", [freeze.by, input.environment.name]),
}

end(freeze) := freeze.until if not endless(freeze)

end(freeze) := "somebody lifts it" if endless(freeze)

endless(freeze) if freeze.until == "0001-01-01T00:00:00Z"
