package wire

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/release"
)

// values gives what an environment's placeholders may take: promote's own
// environment, and over it the environment's envFile.
func values(c *config.Config, name string) (map[string]string, error) {
	all := environment(os.Environ())
	env, ok := c.File.Environments[name]
	if !ok || env.EnvFile == "" {
		return all, nil
	}
	path := c.Abs(env.EnvFile)
	text, err := readCapped(path, 1<<20)
	if err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "reading the envFile of " + name, Err: err,
			Hint: "the machine that deploys must have it; it holds KEY=VALUE lines"}
	}
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t") {
			return nil, &release.Fault{Kind: release.KindConfig, Op: "reading the envFile of " + name, File: path, Line: number + 1,
				Err: errors.New("expected KEY=VALUE"), Hint: "one variable a line; a comment begins with #"}
		}
		all[key] = unquote(value)
	}
	return all, nil
}

// unquote drops one pair of quotes around a value.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// environment turns "KEY=VALUE" pairs into a map.
func environment(pairs []string) map[string]string {
	all := map[string]string{}
	for _, pair := range pairs {
		if key, value, ok := strings.Cut(pair, "="); ok {
			all[key] = value
		}
	}
	return all
}

func readCapped(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = release.Faultf(release.KindConfig, "", "%s is longer than %d bytes", path, most)
	}
	return text, err
}
