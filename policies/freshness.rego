# A scan says what was known on its day: it and its database are young enough,
# and the database knows the image's distribution.
package promote.gates.freshness

import data.promote.lib

deny contains {"rule": "freshness/scan", "message": message, "fix": lib.again("scanner")} if {
	some service in input.services
	lib.bad(service.scan)
	message := sprintf("how fresh the scan of %s is is not known: %s", [lib.of(service), lib.why(service.scan)])
}

unknown contains {"rule": "freshness/scan", "message": message, "fix": "promote release scans it"} if {
	some service in input.services
	lib.missing(service.scan)
	message := sprintf("%s is still to be scanned", [lib.of(service)])
}

deny contains old_scan(service) if {
	some service in input.services
	not lib.back
	too_old(service.scan, service.scan.ageSeconds)
}

deny contains old_database(service) if {
	some service in input.services
	not lib.back
	too_old(service.scan, service.scan.database.ageSeconds)
}

warn contains old_scan(service) if {
	some service in input.services
	lib.back
	too_old(service.scan, service.scan.ageSeconds)
}

warn contains old_database(service) if {
	some service in input.services
	lib.back
	too_old(service.scan, service.scan.database.ageSeconds)
}

deny contains {"rule": "freshness/limit", "message": "no maximum age of scans is set: every scan would do", "fix": "set scan.maxAge in promote.yaml"} if {
	input.limits.maxAgeSeconds <= 0
}

deny contains uncovered(service, finding) if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.findings
	finding.class == "coverage"
}

deny contains uncovered(service, finding) if {
	some service in input.services
	service.match.made
	some finding in service.match.findings
	finding.class == "coverage"
}

warn contains {"rule": "freshness/waived", "message": message, "fix": "use a database that covers it"} if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.waived
	finding.class == "coverage"
	message := sprintf("%s: %s; waived: %s", [lib.of(service), gap(finding), finding.suppressedBy])
}

uncovered(service, finding) := {
	"rule": "freshness/coverage",
	"message": sprintf("%s: %s", [lib.of(service), gap(finding)]),
	"fix": sprintf("use a database that covers %s, or waive it under scan.waive with a statement and an expiry", [finding.id]),
}

gap(finding) := finding.title if finding.title != ""

gap(finding) := sprintf("the database does not cover %s", [finding.id]) if finding.title == ""

too_old(scan, age) if {
	lib.verified(scan)
	age > input.limits.maxAgeSeconds
}

old_scan(service) := {
	"rule": "freshness/age",
	"message": sprintf("the scan of %s is %s old, the limit is %s", [lib.of(service), lib.span(service.scan.ageSeconds), lib.span(input.limits.maxAgeSeconds)]),
	"fix": "scan it again: promote release",
}

old_database(service) := {
	"rule": "freshness/database",
	"message": sprintf("the scan of %s used a database that is %s old, the limit is %s", [lib.of(service), lib.span(service.scan.database.ageSeconds), lib.span(input.limits.maxAgeSeconds)]),
	"fix": "run promote db update, then scan it again: promote release",
}
