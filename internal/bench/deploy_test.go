package bench

import (
	"strings"
	"testing"
)

// A deployment is held to the whole command, a rollback to what is not waiting,
// and nobody else to anything.
func TestDeployReport(t *testing.T) {
	times := func(median, p95 float64) Times { return Times{Runs: 20, Median: median, P95: p95} }
	r := DeployReport{Engine: "28.0", Results: []DeployResult{
		{What: Deploy, Tool: "promote", Ours: true, Took: times(2000, 3000), Ready: times(1500, 1600), Work: times(500, 9000)},
		{What: Deploy, Tool: "docker compose up --wait", Took: times(4000, 5000)},
		{What: Rollback, Tool: "promote", Ours: true, Took: times(2000, 2100), Ready: times(10, 20), Work: times(1990, 2001)},
	}}
	text := string(r.Markdown())
	for _, want := range []string{
		"| deploy | promote | 20 | 2.00 / 3.00 | 1.50 / 1.60 | 0.50 / 9.00 | took ≤ 3 s (p95) | yes |",
		"| deploy | docker compose up --wait | 20 | 4.00 / 5.00 | 0.00 / 0.00 | 0.00 / 0.00 | – | – |",
		"| rollback | promote | 20 | 2.00 / 2.10 | 0.01 / 0.02 | 1.99 / 2.00 | work ≤ 2 s (p95) | **no** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
