# What the project builds is signed by the builder, who says how it was made,
# of the release's very commit. External images have a pin and a scan instead.
package promote.gates.signature

import data.promote.lib

deny contains {"rule": "signature/signature", "message": message, "fix": lib.again("builder")} if {
	some service in lib.built
	lib.bad(service.signature)
	message := sprintf("%s is not signed by a builder: %s", [lib.of(service), lib.why(service.signature)])
}

unknown contains {"rule": "signature/signature", "message": message, "fix": "promote release makes it"} if {
	some service in lib.built
	lib.missing(service.signature)
	message := sprintf("%s is still to be signed", [lib.of(service)])
}

deny contains {"rule": "signature/provenance", "message": message, "fix": lib.again("builder")} if {
	some service in lib.built
	lib.bad(service.provenance)
	message := sprintf("the provenance of %s does not count: %s", [lib.of(service), lib.why(service.provenance)])
}

unknown contains {"rule": "signature/provenance", "message": message, "fix": "promote release makes it"} if {
	some service in lib.built
	lib.missing(service.provenance)
	message := sprintf("the provenance of %s is still to be made", [lib.of(service)])
}

# A tree with uncommitted changes is of no commit; the order gate keeps what
# was built from one out of every environment but the first.
deny contains {"rule": "signature/revision", "message": message, "fix": "run promote release on that commit"} if {
	some service in lib.built
	lib.verified(service.provenance)
	not input.release.dirty
	not same_commit(service)
	message := sprintf("%s was built from commit %q, the release is of %q", [lib.of(service), service.provenance.revision, input.release.revision])
}

same_commit(service) if {
	service.provenance.revision != ""
	service.provenance.revision == input.release.revision
}

deny contains {"rule": "signature/origin", "message": message, "fix": "run promote release with a current promote"} if {
	some service in input.services
	not service.origin in {"built", "external"}
	message := sprintf("%s is of origin %q; images are built or external", [lib.of(service), service.origin])
}
