package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"context"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

func TestRefuses(t *testing.T) {
	const head = "name: x\nservices:\n  a:\n    image: x\n"
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"no name":             {"services: {a: {image: x}}\n", []string{"compose.yaml:1:1: the project has no name"}},
		"placeholder as name": {"name: ${N:-x}\nservices: {a: {image: x}}\n", []string{"compose.yaml:1:7: project name"}},
		"unknown keys, all": {head + "    enviroment: {A: b}\n    healthcheck: {intervall: 3s}\nvolums: {}\n", []string{
			`compose.yaml:5:5: unknown key "enviroment" in services.*, did you mean "environment"?`,
			`compose.yaml:6:19: unknown key "intervall" in services.*.healthcheck, did you mean "interval"?`,
			`compose.yaml:7:1: unknown key "volums" in the file, did you mean "volumes"?`}},
		"repeated key":        {head + "    image: y\n", []string{"compose.yaml:5:5: services.a.image: key is repeated"}},
		"wrong type":          {head + "    read_only: [1]\n", []string{"compose.yaml:5:5: services.a.read_only"}},
		"wrong shape":         {"name: x\nservices: [a]\n", []string{"compose.yaml:2:1: "}},
		"number as a name":    {head + "    depends_on: [1]\n", []string{"compose.yaml:5:18: services.a.depends_on.0 must be a string"}},
		"env_file":            {head + "    env_file: .env\n", []string{"compose.yaml:5:5: services.a.env_file is not supported"}},
		"relative bind":       {head + "    volumes:\n      - data:/data\n      - ./src:/src\nvolumes: {data: {}}\n", []string{"compose.yaml:7:9: service a: ./src is mounted from the project's directory"}},
		"home":                {head + "    volumes: [\"~/x:/x\"]\n", []string{"compose.yaml:5:15: ~/x:/x: the home directory"}},
		"mount type":          {head + "    volumes: [{type: npipe, source: x, target: /x}]\n", []string{"compose.yaml:5:15: service a: mounts of type \"npipe\""}},
		"hidden in mount":     {head + "    volumes: [\"${DIR}:/x\"]\nvolumes: {x: {}}\n", []string{"compose.yaml:5:15: service a uses \"${DIR}\"", "compose.yaml:5:15: services.a.volumes.0.source: a placeholder may not stand here"}},
		"hidden switch":       {head + "    privileged: ${P:-false}\n", []string{"compose.yaml:5:5: services.a.privileged: a placeholder may not stand here"}},
		"lone dollar":         {head + "    command: [\"echo $\"]\n", []string{"compose.yaml:5:15: services.a.command.0: a dollar that begins no placeholder"}},
		"network mode":        {head + "    network_mode: none\n", []string{"compose.yaml:5:5: services.a.network_mode: none is not supported"}},
		"replicas":            {head + "    deploy: {replicas: 3}\n", []string{"compose.yaml:5:14: services.a.deploy.replicas: a service is one container"}},
		"links":               {head + "    links: [b]\n", []string{"compose.yaml:5:5: services.a.links is not supported"}},
		"unmapped in a list":  {head + "    volumes: [{type: volume, source: v, target: /v, volume: {subpath: s}}]\nvolumes: {v: {}}\n", []string{"compose.yaml:5:62: services.a.volumes.0.volume.subpath"}},
		"relative secret":     {head + "    secrets: [s]\nsecrets: {s: {file: ./s}}\n", []string{"compose.yaml:6:15: secrets.s.file: ./s is no absolute path"}},
		"secret of caller":    {head + "secrets: {s: {environment: S}}\n", []string{"compose.yaml:5:15: secrets.s.environment is not supported"}},
		"inline config":       {head + "configs: {c: {content: hello, file: /x}}\n", []string{"compose.yaml:5:11: configs.c"}},
		"undefined network":   {head + "    networks: [n]\n", []string{"compose.yaml:5:16: service a uses \"n\""}},
		"undefined volume":    {head + "    volumes: [vol:/v]\n", []string{"compose.yaml:5:15: service a uses \"vol\""}},
		"undefined service":   {head + "    depends_on: [b]\n", []string{"compose.yaml:5:18: service a depends on \"b\""}},
		"needs a profile":     {head + "    depends_on: [b]\n  b: {image: x, profiles: [p]}\n", []string{"compose.yaml:5:18: service a depends on \"b\""}},
		"circle":              {head + "    depends_on: [b]\n  b: {image: x, depends_on: [a]}\n", []string{"compose.yaml:2:1: services wait for each other: a → b → a"}},
		"no image":            {"name: x\nservices: {a: {command: x}}\n", []string{"compose.yaml:2:12: service a has neither image nor build"}},
		"image placeholder":   {"name: x\nservices: {a: {image: \"x:${TAG:-1}\"}}\n", []string{"compose.yaml:2:16: image x:${TAG:-1}: a placeholder"}},
		"remote context":      {"name: x\nservices: {a: {build: \"https://github.com/a/b.git\"}}\n", []string{"compose.yaml:2:16: service a: build context"}},
		"argument of caller":  {"name: x\nservices: {a: {build: {context: ., args: [A, \"B=${C}\"]}}}\n", []string{"compose.yaml:2:43: service a: build argument A", "compose.yaml:2:46: service a: build argument B"}},
		"build by network":    {"name: x\nservices: {a: {build: {context: ., network: host}}}\n", []string{"compose.yaml:2:36: services.a.build.network is not supported"}},
		"reserved label":      {head + "    labels: {com.docker.compose.project: y}\n", []string{"compose.yaml:5:14: label com.docker.compose.project is reserved"}},
		"start interval":      {head + "    healthcheck: {test: x, start_interval: 1s}\n", []string{"compose.yaml:5:28: services.a.healthcheck.start_interval"}},
		"tmpfs option":        {head + "    tmpfs: [\"/t:uid=3\"]\n", []string{"compose.yaml:5:13: service a: tmpfs \"/t:uid=3\": option"}},
		"seccomp file":        {head + "    security_opt: [\"seccomp:./p.json\"]\n", []string{"compose.yaml:5:20: service a: seccomp profile ./p.json"}},
		"empty":               {"# nothing\n", []string{"compose.yaml:1:1: Compose file compose.yaml is empty"}},
		"not a mapping":       {"- a\n", []string{"compose.yaml:1:1: Compose file compose.yaml is not a mapping"}},
		"not YAML":            {"a: [\n", []string{"compose.yaml:1: invalid YAML"}},
		"all left out":        {"name: x\nservices: {a: {image: x, profiles: [p]}}\n", []string{"compose.yaml:2:1: no service"}},
		"remote include":      {"name: x\ninclude: [\"https://example.com/c.yaml\", oci://example.com/c, \"git@github.com:a/b\"]\nservices: {a: {image: x}}\n", []string{"compose.yaml:2:11: https://example.com/c.yaml lies outside", "compose.yaml:2:41: oci://example.com/c lies outside", "compose.yaml:2:62: git@github.com:a/b lies outside"}},
		"include from above":  {"name: x\ninclude: [../../../../../../../../etc/hostname]\nservices: {a: {image: x}}\n", []string{"compose.yaml:2:11: ../../../../../../../../etc/hostname lies outside"}},
		"extends from above":  {"name: x\nservices: {a: {extends: {file: /etc/hostname, service: a}}}\n", []string{"compose.yaml:2:32: /etc/hostname lies outside"}},
		"include env_file":    {"name: x\ninclude: [{path: nope.yaml, env_file: .env}]\nservices: {a: {image: x}}\n", []string{"compose.yaml:2:18: Compose file nope.yaml does not exist", "compose.yaml:2:39: include: env_file"}},
		"include itself":      {"name: x\ninclude: [compose.yaml]\nservices: {a: {image: x}}\n", []string{"compose.yaml:2:11: include cycle: compose.yaml → compose.yaml"}},
		"extends itself":      {"name: x\nservices: {a: {extends: b}, b: {extends: a}}\n", []string{"compose.yaml:1:1: Circular reference: "}},
		"bad size":            {head + "    mem_limit: 12 elephants\n", []string{"compose.yaml:5:5: 'services[a].mem_limit'"}},
		"bad restart":         {head + "    restart: sometimes\n", []string{"compose.yaml:3:3: services.a: restart"}},
		"bad duration":        {head + "    stop_grace_period: soon\n", []string{"compose.yaml:5:5: 'services[a].stop_grace_period'"}},
		"bad switch":          {head + "    read_only: perhaps\n", []string{"compose.yaml:5:5: services.a.read_only: want true or false"}},
		"bad port":            {head + "    ports: [\"80:99999\"]\n", []string{"compose.yaml:1:1: "}},
		"both at a volume":    {head + "    deploy: {update_config: {order: start-first}}\n    volumes: [\"vol:/data\"]\nvolumes: {vol: {}}\n", []string{"compose.yaml:5:30: services.a.deploy.update_config.order: service a cannot start before the old one stops: both would have what is mounted at /data"}},
		"both at a port":      {head + "    deploy: {update_config: {order: start-first}}\n    ports: [\"80:8080\"]\n", []string{"compose.yaml:5:30: services.a.deploy.update_config.order: service a cannot start before the old one stops: both would have port 80 of the host"}},
		"both at an address":  {head + "    deploy: {update_config: {order: start-first}}\n    networks: {n: {ipv4_address: 10.0.0.7}}\nnetworks: {n: {}}\n", []string{"compose.yaml:5:30: services.a.deploy.update_config.order: service a cannot start before the old one stops: both would have the address 10.0.0.7"}},
		"an order of its own": {head + "    deploy: {update_config: {order: sideways}}\n", []string{"compose.yaml:5:30: services.a.deploy.update_config.order value must be one of"}},
		"a hook that may all": {head + "    pre_stop: [{command: [x], privileged: true}]\n", []string{"compose.yaml:5:5: services.a.pre_stop.0.privileged is not supported"}},
		"another hook":        {head + "    post_start: [{command: [x]}]\n", []string{"compose.yaml:5:5: services.a.post_start is not supported: it is not run"}},
		"old external":        {head + "    networks: [n]\nnetworks: {n: {external: {name: m}}}\n", []string{"compose.yaml:6:26: external"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := one(t, c.content)
			refused(t, err, c.want...)
		})
	}
}

func TestHostileFiles(t *testing.T) {
	bomb := "name: x\nx-a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += "x-" + string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ",") + "]\n"
	}
	wide := "name: x\nservices:\n  a: {image: x, command: &c [" + strings.Repeat("y,", 2000) + "y]}\n"
	for i := range 60 {
		wide += "  s" + strings.Repeat("i", i+1) + ": {image: x, command: *c}\n"
	}
	cycle := map[string]string{
		"compose.yaml": "name: x\ninclude: [a.yaml]\nservices: {s: {image: x}}\n",
		"a.yaml":       "include: [sub/b.yaml]\nservices: {t: {image: x}}\n",
		"sub/b.yaml":   "include: [{path: [../a.yaml], project_directory: .}]\nservices: {u: {image: x}}\n",
	}
	fan := map[string]string{"compose.yaml": "name: x\ninclude: [f0.yaml, g0.yaml]\nservices: {s: {image: x}}\n"}
	for i := range 20 {
		next := string(rune('a' + i))
		include := "include: [f" + next + ".yaml, g" + next + ".yaml]\n"
		here := "0"
		if i > 0 {
			here = string(rune('a' + i - 1))
		}
		fan["f"+here+".yaml"] = include + "services: {f" + here + ": {image: x}}\n"
		fan["g"+here+".yaml"] = include + "services: {g" + here + ": {image: x}}\n"
	}
	fan["ft.yaml"], fan["gt.yaml"] = "services: {}\n", "services: {}\n"
	many := map[string]string{"compose.yaml": "name: x\ninclude:\n"}
	for i := range 80 {
		name := "n" + strings.Repeat("i", i+1) + ".yaml"
		many["compose.yaml"] += "  - " + name + "\n"
		many[name] = "services: {}\n"
	}
	for name, files := range map[string]map[string]string{
		"alias bomb":        {"compose.yaml": bomb},
		"wide aliases":      {"compose.yaml": wide},
		"include cycle":     cycle,
		"include fan":       fan,
		"too many files":    many,
		"too large":         {"compose.yaml": "name: x\nservices: {a: {image: x}}\n" + strings.Repeat("# comment\n", 200_000)},
		"deep":              {"compose.yaml": "name: x\nx-d: " + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "\n"},
		"self merge":        {"compose.yaml": "name: x\nservices: &s {a: {image: x, <<: *s}}\n"},
		"include directory": {"compose.yaml": "name: x\ninclude: [d]\nservices: {a: {image: x}}\n", "d/x": ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := load(t, files)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
			if name == "include fan" && err == nil {
				return // finite, and done in time
			}
			if release.KindOf(err) != release.KindConfig {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestIncludeStaysInTheProject(t *testing.T) {
	dir := tree(t, map[string]string{"p/compose.yaml": "name: x\ninclude: [link.yaml]\nservices: {a: {image: x}}\n", "outside.yaml": "services: {b: {image: x}}\n"})
	if err := os.Symlink(filepath.Join(dir, "outside.yaml"), filepath.Join(dir, "p/link.yaml")); err != nil {
		t.Fatal(err)
	}
	_, err := compose.Load(context.Background(), compose.Options{Dir: filepath.Join(dir, "p"), Files: []string{"compose.yaml"}})
	refused(t, err, "compose.yaml:2:11: link.yaml lies outside of the project")
}

func TestIncludesAndExtends(t *testing.T) {
	files := map[string]string{
		"compose.yaml":       "name: x\ninclude: [store/store.yaml]\nservices:\n  a:\n    extends: {file: base/base.yaml, service: base}\n    image: x\n",
		"store/store.yaml":   "services:\n  db:\n    build: ./image\n    volumes: [data:/data]\n    network_mode: host\nvolumes: {data: {}}\n",
		"base/base.yaml":     "services:\n  base:\n    extends: {file: ../deep/deep.yaml, service: deep}\n    read_only: true\n    pid: host\n",
		"deep/deep.yaml":     "services:\n  deep:\n    environment: {A: b}\n    privileged: true\n",
		"store/.env":         "CANARY=1\n",
		"store/image/ignore": "",
	}
	f := mustLoad(t, files)
	m, _, needs := model(t, f)
	a := m["services"].(map[string]any)["a"].(map[string]any)
	if a["read_only"] != true || a["environment"].(map[string]any)["A"] != "b" {
		t.Errorf("extends: %v", a)
	}
	if len(needs.Volumes) != 1 || needs.Volumes[0] != "x_data" {
		t.Errorf("include: %v", needs)
	}
	for _, s := range f.Sources() {
		if s.Service == "db" && (!strings.HasSuffix(s.Build.Context, "/store/image") || s.File != "store/store.yaml" || s.Line != 3) {
			t.Errorf("paths of an included file start at its directory: %+v", s)
		}
	}
	found := map[string]string{}
	for _, r := range f.Findings() {
		found[r.Rule] = r.File
	}
	if found["compose/privileged"] != "deep/deep.yaml" || found["compose/host-pid"] != "base/base.yaml" || found["compose/host-network"] != "store/store.yaml" {
		t.Errorf("findings %v", found)
	}
	files["store/store.yaml"] = "services:\n  db:\n    image: x\n    environment: [CANARY]\n"
	_, err := load(t, files)
	refused(t, err, "store/store.yaml:4:19: variable CANARY has no value")
}

func TestLoadStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := compose.Load(ctx, compose.Options{Dir: tree(t, map[string]string{"compose.yaml": agent}), Files: []string{"compose.yaml"}})
	if release.KindOf(err) != release.KindInterrupted {
		t.Errorf("got %v", err)
	}
}
