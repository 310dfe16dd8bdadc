# A release has run long enough in the environment before, undisturbed.
package promote.gates.soak

import data.promote.lib

deny contains short if {
	not lib.back
	not input.resumed
	lacks
}

warn contains short if {
	lib.back
	lacks
}

warn contains short if {
	input.resumed
	lacks
}

# Where it does not run at all, the order gate says so.
lacks if {
	input.environment.after != ""
	input.history.deployedToAfter
	rest > 0
}

rest := input.history.requiredSoakSeconds - input.history.soakSeconds

short := {
	"rule": "soak/short",
	"message": sprintf("%s has run undisturbed in %s for %s of %s", [
		input.release.version, input.environment.after,
		lib.duration(input.history.soakSeconds), lib.duration(input.history.requiredSoakSeconds),
	]),
	"fix": sprintf("wait %s, then run it again", [lib.duration(rest)]),
}
