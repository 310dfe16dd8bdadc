package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// DeployResult is what changing to another version, back or forth, came to.
type DeployResult struct {
	What string `json:"what"` // deploy or rollback
	Tool string `json:"tool"`
	Ours bool   `json:"ours,omitempty"`
	// Took is the whole command, Ready the part of it in which a service had been
	// started and was not healthy yet, Work the rest. Milliseconds.
	Took  Times `json:"took"`
	Ready Times `json:"ready"`
	Work  Times `json:"work"`
}

// DeployReport is B12: deployments and rollbacks with images that are present.
type DeployReport struct {
	Machine Machine        `json:"machine"`
	Engine  string         `json:"engine"`
	Load    float64        `json:"load"` // of the machine at the end
	Results []DeployResult `json:"results"`
}

// What B12 asks for, in milliseconds.
const (
	wantDeploy   = 3000 // p95
	wantRollback = 2000 // without readiness, p95
)

// Write writes deploy.md and deploy.json to a directory.
func (r *DeployReport) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "deploy.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "deploy.md"), r.Markdown(), 0o644)
}

const deployMethod = `- Two services, of which the second waits until the first is healthy, and the first keeps a volume, go to a second version and back, again and again. Images are present on the engine and in the registry. Both services differ between the versions and are replaced. Health checks are asked each second.
- Ours is the whole command, ` + "`promote to production`" + ` or ` + "`promote rollback production`" + `, as a process: release and evidence are read and verified, the policy judges, the ledger is read and written with every sync, the engine is locked, the state of the volume is proven, containers are replaced and read back, old ones are removed.
- Theirs is ` + "`docker compose up -d --wait`" + ` with the other digests in the file. It has no way back, so that is the same command again.
- **ready** is for how long a container had been started and the engine had not found it healthy yet, by the engine's events, until the command ended; what overlaps counts once. **work** is the rest of the command. promote asks the health checks itself, twice, a quarter of a second apart; compose waits for the engine's word. Before each run everything was healthy by the engine's word.
- The tools take turns. Times are medians, and p95 behind the slash; with fewer than twenty runs that is the longest.`

// Markdown writes the report for people.
func (r *DeployReport) Markdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m := r.Machine
	line("# Deploying and going back (B12)\n")
	line("Made by `make bench-deploy`; please don't edit. The figures in full are in [deploy.json](deploy.json).\n")
	line("%s, %d cores, %s of memory, %s, %s, engine %s, Docker Compose %s, load %.1f at the end. Absolute times say little on shared machines: compare.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go, r.Engine, ComposeVersion, r.Load)
	line("%s\n", deployMethod)
	line("| what | tool | runs | took, s | ready, s | work, s | target | reached |\n|---|---|---|---|---|---|---|---|")
	for _, x := range r.Results {
		target, reached := x.target()
		line("| %s | %s | %d | %s | %s | %s | %s | %s |", x.What, x.Tool, x.Took.Runs, pair(x.Took), pair(x.Ready), pair(x.Work), target, reached)
	}
	return b.Bytes()
}

func (x DeployResult) target() (text, reached string) {
	if !x.Ours {
		return "–", "–"
	}
	ok := x.Took.P95 <= wantDeploy
	text = fmt.Sprintf("took ≤ %g s (p95)", wantDeploy/1000.0)
	if x.What == Rollback {
		ok = x.Work.P95 <= wantRollback
		text = fmt.Sprintf("work ≤ %g s (p95)", wantRollback/1000.0)
	}
	return text, verdict(&ok)
}

// The ways between two versions.
const (
	Deploy   = "deploy"
	Rollback = "rollback"
)

func pair(t Times) string { return fmt.Sprintf("%.2f / %.2f", t.Median/1000, t.P95/1000) }
