// Package smoketest has a service that misbehaves in exactly one way, and the
// table of ways that the smoke gate must find, each with the verdict and the
// reason that it must give. The tests on a real engine and the table in
// docs/smoke.md are made of it.
package smoketest
