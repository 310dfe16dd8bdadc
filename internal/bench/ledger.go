package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// LedgerResult is what a ledger of one size came to. Rates are per second.
type LedgerResult struct {
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"`
	// Append is one append to the ledger on this disk, in milliseconds, durable
	// when it returns; AppendMemory the same on a file system in memory.
	Append       Times `json:"append"`
	AppendMemory Times `json:"appendMemory"`
	// Sync is one write of a record's length to a file and its sync: what the
	// disk itself takes, measured in turns with the appends.
	Sync Times `json:"sync"`
	// Proof is an inclusion proof of a record by chance, with its line, by who
	// has read the ledger.
	Proof Times `json:"proof"`
	// Cold is the full replay: reading by a process that has read nothing and
	// remembers nothing. Warm is reading again. Seconds.
	Cold float64 `json:"cold"`
	Warm float64 `json:"warm"`
	// Resident is the heap in use after Cold, in bytes.
	Resident int64 `json:"resident"`
	// Audit is a full verification in a process of its own; AuditAgain one that
	// remembers the last. Peak is the most memory of either.
	Audit      LedgerAudit `json:"audit"`
	AuditAgain LedgerAudit `json:"auditAgain"`
	Load       float64     `json:"load"` // of the machine at the end
}

// LedgerAudit is what one full verification took.
type LedgerAudit struct {
	Seconds float64 `json:"seconds"`
	Peak    int64   `json:"peak"` // bytes resident
}

// LedgerReport is B14.
type LedgerReport struct {
	Machine Machine        `json:"machine"`
	Results []LedgerResult `json:"results"`
}

// What B14 asks for.
const (
	wantAppends    = 2000 // a second
	wantProof      = 1.0  // milliseconds
	wantAudit      = 2.0  // seconds, for a million records
	wantAuditBytes = 64 << 20
	wantAuditOf    = 1_000_000
)

// Write writes ledger.md and ledger.json to a directory.
func (r *LedgerReport) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "ledger.md"), r.Markdown(), 0o644)
}

const ledgerMethod = `- The store is a directory, with every sync that [the format](../ledger-format.md) asks for. Records are releases of about 400 bytes, signed with an Ed25519 key that the first record pins; each append signs the record and the checkpoint and verifies both.
- **append**: one after the other, each durable when it returns. An append waits for the disk twice: for the log and the checkpoint together, then for the directory. **sync** is what the disk takes for one such wait, measured in turns with the appends; where two of them take longer than 0.5 ms, no program reaches 2,000 appends a second on that disk. **in memory** is the same program on a file system in memory: what signing, verifying and hashing take.
- **proof**: inclusion, of a record by chance, with its line and the newest checkpoint, by a process that has read the ledger.
- **full replay**: the first reading of a process that remembers nothing, every signature verified: what an append or a proof would cost if nothing were kept. **warm**: reading again. **heap** is what the history takes in memory then.
- **full verification** is ` + "`promote audit verify`" + `'s, in a process of its own: every signature anew, and again by a process that remembers, authenticated, what it found good of the same bytes. **peak** is the most memory that the process had.
- Times are medians, and p95 behind the slash.`

// Markdown writes the report for people.
func (r *LedgerReport) Markdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m := r.Machine
	line("# The ledger from %s to %s records (B14)\n", grouped(r.least()), grouped(r.most()))
	line("Made by `make bench-ledger`; please don't edit. The figures in full are in [ledger.json](ledger.json).\n")
	line("%s, %d cores, %s of memory, %s, %s, ledgers %s. Absolute times say little on shared machines.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go, m.Storage)
	line("%s\n", ledgerMethod)
	line("| records | MB | append, ms | appends/s | sync, ms | in memory, ms | appends/s in memory | proof, ms |\n|---|---|---|---|---|---|---|---|")
	for _, x := range r.Results {
		line("| %s | %.1f | %.2f / %.2f | %s | %.2f / %.2f | %.3f / %.3f | %s | %.3f / %.3f (≤ %g: %s) |", grouped(x.Records), float64(x.Bytes)/1e6,
			x.Append.Median, x.Append.P95, reaches(x.Append), x.Sync.Median, x.Sync.P95,
			x.AppendMemory.Median, x.AppendMemory.P95, reaches(x.AppendMemory), x.Proof.Median, x.Proof.P95, wantProof, yesNo(x.Proof.Median <= wantProof))
	}
	line("\n| records | full replay, s | warm, ms | heap, MB | full verification, s | peak, MB | again, s | peak, MB | load |\n|---|---|---|---|---|---|---|---|---|")
	for _, x := range r.Results {
		line("| %s | %.2f | %.2f | %.0f | %.2f%s | %.0f | %.2f%s | %.0f | %.1f |", grouped(x.Records), x.Cold, x.Warm*1000, float64(x.Resident)/1e6,
			x.Audit.Seconds, x.judged(x.Audit), float64(x.Audit.Peak)/1e6, x.AuditAgain.Seconds, x.judged(x.AuditAgain), float64(x.AuditAgain.Peak)/1e6, x.Load)
	}
	return b.Bytes()
}

func (x LedgerResult) judged(a LedgerAudit) string {
	if x.Records < wantAuditOf {
		return ""
	}
	return fmt.Sprintf(" (≤ %g in 64 MB: %s)", wantAudit, yesNo(a.Seconds <= wantAudit && a.Peak <= wantAuditBytes))
}

// reaches gives a rate, and whether it is the one that is asked for.
func reaches(t Times) string {
	if t.Median == 0 {
		return "–"
	}
	rate := 1000 / t.Median
	return fmt.Sprintf("%s (≥ %s: %s)", grouped(int64(rate)), grouped(wantAppends), yesNo(rate >= wantAppends))
}

func yesNo(ok bool) string { return verdict(&ok) }

func (r *LedgerReport) least() int64 {
	if len(r.Results) == 0 {
		return 0
	}
	return r.Results[0].Records
}

func (r *LedgerReport) most() int64 {
	if len(r.Results) == 0 {
		return 0
	}
	return r.Results[len(r.Results)-1].Records
}

// grouped writes a number with commas.
func grouped(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

// Load gives how loaded the machine is: the average of the last minute.
func Load() float64 {
	var load float64
	raw, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(raw), &load)
	}
	return load
}
