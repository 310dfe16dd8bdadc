# What several gates need. A gate must never pass because something is
# undefined: facts are complete, and absence is written as not verified.
package promote.lib

# built are the services that the project builds itself. An origin that nobody
# knows counts as built: more is asked of it.
built contains service if {
	some service in input.services
	service.origin != "external"
}

# missing: evidence was not found, and making it is still to come.
missing(proof) if {
	proof.absent == true
	proof.verified == false
	input.producible == true
}

# bad: evidence is there and cannot be relied on, or nobody will make it.
bad(proof) if {
	not verified(proof)
	not missing(proof)
}

verified(proof) if proof.verified == true

ranks := {"unknown": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}

# below: a severity that the limit lets through. An unknown word, on either
# side, is never below.
below(severity) if ranks[severity] < ranks[input.limits.failOn]

# of names a service in a message.
of(service) := sprintf("%s (%s)", [service.name, short(service.digest)])

short(digest) := substring(trim_prefix(digest, "sha256:"), 0, 12)

# why gives a proof's own words.
why(proof) := proof.reason if proof.reason != ""

why(proof) := "nobody says why" if proof.reason == ""

# again is what to do about evidence that does not count.
again(role) := sprintf("run promote release with a key that the trust policy names as %s", [role])

# span writes seconds for people.
span(seconds) := sprintf("%d h %d min", [floor(seconds / 3600), floor((seconds % 3600) / 60)])

# duration writes a shorter time for people, to the second.
duration(seconds) := sprintf("%d s", [seconds]) if seconds < 60

duration(seconds) := sprintf("%d min %d s", [floor(seconds / 60), seconds % 60]) if {
	seconds >= 60
	seconds < 3600
}

duration(seconds) := span(seconds) if seconds >= 3600

# back: the promotion brings back what was let into the environment before.
# Going back must not wait for a scanner, nor go through the environments again.
back if input.kind in {"rollback", "fix"}
