# Built images start from images named by digest: a tag may be another image
# tomorrow. So do external images in the Compose files.
package promote.gates.pinned

import data.promote.lib

deny contains {"rule": "pinned/base", "message": message, "fix": fix} if {
	some service in lib.built
	lib.verified(service.provenance)
	some base in service.provenance.bases
	not base.pinned
	message := sprintf("%s is built from %s, which its Dockerfile does not pin by digest", [lib.of(service), base.name])
	fix := "run promote pin, which writes name:tag@sha256:… into the Dockerfile, then promote release"
}

# Without provenance nobody knows the bases.
deny contains {"rule": "pinned/unknown", "message": message, "fix": lib.again("builder")} if {
	some service in lib.built
	lib.bad(service.provenance)
	message := sprintf("what %s was built from is not known: %s", [lib.of(service), lib.why(service.provenance)])
}

unknown contains {"rule": "pinned/unknown", "message": message, "fix": "promote release makes it"} if {
	some service in lib.built
	lib.missing(service.provenance)
	message := sprintf("what %s is built from will be known from its provenance", [lib.of(service)])
}

# An image from scratch is possible, and rare enough to be shown.
warn contains {"rule": "pinned/scratch", "message": message, "fix": "nothing, if its Dockerfile names no image at all"} if {
	some service in lib.built
	lib.verified(service.provenance)
	count(service.provenance.bases) == 0
	message := sprintf("the provenance of %s names no base image", [lib.of(service)])
}

deny contains {"rule": "pinned/image", "message": message, "fix": fix} if {
	some service in input.services
	not service.pinned
	message := sprintf("the Compose file names the image of %s without a digest", [lib.of(service)])
	fix := "run promote pin, which writes name:tag@sha256:… into the Compose file, then promote release"
}

deny contains {"rule": "pinned/digest", "message": message, "fix": "run promote release"} if {
	some service in input.services
	service.digest == ""
	message := sprintf("%s has no digest", [service.name])
}
