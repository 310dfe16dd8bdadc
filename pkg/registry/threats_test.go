package registry_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

var update = flag.Bool("update", false, "rewrite docs/threats-registry.md")

// The table in the documentation is the tests' own: what it says is run.
func TestThreatTable(t *testing.T) {
	const file = "../../docs/threats-registry.md"
	want := threatTable()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not what the tests do: go test ./pkg/registry -run TestThreatTable -update (%v)", file, err)
	}
}

func threatTable() string {
	var b strings.Builder
	b.WriteString("# What a registry may do, and what comes of it\n\n" +
		"Made from the tests (`go test ./pkg/registry -run TestThreatTable -update`). Each row is a test `TestHostile/KIND/CASE` of pkg/registry/registrytest,\n" +
		"against a registry with the referrers API and one with the fallback tag; and of internal/localregistry, against the one on disk.\n\n" +
		"A cell is one fault of one thing that is served, met by one operation. It must end with the right kind of failure, name both digests where two\n" +
		"contradict each other, and leave the destination as it was: byte for byte if a manifest, a listing or a tag was wrong; if a blob was, with nothing\n" +
		"more than verified blobs and manifests below the root, which nothing refers to. The fast tests run a part of the cells, `-tags=engine` all of them.\n\n" +
		"| case | required | scenarios | cells |\n|---|---|---|---|\n")
	for _, c := range registrytest.Cases() {
		fmt.Fprintf(&b, "| %s | %s | %s | %d + %d |\n", c.Name(), c.Outcome, strings.Join(c.Scenarios(), ", "), c.Cells(inMemory(true)), c.Cells(inMemory(false)))
	}
	b.WriteString("\nMemory and time are measured in `TestMemoryOfCopying` and `TestMemoryOfReading` (`-tags=engine`), which run the client in a process of its own:\n" +
		"below 64 MB for a copy of 2 GiB, below 512 MB and a minute whatever is sent. The worst cases' deadlines add up in `TestDeadlines`.\n")
	return b.String()
}

// Every fault belongs to a case, and every case does something.
func TestThreatTableIsWhole(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range registrytest.Cases() {
		if c.Number > 0 && seen[c.Number] {
			t.Errorf("case %d is there twice", c.Number)
		}
		seen[c.Number] = true
		if c.Cells(inMemory(true)) == 0 && len(c.Scenarios()) == 0 {
			t.Errorf("%s does nothing", c.Name())
		}
	}
	for _, number := range slices.Concat([]int{17, 36, 39}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}) {
		if !seen[number] {
			t.Errorf("case %d is not there", number)
		}
	}
}
