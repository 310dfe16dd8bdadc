package compose_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/release"
)

// FuzzLoad: whatever is in a file, it is loaded or refused as configuration;
// and what was loaded can be resolved or is refused, never worse.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{agent, full, prod, "name: x\nservices: {a: {image: x, extends: a}}\n", "name: x\nservices: {a: {image: x, ports: !reset [80], volumes: !override [{type: bind}]}}\n"} {
		f.Add(s)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "compose.yaml")
	f.Fuzz(func(t *testing.T, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := compose.Load(context.Background(), compose.Options{Dir: dir, Files: []string{"compose.yaml"}})
		if err != nil {
			if release.KindOf(err) != release.KindConfig {
				t.Errorf("kind %s of %v", release.KindOf(err), err)
			}
			return
		}
		files.Findings()
		images := map[string]release.Subject{}
		for _, s := range files.Sources() {
			images[s.Service] = release.Subject{Repository: "r/x", Digest: release.DigestOf(nil)}
		}
		raw, needs, err := files.Model()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, v := range needs.Environment {
			values[v.Name] = "/1"
		}
		if _, err := compose.Resolve(raw, values, images); err != nil && release.KindOf(err) != release.KindConfig && release.KindOf(err) != release.KindDenied {
			t.Errorf("kind %s of %v", release.KindOf(err), err)
		}
	})
}
