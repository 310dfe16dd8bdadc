// Package release holds the nouns of promote and every rule that needs no
// I/O: digests and subjects, the release and its identity, evidence, verdicts
// and decisions, environments and plans, ledger records, and the Fault that
// carries an error's kind. It imports the standard library only; everything
// else imports it.
package release
