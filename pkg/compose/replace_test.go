package compose_test

import (
	"reflect"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

// What the model says about replacing a container reaches the workload, with
// values filled in.
func TestOrderAndHooksReachTheWorkload(t *testing.T) {
	files, err := one(t, `name: x
services:
  a:
    image: x
    ports: ["${PORT:-}:8080"]
    volumes: [{type: bind, source: /srv/s, target: /s, read_only: true}]
    deploy: {update_config: {order: start-first, parallelism: 2}}
    pre_stop:
      - command: [agent, drain]
      - {command: "agent checkpoint --all", user: "1000:1000", working_dir: /var/lib/agent, environment: ["TOKEN=${TOKEN}", LEVEL=1]}
`)
	if err != nil {
		t.Fatal(err)
	}
	model, _, err := files.Model()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]release.Subject{"a": {Repository: "r/a", Digest: release.DigestOf([]byte("a"))}}
	w, err := compose.Resolve(model, map[string]string{"TOKEN": "t"}, images)
	if err != nil {
		t.Fatal(err)
	}
	want := []release.Hook{{Command: []string{"agent", "drain"}},
		{Command: []string{"agent", "checkpoint", "--all"}, User: "1000:1000", WorkingDir: "/var/lib/agent", Environment: map[string]string{"TOKEN": "t", "LEVEL": "1"}}}
	if s := w.Services[0]; s.UpdateOrder != release.StartFirst || !reflect.DeepEqual(s.PreStop, want) {
		t.Errorf("%s, %+v", s.UpdateOrder, s.PreStop)
	}
	// A port that only its value shows is judged with it.
	if _, err := compose.Resolve(model, map[string]string{"TOKEN": "t", "PORT": "80"}, images); release.KindOf(err) != release.KindConfig {
		t.Errorf("with a port: %v", err)
	}
	if _, err := compose.Resolve(model, nil, images); release.KindOf(err) != release.KindConfig {
		t.Errorf("without the hook's value: %v", err)
	}
}
