package release

// LedgerAudit is what reading a whole log from its bytes found.
type LedgerAudit struct {
	// Ledger names what was read: a directory, a branch, a file.
	Ledger string `json:"ledger"`
	Origin string `json:"origin"`
	// Records are those that the checkpoint covers, as far as they are there.
	Records int64 `json:"records"`
	Bytes   int64 `json:"bytes"` // of the covered lines
	// Checkpoint is the newest one; nil where there is none that can be read.
	Checkpoint *AuditedCheckpoint `json:"checkpoint"`
	// Trust is the digest of the trust in force at the end; absent where the log
	// pins none. Rules is that of trust, environments and policies.
	Trust Digest `json:"trust,omitzero"`
	Rules Digest `json:"rules,omitzero"`
	// Contained says of each earlier checkpoint that was asked for whether the
	// log begins with what it stood for.
	Contained []AuditedCheckpoint `json:"contained"`
	// Verified signatures were checked now; Remembered ones by an earlier audit
	// on this machine, of the very same bytes.
	Verified   int64 `json:"verified"`
	Remembered int64 `json:"remembered"`
	// Compacted are records of which the log has the leaf hash and nothing else:
	// a record of it says so, and names the archive that holds their lines.
	Compacted int64 `json:"compacted"`
	// Archived are those of them whose lines an archive holds that was given.
	Archived int64 `json:"archived"`
	// Pending is true where one more record lies behind the checkpoint: an
	// append was interrupted, and the next one completes it.
	Pending  bool            `json:"pending"`
	Findings []LedgerFinding `json:"findings"`
	// More is how many findings there are beside those listed.
	More   int64  `json:"more,omitempty"`
	Result string `json:"result"` // passed or failed

	// Pinned is the trust in force at the end; nil where the log pins none.
	Pinned *Trust `json:"-"`
}

// AuditedCheckpoint is a checkpoint as an audit judged it.
type AuditedCheckpoint struct {
	TreeSize int64  `json:"treeSize"`
	RootHash Digest `json:"rootHash"`
	// Signer is who signed it; absent where it is not signed, or its signature
	// was not reached.
	Signer *Signer `json:"signer,omitempty"`
	Result string  `json:"result"` // contained, or the rule of what is wrong
}

// The rules that a ledger's findings name.
const (
	AuditForm       = "form"       // bytes that could be read in two ways, or not at all
	AuditSignature  = "signature"  // nobody trusted signed just this
	AuditRole       = "role"       // the signer may not say that
	AuditOrder      = "order"      // it does not follow the record before it
	AuditTime       = "time"       // it claims another time than its proof
	AuditTrust      = "trust"      // the trust in force is not the one that was expected
	AuditRoot       = "root"       // the records do not hash to what the checkpoint says
	AuditCheckpoint = "checkpoint" // a checkpoint is missing, malformed or not by whom it must be
	AuditOrigin     = "origin"     // it is another project's
	AuditTruncated  = "truncated"  // there are fewer records than a checkpoint covers
	AuditForked     = "forked"     // other records than an earlier checkpoint covered
	AuditTrailing   = "trailing"   // something follows what the checkpoint covers
	AuditCompaction = "compaction" // a line was taken out that nobody said may go, or that must stay
)

// LedgerFinding is one thing that is wrong with a log.
type LedgerFinding struct {
	Rule string `json:"rule"`
	// Record is the sequence that the line has, or should have; absent where it
	// is about no single one.
	Record *int64 `json:"record,omitempty"`
	// Line is the line of the file, from 1; 0 where it is about none.
	Line    int64  `json:"line,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}
