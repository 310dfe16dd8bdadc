package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// EvidenceCase is one kind of verifying: what each tool is told about is an
// image with six attestations.
type EvidenceCase struct {
	ID, Work string
	Target   Target
	Tools    []*Tool
	// Delays are those that it is worth its time for; nil is all.
	Delays []int
	// Most bounds the number of runs; 0 is no bound.
	Most int
}

// EvidenceSuite lets tools verify, side by side, what one registry holds.
type EvidenceSuite struct {
	Registry *Registry
	Image    string // what they are told
	Dir      string // with the project: where the public key is
	Cases    []EvidenceCase
	Options
}

// Run runs what the options choose.
func (s *EvidenceSuite) Run(ctx context.Context) ([]Result, error) {
	var results []Result
	say := (&Suite{Options: s.Options}).say
	for _, c := range s.Cases {
		if !s.Wants(c.ID) {
			continue
		}
		for _, delay := range s.Delays {
			if c.Delays != nil && !slices.Contains(c.Delays, delay) {
				continue
			}
			found, err := s.measure(ctx, c, delay)
			if err != nil {
				return nil, fmt.Errorf("%s, %s, %d ms: %w", c.ID, c.Work, delay, err)
			}
			for _, r := range found {
				say("%s", r)
			}
			results = append(results, found...)
		}
	}
	return results, nil
}

func (s *EvidenceSuite) measure(ctx context.Context, c EvidenceCase, delay int) ([]Result, error) {
	runs := s.Runs
	if c.Most > 0 {
		runs = min(runs, c.Most)
	}
	samples := make([][]sample, len(c.Tools))
	for round := -1; round < runs; round++ { // the first does not count
		for turn := range c.Tools {
			n := (turn + max(round, 0)) % len(c.Tools)
			if round < 0 && runs < 5 && !c.Tools[n].Ours {
				continue
			}
			taken, err := s.verify(ctx, c.Tools[n], delay)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				samples[n] = append(samples[n], taken)
			}
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("At %d ms the load of the machine was %s at the end.", delay, strings.Fields(string(load))[0])
	var results []Result
	for n, t := range c.Tools {
		results = append(results, sum(Case{ID: c.ID, Work: c.Work, Note: note}, nil, t, delay, samples[n]))
	}
	compare(results, c.Target)
	return results, nil
}

func (s *EvidenceSuite) verify(ctx context.Context, t *Tool, delay int) (taken sample, err error) {
	s.Registry.Begin(time.Duration(delay)*time.Millisecond, nil)
	limited, cancel := context.WithTimeoutCause(ctx, toolTime, fmt.Errorf("has not ended within %s", toolTime))
	defer cancel()
	if taken.cost, err = t.copy(limited, s.Image, s.Dir); err != nil {
		return taken, fmt.Errorf("%s: %w", t.Label(), err)
	}
	taken.source, err = s.Registry.End()
	return taken, err
}

// Script makes a Tool of a shell script, whose words are replaced as those of a
// Command, and whose programs are found in a directory.
func Script(t Tool, programs, text string, env []string) *Tool {
	made := Command(t, "/bin/sh", []string{"-euc", text}, append([]string{"PATH=" + programs + ":/usr/bin:/bin"}, env...))
	made.How = text
	return made
}

const evidenceMethod = `- One registry (distribution v3, with its content %s) in the benchmark's process, behind the same front as for [copies](registry.md): each request waits, and is counted. On one image lie six attestations as bundles: signature, provenance, scan, SBOM, test result, decision; all by one key in a file, without a transparency log, because nothing here can reach the public one.
- The tools take turns: A B C, B C A, and so on; one round before them does not count. Up to %d runs, fewer where a hundred verify; with fewer than 20 p95 is the longest. Below each table stands how loaded the machine was: p95 and small differences say little above 2.
- Each tool has to succeed: ours only where all six are verified, cosign's library too.
- **cold**: nothing is remembered: a new process, or a new client, verifier and policy. **warm**: the same client again, as within one gate or audit; what it keeps are contents by digest, never the list, and never a decision. cosign remembers nothing, so it is the same there. Signatures by keys are verified each time: that costs less than remembering it; those by certificates are remembered by bytes and root.
- cosign ×2 is what is usually written down: ` + "`cosign verify`" + ` and ` + "`cosign verify-attestation`" + ` of the scan. ×6 asks for each type, as ours does at once. conftest judges the payload that cosign prints with one rule; ours, as a library, judges with all default gates, as a command by who had to sign.
- Ratios are the peer's median ÷ ours of the same kind.
`

// evidence writes the page about verifying.
func (p *page) evidence() {
	m := p.Machine
	p.line("# Verifying, side by side\n")
	p.line("Made by `make bench`; please don't edit. The figures in full are in [evidence.json](evidence.json).\n")
	p.line("%s, %d cores, %s of memory, %s, %s. Absolute times say little on shared machines: compare.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go)
	p.line(evidenceMethod, m.Storage, p.Runs)
	for _, group := range p.groups() {
		p.group(group)
		var said []string
		for _, r := range group {
			if !slices.Contains(said, r.Note) {
				said = append(said, r.Note)
			}
		}
		p.line("%s\n", strings.Join(said, " "))
	}
	p.line("## How\n")
	p.row("tool", "version", "how")
	p.rule(3)
	seen := map[string]bool{}
	for _, r := range p.Results {
		row := fmt.Sprintf("| %s | %s | `%s` |", r.Tool.Label(), r.Tool.Version, oneLine(r.Tool.How))
		if !seen[row] {
			seen[row] = true
			p.line("%s", row)
		}
	}
}
