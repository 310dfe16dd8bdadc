package ledger_test

import (
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// FuzzParseCheckpoint: what is accepted is exactly what would be written.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add(ledger.FormatCheckpoint("promote/test", 7, release.DigestOf(nil)))
	f.Add("promote/test\n07\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	f.Add("promote/test\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n")
	f.Add("promote/test\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n")
	f.Add("\n\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ledger.ParseCheckpoint(text)
		if err != nil {
			return
		}
		if c.Text != text || ledger.FormatCheckpoint(c.Origin, c.TreeSize, c.RootHash) != text || c.TreeSize < 1 || c.Origin == "" {
			t.Fatalf("%q was read as %+v", text, c)
		}
	})
}

// FuzzRead: whatever a store holds, reading it ends with the sound history, a
// part of it that its checkpoint covers, or an integrity fault.
func FuzzRead(f *testing.F) {
	_, sound, trust := mixed(f)
	f.Add(sound.Log, sound.Checkpoint)
	f.Add([]byte{}, sound.Checkpoint)
	f.Add(sound.Log, []byte{})
	f.Add([]byte(`{"payload":"e30=","payloadType":"application/vnd.promote.record.v1+json","signatures":[]}`+"\n"), []byte{})
	f.Add([]byte("\n\n"), []byte("{}"))
	f.Fuzz(func(t *testing.T, log, checkpoint []byte) {
		m := &ledgertest.Memory{}
		m.Replace(ledger.State{Log: log, Checkpoint: checkpoint})
		h, c, err := opened(t, reading(t, m, trust)).Read(t.Context())
		switch {
		case err != nil && release.KindOf(err) != release.KindIntegrity:
			t.Fatalf("reading gave %v", err)
		case err == nil && int64(len(h)) != c.TreeSize:
			t.Fatalf("%d records under a checkpoint over %d", len(h), c.TreeSize)
		}
	})
}
