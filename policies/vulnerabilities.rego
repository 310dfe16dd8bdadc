# No known vulnerability at or above the threshold, by the signed scan and, if
# one was made for this decision, by a fresh look with today's database.
package promote.gates.vulnerabilities

import data.promote.lib

deny contains reason(service, finding, "") if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.findings
	matters(finding)
}

# What the signed scan did not know yet.
deny contains reason(service, finding, ", known since the scan") if {
	some service in input.services
	service.match.made
	some finding in service.match.findings
	matters(finding)
	not scanned(service, finding)
}

# A list that was cut short still counts as a whole.
deny contains {"rule": "vulnerabilities/more", "message": message, "fix": "promote scan lists them all"} if {
	some service in input.services
	omitted := max([service.scan.omitted, service.match.omitted])
	omitted > 0
	message := sprintf("%s has %d findings more", [lib.of(service), omitted])
}

# The scanner's own word counts, also where no finding explains it.
deny contains {"rule": "vulnerabilities/result", "message": message, "fix": "promote scan says why"} if {
	some service in input.services
	lib.verified(service.scan)
	not service.scan.result in {"passed", "warned"}
	count(service.scan.findings) == 0
	message := sprintf("the scan of %s ended with %q", [lib.of(service), service.scan.result])
}

deny contains {"rule": "vulnerabilities/scan", "message": message, "fix": lib.again("scanner")} if {
	some service in input.services
	lib.bad(service.scan)
	message := sprintf("the vulnerabilities of %s are not known: %s", [lib.of(service), lib.why(service.scan)])
}

unknown contains {"rule": "vulnerabilities/scan", "message": message, "fix": "promote release scans it"} if {
	some service in input.services
	lib.missing(service.scan)
	message := sprintf("%s is still to be scanned", [lib.of(service)])
}

# What somebody waived stays visible.
warn contains {"rule": "vulnerabilities/waived", "message": message, "fix": "remove the exception when a fixed version is there"} if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.waived
	matters(finding)
	message := sprintf("%s: %s (%s) in %s %s is waived: %s", [lib.of(service), finding.id, finding.severity, finding["package"], finding.version, finding.suppressedBy])
}

# A class that nobody knows is judged here, so that it is judged at all.
matters(finding) if {
	not finding.class in {"secret", "coverage", "licence", "misconfiguration"}
	not lib.below(finding.severity)
}

scanned(service, finding) if {
	lib.verified(service.scan)
	some known in service.scan.findings
	known.id == finding.id
	known["package"] == finding["package"]
	known.version == finding.version
	known.path == finding.path
}

reason(service, finding, since) := {
	"rule": "vulnerabilities/finding",
	"message": sprintf("%s: %s (%s) in %s %s%s, %s%s", [lib.of(service), finding.id, finding.severity, finding["package"], finding.version, place(finding), fixed(finding), since]),
	"fix": fix(finding),
}

place(finding) := sprintf(", /%s", [trim_prefix(finding.path, "/")]) if finding.path != ""

place(finding) := "" if finding.path == ""

fixed(finding) := sprintf("fixed in %s", [finding.fixedIn]) if finding.fixedIn != ""

fixed(finding) := "not fixed yet" if finding.fixedIn == ""

fix(finding) := sprintf("update %s to %s, then promote release", [finding["package"], finding.fixedIn]) if finding.fixedIn != ""

fix(finding) := sprintf("replace %s, or add %s to the ignore file with a statement and an expiry", [finding["package"], finding.id]) if finding.fixedIn == ""
