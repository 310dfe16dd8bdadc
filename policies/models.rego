# The merged Compose models ask for nothing that a release must not have.
package promote.gates.models

deny contains reason(finding) if {
	some finding in input.models
	finding.severity != "warning"
}

warn contains reason(finding) if {
	some finding in input.models
	finding.severity == "warning"
}

# The finding's own rule follows: models/ports, whoever found it.
reason(finding) := {
	"rule": sprintf("models/%s", [trim_prefix(finding.rule, "models/")]),
	"message": sprintf("%s: %s", [finding.model, finding.message]),
	"file": finding.file,
	"line": finding.line,
	"fix": fix(finding),
}

fix(finding) := finding.fix if finding.fix != ""

fix(finding) := "change the Compose file, then promote release" if finding.fix == ""
