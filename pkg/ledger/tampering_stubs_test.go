package ledger_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// goes are the records of the story that may go at its end.
var goes = release.Ranges{{From: 1, To: 3}, {From: 8, To: 8}, {From: 11, To: 14}, {From: 17, To: 18}}

// compacted gives the ledger with a record that lets them go, whole and without
// their lines.
func (h *estate) compacted(t testing.TB) (whole, stripped ledger.State) {
	t.Helper()
	m := &ledgertest.Memory{}
	m.Replace(h.states[len(h.states)-1])
	l := h.open(t, m, "promote/agent", "ops")
	r := ledgertest.Compacted(goes...)
	r.Rules = release.DigestOf([]byte("new rules"))
	if _, _, err := l.Append(t.Context(), r, int64(len(h.lines))); err != nil {
		t.Fatal(err)
	}
	whole = stateOf(t, m)
	if done, err := l.Strip(t.Context()); err != nil || done.Records != goes.Count() {
		t.Fatalf("%+v, %v", done, err)
	}
	return whole, stateOf(t, m)
}

// stubs puts stubs in place of lines that nobody let go, and changes those of a
// compacted ledger.
func (m *tamperer) stubs() {
	const unbidden = "a stub for a record that nobody let go"
	for n, line := range m.e.lines {
		m.line(unbidden, n, ledgertest.Stub(line))
	}
	_, stripped := m.e.compacted(m.t)
	lines := bytes.Split(bytes.TrimSuffix(stripped.Log, []byte{'\n'}), []byte{'\n'})
	put := func(kind string, n int, by ...[]byte) {
		m.state(kind, fmt.Sprintf("record %d", n), ledger.State{Log: join(slices.Replace(slices.Clone(lines), n, n+1, by...)), Checkpoint: stripped.Checkpoint})
	}
	for n, line := range lines {
		if !goes.Has(int64(n)) {
			put(unbidden, n, ledgertest.Stub(line))
			continue
		}
		for at := len(line) - 66; at < len(line)-2; at += 1 + 12/m.bits {
			edited := bytes.Clone(line)
			edited[at] = "0123456789abcdef"[(bytes.IndexByte([]byte("0123456789abcdef"), edited[at])+1)%16]
			put("a stub's hash edited", n, edited)
		}
		put("a stub deleted", n)
		put("a stub doubled", n, line, line)
		for _, other := range []string{
			" " + string(line), string(line) + " ", strings.Replace(string(line), ":", ": ", 1), strings.ToUpper(string(line)), strings.Replace(string(line), "stub", "Stub", 1),
			strings.Replace(string(line), "{", `{"a":1,`, 1), strings.Replace(string(line), "sha256:", "", 1), string(line) + string(line), "{}", "",
		} {
			put("a stub spelled otherwise", n, []byte(other))
		}
		swapped := slices.Clone(lines)
		swapped[n], swapped[(n+1)%len(lines)] = swapped[(n+1)%len(lines)], swapped[n]
		m.state("a stub swapped", fmt.Sprintf("record %d", n), ledger.State{Log: join(swapped), Checkpoint: stripped.Checkpoint})
	}
	m.letGo(lines, stripped)
}

// letGo changes the record that lets lines go.
func (m *tamperer) letGo(lines [][]byte, stripped ledger.State) {
	const kind = "the compacted record changed"
	last := len(lines) - 1
	var e plainEnvelope
	err := json.Unmarshal(lines[last], &e)
	good, err2 := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil || err2 != nil {
		m.t.Fatal(err, err2)
	}
	wider := bytes.Replace(good, []byte(`"to":3`), []byte(`"to":5`), 1)
	for what, line := range map[string][]byte{
		"wider": bytes.Replace(lines[last], []byte(e.Payload), []byte(base64.StdEncoding.EncodeToString(wider)), 1), "wider, signed by an approver": m.signed("alice", ledger.PayloadTypeRecord, wider),
		"signed by an approver": m.signed("alice", ledger.PayloadTypeRecord, good), "signed by a stranger": m.signed("mallory", ledger.PayloadTypeRecord, good),
		"wider, signed by a stranger": m.signed("mallory", ledger.PayloadTypeRecord, wider), "wider, signed again": m.signed("ops", ledger.PayloadTypeRecord, wider),
		"emptied": []byte("{}"), "a stub": ledgertest.Stub(lines[last]),
	} {
		m.state(kind, what, ledger.State{Log: join(append(slices.Clone(lines[:last]), line)), Checkpoint: stripped.Checkpoint})
	}
	m.state(kind, "gone", ledger.State{Log: join(lines[:last]), Checkpoint: stripped.Checkpoint})
	m.state(kind, "gone, with its checkpoint", ledger.State{Log: join(lines[:last]), Checkpoint: m.sound.Checkpoint})
	m.state(kind, "behind its checkpoint", ledger.State{Log: stripped.Log, Checkpoint: m.sound.Checkpoint})
}

// TestTheCompactedEstateIsSound: what the mutations start from, with and without
// the lines, and with any of them brought back.
func TestTheCompactedEstateIsSound(t *testing.T) {
	e := newEstate(t)
	whole, stripped := e.compacted(t)
	full, stubs := bytes.SplitAfter(whole.Log, []byte{'\n'}), bytes.SplitAfter(stripped.Log, []byte{'\n'})
	states := []ledger.State{whole, stripped}
	for n := range int64(len(e.lines)) {
		if goes.Has(n) {
			log := bytes.Join(slices.Replace(slices.Clone(full), int(n), int(n)+1, stubs[n]), nil)
			states = append(states, ledger.State{Log: log, Checkpoint: whole.Checkpoint})
		}
	}
	for i, s := range states {
		m := &ledgertest.Memory{}
		m.Replace(s)
		l := e.open(t, m, "promote/agent", "")
		h, _, err := l.Read(t.Context())
		switch i {
		case 0, 1:
			if err != nil || len(h) != len(e.lines)+1 || h.Pinned().Trust.Digest() != e.second.Digest() {
				t.Fatalf("state %d: %d records, %v", i, len(h), err)
			}
		default: // an attempt that is there in part is nothing that promote leaves
			if n := i - 2; err != nil && release.KindOf(err) != release.KindIntegrity {
				t.Fatalf("stub %d: %v", n, err)
			}
			continue
		}
		for _, earlier := range e.states {
			if err := l.Contains(t.Context(), earlier.Checkpoint); err != nil {
				t.Errorf("state %d: a checkpoint that was seen before: %v", i, err)
			}
		}
	}
}
