package compose_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

func subject(t *testing.T, repository string) release.Subject {
	t.Helper()
	s, err := release.NewSubject(repository, release.DigestOf([]byte(repository)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func images(t *testing.T, names ...string) map[string]release.Subject {
	t.Helper()
	m := map[string]release.Subject{}
	for _, name := range names {
		m[name] = subject(t, "registry.acme.dev/openclaw/"+name)
	}
	return m
}

func resolve(t *testing.T, content string, values map[string]string, services ...string) (release.Workload, error) {
	t.Helper()
	f, err := one(t, content)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := f.Model()
	if err != nil {
		t.Fatal(err)
	}
	return compose.Resolve(raw, values, images(t, services...))
}

const full = `name: openclaw
services:
  planner:
    image: x
    command: python3 -m agent.planner --level "a b"
    entrypoint: [/entry, "$$HOME"]
    environment: {DB_PASS: "${DB_PASS}", EMPTY: "", LEVEL: "${LEVEL:-info}"}
    user: "10001:10001"
    group_add: [33]
    working_dir: /app
    hostname: planner-${ZONE:-a}
    init: true
    tty: true
    stdin_open: true
    stop_signal: SIGTERM
    stop_grace_period: 1m30s
    read_only: true
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    security_opt: ["no-new-privileges:true"]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 1024, hard: 2048}, nproc: 64}
    shm_size: 64m
    deploy:
      resources: {limits: {memory: 512m, cpus: "0.3", pids: 200}, reservations: {memory: 64m}}
      restart_policy: {condition: on-failure, max_attempts: 3}
    memswap_limit: 512m
    oom_score_adj: 100
    volumes:
      - agent_memory:/var/lib/agent
      - {type: tmpfs, target: /cache, tmpfs: {size: 1m, mode: 01777}}
      - {type: volume, source: shared, target: /shared, read_only: true, volume: {nocopy: true}}
    tmpfs: "/tmp:size=64m,mode=1777,noexec"
    secrets: [db, {source: api, target: /etc/api}]
    ports: ["127.0.0.1:${PORT}:8080", "53:53/udp"]
    expose: ["9000"]
    networks: {inner: {aliases: [brain], priority: 10}, outer: {ipv4_address: 10.9.0.5}}
    extra_hosts: ["api:10.0.0.1"]
    dns: 1.1.1.1
    healthcheck: {test: [CMD, /health], interval: 5s, timeout: 2s, start_period: 10s, start_interval: 1s, retries: 4}
    depends_on: {migrate: {condition: service_completed_successfully}, bus: {condition: service_healthy}}
    labels: {team: agents}
    logging: {driver: json-file, options: {max-size: 10m}}
  migrate: {image: x, restart: "no", depends_on: [bus], healthcheck: {disable: true}}
  bus: {image: x, restart: "on-failure:5", container_name: the-bus}
networks:
  inner: {internal: true, driver: bridge, driver_opts: {com.docker.network.bridge.name: agent0}}
  outer: {external: true, name: edge}
volumes:
  agent_memory: {labels: {keep: "yes"}}
  shared: {name: shared-data, external: true}
secrets:
  db: {file: "${SECRETS:-/etc/openclaw}/db"}
  api: {file: /etc/openclaw/api}
`

func TestResolveFillsEveryField(t *testing.T) {
	w, err := resolve(t, full, map[string]string{"DB_PASS": "s3$cret", "PORT": "8088"}, "planner", "migrate", "bus")
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.Services {
		w.Services[i].ConfigHash = "" // TestConfigHashIsComposes
	}
	got, _ := json.MarshalIndent(w, "", "  ")
	golden(t, "testdata/full.json", got)
	if s, ok := w.Service("migrate"); !ok || !s.OneShot {
		t.Error("what others wait for to complete is a one-shot service")
	}
	if w.Services[0].Name != "bus" || w.Services[1].Name != "migrate" || w.Services[2].Name != "planner" {
		t.Errorf("order %s %s %s", w.Services[0].Name, w.Services[1].Name, w.Services[2].Name)
	}
}

func TestCommandUnsetAndEmptyDiffer(t *testing.T) {
	w, err := resolve(t, "name: x\nservices: {a: {image: x}, b: {image: x, command: [], entrypoint: \"\"}}\n", nil, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if a := w.Services[0]; a.Command != nil || a.Entrypoint != nil {
		t.Errorf("unset: %#v %#v", a.Command, a.Entrypoint)
	}
	if b := w.Services[1]; b.Command == nil || len(b.Command) != 0 || b.Entrypoint == nil {
		t.Errorf("empty: %#v %#v", b.Command, b.Entrypoint)
	}
}

func TestMissingValuesAreNamedAtOnce(t *testing.T) {
	_, err := resolve(t, `name: x
services:
  a:
    image: x
    environment: [PASSED, "A=${ONE}", "B=${TWO:?needed}", "C=${THREE:-${FOUR}}", "D=${FIVE:+${SIX}}", "E=${SEVEN-x}", "F=$$NOT", "G=${COMPOSE_PROJECT_NAME}"]
    command: ["${EIGHT?}", "$NINE"]
`, map[string]string{"TWO": "", "FIVE": "set", "EIGHT": ""}, "a")
	if release.KindOf(err) != release.KindConfig {
		t.Fatalf("got %v", err)
	}
	if want := "variables FOUR, NINE, ONE, PASSED, SIX, TWO of the compose model without a value"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestValuesCannotChangeWhatWasJudged(t *testing.T) {
	const content = "name: x\nservices: {a: {image: x, secrets: [s]}}\nsecrets: {s: {file: \"${FILE}\"}}\n"
	_, err := resolve(t, content, map[string]string{"FILE": "/var/run/docker.sock"}, "a")
	if release.KindOf(err) != release.KindDenied || !strings.Contains(err.Error(), "compose/docker-socket") {
		t.Errorf("socket by way of a value: %v", err)
	}
	if _, err := resolve(t, content, map[string]string{"FILE": "relative"}, "a"); release.KindOf(err) != release.KindConfig {
		t.Errorf("relative path by way of a value: %v", err)
	}
	w, err := resolve(t, "name: x\nservices: {a: {image: x, environment: {A: \"${A}\"}}}\n", map[string]string{"A": "${B} $C $$"}, "a")
	if err != nil || w.Services[0].Environment["A"] != "${B} $C $$" {
		t.Errorf("a value is text, not a template: %v %v", w.Services, err)
	}
}

func TestResolveRefusesForeignModels(t *testing.T) {
	for name, raw := range map[string]string{
		"not JSON":       "services: {}",
		"repeated key":   `{"name":"x","name":"y","services":{}}`,
		"no name":        `{"services":{"a":{}}}`,
		"unknown key":    `{"name":"x","services":{"a":{"privilege":true}}}`,
		"host network":   `{"name":"x","services":{"a":{"network_mode":"none"}}}`,
		"env_file":       `{"name":"x","services":{"a":{"env_file":["/etc/shadow"]}}}`,
		"include":        `{"name":"x","include":["/etc/passwd"],"services":{"a":{"extends":{"file":"/etc/passwd","service":"x"}}}}`,
		"other shape":    `{"name":"x","services":{"a":{"volumes":"x","environment":3}}}`,
		"no image":       `{"name":"x","services":{"a":{},"b":{}}}`,
		"undefined net":  `{"name":"x","services":{"a":{"networks":{"n":null}}}}`,
		"bad restart":    `{"name":"x","services":{"a":{"restart":"sometimes"}}}`,
		"circle":         `{"name":"x","services":{"a":{"depends_on":{"a":{"condition":"service_started","required":true}}}}}`,
		"no service":     `{"name":"x","services":{}}`,
		"nested too far": `{"name":"x","services":{"a":{"labels":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compose.Resolve([]byte(raw), nil, images(t, "a"))
			if release.KindOf(err) != release.KindConfig {
				t.Errorf("got %v", err)
			}
		})
	}
}
