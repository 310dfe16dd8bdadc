package reliability

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// The document's generated parts stand between these lines.
const (
	tableBegin = "<!-- begin: made by `make reliability` -->"
	tableEnd   = "<!-- end -->"
)

// raced is what the races of pkg/pipeline write.
type raced struct {
	Store                                                    string
	Runs, Operators, Winners, Told, Operations, Linearizable int
}

// writeTable brings the document up to date.
func writeTable(path, races string, rows []Row, whole int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the tables: %s … %s", path, tableBegin, tableEnd)
	}
	var all []raced
	raw, err := os.ReadFile(races)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	made := tables(rows, all, whole)
	return os.WriteFile(path, []byte(before+tableBegin+"\n\n"+made+"\n"+tableEnd+after), 0o644)
}

func tables(rows []Row, races []raced, whole int) string {
	var b strings.Builder
	var kills, disks, processes []Row
	for _, r := range rows {
		switch r.Of {
		case OfDisk:
			disks = append(disks, r)
		case OfRace:
			processes = append(processes, r)
		default:
			kills = append(kills, r)
		}
	}
	if len(kills) > 0 {
		summary(&b, kills, whole)
		byPlace(&b, kills)
	}
	if len(races) > 0 || len(processes) > 0 {
		raceTable(&b, races, processes)
	}
	if len(disks) > 0 {
		diskTable(&b, disks)
	}
	faults(&b, rows)
	fmt.Fprintf(&b, "Program: %s.\n", strings.Join(programs(rows), "; "))
	return b.String()
}

// tally counts rows.
type tally struct {
	trials, ended, none, intent, closed, old, new, faults int
	seconds                                               float64
}

func (t *tally) add(r Row) {
	t.trials++
	t.seconds += r.Seconds
	if r.Fault != "" {
		t.faults++
	}
	switch r.Outcome {
	case "old":
		t.old++
	case "new":
		t.new++
	}
	switch {
	case !r.Killed:
		t.ended++
	case r.Ledger == recordedNothing:
		t.none++
	case r.Ledger == recordedIntent:
		t.intent++
	default:
		t.closed++
	}
}

func (t tally) cells() string {
	return fmt.Sprintf("%d | %d | %d | %d | %d | %d | %d | %d", t.trials, t.ended, t.none, t.intent, t.closed, t.old, t.new, t.faults)
}

// group tallies rows by a name, in order of first sight of each kind.
func group(rows []Row, name func(Row) string) (order []string, sums map[string]*tally) {
	sums = map[string]*tally{}
	for _, r := range rows {
		key := name(r)
		if sums[key] == nil {
			sums[key] = &tally{}
			order = append(order, key)
		}
		sums[key].add(r)
	}
	slices.Sort(order)
	return order, sums
}

const tallyHead = "| trials | ended before | nothing recorded | intent open | record closed | then old | then new | findings |\n"

func summary(b *strings.Builder, rows []Row, whole int) {
	b.WriteString("### Killed\n\n| killed was | at each | before or after it " + tallyHead + "|---|---|---|" + strings.Repeat("--:|", 8) + "\n")
	order, sums := group(rows, func(r Row) string { return titles[r.Of] + " | " + r.Where + " | " + side(r) })
	var total tally
	for _, key := range order {
		fmt.Fprintf(b, "| %s | %s |\n", key, sums[key].cells())
	}
	for _, r := range rows {
		total.add(r)
	}
	took := time.Duration(total.seconds * float64(time.Second)).Round(time.Minute)
	fmt.Fprintf(b, "| **all** | | | %s |\n\n%d trials, %s of running time.", total.cells(), total.trials, took)
	if tried := len(slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Of != OfUpdate && r.Of != OfRestore })); tried < whole {
		fmt.Fprintf(b, " This run was cut short: it has tried %d of the %d points of a promotion and a restore.", tried, whole)
	}
	b.WriteString("\n\n")
}

var titles = map[string]string{OfUpdate: "a promotion", OfFirst: "the first promotion of an environment", OfResume: "`resume`",
	OfRestore: "a restore", OfUndo: "a promotion, undone by `resume`", OfUndoneRestore: "a restore, undone by `resume`"}

func side(r Row) string {
	switch {
	case r.Where == AtRandom:
		return ""
	case r.After:
		return "after"
	}
	return "before"
}

// byPlace shows every place at which something was killed.
func byPlace(b *strings.Builder, rows []Row) {
	killed := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !r.Killed || r.Where == AtRandom })
	b.WriteString("### Where\n\n| at | what | side " + tallyHead + "|---|---|---|" + strings.Repeat("--:|", 8) + "\n")
	order, sums := group(killed, func(r Row) string { return r.Where + " | `" + cmp.Or(r.Call, r.What) + "` | " + side(r) })
	for _, key := range order {
		fmt.Fprintf(b, "| %s | %s |\n", key, sums[key].cells())
	}
	b.WriteString("\n")
}

func raceTable(b *strings.Builder, races []raced, processes []Row) {
	b.WriteString("### Races\n\n| operators are | store | races | operators | winners | losers, told who | operations on the ledger | races that fit one order |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range races {
		fmt.Fprintf(b, "| goroutines with a ledger each | %s | %d | %d | %d | %d | %d | %d |\n", r.Store, r.Runs, r.Operators, r.Winners, r.Told, r.Operations, r.Linearizable)
	}
	operators, won, told := 0, 0, 0
	for _, r := range processes {
		operators += r.At
		if r.Fault == "" {
			won++
			told += r.At - 1
		}
	}
	if len(processes) > 0 {
		fmt.Fprintf(b, "| processes | file | %d | %d | %d | %d | | |\n", len(processes), operators, won, told)
	}
	b.WriteString("\n")
}

func diskTable(b *strings.Builder, rows []Row) {
	b.WriteString("### Disks that fail\n\n| what fails | trials | exit 1, nothing changed | exit 5, then finished by `resume` | done all the same | findings |\n|---|--:|--:|--:|--:|--:|\n")
	type sums struct{ trials, refused, resumed, done, faults int }
	all := map[string]*sums{}
	var order []string
	for _, r := range rows {
		if all[r.Where] == nil {
			all[r.Where] = &sums{}
			order = append(order, r.Where)
		}
		s := all[r.Where]
		s.trials++
		switch {
		case r.Fault != "":
			s.faults++
		case r.Ledger == endRefused:
			s.refused++
		case r.Ledger == endBroken:
			s.resumed++
		default:
			s.done++
		}
	}
	for _, name := range order {
		s := all[name]
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d |\n", name, s.trials, s.refused, s.resumed, s.done, s.faults)
	}
	b.WriteString("\n")
}

// faults lists every finding.
func faults(b *strings.Builder, rows []Row) {
	found := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Fault == "" })
	if len(found) == 0 {
		b.WriteString("No findings: nothing was lost, doubled or left open, and nothing was left between old and new.\n\n")
		return
	}
	b.WriteString("### Findings\n\n")
	for _, r := range found {
		fmt.Fprintf(b, "- %s, %s %d %s (`%s`): %s\n", titles[r.Of], r.Where, r.At, side(r), r.What, r.Fault)
	}
	b.WriteString("\n")
}

// programs counts the trials of each version of the program.
func programs(rows []Row) []string {
	count := map[string]int{}
	for _, r := range rows {
		count[r.Program]++
	}
	var list []string
	for program, n := range count {
		list = append(list, fmt.Sprintf("%s (%d trials)", program, n))
	}
	slices.Sort(list)
	return list
}
