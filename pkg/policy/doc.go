// Package policy judges a release and its evidence with Rego: the gates in
// policies/ and those that a team adds. It is the only home of OPA.
//
// Every file is compiled strictly, against the types of release.Facts and an
// allow-list of builtins, so that a typo, an unknown field, a call to the
// network or the clock is an error with file and line and never a gate that
// silently passes. A gate is a package whose sets deny, warn and unknown hold
// reasons; docs/policies.md is the manual.
package policy
