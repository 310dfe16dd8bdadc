package ledger

import (
	"errors"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// TestAGuessIsNoJudgement: a line that was read ahead is judged by who judges it
// when its turn comes, whatever was guessed before.
func TestAGuessIsNoJudgement(t *testing.T) {
	o := plain(nil)
	line := seal(t, o, PayloadTypeRecord, payload(t, func(*release.Record) {}))
	yes := &judge{check: o.Verify}
	no := &judge{check: func([]byte, string) ([]byte, release.Signer, error) {
		return nil, release.Signer{}, release.Denied("", "no")
	}}
	for name, c := range map[string]struct {
		guessed, judges *judge
		good            bool
	}{"rightly": {yes, yes, true}, "too well": {yes, no, false}, "too badly": {no, yes, true}, "not at all": {nil, no, false}} {
		p := readLine(line)
		if c.guessed != nil {
			p.verify(line, c.guessed)
		}
		_, signer, err := p.read(line, LeafHash(line), func(release.Record) *judge { return c.judges })
		var signature *signatureError
		if c.good != (err == nil) || !c.good && !errors.As(err, &signature) || c.good && signer.ID == "" {
			t.Errorf("guessed %s: %+v, %v", name, signer, err)
		}
	}
}
