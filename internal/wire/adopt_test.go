//go:build engine

package wire

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// A stack that somebody started with docker alone is taken over by a promotion:
// the same container, the same start, the same volume, no drift; a container
// that differs is replaced, and so is everything by the next promotion.
func TestAdoptOnARealEngine(t *testing.T) {
	s, p := stand(t, &config.Config{}, func(s *standing) {
		project, w := s.desired.Workload.Project, s.desired.Workload
		docker(t, "network", "create", "--label", "com.docker.compose.project="+project, "--label", "com.docker.compose.network=default", project+"_default")
		docker(t, "volume", "create", "--label", "com.docker.compose.project="+project, "--label", "com.docker.compose.volume=memory", project+"_memory")
		image := w.Services[0].Image.String()
		docker(t, "pull", "-q", image)
		docker(t, "run", "-d", "--name="+project+"_planner_1", "--label=com.docker.compose.project="+project, "--label=com.docker.compose.service=planner",
			"--label=com.docker.compose.config-hash=0123", "--label=com.docker.compose.oneoff=False", "--label=com.docker.compose.container-number=1",
			"--memory=64m", "--restart=unless-stopped", "--publish=127.0.0.1::8080", "--network="+project+"_default", "--network-alias=planner",
			"--mount=type=volume,src="+project+"_memory,dst=/data", image, "/probe", "run", ":8080")
		for range 300 { // its first health check
			if docker(t, "inspect", "--format", "{{.State.Health.Status}}", project+"_planner_1") == "healthy\n" {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatal("it did not become healthy")
	})
	container := s.desired.Workload.Project + "_planner_1"
	state := func() string {
		return docker(t, "inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{range .Mounts}}{{.Name}}{{end}}", container)
	}
	before := state()
	s.desired.Adopt = true
	plan, err := s.host.Plan(t.Context(), s.desired)
	if err != nil || len(plan.Steps) != 1 || plan.Steps[0].Action != "adopt" || !strings.Contains(plan.Steps[0].Cause, s.desired.Workload.Project+"_memory at /data") {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	s.deploy(t)
	if now := state(); now != before {
		t.Errorf("it was %s, is %s", before, now)
	}
	running := s.records[0].Record.Targets[0].Running[0]
	if !strings.HasPrefix(before, running.Container) || running.Desired.IsZero() || !strings.HasPrefix(running.Volumes["/data"], s.desired.Workload.Project+"_memory") {
		t.Errorf("recorded %+v", running)
	}
	drifts := func(want string) {
		t.Helper()
		got, err := p.Drift(t.Context(), pipeline.DriftOptions{Environment: "production"})
		if (want == "") != (err == nil) || want != "" && !strings.Contains(fmt.Sprint(got.Targets), want) {
			t.Errorf("drift: %+v, %v, want %q", got, err, want)
		}
	}
	drifts("")
	s.desired.Adopt = false
	if plan, err := s.host.Plan(t.Context(), s.desired); err != nil || plan.Changes() {
		t.Errorf("afterwards: %+v, %v", plan, err)
	}
	docker(t, "update", "--memory=100m", container)
	drifts("memory")

	// The next promotion replaces it, with the same volume, and forgets.
	s.desired.Attempt.Sequence, s.desired.Workload.Services[0].Environment = 2, map[string]string{"MODE": "calm"}
	s.desired.Workload.Services[0].ConfigHash = "next"
	s.desired.Recorded = &s.records[0].Record.Targets[0]
	s.deploy(t)
	if err := s.host.Commit(t.Context(), s.desired, nil); err != nil {
		t.Fatal(err)
	}
	next := s.records[0].Record.Targets[0].Running[0]
	if next.Container == running.Container || next.Volumes["/data"] != running.Volumes["/data"] {
		t.Errorf("was %+v, is %+v", running, next)
	}
	if left := docker(t, "volume", "ls", "-q", "--filter", "label="+release.LabelAdopted, "--filter", "label=com.docker.compose.project="+s.desired.Workload.Project); left != "" {
		t.Errorf("left: %s", left)
	}
	drifts("")
}

// docker is what somebody types.
func docker(t *testing.T, words ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "docker", words...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %q: %v: %s", words, err, out)
	}
	return string(out)
}
