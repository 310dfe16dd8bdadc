# No secret in any layer, also not in one that a later layer deletes.
package promote.gates.secrets

import data.promote.lib

deny contains reason(service, finding) if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.findings
	finding.class == "secret"
}

deny contains reason(service, finding) if {
	some service in input.services
	service.match.made
	some finding in service.match.findings
	finding.class == "secret"
}

deny contains {"rule": "secrets/scan", "message": message, "fix": lib.again("scanner")} if {
	some service in input.services
	lib.bad(service.scan)
	message := sprintf("whether %s holds secrets is not known: %s", [lib.of(service), lib.why(service.scan)])
}

unknown contains {"rule": "secrets/scan", "message": message, "fix": "promote release scans it"} if {
	some service in input.services
	lib.missing(service.scan)
	message := sprintf("%s is still to be scanned for secrets", [lib.of(service)])
}

warn contains {"rule": "secrets/waived", "message": message, "fix": "make sure that it is no secret, or one that was revoked"} if {
	some service in input.services
	lib.verified(service.scan)
	some finding in service.scan.waived
	finding.class == "secret"
	message := sprintf("%s: %s in /%s is waived: %s", [lib.of(service), finding.id, trim_prefix(finding.path, "/"), finding.suppressedBy])
}

reason(service, finding) := {
	"rule": "secrets/finding",
	"message": sprintf("%s: secret %s in /%s%s", [lib.of(service), finding.id, trim_prefix(finding.path, "/"), layer(finding)]),
	"fix": "revoke the secret, build without it (RUN --mount=type=secret), and pass it at run time",
}

layer(finding) := sprintf(", layer %s", [lib.short(finding.layer)]) if finding.layer != ""

layer(finding) := "" if finding.layer == ""
