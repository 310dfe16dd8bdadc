// Package e2e holds the tests of the whole: the real binary on a real engine,
// BuildKit, registry, database and ledger. They run with -tags=e2e, as
// `make test` does.
package e2e
