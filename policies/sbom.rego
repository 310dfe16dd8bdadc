# Every image has an SBOM by the scanner: what it holds can be looked up when
# the next vulnerability becomes known.
package promote.gates.sbom

import data.promote.lib

deny contains {"rule": "sbom/missing", "message": message, "fix": lib.again("scanner")} if {
	some service in input.services
	lib.bad(service.sbom)
	message := sprintf("the SBOM of %s does not count: %s", [lib.of(service), lib.why(service.sbom)])
}

unknown contains {"rule": "sbom/missing", "message": message, "fix": "promote release makes it"} if {
	some service in input.services
	lib.missing(service.sbom)
	message := sprintf("the SBOM of %s is still to be made", [lib.of(service)])
}

deny contains {"rule": "sbom/empty", "message": message, "fix": "scan it again: promote release"} if {
	some service in input.services
	lib.verified(service.sbom)
	service.sbom.components < 1
	message := sprintf("the SBOM of %s lists no components", [lib.of(service)])
}
