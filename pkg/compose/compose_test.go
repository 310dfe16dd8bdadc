package compose_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// tree writes files into a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, files map[string]string, names ...string) (*compose.Files, error) {
	t.Helper()
	if len(names) == 0 {
		names = []string{"compose.yaml"}
	}
	return compose.Load(context.Background(), compose.Options{Dir: tree(t, files), Files: names})
}

func mustLoad(t *testing.T, files map[string]string, names ...string) *compose.Files {
	t.Helper()
	f, err := load(t, files, names...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// one loads a single file.
func one(t *testing.T, content string) (*compose.Files, error) {
	t.Helper()
	return load(t, map[string]string{"compose.yaml": content})
}

func model(t *testing.T, f *compose.Files) (map[string]any, string, release.Requirements) {
	t.Helper()
	raw, needs, err := f.Model()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m, string(raw), needs
}

// refused asserts the faults of a load, each "line:column: message" in part.
func refused(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("loaded, want it refused")
	}
	if kind := release.KindOf(err); kind != release.KindConfig {
		t.Errorf("kind %s of %v", kind, err)
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%s", len(got), len(want), err)
	}
	for i, w := range want {
		where, what, _ := strings.Cut(w, " ")
		if !strings.HasPrefix(got[i], where) || !strings.Contains(got[i], what) {
			t.Errorf("got  %s\nwant %s", got[i], w)
		}
	}
}

const agent = `name: openclaw
x-common: &common
  read_only: true
  cap_drop: [ALL]
  security_opt: [no-new-privileges]
services:
  planner:
    <<: *common
    build:
      context: .
      target: planner
      args: {PYTHON: "${PYTHON:-3.11}"}
    image: acme/planner:${TAG:-dev}
    environment:
      - LLM_MODEL=small
      - REDIS_URL=redis://bus:6379
      - DB_PASS
    ports: ["127.0.0.1:${PLANNER_PORT:?which port}:8080"]
    depends_on: {bus: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    volumes: ["agent_memory:/var/lib/agent"]
    secrets: [db]
    mem_limit: 128m
    develop: {watch: [{path: ., action: rebuild}]}
  migrate:
    build: ./migrate
    restart: "no"
  bus:
    image: redis:7@sha256:bb
    healthcheck: {test: redis-cli ping, interval: 5s}
    networks: [inner]
  debug:
    image: busybox
    profiles: [debug]
networks:
  inner: {internal: true}
volumes:
  agent_memory:
  unused: {}
secrets:
  db: {file: /etc/openclaw/db}
`

const prod = `services:
  planner:
    environment: {LLM_MODEL: large, WORKERS: 4}
    mem_limit: 512m
    ports: !override ["8080:8080"]
    stop_grace_period: 30s
    volumes: ["agent_memory:/var/lib/agent:ro"]
  bus: {image: "redis:8"}
version: "3.8"
`

func TestMergesLikeCompose(t *testing.T) {
	f := mustLoad(t, map[string]string{"compose.yaml": agent, "compose.prod.yml": prod}, "compose.yaml", "compose.prod.yml")
	m, raw, needs := model(t, f)
	planner := m["services"].(map[string]any)["planner"].(map[string]any)
	env, _ := json.Marshal(planner["environment"])
	if want := `{"DB_PASS":"${DB_PASS}","LLM_MODEL":"large","REDIS_URL":"redis://bus:6379","WORKERS":"4"}`; string(env) != want {
		t.Errorf("environment %s", env)
	}
	ports, _ := json.Marshal(planner["ports"])
	if want := `[{"mode":"ingress","protocol":"tcp","published":"8080","target":8080}]`; string(ports) != want {
		t.Errorf("!override did not replace: %s", ports)
	}
	volumes, _ := json.Marshal(planner["volumes"])
	if want := `[{"read_only":true,"source":"agent_memory","target":"/var/lib/agent","type":"volume","volume":{}}]`; string(volumes) != want {
		t.Errorf("volumes %s", volumes)
	}
	if planner["mem_limit"] != "512m" || planner["read_only"] != true {
		t.Errorf("planner %v", planner)
	}
	for _, never := range []string{`"build"`, `"image"`, "develop", "x-common", "acme/", "redis:7", "redis:8", "debug", t.TempDir(), "profiles", "version"} {
		if strings.Contains(raw, never) {
			t.Errorf("the model holds %q: %s", never, raw)
		}
	}
	got, _ := json.Marshal(needs)
	want := `{"environment":[{"name":"DB_PASS","required":true}],"secrets":["/etc/openclaw/db"],` +
		`"volumes":["openclaw_agent_memory"],"networks":["openclaw_default","openclaw_inner"]}`
	if string(got) != want {
		t.Errorf("requirements\ngot  %s\nwant %s", got, want)
	}
}

func TestSources(t *testing.T) {
	dir := tree(t, map[string]string{"compose.yaml": agent, "compose.prod.yml": prod})
	f, err := compose.Load(context.Background(), compose.Options{Dir: dir, Files: []string{"compose.yaml", "compose.prod.yml"}})
	if err != nil {
		t.Fatal(err)
	}
	dir, _ = filepath.EvalSymlinks(dir)
	got, _ := json.Marshal(f.Sources())
	want := `[{"service":"bus","image":"redis:8","file":"compose.prod.yml","line":8},` +
		`{"service":"migrate","build":{"context":"` + dir + `/migrate","dockerfile":"Dockerfile"},"file":"compose.yaml","line":25},` +
		`{"service":"planner","build":{"context":"` + dir + `","dockerfile":"Dockerfile","target":"planner","args":{"PYTHON":"3.11"}},"tag":"acme/planner:dev","file":"compose.yaml","line":9}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSameFilesSameBytes(t *testing.T) {
	var first string
	for range 30 {
		f := mustLoad(t, map[string]string{"compose.yaml": agent, "compose.prod.yml": prod}, "compose.yaml", "compose.prod.yml")
		_, raw, _ := model(t, f)
		if first == "" {
			first = raw
		}
		if raw != first {
			t.Fatalf("bytes differ between runs or directories:\n%s\n%s", first, raw)
		}
	}
}

func TestEnvironmentOfThisMachineStaysOut(t *testing.T) {
	_, want, _ := model(t, mustLoad(t, map[string]string{"compose.yaml": agent}))
	t.Setenv("DB_PASS", "canary-canary")
	t.Setenv("LLM_MODEL", "canary-canary")
	t.Setenv("COMPOSE_PROFILES", "debug")
	t.Setenv("COMPOSE_PROJECT_NAME", "canary-canary")
	t.Setenv("PYTHON", "canary-canary")
	f := mustLoad(t, map[string]string{"compose.yaml": agent, ".env": "DB_PASS=canary-canary\n"})
	if _, got, _ := model(t, f); got != want {
		t.Errorf("the environment changed the model:\n%s\n%s", got, want)
	}
	for _, s := range f.Sources() {
		if s.Build != nil && s.Build.Args["PYTHON"] == "canary-canary" {
			t.Error("the environment changed a build argument")
		}
	}
}

func TestServicesWithProfilesAreNamed(t *testing.T) {
	var notices []string
	ctx := event.With(context.Background(), func(e event.Event) { notices = append(notices, e.Message) })
	if _, err := compose.Load(ctx, compose.Options{Dir: tree(t, map[string]string{"compose.yaml": agent}), Files: []string{"compose.yaml"}}); err != nil {
		t.Fatal(err)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "debug") {
		t.Errorf("notices %q", notices)
	}
}
