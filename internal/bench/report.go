package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Report is what a run found.
type Report struct {
	Machine Machine  `json:"machine"`
	Delays  []int    `json:"delaysMilliseconds"`
	Runs    int      `json:"runs"` // of each copy, at most
	Results []Result `json:"results"`

	part string // what its files are called
}

// NewReport makes a report of results that were found on this machine, with the
// registries below a directory.
func NewReport(o Options, storage string, results []Result) *Report {
	return &Report{Machine: ThisMachine(storage), Delays: o.Delays, Runs: o.Runs, Results: results, part: "registry"}
}

// NewEvidenceReport is NewReport for what an EvidenceSuite found.
func NewEvidenceReport(o Options, storage string, results []Result) *Report {
	r := NewReport(o, storage, results)
	r.part = "evidence"
	return r
}

// Write writes a page and the figures in full to a directory: registry.md and
// registry.json, or evidence.md and evidence.json.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := r.Markdown(&text); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.part+".json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.part+".md"), text.Bytes(), 0o644)
}

// Markdown writes the report for people.
func (r *Report) Markdown(w io.Writer) error {
	p := &page{Report: r}
	if r.part == "evidence" {
		p.evidence()
		_, err := w.Write(p.text.Bytes())
		return err
	}
	p.head()
	p.summary()
	for _, group := range p.groups() {
		if group[0].Again != nil {
			p.broken(group)
		} else {
			p.group(group)
		}
	}
	_, err := w.Write(p.text.Bytes())
	return err
}

type page struct {
	*Report
	text bytes.Buffer
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.text, format+"\n", args...) }

func (p *page) row(cells ...string) { p.line("| %s |", strings.Join(cells, " | ")) }

func (p *page) rule(columns int) { p.line("|%s", strings.Repeat("---|", columns)) }

const method = `- Two registries (distribution v3, with their content %s) run in the benchmark's process, each behind a front that lets every request wait, and counts requests, bytes on the wire and TCP connections. Opening a connection does not wait.
- The tools take turns: A B C, B C A, and so on; one round before them does not count. Each run copies to a registry or a repository that has never been used, and is checked afterwards: the destination must serve the very digest, and its blobs.
- Layers are gzip around random bytes, so nothing can be compressed. Every tool gets the same references, by tag unless the row says otherwise, and copies the same things: ours runs with ` + "`--referrers=false`" + ` where peers copy the image alone.
- Commands are measured from start to exit. Libraries run in a process that is there already and make a new client for each copy; they are measured at 0 and 20 ms.
- Up to %d runs; images of 500 MB and more have 3, and broken connections too. With fewer than 20 runs p95 is the longest. MB are 2^20 bytes.
- Ratios are the peer's median ÷ ours of the same kind, so more is better for us. A target is judged where the peer does the same work.
- regctl is tuned by ` + "`regctl registry set --req-concurrent 16`" + `; skopeo's is only listed where it has a flag that helps. skopeo starts with an empty cache of blob locations; ours knows from an earlier copy whether a registry validates manifests, as it does for a day after asking once.
- ` + Skipped

func (p *page) head() {
	m := p.Machine
	p.line("# Copies, side by side\n")
	p.line("Made by `make bench`; please don't edit. The figures in full are in [registry.json](registry.json).\n")
	p.line("%s, %d cores, %s of memory, %s, %s. Absolute times say little on shared machines: compare.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go)
	p.line(method+"\n", m.Storage, p.Runs)
	p.row("tool", "version", "how")
	p.rule(3)
	seen := map[string]bool{}
	for _, r := range p.Results {
		t := r.Tool
		row := fmt.Sprintf("| %s | %s | `%s` |", t.Label(), t.Version, t.How)
		if !seen[row] {
			seen[row] = true
			p.line("%s", row)
		}
	}
	p.line("")
}

// groups are the results of one kind of copy, at all delays.
func (p *page) groups() [][]Result {
	var groups [][]Result
	for _, r := range p.Results {
		n := len(groups) - 1
		if n < 0 || groups[n][0].Case != r.Case || groups[n][0].Work != r.Work || groups[n][0].Spec != r.Spec {
			groups = append(groups, nil)
			n++
		}
		groups[n] = append(groups[n], r)
	}
	return groups
}

// judged is the delay at which targets were set.
const judged = 20

func (p *page) summary() {
	p.line("## Summary: commands at %d ms\n", judged)
	p.line("The fastest peer of each kind that does the same work.\n")
	p.row("", "copy", "layers", "ours, ms", "requests", "fastest default", "ratio", "target", "reached", "fastest tuned", "ratio", "target", "reached")
	p.rule(13)
	for _, group := range p.groups() {
		ours := slices.IndexFunc(group, func(r Result) bool { return r.Tool.Ours && !r.Tool.Library && r.Delay == judged })
		if ours < 0 || group[0].Again != nil {
			continue
		}
		o := group[ours]
		cells := []string{o.Case, o.Work, o.Spec.String(), number(o.Milliseconds.Median), requests(o)}
		for _, tuning := range []string{Default, Tuned} {
			cells = append(cells, fastest(group, tuning, o)...)
		}
		p.row(cells...)
	}
	p.line("")
}

func fastest(group []Result, tuning string, ours Result) []string {
	var best *Result
	for n, r := range group {
		if r.Delay == ours.Delay && !r.Tool.Library && !r.Tool.Ours && r.Tool.Tuning == tuning && r.Tool.Evidence == ours.Tool.Evidence &&
			(best == nil || r.Milliseconds.Median < best.Milliseconds.Median) {
			best = &group[n]
		}
	}
	if best == nil {
		return []string{"–", "", "", ""}
	}
	return []string{fmt.Sprintf("%s %s", best.Tool.Name, number(best.Milliseconds.Median)), fmt.Sprintf("%.2f", best.Ratio), target(best.Target), verdict(best.Reached)}
}

func target(t float64) string {
	if t == 0 {
		return "–"
	}
	return fmt.Sprintf("≥ %g", t)
}

func verdict(reached *bool) string {
	switch {
	case reached == nil:
		return "–"
	case *reached:
		return "yes"
	}
	return "**no**"
}

func number(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

func requests(r Result) string {
	if r.Requests[0] != r.Requests[1] {
		return fmt.Sprintf("%d–%d", r.Requests[0], r.Requests[1])
	}
	return fmt.Sprint(r.Requests[0])
}

// group is a table with a row for each tool and a column for each delay.
func (p *page) group(group []Result) {
	title := group[0].Case + " " + group[0].Work
	if group[0].Spec != (Spec{}) {
		title += ", " + group[0].Spec.String()
	}
	p.line("## %s\n", title)
	var delays []int
	var tools []*Tool
	for _, r := range group {
		if !slices.Contains(delays, r.Delay) {
			delays = append(delays, r.Delay)
		}
		if !slices.Contains(tools, r.Tool) {
			tools = append(tools, r.Tool)
		}
	}
	p.line("Cells: median / p95 in ms, ratio, and whether the target is reached.\n")
	head := []string{"tool", "runs", "requests", "MB to registries", "MB from registries", "connections", "CPU, ms"}
	for _, d := range delays {
		head = append(head, fmt.Sprintf("%d ms", d))
	}
	p.row(head...)
	p.rule(len(head))
	for _, t := range tools {
		p.tool(group, t, delays)
	}
	p.line("\nRequests by kind:\n")
	for _, t := range tools {
		if n := slices.IndexFunc(group, func(r Result) bool { return r.Tool == t }); !t.Library {
			p.line("- %s: %s", t.Label(), kinds(group[n]))
		}
	}
	p.line("")
}

func (p *page) tool(group []Result, t *Tool, delays []int) {
	var cells []string
	var counted *Result
	for _, d := range delays {
		n := slices.IndexFunc(group, func(r Result) bool { return r.Tool == t && r.Delay == d })
		if n < 0 {
			cells = append(cells, "")
			continue
		}
		if counted == nil || d == judged {
			counted = &group[n]
		}
		cells = append(cells, cell(group[n]))
	}
	p.row(append(facts(*counted), cells...)...)
}

// facts are what hardly depends on the delay.
func facts(r Result) []string {
	name := r.Tool.Label()
	if r.Tool.Library {
		name += " (library)"
	}
	cpu := "–"
	if r.CPU > 0 {
		cpu = number(r.CPU)
	}
	return []string{name, fmt.Sprint(r.Milliseconds.Runs), requests(r),
		fmt.Sprintf("%.2f", megabytes(r.Source.BytesIn+r.Destination.BytesIn)), fmt.Sprintf("%.2f", megabytes(r.Source.BytesOut+r.Destination.BytesOut)),
		fmt.Sprint(r.Source.Connections + r.Destination.Connections), cpu}
}

func cell(r Result) string {
	text := number(r.Milliseconds.Median) + " / " + number(r.Milliseconds.P95)
	if r.Ratio > 0 {
		text += fmt.Sprintf(", %.2f", r.Ratio)
	}
	if r.Reached != nil {
		text += fmt.Sprintf(" (%s: %s)", target(r.Target), verdict(r.Reached))
	}
	return text
}

func kinds(r Result) string {
	var sides []string
	for _, side := range []struct {
		name string
		Count
	}{{"source", r.Source}, {"destination", r.Destination}} {
		var list []string
		for _, kind := range slices.Sorted(maps.Keys(side.Kinds)) {
			list = append(list, fmt.Sprintf("%d %s", side.Kinds[kind], kind))
		}
		if len(list) > 0 {
			sides = append(sides, side.name+" "+strings.Join(list, ", "))
		}
	}
	return strings.Join(sides, "; ")
}

// broken is a table of a case in which something breaks.
func (p *page) broken(group []Result) {
	p.line("## %s %s, %s\n", group[0].Case, group[0].Work, group[0].Spec)
	p.line("Nothing lost: the destination's blobs are read back and hashed. Target: at most one chunk (%d MB) sent again, nothing lost.\n", chunk/mib)
	p.row("tool", "copied", "median / p95, ms", "read again, MB", "written again, MB", "requests", "of them refused", "target reached")
	p.rule(8)
	for _, r := range group {
		runs := r.Milliseconds.Runs + r.Failed
		kept := r.Failed == 0 && r.Again.Read <= chunk && r.Again.Written <= chunk
		time := "–"
		if r.Milliseconds.Runs > 0 {
			time = number(r.Milliseconds.Median) + " / " + number(r.Milliseconds.P95)
		}
		p.row(r.Tool.Label(), fmt.Sprintf("%d of %d", r.Milliseconds.Runs, runs), time,
			fmt.Sprintf("%.1f", megabytes(r.Again.Read)), fmt.Sprintf("%.1f", megabytes(r.Again.Written)), requests(r),
			fmt.Sprint(r.Source.Refused+r.Destination.Refused), verdict(&kept))
	}
	p.line("")
	if group[0].Note != "" {
		p.line("%s\n", group[0].Note)
	}
	for _, r := range group {
		for _, e := range r.Errors {
			p.line("- %s fails with: `%s`", r.Tool.Label(), oneLine(e))
		}
	}
	p.line("")
}

// chunk is the most that may be sent again: as much as pkg/registry sends at once
// where it sends in chunks.
const chunk = 32 * mib

// Addresses and what a registry writes into its own are different each time.
var passing = regexp.MustCompile(`(127\.0\.0\.1:)\d+|(_state=)[^"&\\ ]+`)

func oneLine(text string) string {
	text = passing.ReplaceAllString(text, "$1$2…")
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "`", "'")
	if len(text) > 300 {
		text = "…" + strings.ToValidUTF8(text[len(text)-300:], "")
	}
	return text
}
