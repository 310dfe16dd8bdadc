package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// overlays is the directory of the example that holds what the demo breaks.
const overlays = "demo"

// SecretsFile holds the workspace's secrets, for a shell to read.
const SecretsFile = "demo.env"

// open makes the workspace and starts the registry in it.
func (s *story) open(ctx context.Context) error {
	id, err := random(4)
	if err != nil {
		return err
	}
	s.w = Workspace{ID: id, Projects: []string{"promote-demo-" + id + "-staging", "promote-demo-" + id + "-production"}}
	if s.w.Dir, err = os.MkdirTemp("", Prefix); err != nil {
		return err
	}
	s.sayf("workspace %s", s.w.Dir)
	if s.w.Registry, err = s.o.Registry(ctx, filepath.Join(s.w.Dir, "registry")); err != nil {
		return err
	}
	return s.o.Remember(s.w)
}

// setUp fills the workspace with a copy of the example that uses the embedded
// defaults.
func (s *story) setUp(ctx context.Context) error {
	tree := filepath.Join(s.w.Dir, "agent")
	if err := s.copyExample(tree); err != nil {
		return err
	}
	password, err := random(16)
	if err != nil {
		return err
	}
	passphrase, err := random(16)
	if err != nil {
		return err
	}
	secrets := []string{"DB_PASSWORD=" + password, "COSIGN_PASSWORD=" + passphrase}
	s.shell = shell{executable: s.o.Executable, dir: tree, out: s.o.Out, err: s.o.Err, environ: append(slices.Clone(s.o.Environ), secrets...)}
	// For whoever keeps the workspace and goes on by hand.
	kept := "export " + strings.Join(secrets, " ") + "\n"
	if err := os.WriteFile(filepath.Join(s.w.Dir, SecretsFile), []byte(kept), 0o600); err != nil {
		return err
	}
	if err := s.configure(tree); err != nil {
		return err
	}
	s.sayf("the demo's advisories are a snapshot of PyPI and Go ones; what they do not cover is waived, visibly")
	if _, err := s.shell.promote(ctx, 0, nil, "db", "build", s.w.Registry+"/trivy-db"); err != nil {
		return err
	}
	if _, err := s.shell.promote(ctx, 0, nil, "keys", "generate", "../keys/promote.key"); err != nil {
		return err
	}
	mapping, err := s.o.Prepare(ctx, s.w.Registry)
	if err != nil {
		return err
	}
	if len(mapping) > 0 {
		s.sayf("Docker Hub does not answer: base images made from Debian packages stand in")
		args := []string{"pin"}
		for _, from := range slices.Sorted(maps.Keys(mapping)) {
			args = append(args, "--map", from+"="+mapping[from])
		}
		if _, err := s.shell.promote(ctx, 0, nil, args...); err != nil {
			return err
		}
	}
	if _, err := s.shell.promote(ctx, 0, nil, "pin", "--check"); err != nil {
		return err
	}
	if err := s.shell.git(ctx, "init", "-q", "-b", "main"); err != nil {
		return err
	}
	return s.commit(ctx, "the agent stack", "v1.0.0")
}

// commit commits the tree and tags it, if a tag is given.
func (s *story) commit(ctx context.Context, message, tag string) error {
	if err := s.shell.git(ctx, "add", "-A"); err != nil {
		return err
	}
	if err := s.shell.git(ctx, "commit", "-q", "-m", message); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return s.shell.git(ctx, "tag", "-a", "-m", tag, tag)
}

// copyExample writes the example without its overlays.
func (s *story) copyExample(to string) error {
	return fs.WalkDir(s.o.Example, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == overlays || strings.HasPrefix(d.Name(), "__")) {
			return fs.SkipDir
		}
		return s.write(to, path, d, path)
	})
}

// overlay lays one of the example's broken variants over the tree.
func (s *story) overlay(name string) error {
	root := overlays + "/" + name
	found := false
	err := fs.WalkDir(s.o.Example, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found = found || !d.IsDir()
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return s.write(s.shell.dir, rel, d, path)
	})
	if err == nil && !found {
		err = fmt.Errorf("the example has no overlay %q", name)
	}
	return err
}

func (s *story) write(dir, rel string, d fs.DirEntry, from string) error {
	path := filepath.Join(dir, rel)
	if d.IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	content, err := fs.ReadFile(s.o.Example, from)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// configure turns the example's configuration into the demo's: the embedded
// registry, database and key, projects of its own, a shorter smoke run.
func (s *story) configure(tree string) error {
	for i, env := range []string{"staging", "production"} {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.ports[env] = port
		file := filepath.Join(s.w.Dir, env+".env")
		if err := os.WriteFile(file, fmt.Appendf(nil, "PLANNER_PORT=%d\n", port), 0o600); err != nil {
			return err
		}
		compose := map[string]string{"staging": "compose.staging.yml", "production": "compose.prod.yml"}[env]
		if err := rewrite(filepath.Join(tree, compose), "name: agent-"+env, "name: "+s.w.Projects[i]); err != nil {
			return err
		}
	}
	return rewrite(filepath.Join(tree, "promote.yaml"),
		"\nname: agent\n", "\nname: "+s.w.Name()+"\n",
		"registry: ghcr.io/acme/agent", "registry: "+s.w.Registry+"/agent\nsign: {key: ../keys/promote.key}",
		"  maxAge: 24h", "  maxAge: 24h\n  database: {repository: "+s.w.Registry+"/trivy-db}\n"+
			"  waive: # the demo's database has no advisories for Debian\n"+
			"    - {distribution: debian 12, statement: \"the demo's advisories cover PyPI and Go only\", expires: 2099-12-31}",
		"    duration: 30s\n    warmup: 10s", "    duration: 20s\n    warmup: 5s",
		"  staging:\n", "  staging:\n    envFile: ../staging.env\n",
		"    after: staging\n", "    after: staging\n    envFile: ../production.env\n    registry: "+s.w.Registry+"/production/agent\n",
	)
}

// rewrite replaces pairs of old and new text in a file; each old one must be
// there exactly once, so that the demo notices when the example changes.
func rewrite(path string, pairs ...string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(raw)
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			return fmt.Errorf("%s does not hold %q exactly once", filepath.Base(path), pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func random(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// freePort asks the kernel for a port nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return 0, err
	}
	if !ok {
		return 0, errors.New("no TCP address")
	}
	return address.Port, nil
}
