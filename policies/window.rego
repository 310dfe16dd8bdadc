# Promotions begin when the environment takes them.
package promote.gates.window

import data.promote.lib

deny contains closed if {
	not lib.back
	not input.resumed
	not input.window.open
}

# Neither going back nor ending what began in time waits for the morning.
warn contains closed if {
	lib.back
	not input.window.open
}

warn contains closed if {
	input.resumed
	not input.window.open
}

closed := {
	"rule": "window/closed",
	"message": sprintf("%s takes no promotion now: %s", [input.environment.name, input.window.why]),
	"fix": fix,
}

fix := sprintf("run it again from %s on", [input.window.changes]) if input.window.changes != ""

fix := sprintf("change environments.%s.windows: they do not open within two weeks", [input.environment.name]) if input.window.changes == ""
