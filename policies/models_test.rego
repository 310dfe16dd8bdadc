# What the models gate says about broken facts.
package promote.gates.models_test

import data.promote.gates.models
import data.promote.testdata

finding := {"rule": "compose/privileged", "message": "bus is privileged", "file": "compose.prod.yml", "line": 7, "fix": "", "model": "production", "severity": "error"}

test_good if {
	count(models.deny | models.warn) == 0 with input as testdata.good
}

test_error if {
	denied := models.deny with input as testdata.added("/models", finding)
	denied == {{
		"rule": "models/compose/privileged", "message": "production: bus is privileged",
		"file": "compose.prod.yml", "line": 7, "fix": "change the Compose file, then promote release",
	}}
}

test_warning if {
	facts := testdata.added("/models", object.union(finding, {"severity": "warning", "fix": "pin it"}))
	count(models.deny) == 0 with input as facts
	warned := models.warn with input as facts
	some reason in warned
	reason.fix == "pin it"
}

test_a_severity_that_nobody_knows_denies if {
	count(models.deny) == 1 with input as testdata.added("/models", object.union(finding, {"severity": ""}))
}

test_an_error_is_no_warning if {
	count(models.warn) == 0 with input as testdata.added("/models", finding)
}
