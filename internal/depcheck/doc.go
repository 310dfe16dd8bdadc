// Package depcheck holds the test that keeps the arrows of
// docs/architecture.md: who may import whom, and which package is the only
// home of which heavy library. It has no code of its own.
package depcheck
