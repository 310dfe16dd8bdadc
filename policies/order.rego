# A release goes through the environments in order: it is released, and runs in
# the environment before. Going back is to what has run here.
package promote.gates.order

import data.promote.lib

# Whatever names an environment before it, or is not the first, is later.
later if not input.environment.first

later if input.environment.after != ""

deny contains {"rule": "order/released", "message": message, "fix": "run promote release"} if {
	later
	not input.history.released
	message := sprintf("the ledger has no released record of %s", [input.release.version])
}

deny contains {"rule": "order/after", "message": message, "fix": fix} if {
	later
	not lib.back
	not input.history.deployedToAfter
	message := sprintf("%s does not run in %q, which comes before %s", [input.release.version, input.environment.after, input.environment.name])
	fix := sprintf("promote --to %s", [input.environment.after])
}

# What is under way there, or was interrupted, is not settled.
deny contains {"rule": "order/open", "message": message, "fix": fix} if {
	later
	not lib.back
	input.history.afterOpen
	message := sprintf("a promotion to %s is under way or was interrupted: what runs there is not settled", [input.environment.after])
	fix := sprintf("wait for it, or promote resume %s", [input.environment.after])
}

# Only what was let in once may come back without going through the
# environments again.
deny contains {"rule": "order/back", "message": message, "fix": "promote log shows what has run there"} if {
	lib.back
	not input.history.ranHere
	message := sprintf("%s has never run in %s: there is no going back to it", [input.release.version, input.environment.name])
}

deny contains {"rule": "order/kind", "message": message, "fix": "use a current promote"} if {
	not input.kind in {"promote", "rollback", "fix"}
	message := sprintf("a promotion of kind %q is not known", [input.kind])
}

# Whatever was not built from a commit cannot be made again by anybody.
deny contains {"rule": "order/dirty", "message": message, "fix": "commit, then run promote release"} if {
	later
	input.release.dirty
	message := sprintf("%s was built from a tree with uncommitted changes; only the first environment takes that", [input.release.version])
}

warn contains {"rule": "order/dirty", "message": message, "fix": "commit, then run promote release"} if {
	not later
	input.release.dirty
	message := sprintf("%s was built from a tree with uncommitted changes; it goes no further than %s", [input.release.version, input.environment.name])
}
