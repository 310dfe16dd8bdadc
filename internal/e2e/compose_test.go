//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
)

// Docker Compose, which is built where docker has no such plugin.
const (
	composeModule  = "github.com/docker/compose/v5"
	composeVersion = "v5.5.0"
)

// compose gives the command that Docker Compose is here. It is built in a module
// of its own with our versions, because the cache is warm.
var compose = sync.OnceValues(func() ([]string, error) {
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}, nil
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	scratch, program := filepath.Join(root, "bin", "compose"), filepath.Join(root, "bin", "docker-compose-"+composeVersion)
	if _, err := os.Stat(program); err == nil {
		return []string{program}, nil
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		text = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(text, []byte("module scratch"))
		if err := os.WriteFile(filepath.Join(scratch, file), text, 0o644); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{{"get", composeModule + "@" + composeVersion}, {"build", "-o", program, composeModule + "/cmd"}} {
		cmd := exec.Command("nice", append([]string{"-n", "19", "go"}, args...)...) // what is measured beside it comes first
		cmd.Dir, cmd.Env = scratch, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %q: %w: %s", args, err, out[max(0, len(out)-2000):])
		}
	}
	return []string{program}, nil
})

// prepare gets Docker Compose ready while the stage is set, if it will be needed.
func prepare() {
	flag.Parse()
	matches := func(name string) bool {
		expression := flag.Lookup(name).Value.String()
		matched, err := regexp.MatchString(expression, "TestSeveralHosts")
		return err == nil && matched
	}
	if skip := flag.Lookup("test.skip").Value.String(); matches("test.run") && (skip == "" || !matches("test.skip")) {
		go func() { _, _ = compose() }()
	}
}
