package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/internal/yamlpos"
	"github.com/promote-dev/promote/pkg/release"
)

// FileName is what promote looks for.
const FileName = "promote.yaml"

// Config is a promote.yaml that was found sound, with its defaults filled in.
type Config struct {
	File
	path string // absolute
	root *yamlpos.Node
	keys map[string]publicKey // of trust, by the path written
	// trustFile is what trust.file holds, and trustText the bytes of it.
	trustFile *release.SignedTrust
	trustText []byte
	// trustedRoot is what the file of sign.trustedRoot holds.
	trustedRoot []byte
	// authorities are the contents of CA files, by the path written.
	authorities map[string]string
	digest      release.Digest
}

// Find gives the path of the promote.yaml in a directory or the nearest one
// above it. There being none is KindUsage.
func Find(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("looking for %s: %w", FileName, err)
	}
	for at := start; ; at = filepath.Dir(at) {
		path := filepath.Join(at, FileName)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.Mode().IsRegular():
			return path, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", release.Faultf(release.KindConfig, "check that you may read it", "looking for %s: %w", FileName, err)
		}
		if at == filepath.Dir(at) {
			return "", release.Misuse("write one (it needs a name and a registry), or name it with -c",
				"no %s in %s or above", FileName, start)
		}
	}
}

// Load reads and checks a file. All its errors come at once, as release.Errors
// of KindConfig with line and column. Files that it names must exist, except
// the ignore file's default, private keys and environment files, which belong
// to other machines or moments.
func Load(path string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	root, err := yamlpos.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return loaded(path, root)
}

func loaded(path string, root *yamlpos.Node) (_ *Config, err error) {
	c := &Config{File: defaults(), path: path, root: root, keys: map[string]publicKey{}, authorities: map[string]string{}}
	k := checker{c: c}
	k.decoded(yamlpos.Decode(root, &c.File))
	c.complete()
	k.all()
	if err := k.result(); err != nil {
		return nil, err
	}
	if c.digest, err = c.rules(); err != nil {
		return nil, release.Faultf(release.KindConfig, "", "digesting %s: %w", path, err)
	}
	return c, nil
}

func defaults() File {
	return File{
		Compose: Compose{Files: []string{"compose.yaml"}},
		Build:   Build{Platforms: []string{"linux/amd64"}, Tags: []string{"{{.Version}}"}},
		Scan:    Scan{FailOn: "critical", IgnoreFile: defaultIgnoreFile, MaxAge: 24 * time.Hour},
		Sign:    Sign{Key: defaultKey},
		Smoke: Smoke{
			Timeout: 2 * time.Minute, Egress: "allow", State: "recreate",
			Memory: Memory{Duration: time.Minute, Warmup: 10 * time.Second, MaxPercentOfLimit: 90, Horizon: 24 * time.Hour},
		},
		Ledger: Ledger{File: FileLedger{Path: ".promote/ledger"}, Lease: 15 * time.Second},
	}
}

const (
	defaultIgnoreFile = ".trivyignore.yaml"
	defaultKey        = "env://PROMOTE_KEY"
)

// complete fills in the defaults of what is repeated.
func (c *Config) complete() {
	for name, e := range c.File.Environments {
		c.completeEnvironment(at("environments", name), &e)
		c.File.Environments[name] = e
	}
	for i := range c.Smoke.Checks {
		if c.absent(at("smoke", "checks").index(i).key("timeout")) {
			c.Smoke.Checks[i].Timeout = 10 * time.Second
		}
	}
	load := at("smoke", "memory", "load")
	if h := c.Smoke.Memory.Load.HTTP; h != nil {
		h.Rate = orElse(h.Rate, 10)
		if c.absent(load.key("http", "concurrency")) {
			h.Concurrency = 8
		}
	}
	if e := c.Smoke.Memory.Load.Exec; e != nil {
		e.Rate = orElse(e.Rate, 10)
	}
	if s := c.Smoke.Memory.Load.Script; s != nil {
		s.Rate = orElse(s.Rate, 10)
	}
	if s := c.Smoke.Stop; s != nil && c.absent(at("smoke", "stop", "requests")) {
		s.Requests = 4
	}
	if g := c.Ledger.Git; g != nil {
		g.Remote, g.Branch = orElse(g.Remote, "origin"), orElse(g.Branch, "promote-ledger")
		if c.absent(at("ledger", "lease")) {
			c.Ledger.Lease = 45 * time.Second // a sign of life is a push
		}
	}
	if k := c.Sign.Keyless; k != nil {
		if c.absent(at("sign", "key")) {
			c.Sign.Key = ""
		}
		k.Fulcio, k.Rekor = orElse(k.Fulcio, publicFulcio), orElse(k.Rekor, publicRekor)
		if c.absent(at("sign", "keyless", "rekorVersion")) {
			k.RekorVersion = 1
		}
	}
}

func (c *Config) completeEnvironment(p path, e *Environment) {
	e.Registry = orElse(e.Registry, c.Registry)
	if c.absent(p.key("targets")) {
		e.Targets = []Target{{Name: "local"}}
	}
	if c.absent(p.key("strategy", "parallel")) {
		e.Strategy.Parallel = 1
	}
	e.Strategy.OnFailure = orElse(e.Strategy.OnFailure, onFailureRollback)
	if e.Snapshots != nil && c.absent(p.key("snapshots", "keep")) {
		e.Snapshots.Keep = 5
	}
	if c.absent(p.key("keepReleases")) {
		e.KeepReleases = release.KeptReleases
	}
	for i := range e.Windows {
		e.Windows[i].Zone = orElse(e.Windows[i].Zone, "UTC")
	}
}

// absent reports whether the file says nothing at a place.
func (c *Config) absent(p path) bool { return c.root.Get(p...) == nil }

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

const (
	onFailureRollback = "rollback"
	onFailureStop     = "stop"
)

// Path gives the file's absolute path.
func (c *Config) Path() string { return c.path }

// Dir gives the file's directory: the project.
func (c *Config) Dir() string { return filepath.Dir(c.path) }

// Abs gives the absolute form of a path that the file names.
func (c *Config) Abs(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(c.Dir(), path)
}

// Key gives sign.key as it is opened: a URI, or an absolute path.
func (c *Config) Key() string {
	if c.Sign.Key == "" || isURI(c.Sign.Key) {
		return c.Sign.Key
	}
	return c.Abs(c.Sign.Key)
}

// PublicKeyFile gives where the public half of a key file lies: beside it, with
// the ending .pub. It is empty for keys that are no files.
func (c *Config) PublicKeyFile() string {
	key := c.Key()
	if key == "" || isURI(key) {
		return ""
	}
	return strings.TrimSuffix(key, filepath.Ext(key)) + ".pub"
}

// KeyFrom gives what a key's name means in a directory: the path of a file, or
// the URI that it is.
func KeyFrom(dir, name string) string {
	if name == "" || isURI(name) || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// IsService reports whether a key is held by a key service that is asked over
// the network.
func IsService(name string) bool {
	return strings.Contains(name, "://") && !strings.HasPrefix(name, "env://")
}

// HoldsKey reports whether a name is that of a file or a variable with the key in
// it, and not that of a service or a token that keeps it.
func HoldsKey(name string) bool { return !isURI(name) || strings.HasPrefix(name, "env://") }

func isURI(s string) bool { return strings.Contains(s, "://") || strings.HasPrefix(s, "pkcs11:") }

// Models gives the Compose files of smoke and of each environment, the base
// first, relative to Dir.
func (c *Config) Models() map[string][]string {
	models := map[string][]string{release.SmokeModel: slices.Concat(c.Compose.Files, c.Smoke.Files)}
	for name, e := range c.File.Environments {
		models[name] = slices.Concat(c.Compose.Files, e.Files)
	}
	return models
}

// Environment gives an environment by name. An unknown one is KindUsage, with
// the nearest.
func (c *Config) Environment(name string) (release.Environment, error) {
	e, ok := c.File.Environments[name]
	if ok {
		return c.noun(name, e), nil
	}
	names := slices.Sorted(maps.Keys(c.File.Environments))
	if len(names) == 0 {
		return release.Environment{}, release.Misuse("write environments into "+c.path, "no environment %.60q: there are none", name)
	}
	hint := "known environments: " + strings.Join(names, ", ")
	if near := release.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	return release.Environment{}, release.Misuse(hint, "no environment %.60q", name)
}

// Environments gives all environments in the order of promotion: each one
// behind the one it comes after, else by name.
func (c *Config) Environments() []release.Environment {
	var list []release.Environment
	var follow func(after string)
	follow = func(after string) {
		for _, name := range slices.Sorted(maps.Keys(c.File.Environments)) {
			if e := c.File.Environments[name]; e.After == after {
				list = append(list, c.noun(name, e))
				follow(name)
			}
		}
	}
	follow("")
	return list
}

func (c *Config) noun(name string, e Environment) release.Environment {
	out := e.noun(name)
	if s := e.Snapshots; s != nil {
		out.Snapshots = release.Snapshots{Volumes: s.Volumes, Keep: s.Keep, Recipient: c.recipient(s.EncryptTo)}
	}
	return out
}

// mostRecipient bounds a file of public keys.
const mostRecipient = 64 << 10

// recipient reads a file of public keys; what cannot be read is no key, and
// refused by whoever encrypts.
func (c *Config) recipient(name string) string {
	file, err := os.Open(c.Abs(name))
	if err != nil {
		return noRecipient
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, mostRecipient+1))
	if err != nil || len(text) > mostRecipient || len(bytes.TrimSpace(text)) == 0 {
		return noRecipient
	}
	return string(text)
}

// noRecipient stands for a file that holds no public key.
const noRecipient = "# none"

func (e Environment) noun(name string) release.Environment {
	out := release.Environment{
		Name: name, After: e.After, Registry: e.Registry, Soak: e.Soak, OnFailure: e.Strategy.OnFailure, KeepReleases: e.KeepReleases,
		Strategy:  release.Strategy{Canary: e.Strategy.Canary, Pause: e.Strategy.Pause, Parallel: e.Strategy.Parallel},
		Approvals: release.Approvals{Required: e.Approvals.Required},
	}
	for _, role := range e.Approvals.NotBy {
		out.Approvals.NotBy = append(out.Approvals.NotBy, release.Role(role))
	}
	for _, w := range e.Windows {
		// What does not parse was refused; if not, it is a window that is closed.
		window, err := release.NewWindow(w.Deny != "", w.Allow+w.Deny, w.Zone)
		if err != nil {
			window = release.Window{Deny: true, Span: w.Allow + w.Deny, Zone: w.Zone}
		}
		out.Windows = append(out.Windows, window)
	}
	for _, t := range e.Targets {
		out.Targets = append(out.Targets, release.Target{Name: t.Name, Host: t.Host})
	}
	return out
}
