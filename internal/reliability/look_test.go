package reliability

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func number(n int64) *int64 { return &n }

// What is lost, doubled or left open is seen.
func TestSettled(t *testing.T) {
	old := []record{{Sequence: 1, Phase: "intended"}, {Sequence: 2, Phase: "deployed", Intent: number(1)}}
	begun := append(slices.Clone(old), record{Sequence: 3, Phase: "intended"})
	for name, c := range map[string]struct {
		before, after []record
		want          string
	}{
		"nothing new":       {old, old, ""},
		"deployed":          {old, append(slices.Clone(begun), record{Sequence: 4, Phase: "deployed", Intent: number(3)}), ""},
		"resumed, undone":   {begun, append(slices.Clone(begun), record{Sequence: 4, Phase: "intended", Resumes: number(3)}, record{Sequence: 5, Phase: "rolledBack", Intent: number(4)}), ""},
		"open":              {old, begun, "record 3 is open"},
		"lost":              {begun, old, "record 3 is lost"},
		"replaced":          {old, []record{old[0], {Sequence: 2, Phase: "rolledBack", Intent: number(1)}}, "record 2 is lost"},
		"doubled":           {old, append(slices.Clone(old), record{Sequence: 3, Phase: "deployed", Intent: number(1)}), "record 1 has 2 ends"},
		"resumed twice":     {old, append(slices.Clone(begun), record{Sequence: 4, Phase: "intended", Resumes: number(3)}, record{Sequence: 5, Phase: "intended", Resumes: number(3)}), "record 3 has 2 ends"},
		"resumed, and open": {begun, append(slices.Clone(begun), record{Sequence: 4, Phase: "intended", Resumes: number(3)}), "record 4 is open"},
	} {
		got := ""
		if err := settled(c.before, c.after); err != nil {
			got = err.Error()
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestRaceFault(t *testing.T) {
	won := ended{Stdout: `{"record":{"sequence":3}}`}
	late := ended{Stdout: `{"record":null}`}
	told, untold := ended{Code: 6, Stderr: "held by process 11"}, ended{Code: 6, Stderr: "held by somebody"}
	for name, c := range map[string]struct {
		ends []ended
		want string
	}{
		"one wins, all others know": {[]ended{won, told, late}, ""},
		"nobody wins":               {[]ended{told, told}, "nobody won"},
		"two win":                   {[]ended{won, won}, "both won"},
		"a loser is not told":       {[]ended{won, untold}, "said: exit 6"},
		"a loser fails":             {[]ended{won, {Code: 1, Stderr: "process 11"}}, "said: exit 1"},
	} {
		got := ""
		if err := raceFault(c.ends, []int{11, 12, 13}); err != nil {
			got = err.Error()
		}
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPoints(t *testing.T) {
	seen := map[string][]string{AtEngine: {"GET /info", "POST /containers/create", "GET /info"}, AtCall: {"fsync log"}}
	all := Points(OfUpdate, seen, time.Second, 5, 0)
	if len(all) != 3*2+1*2+5 {
		t.Errorf("%d points", len(all))
	}
	keys := map[string]bool{}
	for _, p := range all {
		keys[p.Key()] = true
	}
	if len(keys) != len(all) {
		t.Error("two points have one key")
	}
	if n := len(Points(OfUpdate, seen, time.Second, 5, 2)); n != 6 {
		t.Errorf("%d points, at most 2 of each kind", n)
	}
	random := rand.New(rand.NewPCG(1, 1))
	create := urgency(Point{Of: OfUpdate, Where: AtEngine, Call: "POST /containers/create", At: 1}, seen[AtEngine], random)
	again := urgency(Point{Of: OfUpdate, Where: AtEngine, Call: "GET /info", At: 1}, seen[AtEngine], random)
	if create >= again {
		t.Error("what is read again comes before what changes something")
	}
}

// The document keeps its words, and gets the tables that the rows give; made
// again of the same rows it is the same.
func TestTheDocument(t *testing.T) {
	dir := t.TempDir()
	path, races, kept := filepath.Join(dir, "doc.md"), filepath.Join(dir, "races.json"), filepath.Join(dir, "rows")
	for name, text := range map[string]string{
		path:  "# Words\n\n" + tableBegin + "\nold\n" + tableEnd + "\n\nmore words\n",
		races: `[{"store":"file","runs":200,"operators":994,"winners":200,"told":794,"operations":5984,"linearizable":200}]`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []Row{
		{Point: Point{Of: OfUpdate, Where: AtEngine, At: 7}, What: "POST /containers/create", Killed: true, Ledger: recordedIntent, Outcome: "new", Program: "promote 1"},
		{Point: Point{Of: OfUpdate, Where: AtEngine, At: 8, After: true}, What: "POST /containers/create", Killed: true, Ledger: recordedIntent, Outcome: "mixed", Fault: "1 containers", Program: "promote 1"},
		{Point: Point{Of: OfDisk, Where: FailFull, At: 1}, Ledger: endRefused, Outcome: "old", Program: "promote 1"},
		{Point: Point{Of: OfRace, Where: "race 1", At: 5}, Outcome: "new", Program: "promote 2"},
	} {
		if err := appendRow(kept, r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		err := Run(t.Context(), Plan{Rows: kept, Table: path, RacesFile: races, OnlyReport: true})
		if err == nil || !strings.Contains(err.Error(), "1 containers") {
			t.Errorf("a finding is no error: %v", err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"# Words\n", "\nmore words\n", "| a promotion | engine request | before | 1 | 0 | 0 | 1 | 0 | 0 | 1 | 0 |",
			"| engine request | `POST /containers/create` | after | 1 |", "| goroutines with a ledger each | file | 200 | 994 | 200 | 794 | 5984 | 200 |",
			"| processes | file | 1 | 5 | 1 | 4 |", "| " + FailFull + " | 1 | 1 | 0 | 0 | 0 |", "- a promotion, engine request 8 after (`POST /containers/create`): 1 containers",
			"Program: promote 1 (3 trials); promote 2 (1 trials).",
		} {
			if strings.Count(string(text), want) != 1 {
				t.Errorf("it does not say once %q:\n%s", want, text)
			}
		}
	}
}
