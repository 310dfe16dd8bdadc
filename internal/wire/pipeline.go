package wire

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/hosts"
	"github.com/promote-dev/promote/internal/worktree"
	"github.com/promote-dev/promote/pkg/compose"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/policy"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// openPipeline builds the adapters that a configuration asks for.
func openPipeline(ctx context.Context, c *config.Config, o cli.PipelineOptions) (*pipeline.Pipeline, func(), error) {
	if o.Tree {
		keys := &keyring{config: c, options: o}
		return &pipeline.Pipeline{Project: keys.project(), Smoker: smoker{c}, Models: models{c.Dir()}, Now: time.Now}, func() {}, nil
	}
	if err := errors.Join(c.Inactive(), c.CheckLedger(os.Getenv("CI") == "true")); err != nil {
		return nil, nil, err
	}
	client, err := openRegistry(registryHosts(c.RegistrySettings()))
	if err != nil {
		return nil, nil, err
	}
	keys := &keyring{config: c, options: o}
	// Without a key one can still build and scan; whatever reads or writes
	// evidence gets the error.
	keys.missing = keys.openTrust(ctx)
	judge, err := policy.Load(ctx, policyOptions(c))
	if err != nil {
		return nil, nil, err
	}
	log, err := openLedger(ctx, c, keys)
	if err != nil {
		return nil, nil, err
	}
	told := notifier(c, o.Offline)
	p := &pipeline.Pipeline{
		Project:      keys.project(),
		Source:       worktree.Tree{Dir: c.Dir()},
		Builder:      builder{c},
		Scanner:      scanner{c},
		Smoker:       smoker{c},
		Models:       models{c.Dir()},
		Images:       images{client},
		Attestations: client,
		Legacy:       older{client, keys},
		Layouts:      layouts{client, keys},
		Documents:    client,
		Keys:         keys,
		Recorder:     keys.recorder,
		Verifier:     keys,
		Judge:        judge,
		Ledger:       trustedLedger{log, keys},
		Notifier:     told,
		Hooks:        hooks{c},
		Targets:      hosts.Targets{Options: engine.Options{Keychain: client.Credentials, Source: client}, Look: lookAt(c), Probe: askHealth},
		Now:          time.Now,
	}
	if o.Offline {
		p.Images, p.Attestations, p.Documents = offline{}, offline{}, offline{}
		p.Legacy = nil
	}
	return p, func() { keys.close(); told.Close(ctx) }, nil
}

func (k *keyring) project() pipeline.Project {
	c, trust := k.config, k.trust
	return pipeline.Project{
		TrustFile: k.signed,
		Name:      c.Name, Registry: c.Registry, Models: c.Models(), Platforms: c.Build.Platforms, Dimensions: c.Dimensions,
		Environments: c.Environments(), MaxAge: c.Scan.MaxAge, FailOn: c.Scan.FailOn, MemoryPercent: c.Smoke.Memory.MaxPercentOfLimit, Trust: trust, Configuration: c.Digest(),
		Lease: c.Ledger.Lease, Actor: actor(trust), Values: func(name string) (map[string]string, error) { return values(c, name) },
	}
}

// actor says who this is, as far as this machine can tell.
func actor(trust release.Trust) release.Actor {
	a := release.Actor{Process: "process " + strconv.Itoa(os.Getpid())}
	if parties := trust.Roles[release.Promoter]; len(parties) == 1 {
		a.Name = parties[0].Name
	}
	if name := os.Getenv("GITHUB_ACTOR"); name != "" && os.Getenv("GITHUB_ACTIONS") == "true" {
		a.User = name
		a.Process = os.Getenv("GITHUB_SERVER_URL") + "/" + os.Getenv("GITHUB_REPOSITORY") + "/actions/runs/" + os.Getenv("GITHUB_RUN_ID")
	} else if u, err := user.Current(); err == nil {
		a.User = u.Username
	}
	a.Host, _ = os.Hostname() // a record without a host is still a record
	return a
}

func openLedger(ctx context.Context, c *config.Config, k *keyring) (*ledger.Ledger, error) {
	canonical, err := release.Canonical(k.trust)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir("ledger")
	if err != nil {
		return nil, err
	}
	store, err := openStore(c, k.options.Offline)
	if err != nil {
		return nil, err
	}
	return ledger.Open(ctx, ledger.Options{
		Store: store, Origin: "promote/" + c.Name, Verify: k.verifyUnpinned, VerifyBy: k.verifyBy,
		Sign: func(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
			if c.Ledger.Git == nil {
				if err := keepOutOfGit(c.Abs(c.Ledger.File.Path)); err != nil {
					return nil, err
				}
			}
			return k.signEnvelope(ctx, payloadType, payload)
		},
		Trust: release.DigestOf(canonical), Cache: cache, Secret: ledgerSecret,
	})
}

// openStore gives the place that promote.yaml names for the ledger.
func openStore(c *config.Config, offline bool) (ledger.Store, error) {
	g := c.Ledger.Git
	if g == nil {
		return ledger.NewFileStore(c.Abs(c.Ledger.File.Path)), nil
	}
	cache, err := cacheDir("ledger-git")
	if err != nil {
		return nil, err
	}
	return ledger.NewGitStore(ledger.GitOptions{Dir: c.Dir(), Remote: g.Remote, Branch: g.Branch, Cache: cache, Offline: offline}), nil
}

// keepOutOfGit makes git ignore the ledger's directory where it is promote's
// own: a commit that held it would bring an old copy back at every reset.
func keepOutOfGit(dir string) error {
	own := filepath.Dir(dir)
	if filepath.Base(own) != ".promote" {
		return nil
	}
	if err := os.MkdirAll(own, 0o755); err != nil {
		return release.Unavailable("make the directory writable", "keeping the ledger out of git: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(own, ".gitignore"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString("*\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return release.Unavailable("make the directory writable", "keeping the ledger out of git: %w", err)
	}
	return nil
}

// cacheDir gives a directory of this user's cache; what is in it can be lost.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", release.Misuse("set HOME or XDG_CACHE_HOME", "finding the cache directory: %w", err)
	}
	return filepath.Join(base, "promote", name), nil
}

func policyOptions(c *config.Config) policy.Options {
	var dirs []string
	for _, p := range c.Policies {
		dirs = append(dirs, c.Abs(p))
	}
	return policy.Options{Dirs: dirs}
}

// keyring opens the private key late and once; the public half it needs from
// the start.
type keyring struct {
	config   *config.Config
	options  cli.PipelineOptions
	trust    release.Trust
	verifier *sign.Verifier
	roots    func() (*sign.Root, error)
	unpinned ledger.Check // for records of a ledger that pins no trust
	signed   *pipeline.TrustFile
	missing  error // why nothing can be verified; nil if it can

	mu       sync.Mutex
	key      *sign.Key
	identity *sign.Identity
}

// openTrust reads who may say what. Without a trust section that is the public
// half of sign.key: the file beside it, or else the key itself.
func (k *keyring) openTrust(ctx context.Context) (err error) {
	var public []byte
	if k.config.File.Trust == nil {
		if public, err = k.publicHalf(ctx); err != nil {
			return err
		}
	}
	if k.trust, err = k.config.Trust(public); err != nil {
		return err
	}
	if err := k.checkSigned(); err != nil {
		return err
	}
	root, err := k.root(ctx)
	if err != nil {
		return err
	}
	k.roots = func() (*sign.Root, error) { return root, nil }
	if root == nil { // for a ledger that once trusted identities
		k.roots = sync.OnceValues(func() (*sign.Root, error) { return k.signingRoot(ctx) })
	}
	if k.unpinned, err = k.verifyBy(timeless(k.trust)); err != nil {
		return err
	}
	k.verifier, err = sign.New(sign.Options{Trust: k.trust, Root: root, Memo: memo(root)})
	return err
}

func (k *keyring) publicHalf(ctx context.Context) ([]byte, error) {
	if file := k.config.PublicKeyFile(); file != "" {
		text, err := readCapped(file, 64<<10)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return text, err
		}
	}
	if k.options.Offline && config.IsService(k.config.Key()) {
		return nil, release.Misuse("name who is trusted under `trust:`, or leave --offline out", "the public half of %s is with its key service", k.config.Key())
	}
	if k.options.Key != "" { // that one signs, and says nothing about who is trusted
		key, err := sign.LoadKey(ctx, k.config.Key(), passphrase)
		if err != nil {
			return nil, err
		}
		defer key.Close()
		return key.PublicPEM(), nil
	}
	key, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	return key.PublicPEM(), nil
}

func (k *keyring) open(ctx context.Context) (*sign.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	key, err := sign.LoadKey(ctx, cmp.Or(k.options.Key, k.config.Key()), passphrase)
	if err != nil {
		return nil, err
	}
	k.key = key
	return key, nil
}

func passphrase() ([]byte, error) { return []byte(os.Getenv("COSIGN_PASSWORD")), nil }

func (k *keyring) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		k.key.Close()
		k.key = nil
	}
	if k.identity != nil {
		k.identity.Close()
		k.identity = nil
	}
}

// Verify implements pipeline.Verifier. Nothing is verified without a trust
// policy; trustedLedger says so before it comes to that.
func (k *keyring) Verify(ctx context.Context, s release.Subject, list []release.Attachment) []release.Evidence {
	if k.missing != nil {
		return nil
	}
	return k.verifier.Verify(ctx, s, list)
}

// trustedLedger is a ledger that cannot be read, not even an empty one, without
// knowing who may say what.
type trustedLedger struct {
	*ledger.Ledger
	keys *keyring
}

func (l trustedLedger) Read(ctx context.Context) (release.History, release.Checkpoint, error) {
	if l.keys.missing != nil {
		return nil, release.Checkpoint{}, l.keys.missing
	}
	return l.Ledger.Read(ctx)
}

// Ready implements pipeline.Keys. A key in a file is encrypted with a secret that
// takes a fifth of a second to derive. What is wrong with it, Open will say.
func (k *keyring) Ready(ctx context.Context) {
	if !k.keyless() && config.HoldsKey(cmp.Or(k.options.Key, k.config.Key())) {
		_, _ = k.open(ctx)
	}
}

// Open implements pipeline.Keys: what signs statements is an identity where the
// configuration names one, else the key.
func (k *keyring) Open(ctx context.Context) (pipeline.Signer, error) {
	if k.keyless() {
		return k.openIdentity(ctx)
	}
	key, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	return signer{key, k.party(key)}, nil
}

// party finds a signer in the trust policy. One that it does not name, or not
// now, has no role: whoever needs one says so.
func (k *keyring) party(s sign.Signer) release.Signer {
	party, err := sign.PartyOf(k.trust, s)
	if err != nil {
		party.Roles = nil
	}
	return party
}

func (k *keyring) signEnvelope(ctx context.Context, payloadType string, payload []byte) ([]byte, error) {
	s, err := k.forRecords(ctx)
	if err != nil {
		return nil, err
	}
	return s.SignEnvelope(ctx, payloadType, payload)
}

type signer struct {
	sign.Signer
	party release.Signer
}

func (s signer) Party() release.Signer { return s.party }

// models merges and resolves Compose files of a project's directory.
type models struct{ dir string }

func (m models) Load(ctx context.Context, names []string) (pipeline.Composition, error) {
	files, err := compose.Load(ctx, compose.Options{Dir: m.dir, Files: names})
	if err != nil {
		return pipeline.Composition{}, err
	}
	model, requirements, err := files.Model()
	if err != nil {
		return pipeline.Composition{}, err
	}
	return pipeline.Composition{Sources: files.Sources(), Model: model, Requirements: requirements, Findings: files.Findings()}, nil
}

func (models) Resolve(model []byte, values map[string]string, images map[string]release.Subject) (release.Workload, error) {
	return compose.Resolve(model, values, images)
}

// images gives the registry client the pipeline's form of a copy.
type images struct{ *registry.Client }

func (i images) Copy(ctx context.Context, s release.Subject, repository string, referrers bool) error {
	_, err := i.Client.Copy(ctx, s, repository, registry.CopyOptions{Referrers: referrers})
	return err
}
