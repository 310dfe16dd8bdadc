package compose_test

import "testing"

// TestConfigHashIsComposes: the wanted values are what "docker compose config
// --hash '*'" of v5.5.0 prints for the same services with the same images and
// values.
func TestConfigHashIsComposes(t *testing.T) {
	values := map[string]string{"DB_PASS": "s3$cret", "PORT": "8088"}
	w, err := resolve(t, full, values, "planner", "migrate", "bus")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bus":     "4ba60474e85e2e8b175a98b7d67723560ea61c3d1e72b60f1428d9037e79b3c9",
		"migrate": "64f172cb73e14c9bef2e1e1fbfd1070117a9621b5033f0c327f44607b49308c2",
		"planner": "f2b5ddc5101ecadf7391dcda4d2bcbddecea9378c8c8ee947696af5d0e04f6cb",
	}
	for _, s := range w.Services {
		if s.ConfigHash != want[s.Name] {
			t.Errorf("%s: got %s, want %s", s.Name, s.ConfigHash, want[s.Name])
		}
	}
	values["DB_PASS"] = "another"
	again, err := resolve(t, full, values, "planner", "migrate", "bus")
	if err != nil {
		t.Fatal(err)
	}
	if again.Services[2].ConfigHash == w.Services[2].ConfigHash || again.Services[0].ConfigHash != w.Services[0].ConfigHash {
		t.Error("a value changes the hash of the service that uses it, and of no other")
	}
}
