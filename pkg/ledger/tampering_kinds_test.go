package ledger_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

// mutation is a ledger that somebody changed.
type mutation struct {
	kind, what string
	state      ledger.State
}

// tamperer makes mutations of a sound ledger.
type tamperer struct {
	t     testing.TB
	e     *estate
	bits  int // of each byte
	sound ledger.State
	yield func(mutation) bool
	ended bool
}

// mutations gives all of them, in the same order each time.
func (h *estate) mutations(t testing.TB, bits int) iter.Seq[mutation] {
	return func(yield func(mutation) bool) {
		m := &tamperer{t: t, e: h, bits: bits, sound: h.states[len(h.states)-1], yield: yield}
		for _, kind := range []func(){m.records, m.order, m.cuts, m.bitflips, m.spellings, m.payloads, m.base64s, m.lineFeeds, m.bundles,
			m.signers, m.strangers, m.checkpoints, m.checkpointBits, m.pairs, m.stubs, m.keyHolders} {
			if kind(); m.ended {
				return
			}
		}
	}
}

// log gives a changed log under the last checkpoint.
func (m *tamperer) log(kind, what string, log []byte) {
	m.state(kind, what, ledger.State{Log: log, Checkpoint: m.sound.Checkpoint})
}

func (m *tamperer) state(kind, what string, s ledger.State) {
	if m.ended || bytes.Equal(s.Log, m.sound.Log) && bytes.Equal(s.Checkpoint, m.sound.Checkpoint) {
		return
	}
	m.ended = !m.yield(mutation{kind, what, s})
}

// line gives the log with one line exchanged for others.
func (m *tamperer) line(kind string, n int, by ...[]byte) {
	m.log(kind, fmt.Sprintf("record %d", n), join(slices.Replace(slices.Clone(m.e.lines), n, n+1, by...)))
}

func (m *tamperer) envelope(n int) (plainEnvelope, bool) {
	var e plainEnvelope
	err := json.Unmarshal(m.e.lines[n], &e)
	return e, err == nil && e.Payload != ""
}

func (m *tamperer) payload(n int) []byte {
	if e, ok := m.envelope(n); ok {
		raw, _ := base64.StdEncoding.DecodeString(e.Payload)
		return raw
	}
	var bundle struct {
		Enclosed plainEnvelope `json:"dsseEnvelope"`
	}
	_ = json.Unmarshal(m.e.lines[n], &bundle)
	raw, _ := base64.StdEncoding.DecodeString(bundle.Enclosed.Payload)
	return raw
}

// with gives a record's line with another payload under the old signature.
func (m *tamperer) with(n int, payload []byte) []byte {
	return bytes.Replace(m.e.lines[n], []byte(base64.StdEncoding.EncodeToString(m.payload(n))), []byte(base64.StdEncoding.EncodeToString(payload)), 1)
}

// signed gives a payload in somebody's envelope.
func (m *tamperer) signed(name, payloadType string, payload []byte) []byte {
	raw, err := m.e.sign(name)(context.Background(), payloadType, payload)
	if err == nil {
		raw, err = release.CanonicalJSON(raw)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return raw
}

// records edits every member of every record, under its old signature and
// signed again by whoever wrote it.
func (m *tamperer) records() {
	for n := range m.e.lines {
		var members map[string]any
		if err := json.Unmarshal(m.payload(n), &members); err != nil {
			m.t.Fatal(err)
		}
		for name, value := range members {
			for _, other := range []any{"another", "", 7, nil} {
				members[name] = other
				changed, err := release.Canonical(members)
				if err != nil {
					m.t.Fatal(err)
				}
				m.line("edited", n, m.with(n, changed))
				m.line("edited, signed again by its signer", n, m.signed(m.e.names[n], ledger.PayloadTypeRecord, changed))
			}
			delete(members, name)
			without, _ := release.Canonical(members)
			m.line("edited", n, m.with(n, without))
			members[name] = value
		}
	}
}

// order deletes, repeats and swaps records.
func (m *tamperer) order() {
	lines := m.e.lines
	for n := range lines {
		m.line("deleted", n)
		for to := range lines {
			m.log("duplicated", fmt.Sprintf("record %d before line %d", n, to+1), join(slices.Insert(slices.Clone(lines), to, lines[n])))
			if to > n {
				swapped := slices.Clone(lines)
				swapped[n], swapped[to] = swapped[to], swapped[n]
				m.log("swapped", fmt.Sprintf("records %d and %d", n, to), join(swapped))
				m.log("moved", fmt.Sprintf("record %d to line %d", n, to+1), join(slices.Insert(slices.Delete(slices.Clone(lines), n, n+1), to, lines[n])))
				m.log("deleted", fmt.Sprintf("records %d to %d", n, to), join(slices.Delete(slices.Clone(lines), n, to+1)))
			}
		}
		m.line("replaced by another record", n, lines[(n+1)%len(lines)])
		m.line("emptied", n, []byte{})
		m.line("emptied", n, []byte("{}"))
	}
}

// cuts ends the log early: behind each record, and in every line.
func (m *tamperer) cuts() {
	at := 0
	for n, line := range m.e.lines {
		m.log("truncated", fmt.Sprintf("before record %d", n), bytes.Clone(m.sound.Log[:at]))
		for cut := 1; cut <= len(line); cut += max(1, len(line)/12) {
			m.log("truncated", fmt.Sprintf("in record %d", n), bytes.Clone(m.sound.Log[:at+cut]))
		}
		at += len(line) + 1
	}
}

// bitflips flips bits of every byte of the log.
func (m *tamperer) bitflips() {
	for at := range m.sound.Log {
		for bit := range m.bits {
			log := bytes.Clone(m.sound.Log)
			log[at] ^= 1 << ((at*3 + bit*5) % 8)
			m.log("bit flipped", fmt.Sprintf("byte %d", at), log)
		}
	}
}

// spellings writes each line's JSON in other ways that mean the same to many
// parsers.
func (m *tamperer) spellings() {
	const kind = "envelope spelled otherwise"
	replace := func(n int, old, by string) {
		m.line(kind, n, bytes.Replace(m.e.lines[n], []byte(old), []byte(by), 1))
	}
	for n, line := range m.e.lines {
		for _, blank := range []string{" ", "\t", "\r", "\v", "\u00a0", "\ufeff", "\x00"} {
			m.line(kind, n, append([]byte(blank), line...))
			m.line(kind, n, append(bytes.Clone(line), blank...))
		}
		for _, r := range [][2]string{
			{"{", "{ "}, {":", ": "}, {",", ", "}, {"}", " }"}, {`"payload"`, `"\u0070ayload"`}, {`"payload"`, `"Payload"`}, {`"sig"`, `"Sig"`}, {`"sig"`, `"s\u0069g"`},
			{"application/vnd", `application\/vnd`}, {"application/vnd", `\u0061pplication/vnd`}, {"application/vnd.promote.record", "application/vnd.promote.Record"},
			{"application/vnd.promote.record.v1+json", ledger.PayloadTypeCheckpoint}, {"application/vnd.promote.record.v1+json", "application/vnd.in-toto+json"},
			{`"signatures":[`, `"signatures":[{"sig":""},`}, {`"signatures":[`, `"signatures":[[],`}, {`}]`, `},null]`}, {`"sig":"`, `"keyid":"x","sig":"`},
			{`{"payload":"`, `{"payload":"","payload":"`}, {`{"payload":"`, `{"aaa":1,"payload":"`}, {`"payloadType":"`, `"payloadType":"x","payloadType":"`},
		} {
			replace(n, r[0], r[1])
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(line, &members); err != nil {
			m.t.Fatal(err)
		}
		var names []string
		for name := range members {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
		var reordered []string
		for _, name := range names {
			reordered = append(reordered, fmt.Sprintf("%q:%s", name, members[name]))
		}
		m.line(kind, n, []byte("{"+strings.Join(reordered, ",")+"}"))
		m.line(kind, n, []byte("{"+strings.Join(append(reordered, reordered[0]), ",")+"}"))
		indented, _ := json.MarshalIndent(members, "", " ")
		m.line(kind, n, bytes.ReplaceAll(indented, []byte("\n"), nil))
		m.line(kind, n, indented)
		m.line(kind, n, []byte("["+string(line)+"]"))
	}
}

// payloads writes each record's JSON otherwise: under the old signature, and
// signed again so that only the form is wrong.
func (m *tamperer) payloads() {
	const kind = "record spelled otherwise"
	for n := range m.e.lines {
		good := string(m.payload(n))
		for _, other := range []string{
			" " + good, good + " ", good + "\n", good + good, good + "{}", "\ufeff" + good,
			strings.Replace(good, ":", ": ", 1), strings.Replace(good, ",", " ,", 1),
			strings.Replace(good, `"phase"`, `"ph\u0061se"`, 1), strings.Replace(good, `"phase"`, `"Phase"`, 1),
			strings.Replace(good, `"phase":`, `"phase":"denied","phase":`, 1), strings.Replace(good, `{"`, `{"aaa":1,"`, 1),
			strings.Replace(good, `"schemaVersion":1`, `"schemaVersion":1.0`, 1), strings.Replace(good, `"schemaVersion":1`, `"schemaVersion":1e0`, 1),
			strings.Replace(good, `"schemaVersion":1`, `"schemaVersion":2`, 1), strings.Replace(good, fmt.Sprintf(`"sequence":%d`, n), fmt.Sprintf(`"sequence":%d.0`, n), 1),
			strings.Replace(good, `"time":"2026`, `"time":"\u0032026`, 1), strings.Replace(good, `Z"`, `+00:00"`, 1), strings.Replace(good, "sha256:", "SHA256:", 1),
		} {
			if other == good {
				continue
			}
			m.line(kind, n, m.with(n, []byte(other)))
			m.line(kind+", signed again", n, m.signed(m.e.names[n], ledger.PayloadTypeRecord, []byte(other)))
		}
	}
}

// base64s writes the same bytes in other alphabets, paddings and last bits.
func (m *tamperer) base64s() {
	const kind = "base64 written otherwise"
	for n := range m.e.lines {
		e, ok := m.envelope(n)
		if !ok {
			continue
		}
		for _, text := range []string{e.Payload, e.Signatures[0].Sig} {
			raw, _ := base64.StdEncoding.DecodeString(text)
			bare := strings.TrimRight(text, "=")
			for _, other := range []string{
				base64.URLEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
				text + "=", text + "====", bare + "===", text[:8] + `\n` + text[8:], text[:8] + `\r\n` + text[8:], text[:8] + " " + text[8:], text + `\n`,
				lastBits(text),
			} {
				m.line(kind, n, bytes.Replace(m.e.lines[n], []byte(text), []byte(other), 1))
			}
		}
	}
}

// lastBits sets bits of the last character that decoding ignores.
func lastBits(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	bare := strings.TrimRight(text, "=")
	if bare == text {
		return text
	}
	i := strings.IndexByte(alphabet, bare[len(bare)-1])
	return bare[:len(bare)-1] + string(alphabet[i^1]) + text[len(bare):]
}

// lineFeeds changes how lines end, and what lies behind them.
func (m *tamperer) lineFeeds() {
	const kind = "line feeds and what lies behind"
	lines := m.e.lines
	for n := range lines {
		for _, end := range []string{"\r\n", "\r", "\n\n", "", "\u2028", "\x00\n", "\n\r"} {
			at := len(join(lines[:n+1])) - 1
			m.log(kind, fmt.Sprintf("behind record %d", n), slices.Concat(m.sound.Log[:at], []byte(end), m.sound.Log[at+1:]))
		}
		m.line(kind, n, []byte{}, lines[n])
		m.line(kind, n, []byte("# note"), lines[n])
		m.log(kind, fmt.Sprintf("record %d again at the end", n), append(bytes.Clone(m.sound.Log), append(bytes.Clone(lines[n]), '\n')...))
	}
	for _, more := range []string{"\n", " ", "x", "\x00", "{}\n", "{}", "# end\n", string(m.sound.Log), string(m.sound.Checkpoint), string(m.sound.Checkpoint) + "\n", string(lines[0])} {
		m.log(kind, "at the end", append(bytes.Clone(m.sound.Log), more...))
		m.log(kind, "at the beginning", append([]byte(more), m.sound.Log...))
	}
}

// bundles takes identities' lines apart and puts keys' lines into bundles.
func (m *tamperer) bundles() {
	const kind = "bundle taken apart or made up"
	for n, line := range m.e.lines {
		var bundle map[string]json.RawMessage
		if err := json.Unmarshal(line, &bundle); err != nil {
			m.t.Fatal(err)
		}
		put := func(members map[string]any) {
			raw, err := release.Canonical(members)
			if err != nil {
				m.t.Fatal(err)
			}
			m.line(kind, n, raw)
		}
		material := map[string]any{"name": "", "id": "ci@acme.dev", "issuer": "https://issuer.acme.dev", "time": "2026-03-01T12:00:00Z"}
		enclosed, inside := bundle["dsseEnvelope"]
		if !inside {
			put(map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": bundle, "verificationMaterial": material})
			put(map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": bundle})
			put(map[string]any{"dsseEnvelope": bundle, "payload": bundle["payload"], "payloadType": bundle["payloadType"], "signatures": bundle["signatures"]})
			continue
		}
		m.line(kind, n, enclosed)
		for _, other := range []string{"ops@acme.dev", "ci@acme.dev.evil", ""} {
			material["id"] = other
			put(map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": enclosed, "verificationMaterial": material})
		}
		for _, media := range []string{"", "application/json", release.MediaTypeBundle + " ", "application/vnd.dev.sigstore.bundle.v0.2+json"} {
			put(map[string]any{"mediaType": media, "dsseEnvelope": enclosed, "verificationMaterial": bundle["verificationMaterial"]})
		}
		put(map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": enclosed, "verificationMaterial": bundle["verificationMaterial"], "payload": "e30="})
		put(map[string]any{"mediaType": release.MediaTypeBundle, "dsseEnvelope": enclosed, "verificationMaterial": bundle["verificationMaterial"], "x": 1})
	}
}

// signers has each record signed by everybody else, with and without a role.
func (m *tamperer) signers() {
	for n := range m.e.lines {
		for _, name := range []string{"ops", "alice", "carol", "dave", "tess", "mallory", "ci"} {
			if name != m.e.names[n] {
				m.line("signed by somebody else", n, m.signed(name, ledger.PayloadTypeRecord, m.payload(n)))
			}
		}
		if e, ok := m.envelope(n); ok {
			m.line("the signature's other form", n, bytes.Replace(m.e.lines[n], []byte(e.Signatures[0].Sig), []byte(otherForm(m.t, e.Signatures[0].Sig)), 1))
		}
	}
}

// otherForm gives the ECDSA signature (r, n-s) for (r, s): anybody can, and it
// verifies.
func otherForm(t testing.TB, sig string) string {
	raw, err := base64.StdEncoding.DecodeString(sig)
	var pair struct{ R, S *big.Int }
	if err == nil {
		_, err = asn1.Unmarshal(raw, &pair)
	}
	if err != nil {
		t.Fatal(err)
	}
	pair.S.Sub(p256(t, "ops").Params().N, pair.S)
	raw, err = asn1.Marshal(pair)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// strangers puts in records of another project with the same signers, and whole
// logs of others.
func (m *tamperer) strangers() {
	others := m.e.tell(m.t, "promote/another", func(s step) string { return s.signer }, 1)
	another := others[len(others)-1]
	lines := bytes.Split(bytes.TrimSuffix(another.Log, []byte{'\n'}), []byte{'\n'})
	const kind = "from another project's ledger"
	for n := range m.e.lines {
		m.line(kind, n, lines[n])
		m.log(kind, "appended", append(bytes.Clone(m.sound.Log), append(bytes.Clone(lines[n]), '\n')...))
		if n > 0 {
			m.log(kind, "from there on", join(slices.Concat(m.e.lines[:n], lines[n:])))
		}
		m.state(kind, "log and checkpoint", others[n])
		m.state(kind, "checkpoint", ledger.State{Log: m.sound.Log, Checkpoint: others[n].Checkpoint})
	}
	// A whole log of somebody's own, with keys and trust of their own.
	const own = "a log of a stranger's own keys"
	mallory := &ledgertest.Memory{}
	for n := range len(story) {
		r := ledgertest.Released(n)
		if n == 0 {
			r.Trust = &release.Trust{Roles: map[release.Role][]release.Party{release.Promoter: {party(m.t, "mallory")}, release.Owner: {party(m.t, "mallory")}}}
		}
		if _, _, err := m.e.open(m.t, mallory, "promote/agent", "mallory").Append(m.t.Context(), r, int64(n)); err != nil {
			m.t.Fatal(err)
		}
		s, _ := mallory.Read(m.t.Context())
		m.state(own, fmt.Sprintf("%d records", n+1), s)
		m.log(own, "under the project's checkpoint", s.Log)
	}
}

// checkpoints exchanges and rewrites the newest one.
func (m *tamperer) checkpoints() {
	const kind = "checkpoint exchanged"
	last := len(m.e.states) - 1
	for n, s := range m.e.states[:last] {
		m.state(kind, fmt.Sprintf("for that over %d", n+1), ledger.State{Log: m.sound.Log, Checkpoint: s.Checkpoint})
		m.state(kind, fmt.Sprintf("the newest with %d records", n+1), ledger.State{Log: s.Log, Checkpoint: m.sound.Checkpoint})
	}
	put := func(checkpoint []byte) {
		m.state(kind, "rewritten", ledger.State{Log: m.sound.Log, Checkpoint: checkpoint})
	}
	for _, text := range []string{"", "{}", "null", "[]", "x", string(m.e.lines[0]), string(m.sound.Checkpoint) + " ", " " + string(m.sound.Checkpoint), strings.Repeat(" ", 1<<17)} {
		put([]byte(text))
	}
	e := plainEnvelope{}
	if err := json.Unmarshal(m.sound.Checkpoint, &e); err != nil {
		m.t.Fatal(err)
	}
	text, _ := base64.StdEncoding.DecodeString(e.Payload)
	body := strings.Split(string(text), "\n")
	var root [32]byte
	for _, other := range []string{
		string(text) + "\n", string(text) + "x\n", strings.TrimSuffix(string(text), "\n"), strings.ReplaceAll(string(text), "\n", "\r\n"),
		body[0] + "\n0" + body[1] + "\n" + body[2] + "\n", body[0] + "\n+" + body[1] + "\n" + body[2] + "\n", body[0] + "\n" + body[1] + ".0\n" + body[2] + "\n",
		fmt.Sprintf("%s\n%d\n%s\n", body[0], len(story)-1, body[2]), fmt.Sprintf("%s\n%d\n%s\n", body[0], len(story)+1, body[2]), fmt.Sprintf("%s\n%d\n%s\n", body[0], int64(1)<<62, body[2]),
		body[0] + "\n" + body[1] + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n", "promote/another\n" + body[1] + "\n" + body[2] + "\n",
	} {
		for _, name := range []string{"", "mallory", "tess", "alice", "ops"} {
			if name == "" {
				put(bytes.Replace(m.sound.Checkpoint, []byte(e.Payload), []byte(base64.StdEncoding.EncodeToString([]byte(other))), 1))
				continue
			}
			put(m.signed(name, ledger.PayloadTypeCheckpoint, []byte(other)))
		}
	}
	for _, name := range []string{"mallory", "tess", "alice", "carol", "dave"} {
		put(m.signed(name, ledger.PayloadTypeCheckpoint, text))
	}
	put(m.signed("ops", ledger.PayloadTypeRecord, text))
	m.state("checkpoint's signature in its other form", "(r, n-s)", ledger.State{Log: m.sound.Log,
		Checkpoint: bytes.Replace(m.sound.Checkpoint, []byte(e.Signatures[0].Sig), []byte(otherForm(m.t, e.Signatures[0].Sig)), 1)})
}

func (m *tamperer) checkpointBits() {
	for at := range m.sound.Checkpoint {
		for bit := range 8 {
			checkpoint := bytes.Clone(m.sound.Checkpoint)
			checkpoint[at] ^= 1 << bit
			m.state("checkpoint's bit flipped", fmt.Sprintf("byte %d", at), ledger.State{Log: m.sound.Log, Checkpoint: checkpoint})
		}
	}
}

// pairs puts log and checkpoint of an earlier time in place, both.
func (m *tamperer) pairs() {
	for n, s := range m.e.states[:len(m.e.states)-1] {
		m.state("an older pair of log and checkpoint", fmt.Sprintf("of %d records", n+1), s)
	}
	m.state("an older pair of log and checkpoint", "nothing", ledger.State{})
}

// keyHolders writes history anew with everybody's keys.
func (m *tamperer) keyHolders() {
	for n := 1; n < len(story); n += 1 + 8/m.bits {
		states := m.e.tell(m.t, "promote/agent", func(s step) string { return s.signer }, n)
		m.state("written anew by holders of all keys", fmt.Sprintf("from record %d", n), states[len(states)-1])
	}
}
