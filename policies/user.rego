# Nothing runs as root: by the image's user, or by the model's where it sets
# one. Images of third parties that start as root are given a user there.
package promote.gates.user

import data.promote.lib

deny contains {"rule": "user/root", "message": message, "fix": fix(service)} if {
	some service in input.services
	service.config.known
	not service.config.nonRoot
	message := sprintf("%s runs as root (user %q)", [lib.of(service), service.config.user])
}

deny contains {"rule": "user/unknown", "message": message, "fix": "check that the image can be read from its registry, then run it again"} if {
	some service in input.services
	not service.config.known
	not unread(service)
	message := sprintf("the user of %s is not known: its configuration could not be read", [lib.of(service)])
}

# What was not built yet has no configuration to read.
unknown contains {"rule": "user/unknown", "message": message, "fix": "promote release makes it"} if {
	some service in input.services
	not service.config.known
	unread(service)
	message := sprintf("the user of %s will be known when it is built", [lib.of(service)])
}

unread(service) if {
	service.origin == "built"
	lib.missing(service.provenance)
}

fix(service) := "end the Dockerfile with USER and a number other than 0" if service.origin != "external"

fix(service) := sprintf("set user: for %s in the Compose file", [service.name]) if service.origin == "external"
