# The release ran under production's conditions: it answered, remembered, and
# stayed below its memory limits.
package promote.gates.smoke

import data.promote.lib

deny contains {"rule": "smoke/missing", "message": message, "fix": lib.again("tester")} if {
	lib.bad(input.smoke)
	message := sprintf("the smoke test does not count: %s", [lib.why(input.smoke)])
}

unknown contains {"rule": "smoke/missing", "message": "the release is still to be smoke-tested", "fix": "promote release does it"} if {
	lib.missing(input.smoke)
}

deny contains {"rule": "smoke/check", "message": message, "fix": "run promote smoke and read its log"} if {
	lib.verified(input.smoke)
	some check in input.smoke.failedChecks
	message := sprintf("check %s failed: %s", [check.name, check.detail])
}

deny contains {"rule": "smoke/result", "message": message, "fix": "run promote smoke and read its log"} if {
	lib.verified(input.smoke)
	not input.smoke.result in {"passed", "warned"}
	message := sprintf("the smoke test ended with %q", [input.smoke.result])
}

deny contains {"rule": "smoke/memory", "message": message, "fix": "find the leak, or raise the limit in every environment"} if {
	lib.verified(input.smoke)
	some service in input.smoke.services
	service.memory.limit > 0
	not service.oomKilled
	service.memory.peak >= service.memory.limit
	message := sprintf("%s reached its memory limit of %s: peak %s, slope %v bytes a second", [service.name, size(service.memory.limit), size(service.memory.peak), service.memory.slopePerSecond])
}

deny contains {"rule": "smoke/memory", "message": message, "fix": "find the leak, or raise the limit in every environment"} if {
	lib.verified(input.smoke)
	some service in input.smoke.services
	service.oomKilled
	message := sprintf("%s was killed for want of memory: limit %s, peak %s, slope %v bytes a second", [service.name, size(service.memory.limit), size(service.memory.peak), service.memory.slopePerSecond])
}

deny contains {"rule": "smoke/health", "message": message, "fix": "run promote smoke and read its log"} if {
	lib.verified(input.smoke)
	some service in input.smoke.services
	not service.healthy
	message := sprintf("%s was not healthy, restarts: %d", [service.name, service.restarts])
}

# A test that left a service out says nothing about it.
deny contains {"rule": "smoke/untested", "message": message, "fix": "add the service to the Compose files under smoke.files"} if {
	lib.verified(input.smoke)
	some service in lib.built
	not service.name in tested
	message := sprintf("%s was not part of the smoke test", [lib.of(service)])
}

tested contains service.name if some service in input.smoke.services

warn contains {"rule": "smoke/check", "message": message, "fix": "run promote smoke and read its log"} if {
	lib.verified(input.smoke)
	some check in input.smoke.warnedChecks
	message := sprintf("check %s: %s", [check.name, check.detail])
}

warn contains {"rule": "smoke/result", "message": "the smoke test ended with warnings", "fix": "run promote smoke and read its log"} if {
	lib.verified(input.smoke)
	input.smoke.result == "warned"
	count(input.smoke.warnedChecks) == 0
}

size(bytes) := sprintf("%d MiB", [round(bytes / 1048576)]) if bytes >= 1048576

size(bytes) := sprintf("%d bytes", [bytes]) if bytes < 1048576
