package bench

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata/registry.md")

// results are of one case with three tools, and of one in which things break.
func results(t *testing.T) []Result {
	t.Helper()
	image, err := NewImage(Spec{1, 100}, 1)
	if err != nil {
		t.Fatal(err)
	}
	taken := func(requests, read int64, ms ...int) []sample {
		var list []sample
		for _, n := range ms {
			s := sample{cost: Cost{Wall: time.Duration(n) * time.Millisecond, CPU: 20 * time.Millisecond}, source: Count{Requests: requests, BodyOut: read, Kinds: map[string]int64{"GET blob": requests}}}
			if n < 0 {
				s.err = errBusy
			}
			list = append(list, s)
		}
		return list
	}
	ours := &Tool{Name: "promote", Ours: true, Version: "this checkout", How: "promote copy SRC DST"}
	crane := &Tool{Name: "crane", Tuning: Default, Version: "v1", How: "crane copy SRC DST"}
	tuned := &Tool{Name: "crane", Tuning: Tuned, Version: "v1", How: "crane copy --jobs 16 SRC DST"}
	fuller := &Tool{Name: "cosign", Tuning: Tuned, Version: "v2", How: "cosign copy SRC DST", Evidence: true}
	c := Case{ID: "B3", Work: "new tag", Spec: Spec{10, 4 * kib}, Target: Target{9, 3}}
	var list []Result
	for _, delay := range []int{0, 20} {
		group := []Result{sum(c, image, ours, delay, taken(3, 0, 10, 12, 11)), sum(c, image, crane, delay, taken(14, 0, 99, 100, 101)),
			sum(c, image, tuned, delay, taken(14, 0, 30, 31, 32)), sum(c, image, fuller, delay, taken(20, 0, 300, 310, 320))}
		compare(group, c.Target)
		list = append(list, group...)
	}
	f := Case{ID: "B16", Work: "broken", Spec: Spec{1, gib}, Faulty: true}
	size := image.blobs[0].Size + image.blobs[1].Size
	group := []Result{sum(f, image, ours, 0, taken(5, size+small+mib, 500, 510)), sum(f, image, crane, 0, taken(5, size+small+512*mib, -1, 700))}
	compare(group, f.Target)
	return append(list, group...)
}

func TestReport(t *testing.T) {
	r := &Report{Machine: Machine{CPU: "a processor", Cores: 2, Memory: "4 GB", System: "linux", Go: "go1", Storage: "on disk"}, Runs: 3, Results: results(t)}
	var got bytes.Buffer
	if err := r.Markdown(&got); err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/registry.md"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the report has changed: look at it and run with -update\n%s", got.String())
	}
}

func TestTargetsAreJudged(t *testing.T) {
	list := results(t)
	crane, tuned, fuller := list[1], list[2], list[3]
	if crane.Reached == nil || !*crane.Reached || crane.Target != 9 {
		t.Errorf("100 ms ÷ 11 ms: %+v", crane)
	}
	if tuned.Reached == nil || *tuned.Reached || tuned.Target != 3 {
		t.Errorf("31 ms ÷ 11 ms: %+v", tuned)
	}
	if fuller.Reached != nil || fuller.Ratio == 0 {
		t.Errorf("one that does more work is judged: %+v", fuller)
	}
	again := list[len(list)-1]
	if again.Again.Read != 512*mib || again.Failed != 1 || again.Milliseconds.Runs != 1 || again.Ratio != 0 {
		t.Errorf("got %+v", again)
	}
}

func TestWorkerAnswers(t *testing.T) {
	var out strings.Builder
	var got []Order
	err := Work(strings.NewReader("{\"source\":\"a\"}\n{\"source\":\"b\"}\n"), &out, func(o Order) error {
		got = append(got, o)
		if o.Source == "b" {
			return errBusy
		}
		return nil
	})
	if err != nil || len(got) != 2 || strings.Count(out.String(), "\n") != 2 || strings.Count(out.String(), errBusy.Error()) != 1 {
		t.Errorf("%v, %+v, %s", err, got, out.String())
	}
}
