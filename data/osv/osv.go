// Package osv carries the advisories that the demo's vulnerability database is
// made of. They are snapshots under a licence of their own: see README.md and
// NOTICE beside this file.
package osv

import "embed"

// Files holds the records: *.ndjson.gz, one OSV record a line.
//
//go:embed *.ndjson.gz README.md NOTICE
var Files embed.FS
