// Package policies holds the gates that every release must pass, in Rego, with
// their tests. Each file is one gate: package promote.gates.<gate>, whose deny,
// warn and unknown are sets of reasons. pkg/policy judges with them;
// docs/policies.md says how to add one.
package policies

import "embed"

// FS holds the default gates and their tests.
//
//go:embed *.rego
var FS embed.FS
