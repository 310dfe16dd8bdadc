package ledger

import (
	"context"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

const archiveFix = "find an archive that a compacted record of the log names (promote log --phase compacted): sha256sum tells"

// archives verifies the archives that were given. The log must contain each of
// them: its checkpoint is one of those seen before.
func (l *Ledger) archives(ctx context.Context, o *AuditOptions, step *event.Step) ([]*auditor, error) {
	var list []*auditor
	checkpoints := o.Checkpoints[:len(o.Checkpoints):len(o.Checkpoints)]
	for _, s := range o.Archives {
		a := l.auditor(ctx, s, step, nil)
		if err := a.run(ctx, s, AuditOptions{}); err != nil {
			return nil, err
		}
		if a.newestCheckpoint.TreeSize > 0 {
			checkpoints = append(checkpoints, a.newestCheckpoint.Envelope)
		}
		list = append(list, a)
	}
	o.Checkpoints = checkpoints
	return list, nil
}

// judgeArchives says what is wrong with the archives, of what they hold, and
// whether anything was taken out of the log that must stay: only who has the
// lines can tell.
func (a *auditor) judgeArchives(archives []*auditor) {
	for _, other := range archives {
		for _, f := range other.out.Findings {
			a.find(f.Rule, f.Record, f.Line, archiveFix, "the archive %s: %s", other.name, f.Message)
		}
		for _, n := range other.fixed {
			if a.stubs.Has(n) {
				a.find(release.AuditCompaction, &n, a.in.Line+n, "bring the line back (promote ledger import), and find out who signed the compacted record",
					"its line was taken out of the log, and the archive %s shows that it must stay", other.name)
			}
		}
	}
	for _, r := range a.stubs {
		for n := r.From; n <= r.To; n++ {
			for _, other := range archives {
				if n < other.lines && !other.stubs.Has(n) {
					a.out.Archived++
					break
				}
			}
		}
	}
	if len(a.out.Findings) > 0 {
		a.out.Result = "failed"
	}
}
