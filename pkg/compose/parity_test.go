package compose_test

import (
	"context"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

// rawModel gives the model of some files, the first of which is the base.
func rawModel(t *testing.T, contents ...string) []byte {
	t.Helper()
	files, names := map[string]string{}, []string{}
	for i, content := range contents {
		name := "compose" + strings.Repeat("x", i) + ".yaml"
		files[name] = content
		names = append(names, name)
	}
	raw, _, err := mustLoad(t, files, names...).Model()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const parityBase = `name: agent
services:
  planner:
    build: .
    environment: {LLM_URL: "${LLM_URL:?where}", LOG_LEVEL: "${LOG_LEVEL:-info}"}
    volumes: [{type: volume, source: memory, target: /memory}]
    ports: [{target: 8080, published: "${PORT:-}"}]
volumes: {memory: {}}
`

func TestParityOfTheExample(t *testing.T) {
	models := map[string][]byte{}
	for name, files := range map[string][]string{
		"smoke":      {"compose.yaml", "compose.prod-like.yml"},
		"staging":    {"compose.yaml", "compose.prod-like.yml", "compose.staging.yml"},
		"production": {"compose.yaml", "compose.prod-like.yml", "compose.prod.yml"},
		"bare":       {"compose.yaml"},
	} {
		f, err := compose.Load(context.Background(), compose.Options{Dir: "../../examples/agent", Files: files})
		if err != nil {
			t.Fatal(err)
		}
		if models[name], _, err = f.Model(); err != nil {
			t.Fatal(err)
		}
	}
	for _, env := range []string{"staging", "production"} {
		if found, err := compose.Parity(env, models["smoke"], models[env]); err != nil || len(found) > 0 {
			t.Errorf("%s: %v %v", env, found, err)
		}
	}
	found, err := compose.Parity("production", models["bare"], models["production"])
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, d := range found {
		text = append(text, d.String())
	}
	for _, want := range []string{"planner: memory: production has 128.0 MiB, the tested model none", "store: pids: production has 128, the tested model none", "bus: cpus: production has 0.5"} {
		if !strings.Contains(strings.Join(text, "\n"), want) {
			t.Errorf("want %q among %q", want, text)
		}
	}
}

func TestParityNeedsNoValues(t *testing.T) {
	tested := rawModel(t, parityBase)
	there := rawModel(t, parityBase, "name: agent-production\nservices: {planner: {environment: {LOG_LEVEL: \"${LEVEL:?}\", LLM_URL: https://llm}, logging: {driver: local}}}\n")
	if found, err := compose.Parity("production", tested, there); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
	renamed := rawModel(t, parityBase, "name: agent-production\nvolumes: {memory: {name: acme_notes}}\n")
	found, err := compose.Parity("production", tested, renamed)
	if err != nil || len(found) != 1 || found[0].Field != "mounts" || !found[0].Grave {
		t.Errorf("%v %v", found, err)
	}
	if found, err := compose.Parity("production", renamed, renamed); err != nil || len(found) > 0 {
		t.Errorf("a name of its own differs from itself: %v %v", found, err)
	}
}

func TestParityOfWhatCannotBeCompared(t *testing.T) {
	tested := rawModel(t, parityBase)
	limited := rawModel(t, parityBase, "services: {planner: {mem_limit: \"${LIMIT:?}\"}}\n")
	for name, c := range map[string]struct {
		tested, there []byte
		words         string
	}{
		"there":  {tested, limited, "model: production has one that says too little without values"},
		"tested": {limited, tested, "the tested model one that says too little without values"},
	} {
		found, err := compose.Parity("production", c.tested, c.there)
		if err != nil || len(found) != 1 || !found[0].Grave || found[0].Field != "model" || !strings.Contains(found[0].String(), c.words) {
			t.Errorf("%s: %v %v", name, found, err)
		}
	}
	_, err := compose.Parity("production", tested, []byte(`{"name":"x","include":[]}`))
	if release.KindOf(err) != release.KindConfig {
		t.Errorf("a model that is none of ours: %v", err)
	}
}
