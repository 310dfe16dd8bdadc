package reliability

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Swing is one undisturbed change of what production runs.
type Swing struct {
	Back bool          // a rollback
	Took time.Duration // the whole command
	// Ready is for how long some container had been started and the engine had not
	// found it healthy yet, until the command ended.
	Ready time.Duration
}

// Swing brings production to the other one of its two versions, with nothing in
// front of the engine, and gives how long that took.
func (w *World) Swing(ctx context.Context) (Swing, error) {
	to := w.other()
	way := w.way(production, to)
	s := Swing{Back: way[0] == "rollback"}
	cmd := w.command(ctx, nil, way...)
	cmd.Env = append(cmd.Env, "DOCKER_HOST="+w.o.Docker)
	since := time.Now()
	e, err := run(cmd, nil)
	if err == nil && e.Code != 0 {
		err = fmt.Errorf("promote %s: %s", strings.Join(way, " "), e)
	}
	if err != nil {
		return s, err
	}
	s.Took = e.Took
	if s.Ready, err = w.readiness(ctx, w.project(production), since, since.Add(s.Took)); err != nil {
		return s, err
	}
	w.running = to
	return s, w.whole(ctx, production, to)
}

// Compose does the same with docker compose, beside production: both services,
// image by digest, once up and then to the other version and back.
func (w *World) Compose(ctx context.Context, program string) (Swing, error) {
	file := w.path("composed.yml")
	project := w.project("composed")
	before, _ := os.ReadFile(file)
	to := versions[0]
	if strings.HasPrefix(string(before), "# "+to) {
		to = versions[1]
	}
	text := "# " + to + "\n" + strings.NewReplacer("NAME", project, "LEAVING", "").Replace(composition)
	for _, service := range services {
		reference := ""
		for _, r := range w.state.References[to] {
			if name, _, _ := strings.Cut(r, "@"); strings.HasSuffix(name, "/"+service) {
				reference = r
			}
		}
		text = strings.Replace(text, "build: {context: ., args: {ROLE: "+service+"}}", "image: "+reference, 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return Swing{}, err
	}
	cmd := exec.CommandContext(ctx, program, "--progress", "quiet", "-f", file, "up", "-d", "--wait")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.o.Docker)
	since := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return Swing{}, fmt.Errorf("docker compose up: %w: %s", err, out)
	}
	s := Swing{Back: to == versions[0], Took: time.Since(since)}
	var err error
	s.Ready, err = w.readiness(ctx, project, since, since.Add(s.Took))
	return s, err
}

// Decompose takes away what Compose made.
func (w *World) Decompose(ctx context.Context) error { return w.down(ctx, "composed") }

// readiness is for how long a container of a project had been started and was
// not healthy yet, by the engine's own events; what overlaps counts once, and
// what came after the end does not.
func (w *World) readiness(ctx context.Context, project string, since, end time.Time) (time.Duration, error) {
	stamp := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMicro())/1e6, 'f', 6, 64) }
	out, err := w.docker(ctx, "events", "--since", stamp(since), "--until", stamp(end), "--format", "{{json .}}",
		"--filter", "type=container", "--filter", "label=com.docker.compose.project="+project)
	if err != nil {
		return 0, err
	}
	var sum, from int64
	started := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		var e struct {
			Action   string
			TimeNano int64 `json:"timeNano"`
			Actor    struct{ ID string }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return 0, err
		}
		switch {
		case e.Action == "start":
			if len(started) == 0 {
				from = e.TimeNano
			}
			started[e.Actor.ID] = true
		case strings.HasPrefix(e.Action, "health_status: healthy") && started[e.Actor.ID]:
			if delete(started, e.Actor.ID); len(started) == 0 {
				sum += e.TimeNano - from
			}
		}
	}
	if len(started) > 0 {
		sum += end.UnixNano() - from
	}
	if sum == 0 {
		err = errors.New("nothing was started")
	}
	return time.Duration(sum), errors.Join(err, lines.Err())
}
