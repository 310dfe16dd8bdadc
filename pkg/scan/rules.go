//go:build goexperiment.jsonv2

package scan

import (
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/store"
)

// secretConfig says which files Trivy need not look into for secrets. By
// default it passes over every path with "test", "example" or "vendor" in it,
// all Markdown, everything under .git and whatever is named like a picture or
// an archive: where secrets are left behind most often. Here only what others
// publish is passed over: system directories, lock files, and the test data of
// installed packages, which is full of keys that everybody knows.
const secretConfig = `disable-allow-rules: [tests, examples, vendor, markdown]
allow-rules:
  - id: documentation
    description: the word that documentation puts into made-up keys
    regex: (?i)example
  - id: tests-of-packages
    description: test data of installed packages
    path: (site-packages|dist-packages|/gems)/.*(^|/)tests?/
skip-patterns:
  - "**/node_modules/**"
  - "**/go.mod"
  - "**/go.sum"
  - "**/package-lock.json"
  - "**/yarn.lock"
  - "**/pnpm-lock.yaml"
  - "**/Pipfile.lock"
  - "**/poetry.lock"
  - "**/uv.lock"
  - "**/Gemfile.lock"
`

// secretRules writes the configuration of Trivy's secret scanner to where it
// looks for it. Trivy skips a file of an image whose path is the end of the
// configuration's; nobody can guess this one's.
func secretRules(cacheDir string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(cacheDir, "rules"))
	if err != nil {
		return "", cacheFault(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", cacheFault(err)
	}
	name := release.DigestOf([]byte(dir+secretConfig)).Hex() + ".yaml"
	file := filepath.Join(dir, name)
	if have, err := os.ReadFile(file); err == nil && string(have) == secretConfig {
		return file, nil
	}
	if err := store.WriteFile(file, []byte(secretConfig)); err != nil {
		return "", cacheFault(err)
	}
	return file, nil
}
