package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/engine/stub"
)

// HostsCase is one promotion to some hosts.
type HostsCase struct {
	Hosts    int `json:"hosts"`
	Parallel int `json:"parallel"` // of the strategy
	// Away is how long the ledger takes for an answer, in seconds; 0 is a file
	// on this machine.
	Away float64 `json:"away,omitempty"`
}

// HostsResult is what it came to.
type HostsResult struct {
	HostsCase
	Took Times `json:"took"` // milliseconds
	// AtOnce is how many targets were changed at the same time.
	AtOnce int64 `json:"atOnce"`
	// Requests is how many a host gets in one promotion, and Connections the most
	// that one had at the same time.
	Requests    int64   `json:"requests"`
	Connections int64   `json:"connections"`
	Refused     int64   `json:"refused"` // connections, in all runs
	Reads       int64   `json:"reads"`   // of the ledger, in one promotion
	Load        float64 `json:"load"`    // of the machine at the end
}

// HostsReport is B13.
type HostsReport struct {
	Machine Machine       `json:"machine"`
	Pace    stub.Pace     `json:"pace"`
	Fetches int           `json:"fetches"` // to how many hosts images are pulled at once
	Results []HostsResult `json:"results"`
}

// wantHosts is what B13 asks for: times one host.
const wantHosts = 1.5

// Write writes hosts.md and hosts.json to a directory.
func (r *HostsReport) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "hosts.md"), r.Markdown(), 0o644)
}

const hostsMethod = `- A promotion of a second release to hosts that run a first one, as a library: preflight, plan, decision, record, locks, pulls to all, three services recreated one after the other, each waited for until it is healthy, read-back, clean-up, record. Pipeline, deployment, the engine's client and the ledger are promote's own; registry, evidence and policy are in memory and answer at once.
- Hosts are stubs on loopback that speak the engine's HTTP API, each on a port of its own, and take the times above. A stub takes at most %d connections at once and refuses more. What a target runs is read back from it, and a run in which one runs anything else is no run.
- **parallel** is the strategy's; **at once** is how many targets were being changed at the same time, as counted. Images are pulled to %d hosts at once whatever the strategy says.
- **ledger away**: it takes that long for every answer, one after the other, as a repository on another machine does. It is asked before every effect on every host; hosts that ask at the same time share an answer to a question that was put after theirs.
- The cases take turns. Times are medians, and p95 behind the slash; **× one host** is against one host with the same ledger.`

// Markdown writes the report for people.
func (r *HostsReport) Markdown() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m, p := r.Machine, r.Pace
	line("# From one host to many (B13)\n")
	line("Made by `make bench-hosts`; please don't edit. The figures in full are in [hosts.json](hosts.json).\n")
	line("%s, %d cores, %s of memory, %s, %s. Absolute times say little on shared machines.\n", m.CPU, m.Cores, m.Memory, m.System, m.Go)
	line("Stubs take %s a request, and %s more for a pull, %s for creating a container, %s for starting and %s for stopping one, %s until it is healthy.\n", p.Request, p.Pull, p.Create, p.Start, p.Stop, p.Healthy)
	line(hostsMethod+"\n", stub.MostConnections, r.Fetches)
	line("| hosts | parallel | ledger away | took, s | × one host | at once | requests a host | connections a host | refused | ledger reads | load |\n|---|---|---|---|---|---|---|---|---|---|---|")
	for _, x := range r.Results {
		line("| %d | %d | %s | %.2f / %.2f | %s | %d | %d | %d | %s | %d | %.1f |", x.Hosts, x.Parallel, seconds(x.Away), x.Took.Median/1000, x.Took.P95/1000, r.ratio(x), x.AtOnce,
			x.Requests, x.Connections, nobody(x.Refused), x.Reads, x.Load)
	}
	return b.Bytes()
}

func seconds(s float64) string {
	if s == 0 {
		return "–"
	}
	return fmt.Sprintf("%g ms", s*1000)
}

func nobody(n int64) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("**%d**", n)
}

// ratio compares with one host. What is asked for concerns all at once.
func (r *HostsReport) ratio(x HostsResult) string {
	for _, one := range r.Results {
		if one.Hosts != 1 || one.Away != x.Away || x.Hosts == 1 || one.Took.Median == 0 {
			continue
		}
		ratio := x.Took.Median / one.Took.Median
		if x.Parallel < x.Hosts {
			return fmt.Sprintf("%.2f", ratio)
		}
		return fmt.Sprintf("%.2f (≤ %g: %s)", ratio, wantHosts, yesNo(ratio <= wantHosts))
	}
	return ""
}
