// Package ledger keeps the append-only log of what was let through, by whom
// and on what evidence: signed records in a Merkle log (RFC 6962) under signed
// checkpoints (C2SP tlog-checkpoint). Appending is a compare-and-swap on the
// size that was read, so the log is also the lock and the crash log.
// docs/ledger-format.md describes every byte. It is the only home of
// golang.org/x/mod/sumdb/tlog.
package ledger
