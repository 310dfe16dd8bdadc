package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ComposeVersion is the version of Docker Compose that smoke runs are compared
// with.
const ComposeVersion = "v5.5.0"

const composeModule = "github.com/docker/compose/v5"

// BuildCompose builds docker-compose in a directory that may hold an earlier
// build, in a module of its own.
func BuildCompose(ctx context.Context, dir string, log io.Writer) (program string, err error) {
	program = filepath.Join(dir, "docker-compose-"+ComposeVersion)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	scratch := filepath.Join(dir, "compose-module")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(scratch, "go.mod"), []byte("module scratch\n\ngo 1.26.0\n"), 0o644); err != nil {
		return "", err
	}
	fmt.Fprintln(log, "bench: building docker-compose "+ComposeVersion)
	env := append(os.Environ(), "GOEXPERIMENT=", "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0")
	get := exec.CommandContext(ctx, "go", "get", composeModule+"@"+ComposeVersion)
	get.Dir, get.Env = scratch, env
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching docker-compose: %w: %s", err, tail(string(out)))
	}
	return program, goBuild(ctx, scratch, env, "-o", program, composeModule+"/cmd")
}

// The ways in which health checks of a chain are set.
const (
	Untuned = "untuned" // as they come: asked each 30 seconds
	Quick   = "tuned"   // each second
)

// SmokeTool names who brings a chain up.
type SmokeTool struct {
	Name string `json:"name"`
	Ours bool   `json:"ours,omitempty"`
	// Whole is from nothing to nothing left; else it is until all are well.
	Whole bool   `json:"whole"`
	How   string `json:"how"`
}

// SmokeResult is what runs of one tool on one chain came to.
type SmokeResult struct {
	Depth        int       `json:"depth"`
	Health       string    `json:"health"`
	Tool         SmokeTool `json:"tool"`
	Milliseconds Times     `json:"milliseconds"`
	Ratio        float64   `json:"ratio,omitempty"` // its time ÷ our command's, or our start's
}

// SmokeReport is B11: smoke runs beside docker compose up --wait.
type SmokeReport struct {
	Machine Machine       `json:"machine"`
	Engine  string        `json:"engine"`
	Results []SmokeResult `json:"results"`
}

// smokeTargets are what a peer's time ÷ ours should be at least.
var smokeTargets = map[string]float64{Untuned: 5, Quick: 1.3}

// Compare relates each peer to ours that does the same: to the slowest of
// ours, so that no start of a process is left out.
func (r *SmokeReport) Compare() {
	for i := range r.Results {
		peer := &r.Results[i]
		peer.Ratio = 0
		if peer.Tool.Ours {
			continue
		}
		slowest := 0.0
		for _, o := range r.Results {
			if o.Tool.Ours && o.Tool.Whole == peer.Tool.Whole && o.Depth == peer.Depth && o.Health == peer.Health {
				slowest = max(slowest, o.Milliseconds.Median)
			}
		}
		if slowest > 0 {
			peer.Ratio = peer.Milliseconds.Median / slowest
		}
	}
}

// KeepOthers takes over, from the report in a directory, the chains that this
// one has not measured.
func (r *SmokeReport) KeepOthers(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "smoke.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var earlier SmokeReport
	if err == nil {
		err = json.Unmarshal(raw, &earlier)
	}
	if err != nil {
		return fmt.Errorf("reading the report before: %w", err)
	}
	measured := slices.Clone(r.Results)
	for _, x := range earlier.Results {
		if !slices.ContainsFunc(measured, func(o SmokeResult) bool { return o.Depth == x.Depth && o.Health == x.Health }) {
			r.Results = append(r.Results, x)
		}
	}
	return nil
}

// Write writes smoke.md and smoke.json to a directory.
func (r *SmokeReport) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "smoke.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "smoke.md"), r.Markdown(), 0o644)
}

const smokeMethod = `- Chains of 1 to 5 equal services, each with ` + "`depends_on: condition: service_healthy`" + ` on the one before; a service listens at once. Images are present. No memory test and no checks, so that both do the same: bring the chain up, see that all are healthy, take everything down.
- Health checks are *untuned*, asked each 30 s as Docker's default is, or *tuned*, each second with a start period of 5 s and a start interval of 200 ms, which engines before 25.0 ignore.
- Ours asks the service's own health check itself between looks ("fast probe"), and at the end takes the engine's own answer or, where the engine has not asked yet, the probe's. A smoke run also looks at confinement and parity, and stops each service in good order with its grace period.
- The tools take turns, A B, B A, and so on. *Whole* is from nothing until nothing is left, *start* until all are well. With fewer than twenty runs p95 is the longest. Ratios are the peer's median ÷ the slowest of ours that does the same.`

// Markdown writes the report for people.
func (r *SmokeReport) Markdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m := r.Machine
	line("# Smoke runs beside docker compose (B11)\n")
	line("Made by `make bench-smoke`; please don't edit. The figures in full are in [smoke.json](smoke.json).\n")
	line("%s, %d cores, %s of memory, %s, %s, engine %s, Docker Compose %s. Absolute times say little on shared machines: compare.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go, r.Engine, ComposeVersion)
	line("%s\n", smokeMethod)
	line("| tool | how |\n|---|---|")
	seen := map[string]bool{}
	for _, x := range r.Results {
		if !seen[x.Tool.Name] {
			seen[x.Tool.Name] = true
			line("| %s | %s |", x.Tool.Name, x.Tool.How)
		}
	}
	for _, health := range []string{Untuned, Quick} {
		line("\n## Health checks %s, target ≥ %g\n", health, smokeTargets[health])
		line("| services | measured | tool | runs | median, s | p95, s | ratio | reached |\n|---|---|---|---|---|---|---|---|")
		for _, x := range r.sorted(health) {
			what := map[bool]string{true: "whole", false: "start"}[x.Tool.Whole]
			ratio, reached := "–", "–"
			if x.Ratio > 0 {
				ok := x.Ratio >= smokeTargets[health]
				ratio, reached = fmt.Sprintf("%.1f", x.Ratio), verdict(&ok)
			}
			line("| %d | %s | %s | %d | %.1f | %.1f | %s | %s |", x.Depth, what, x.Tool.Name, x.Milliseconds.Runs, x.Milliseconds.Median/1000, x.Milliseconds.P95/1000, ratio, reached)
		}
	}
	return b.Bytes()
}

func (r *SmokeReport) sorted(health string) []SmokeResult {
	list := slices.DeleteFunc(slices.Clone(r.Results), func(x SmokeResult) bool { return x.Health != health })
	slices.SortStableFunc(list, func(a, b SmokeResult) int {
		if a.Depth != b.Depth {
			return a.Depth - b.Depth
		}
		if a.Tool.Whole != b.Tool.Whole {
			if a.Tool.Whole {
				return -1
			}
			return 1
		}
		if a.Tool.Ours != b.Tool.Ours {
			if a.Tool.Ours {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Tool.Name, b.Tool.Name)
	})
	return list
}
