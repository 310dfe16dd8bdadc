package ledger_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/ledger/ledgertest"
	"github.com/promote-dev/promote/pkg/release"
)

var (
	tampering = flag.String("tampering", "", "try all mutations of a ledger, and bring the table in this document up to date")
	each      = flag.Int("each", 1, "try one in so many of each kind, with -tampering")
	kindsOf   = flag.String("kinds", "", "try only kinds that this expression matches, and keep the table's other rows, with -tampering")
	flips     = flag.Int("flips", 1, "bits flipped of each byte of the log, with -tampering")
)

// answer is what readers said to one mutation.
type answer struct {
	kind, what string
	first      string // rule of the first finding
	with       bool   // the audit refused, given the last checkpoint
	without    bool   // the audit refused, given nothing but the trust
	said       string
	read       error // what promote says that reads it before a promotion, with the target's checkpoint
	alone      error // the same, with no target's checkpoint
	same       bool  // promote reads the very history that was there
}

// judge puts a mutation before an auditor, who is given it as an export, and
// before promote, which finds it in its store.
func (h *estate) judge(t testing.TB, auditor *ledger.Ledger, dir string, m mutation) answer {
	sound := h.states[len(h.states)-1]
	file := ledger.ExportedFile{Path: filepath.Join(dir, "export")}
	if err := os.WriteFile(file.Path, bytes.Join([][]byte{m.state.Checkpoint, m.state.Log}, []byte{'\n'}), 0o600); err != nil {
		t.Fatal(err)
	}
	a := answer{kind: m.kind, what: m.what}
	found, err := auditor.Audit(t.Context(), file, ledger.AuditOptions{Checkpoints: [][]byte{sound.Checkpoint}})
	if err != nil {
		t.Errorf("%s, %s: the audit could not decide: %v", m.kind, m.what, err)
	}
	a.said, a.with = shown(found), found.Result == "failed"
	for i, f := range found.Findings {
		if i == 0 {
			a.first = f.Rule
		}
		a.without = a.without || !strings.Contains(f.Message, "a checkpoint seen before")
	}
	store := &ledgertest.Memory{}
	store.Replace(m.state)
	l := h.open(t, store, "promote/agent", "")
	var history release.History
	if history, _, a.alone = l.Read(t.Context()); a.alone == nil {
		a.same = len(history) == len(h.lines)
		for n := range min(len(history), len(h.lines)) {
			a.same = a.same && history[n].Digest == ledger.LeafHash(h.lines[n])
		}
		if len(history) > 0 && history.Pinned().Trust.Digest() != h.second.Digest() && history.Pinned().Trust.Digest() != h.first.Digest() {
			a.alone = release.Denied("", "the trust in force is not the project's") // as every command says
		}
	}
	if a.read = a.alone; a.read == nil {
		a.read = l.Contains(t.Context(), sound.Checkpoint)
	}
	return a
}

// harmless kinds change nothing that anybody relies on.
var harmless = map[string]string{
	"checkpoint's signature in its other form": "it verifies, and says the same",
}

// unseen kinds are sound logs in themselves: only a checkpoint from elsewhere
// shows that they are not the project's.
var unseen = []string{"an older pair of log and checkpoint", "written anew by holders of all keys"}

// verdict reports why an answer is not the one that is promised.
func (a answer) verdict() string {
	_, fine := harmless[a.kind]
	alone := slices.Contains(unseen, a.kind)
	stranger := a.kind == "a log of a stranger's own keys"
	switch {
	case fine && (a.with || a.read != nil || !a.same):
		return "it is harmless, and was refused"
	case fine:
		return ""
	case !a.with:
		return "not detected, given the last checkpoint"
	case a.read == nil && !a.same:
		return "promote reads another history, although a target has its checkpoint"
	case a.read != nil && refusal(a.read) == "":
		return fmt.Sprintf("promote could not decide: %v", a.read)
	case !alone && !stranger && !a.without:
		return "not detected without an earlier checkpoint, and not documented"
	case !alone && a.alone == nil && !a.same && !a.interrupted():
		return "promote reads another history without a target's checkpoint, and not documented"
	}
	return ""
}

// interrupted reports whether a mutation looks like an append under way: one
// record less under its checkpoint, and the record behind it.
func (a answer) interrupted() bool {
	return a.kind == "checkpoint exchanged" && a.what == fmt.Sprintf("for that over %d", len(story)-1)
}

func refusal(err error) string {
	switch k := release.KindOf(err); k {
	case release.KindIntegrity, release.KindDenied:
		return string(k)
	}
	return ""
}

// TestTampering tries every record against edits, deletions, swaps, copies,
// cuts, flipped bits and other spellings, and checkpoints and whole logs besides.
// make tampering tries them all and writes docs/tampering.md; here it is a
// sample.
func TestTampering(t *testing.T) {
	e := newEstate(t)
	bits, every := 1, 307
	chosen := regexp.MustCompile(*kindsOf)
	if *tampering != "" {
		bits, every = *flips, max(1, *each)
	}
	todo, done := make(chan mutation), make(chan answer)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		dir, auditor := t.TempDir(), e.open(t, &ledgertest.Memory{}, "promote/agent", "")
		group.Go(func() {
			for m := range todo {
				done <- e.judge(t, auditor, dir, m)
			}
		})
	}
	n, counts := 0, map[string]int{}
	var kinds []string // in their order
	go func() {
		for m := range e.mutations(t, bits) {
			// Of each kind some.
			if counts[m.kind]++; counts[m.kind] == 1 {
				kinds = append(kinds, m.kind)
			}
			if chosen.MatchString(m.kind) && (n%every == 0 || counts[m.kind] <= 2) {
				todo <- m
			}
			n++
		}
		close(todo)
		group.Wait()
		close(done)
	}()
	var answers []answer
	wrong := 0
	for a := range done {
		answers = append(answers, a)
		if why := a.verdict(); why != "" {
			if wrong++; wrong <= 20 {
				t.Errorf("%s, %s: %s (found %s, read %v, alone %v, same %v)", a.kind, a.what, why, a.said, a.read, a.alone, a.same)
			}
		}
	}
	if n < 20_000 {
		t.Errorf("%d mutations in all, want at least 20,000", n)
	}
	t.Logf("%d of %d mutations tried, %d wrong", len(answers), n, wrong)
	if *tampering != "" && wrong == 0 {
		publishTampering(t, kinds, answers)
	}
}

const tableBegins, tableEnds = "<!-- table -->\n", "<!-- /table -->"

// tamperingRow is a row of the table: how many were tried, how many of them were
// refused by each reader, and read as if nothing were, and the first findings.
type tamperingRow struct {
	counts [6]int
	rules  map[string]int
}

func (r *tamperingRow) add(other tamperingRow) {
	for i, n := range other.counts {
		r.counts[i] += n
	}
	for rule, n := range other.rules {
		r.rules[rule] += n
	}
}

func (r *tamperingRow) line(name string) string {
	rules := slices.SortedFunc(maps.Keys(r.rules), func(x, y string) int {
		return cmp.Or(cmp.Compare(r.rules[y], r.rules[x]), strings.Compare(x, y))
	})
	for i, rule := range rules {
		rules[i] = fmt.Sprintf("%s %d", rule, r.rules[rule])
	}
	text := "| " + name + " |"
	for _, n := range r.counts {
		text += fmt.Sprintf(" %d |", n)
	}
	return text + " " + strings.Join(rules, ", ") + " |\n"
}

// readTampering reads the rows of a table that line wrote.
func readTampering(table string) map[string]*tamperingRow {
	rows := map[string]*tamperingRow{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		r := &tamperingRow{rules: map[string]int{}}
		if len(cells) != len(r.counts)+2 {
			continue
		}
		bad := false
		for i := range r.counts {
			n, err := strconv.Atoi(strings.TrimSpace(cells[1+i]))
			r.counts[i], bad = n, bad || err != nil
		}
		for rule := range strings.SplitSeq(strings.TrimSpace(cells[len(cells)-1]), ", ") {
			name, number, _ := strings.Cut(rule, " ")
			if n, err := strconv.Atoi(number); err == nil {
				r.rules[name] = n
			}
		}
		if !bad {
			rows[strings.TrimSpace(cells[0])] = r
		}
	}
	return rows
}

// publishTampering writes counts by kind into the document. Kinds of which
// nothing was tried keep their rows.
func publishTampering(t *testing.T, kinds []string, answers []answer) {
	t.Helper()
	text, err := os.ReadFile(*tampering)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), tableBegins)
	table, tail, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", *tampering)
	}
	rows := map[string]*tamperingRow{}
	for _, a := range answers {
		if rows[a.kind] == nil {
			rows[a.kind] = &tamperingRow{rules: map[string]int{}}
		}
		r := tamperingRow{counts: [6]int{1, one(a.with), one(a.without), one(a.read != nil), one(a.alone != nil), one(a.read == nil && a.same)}, rules: map[string]int{}}
		if a.first != "" {
			r.rules[a.first] = 1
		}
		rows[a.kind].add(r)
	}
	before := readTampering(table)
	var b strings.Builder
	b.WriteString("| what was done | mutations | audit, given the last checkpoint | audit, given none | promote, target's checkpoint | promote, no target's | same history read | reported first |\n|---|--:|--:|--:|--:|--:|--:|---|\n")
	total := &tamperingRow{rules: map[string]int{}}
	for _, kind := range kinds {
		if r := cmp.Or(rows[kind], before[kind]); r != nil {
			b.WriteString(r.line(kind))
			total.add(*r)
		}
	}
	b.WriteString(total.line("**all**"))
	if err := os.WriteFile(*tampering, []byte(head+tableBegins+b.String()+tableEnds+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}
