package ledger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// audited audits a state.
func audited(t testing.TB, state ledger.State, trust *ledgertest.Trust, checkpoints ...[]byte) release.LedgerAudit {
	t.Helper()
	m := &ledgertest.Memory{}
	m.Replace(state)
	found, err := opened(t, reading(t, m, trust)).Audit(t.Context(), nil, ledger.AuditOptions{Checkpoints: checkpoints})
	if err != nil {
		t.Fatal(err)
	}
	if (found.Result == "passed") != (len(found.Findings) == 0) {
		t.Fatalf("result %s with findings %+v", found.Result, found.Findings)
	}
	return found
}

// shown gives findings in short.
func shown(found release.LedgerAudit) string {
	var words []string
	for _, f := range found.Findings {
		word := f.Rule
		if f.Record != nil {
			word += fmt.Sprintf(" #%d", *f.Record)
		}
		if f.Line > 0 {
			word += fmt.Sprintf(" :%d", f.Line)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestAuditOfASoundLog(t *testing.T) {
	_, sound, trust := mixed(t)
	found := audited(t, sound, trust, sound.Checkpoint)
	if found.Result != "passed" || found.Records != 6 || found.Verified != 6 || found.Bytes != int64(len(sound.Log)) || found.Pending {
		t.Fatalf("%+v", found)
	}
	if c := found.Checkpoint; c.TreeSize != 6 || c.Result != "contained" || c.Signer == nil || c.Signer.Name != "alice" {
		t.Fatalf("checkpoint %+v", c)
	}
	if len(found.Contained) != 1 || found.Contained[0].Result != "contained" || found.Contained[0].Signer == nil {
		t.Fatalf("contained %+v", found.Contained)
	}
}

// TestAuditSaysWhatIsWrong: which record, which line, what; and no more than is
// wrong.
func TestAuditSaysWhatIsWrong(t *testing.T) {
	_, sound, trust := mixed(t)
	lines := bytes.Split(bytes.TrimSuffix(sound.Log, []byte{'\n'}), []byte{'\n'})
	flipped := bytes.Clone(lines[2])
	at := bytes.Index(flipped, []byte(`"sig":"`)) + 10
	flipped[at] ^= 1
	stranger := &ledgertest.Memory{}
	ledgertest.Fill(t, opened(t, ledgertest.Options(stranger, ledgertest.NewKey("mallory", release.Promoter))), 6)
	others, _ := stranger.Read(t.Context())
	with := func(change func([][]byte) [][]byte) ledger.State {
		return ledger.State{Log: join(change(slices.Clone(lines))), Checkpoint: sound.Checkpoint}
	}
	for name, c := range map[string]struct {
		state ledger.State
		want  string
	}{
		"bit of a signature": {with(func(l [][]byte) [][]byte { l[2] = flipped; return l }), "signature #2 :3, order #3 :4, root"},
		"white space":        {with(func(l [][]byte) [][]byte { l[2] = append([]byte(" "), l[2]...); return l }), "form #2 :3, order #3 :4, root"},
		"deleted":            {with(func(l [][]byte) [][]byte { return slices.Delete(l, 2, 3) }), "order #2 :3, truncated"},
		"duplicated":         {with(func(l [][]byte) [][]byte { return slices.Insert(l, 2, l[1]) }), "order #2 :3, root"},
		"swapped":            {with(func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l }), "order #2 :3, order #4 :4, root"},
		"cut at a line":      {with(func(l [][]byte) [][]byte { return l[:4] }), "truncated"},
		"cut in a line":      {ledger.State{Log: sound.Log[:len(sound.Log)-10], Checkpoint: sound.Checkpoint}, "form #5 :6, truncated"},
		"without line feed":  {ledger.State{Log: sound.Log[:len(sound.Log)-1], Checkpoint: sound.Checkpoint}, "form #5 :6, truncated"},
		"empty line":         {with(func(l [][]byte) [][]byte { return slices.Insert(l, 0, []byte{}) }), "form #0 :1, order #1 :2, root"},
		"no checkpoint":      {ledger.State{Log: sound.Log}, "checkpoint"},
		"broken checkpoint":  {ledger.State{Log: sound.Log, Checkpoint: []byte("{}")}, "checkpoint"},
		"no log":             {ledger.State{Checkpoint: sound.Checkpoint}, "truncated"},
		"a stranger's":       {others, "signature #0 :1, signature #1 :2, signature #2 :3, signature #3 :4, signature #4 :5, signature #5 :6"},
		"concatenated":       {ledger.State{Log: append(bytes.Clone(sound.Log), sound.Log...), Checkpoint: sound.Checkpoint}, "trailing :7"},
	} {
		if got := shown(audited(t, c.state, trust)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	limited := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.NewKey("promoter", release.Promoter), ledgertest.NewKey("alice", release.Tester)}}
	if got := shown(audited(t, sound, limited)); got != "role #1 :2, role #5 :6" {
		t.Errorf("alice without her role: %s", got)
	}
}

// TestAuditAgainstEarlierCheckpoints: contained, truncated, forked, another
// log's; signed, or noted down by hand.
func TestAuditAgainstEarlierCheckpoints(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	var states []ledger.State
	for range 4 {
		ledgertest.Fill(t, l, 1)
		s, _ := m.Read(t.Context())
		states = append(states, s)
	}
	fork := &ledgertest.Memory{}
	fork.Replace(states[1])
	other := opened(t, ledgertest.Options(fork))
	for n := range int64(2) {
		if _, _, err := other.Append(t.Context(), ledgertest.Released(int(100+n)), 2+n); err != nil {
			t.Fatal(err)
		}
	}
	forked, _ := fork.Read(t.Context())
	o := ledgertest.Options(&ledgertest.Memory{})
	o.Origin = "promote/another"
	foreign := opened(t, o)
	ledgertest.Fill(t, foreign, 2)
	_, another, _ := foreign.Read(t.Context())
	_, now, _ := l.Read(t.Context())

	stranger := &ledgertest.Memory{}
	stranger.Replace(states[1])
	for name, c := range map[string]struct {
		state   ledger.State
		earlier []byte
		want    string
	}{
		"older":                            {states[3], states[1].Checkpoint, ""},
		"the same":                         {states[3], states[3].Checkpoint, ""},
		"noted down":                       {states[3], []byte(now.Text), ""},
		"newer":                            {states[1], states[3].Checkpoint, "truncated"},
		"newer, noted down":                {states[1], []byte(now.Text), "truncated"},
		"of a fork":                        {states[3], forked.Checkpoint, "forked"},
		"longer fork":                      {states[2], forked.Checkpoint, "truncated"},
		"before the fork":                  {forked, states[1].Checkpoint, ""},
		"of another log":                   {states[3], another.Envelope, "origin"},
		"attested":                         {states[3], attested(t, states[1].Checkpoint, false), ""},
		"attested, of a fork, in a bundle": {states[3], attested(t, forked.Checkpoint, true), "forked"},
	} {
		found := audited(t, c.state, trust, c.earlier)
		if got := shown(found); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if len(found.Contained) != 1 || (found.Contained[0].Result == "contained") != (c.want == "") {
			t.Errorf("%s: %+v", name, found.Contained)
		}
	}
	m.Replace(states[3])
	for _, text := range []string{"", "{}", "promote/test\n3\n", now.Text + "more\n", strings.Repeat("x", 1<<17), string(attested(t, nil, true)), string(attested(t, []byte("promote/test"), false))} {
		if _, err := l.Audit(t.Context(), nil, ledger.AuditOptions{Checkpoints: [][]byte{[]byte(text)}}); release.KindOf(err) != release.KindUsage {
			t.Errorf("the checkpoint %.20q gave %v, want a usage error", text, err)
		}
	}
}

// attested is the attestation of a decision that holds a checkpoint.
func attested(t *testing.T, checkpoint []byte, bundled bool) []byte {
	t.Helper()
	statement, err := json.Marshal(map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicate": map[string]any{"checkpoint": string(checkpoint)}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{"payload": statement, "payloadType": "application/vnd.in-toto+json", "signatures": []any{}}
	if bundled {
		out = map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": out, "verificationMaterial": map[string]any{}}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestAuditWhereAnAppendIsUnderWay takes what a crash leaves for what it is.
func TestAuditWhereAnAppendIsUnderWay(t *testing.T) {
	m := &ledgertest.Memory{}
	l := opened(t, ledgertest.Options(m))
	ledgertest.Fill(t, l, 2)
	before, _ := m.Read(t.Context())
	ledgertest.Fill(t, l, 1)
	after, _ := m.Read(t.Context())
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	for name, c := range map[string]struct {
		log     []byte
		pending bool
		want    string
	}{
		"whole":       {after.Log, true, ""},
		"torn":        {after.Log[:len(after.Log)-7], false, ""},
		"holes":       {append(bytes.Clone(before.Log), "\x00\x00\n"...), false, ""},
		"whole, torn": {append(bytes.Clone(after.Log), '{'), false, "trailing :3"},
		"twice":       {append(bytes.Clone(after.Log), after.Log[len(before.Log):]...), false, "trailing :3"},
		"out of place": {append(bytes.Clone(before.Log), before.Log[:bytes.IndexByte(before.Log, '\n')+1]...), false,
			"trailing #2 :3"},
	} {
		found := audited(t, ledger.State{Log: c.log, Checkpoint: before.Checkpoint}, trust)
		if got := shown(found); got != c.want || found.Pending != c.pending || found.Records != 2 {
			t.Errorf("%s: %q, pending %v, %d records", name, got, found.Pending, found.Records)
		}
	}
}

func TestAuditOfNothing(t *testing.T) {
	l := opened(t, ledgertest.Options(ledger.NewFileStore(filepath.Join(t.TempDir(), "absent"))))
	if _, err := l.Audit(t.Context(), nil, ledger.AuditOptions{}); release.KindOf(err) != release.KindUnavailable {
		t.Errorf("got %v, want that it could not be determined", err)
	}
	for name, kind := range map[string]release.Kind{"absent": release.KindUsage, ".": release.KindUsage} {
		path := filepath.Join(t.TempDir(), name)
		if _, err := l.Audit(t.Context(), ledger.ExportedFile{Path: path}, ledger.AuditOptions{}); release.KindOf(err) != kind {
			t.Errorf("%s: %v, want %s", name, err, kind)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := l.Audit(t.Context(), ledger.ExportedFile{Path: empty}, ledger.AuditOptions{})
	if err != nil || shown(found) != "checkpoint" {
		t.Errorf("an empty file: %+v, %v", found, err)
	}
}

// remembering opens a file ledger whose audits are remembered.
func remembering(t testing.TB, dir string, secret string) (*ledger.Ledger, *ledgertest.Trust) {
	t.Helper()
	trust := &ledgertest.Trust{Keys: []ledgertest.Key{ledgertest.Promoter()}}
	o := ledgertest.Options(ledger.NewFileStore(filepath.Join(dir, "ledger")))
	o.Verify, o.VerifyBy = trust.Verify, trust.VerifyBy
	o.Cache, o.Trust, o.Secret = filepath.Join(dir, "cache"), release.DigestOf([]byte("trust")), func() []byte { return []byte(secret) }
	return opened(t, o), trust
}

// TestAuditRemembers: what was found good is hashed again, not verified, and
// only if nobody without the secret says so.
func TestAuditRemembers(t *testing.T) {
	dir := t.TempDir()
	l, trust := remembering(t, dir, "secret")
	ledgertest.Fill(t, l, 5)
	audit := func(l *ledger.Ledger, o ledger.AuditOptions) release.LedgerAudit {
		t.Helper()
		found, err := l.Audit(t.Context(), nil, o)
		if err != nil || found.Result != "passed" {
			t.Fatalf("%+v, %v", found, err)
		}
		return found
	}
	if found := audit(l, ledger.AuditOptions{}); found.Verified != 5 || found.Remembered != 0 {
		t.Fatalf("first: %+v", found)
	}
	trust.Calls.Store(0)
	if found := audit(l, ledger.AuditOptions{}); found.Verified != 0 || found.Remembered != 5 || trust.Calls.Load() > 2 {
		t.Fatalf("again: %+v, %d signatures", found, trust.Calls.Load())
	}
	ledgertest.Fill(t, l, 2)
	if found := audit(l, ledger.AuditOptions{}); found.Verified != 2 || found.Remembered != 5 || found.Records != 7 {
		t.Fatalf("grown: %+v", found)
	}
	if found := audit(l, ledger.AuditOptions{Anew: true}); found.Verified != 7 {
		t.Fatalf("anew: %+v", found)
	}
	other, _ := remembering(t, dir, "another secret")
	if found := audit(other, ledger.AuditOptions{}); found.Verified != 7 {
		t.Fatalf("another's memory was believed: %+v", found)
	}
	audit(l, ledger.AuditOptions{Anew: true})
	files, _ := filepath.Glob(filepath.Join(dir, "cache", "*.audit"))
	if len(files) != 1 {
		t.Fatalf("remembered in %q", files)
	}
	raw, _ := os.ReadFile(files[0])
	if err := os.WriteFile(files[0], bytes.Replace(raw, []byte(`"size":7`), []byte(`"size":6`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := audit(l, ledger.AuditOptions{}); found.Verified != 7 {
		t.Fatalf("a changed memory was believed: %+v", found)
	}
}

// TestWhatIsRememberedHidesNothing: every line of a log that is remembered is
// still compared.
func TestWhatIsRememberedHidesNothing(t *testing.T) {
	dir := t.TempDir()
	l, _ := remembering(t, dir, "secret")
	ledgertest.Fill(t, l, 6)
	if _, err := l.Audit(t.Context(), nil, ledger.AuditOptions{}); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "ledger", "log")
	sound, _ := os.ReadFile(log)
	for at := 0; at < len(sound); at += 37 {
		changed := bytes.Clone(sound)
		changed[at] ^= 4
		if err := os.WriteFile(log, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := l.Audit(t.Context(), nil, ledger.AuditOptions{})
		if err != nil || found.Result != "failed" {
			t.Fatalf("byte %d: %+v, %v", at, found, err)
		}
	}
}

func TestFindingsAreBounded(t *testing.T) {
	_, sound, trust := mixed(t)
	log := append(bytes.Clone(sound.Log), bytes.Repeat([]byte("x\n"), 1000)...)
	found := audited(t, ledger.State{Log: log}, trust)
	if len(found.Findings) != 100 || found.More != 901 {
		t.Errorf("%d findings and %d more", len(found.Findings), found.More)
	}
	if raw, err := json.Marshal(found); err != nil || len(raw) > 1<<16 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

// TestAnotherLogIsNotTheOneThatIsRemembered: what was found good of one log
// vouches for nothing in another of the same project, whoever signed its
// checkpoint.
func TestAnotherLogIsNotTheOneThatIsRemembered(t *testing.T) {
	dir := t.TempDir()
	l, _ := remembering(t, dir, "secret")
	ledgertest.Fill(t, l, 5)
	if found, err := l.Audit(t.Context(), nil, ledger.AuditOptions{}); err != nil || found.Result != "passed" {
		t.Fatalf("%+v, %v", found, err)
	}
	m := &ledgertest.Memory{}
	mallory := ledgertest.NewKey("mallory", release.Promoter)
	for n := range int64(7) {
		keys := []ledgertest.Key{ledgertest.Promoter(), mallory}
		if n == 2 {
			keys = []ledgertest.Key{mallory, ledgertest.Promoter()}
		}
		if _, _, err := opened(t, ledgertest.Options(m, keys...)).Append(t.Context(), ledgertest.Released(int(n)+50), n); err != nil {
			t.Fatal(err)
		}
	}
	found, err := l.Audit(t.Context(), ledger.FromStore(m), ledger.AuditOptions{})
	if err != nil || shown(found) != "signature #2 :3" || found.Remembered != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
}
