package policy

import (
	"context"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/policies"
)

// Options says which policies are in force.
type Options struct {
	// Defaults holds the default gates, *.rego at its top; nil is those that
	// ship with promote.
	Defaults fs.FS
	// Dirs are a team's own directories, with what is below them, or single
	// files, in the order of promote.yaml. They add gates; no file of theirs
	// can change a default one.
	Dirs []string
	// Timeout bounds one judgement of all gates; 0 is 10 s.
	Timeout time.Duration
}

// defaultTimeout is far more than gates need: all of the default ones together
// take a few milliseconds.
const defaultTimeout = 10 * time.Second

// Gate describes one gate.
type Gate struct {
	Name    string `json:"name"`
	File    string `json:"file"`    // the first that has a part of it
	Doc     string `json:"doc"`     // the comment in front of its package
	Default bool   `json:"default"` // ships with promote
}

// Policy is a set of compiled gates, ready to judge. It may be used by several
// goroutines at once.
type Policy struct {
	gates   []gate
	digest  release.Digest
	timeout time.Duration
	ready   func() error // compiles and prepares, once
}

type gate struct {
	Gate
	path  ast.Ref  // of its package
	sets  []string // deny, warn, unknown: those that it has
	query rego.PreparedEvalQuery
}

// Load reads, checks and compiles the default gates and those of a team, and
// prepares them once for all judgements. Where there are only those that ship
// with promote, which its tests compile, that is left to the first judgement: it
// takes as long as everything else that most commands do. What is wrong with a file is a
// *release.Fault of KindConfig with its place; several are release.Errors.
// Tests (*_test.rego) are neither compiled nor part of the digest.
func Load(ctx context.Context, o Options) (*Policy, error) {
	sources, err := read(ctx, o)
	if err != nil {
		return nil, err
	}
	sources = slices.DeleteFunc(sources, func(s source) bool { return s.test })
	if err := parse(sources); err != nil {
		return nil, err
	}
	gates, faults := gatesOf(sources)
	if len(faults) > 0 {
		return nil, faults
	}
	if len(gates) == 0 {
		return nil, release.Faultf(release.KindConfig, "reinstall promote", "loading policies: there are no gates")
	}
	p := &Policy{gates: gates, digest: digestOf(sources), timeout: o.Timeout}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	p.ready = sync.OnceValue(func() error { return p.finish(context.WithoutCancel(ctx), sources) })
	if len(o.Dirs) == 0 && o.Defaults == nil {
		return p, nil
	}
	if err := p.ready(); err != nil {
		return nil, err
	}
	return p, nil
}

// finish compiles what was read.
func (p *Policy) finish(ctx context.Context, sources []source) error {
	compiler, err := compile(sources)
	if err != nil {
		return err
	}
	if faults := checkReferences(compiler, sources); len(faults) > 0 {
		return faults
	}
	return p.prepare(ctx, compiler)
}

func (o Options) defaults() fs.FS {
	if o.Defaults == nil {
		return policies.FS
	}
	return o.Defaults
}

// compile checks modules strictly: unused and shadowed names, fields that the
// facts do not have, functions that are not allowed.
func compile(sources []source) (*ast.Compiler, error) {
	compiler, err := newCompiler()
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{}
	for _, s := range sources {
		modules[s.file] = s.module
	}
	if compiler.Compile(modules); compiler.Failed() {
		return nil, faultsOf(compiler.Errors).Or()
	}
	return compiler, nil
}

func newCompiler() (*ast.Compiler, error) {
	facts, err := schema()
	if err != nil {
		return nil, release.Faultf(release.KindInternal, "report this as a defect of promote", "describing the facts to policies: %w", err)
	}
	return ast.NewCompiler().WithStrict(true).WithCapabilities(capabilities()).WithSchemas(facts).
		WithDefaultRegoVersion(ast.RegoV1).WithEnablePrintStatements(true), nil // else print would vanish unseen
}

// prepare makes each gate's query once. Each asks for the gate's sets in their
// order.
func (p *Policy) prepare(ctx context.Context, compiler *ast.Compiler) error {
	for i, g := range p.gates {
		sets := make([]*ast.Term, len(g.sets))
		for j, set := range g.sets {
			sets[j] = ast.NewTerm(g.path.Append(ast.StringTerm(set)))
		}
		ask := ast.NewBody(ast.NewExpr(ast.ArrayTerm(sets...)))
		query, err := rego.New(rego.ParsedQuery(ask), rego.Compiler(compiler), rego.StrictBuiltinErrors(true)).PrepareForEval(ctx)
		if err != nil {
			return &release.Fault{Kind: release.KindConfig, Op: "preparing gate", Subject: g.Name, File: g.File, Err: err,
				Hint: "mend the policy: a gate that cannot judge lets nothing through"}
		}
		p.gates[i].query = query
	}
	return nil
}

// Digest identifies the rules: it covers the name and the bytes of every file
// that judges. Two policies of one digest judge alike.
func (p *Policy) Digest() release.Digest { return p.digest }

// digestOf names files below their own directory, so that the digest is the
// same on every machine.
func digestOf(sources []source) release.Digest {
	files := map[string]release.Digest{}
	for _, s := range sources {
		files[s.name] = release.DigestOf([]byte(s.text))
	}
	raw, err := release.Canonical(files)
	if err != nil {
		panic(err) // names and digests always encode
	}
	return release.DigestOf(raw)
}

// Gates lists the gates in the order in which they judge.
func (p *Policy) Gates() []Gate {
	list := make([]Gate, len(p.gates))
	for i, g := range p.gates {
		list[i] = g.Gate
	}
	return list
}
