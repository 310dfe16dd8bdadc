package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/promote-dev/promote/internal/bench"
	"github.com/promote-dev/promote/pkg/policy"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign"
)

// six are the attestations that verifiers are told about. The predicates have
// the form that gates read, and the size of a small service's.
func six(now time.Time) map[string]any {
	stamp := now.Format(time.RFC3339)
	components := make([]map[string]string, 200)
	for n := range components {
		components[n] = map[string]string{"type": "library", "name": fmt.Sprint("package-", n), "version": "1.0.0", "purl": fmt.Sprintf("pkg:deb/debian/package-%d@1.0.0", n)}
	}
	return map[string]any{
		release.PredicateSignature:     map[string]any{},
		release.PredicateProvenance:    map[string]any{"buildDefinition": map[string]any{"buildType": "https://example.com/build", "externalParameters": map[string]any{}}, "runDetails": map[string]any{"builder": map[string]any{"id": "https://example.com/ci"}}},
		release.PredicateCycloneDX:     map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components},
		release.PredicateVulnerability: map[string]any{"scanner": map[string]any{"uri": "x", "result": map[string]any{}}, "metadata": map[string]any{"scanStartedOn": stamp, "scanFinishedOn": stamp}},
		release.PredicateTestResult:    map[string]any{"result": "PASSED", "configuration": []any{}},
		release.PredicateDecision:      map[string]any{"verificationResult": "PASSED", "timeVerified": stamp},
	}
}

const keyFile = "cosign"

// rule is what conftest judges the scan's attestation by.
const rule = `package main

deny contains msg if {
	input.predicateType != "https://cosign.sigstore.dev/attestation/vuln/v1"
	msg := "no scan"
}

deny contains msg if {
	some r in input.predicate.scanner.result.Results
	some v in r.Vulnerabilities
	v.Severity == "CRITICAL"
	msg := v.VulnerabilityID
}
`

// attested puts an image with six attestations into the registry, and a project
// with its key into a directory.
func attested(ctx context.Context, w *bench.World, dir string) (image string, err error) {
	made, err := bench.NewImage(bench.Spec{Layers: 2, Bytes: 4 << 10}, 5)
	if err != nil {
		return "", err
	}
	if err := w.Source.Put("team/app", "v1", made); err != nil {
		return "", err
	}
	private, public, err := sign.GenerateKey(nil)
	if err != nil {
		return "", err
	}
	for name, text := range map[string][]byte{
		keyFile + ".key": private, keyFile + ".pub": public, "trusted_root.json": sign.EmptyTrustedRoot(), "policy/scan.rego": []byte(rule),
		"promote.yaml": []byte("name: app\nregistry: " + w.Source.Addr() + "/team\nsign: {key: " + keyFile + ".key}\n"), "compose.yaml": []byte("name: app\n"),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o600)); err != nil {
			return "", err
		}
	}
	key, err := sign.LoadKey(ctx, filepath.Join(dir, keyFile+".key"), nil)
	if err != nil {
		return "", err
	}
	defer key.Close()
	client, err := registry.New(registry.Options{})
	if err != nil {
		return "", err
	}
	image = w.Source.Ref("team/app", made.Digest)
	subject, err := client.Resolve(ctx, image)
	if err != nil {
		return "", err
	}
	for predicateType, predicate := range six(time.Now().UTC()) {
		body, err := json.Marshal(predicate)
		if err != nil {
			return "", err
		}
		attachment, err := key.Sign(ctx, release.NewStatement(subject, predicateType, body))
		if err != nil {
			return "", err
		}
		if err := client.Attach(ctx, subject, attachment); err != nil {
			return "", err
		}
	}
	return image, nil
}

// gate is what a gate needs, opened once.
type gate struct {
	client   *registry.Client
	verifier *sign.Verifier
	policy   *policy.Policy
	trust    release.Trust
}

func openGate(ctx context.Context, dir string) (*gate, error) {
	public, err := os.ReadFile(filepath.Join(dir, keyFile+".pub"))
	if err != nil {
		return nil, err
	}
	g := &gate{trust: sign.TrustOf(public, "ci")}
	if g.client, err = registry.New(registry.Options{}); err != nil {
		return nil, err
	}
	if g.verifier, err = sign.NewVerifier(g.trust); err != nil {
		return nil, err
	}
	g.policy, err = policy.Load(ctx, policy.Options{})
	return g, err
}

// judge fetches, verifies and judges what there is about an image.
func (g *gate) judge(ctx context.Context, image string) error {
	subject, err := release.ParseSubject(image)
	if err != nil {
		return err
	}
	var attachments []release.Attachment
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := g.client.Resolve(gctx, image)
		return err
	})
	group.Go(func() (err error) {
		attachments, err = g.client.Attachments(gctx, subject)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	found := g.verifier.Verify(ctx, subject, attachments)
	counting := 0
	for _, e := range found {
		if e.Counts(e.PredicateType) {
			counting++
		}
	}
	if counting != 6 {
		return fmt.Errorf("%d attestations count, want 6", counting)
	}
	r := release.Release{Name: "app", Version: "v1", Services: map[string]release.Service{"app": {Path: "app", Digest: subject.Digest, Origin: release.Built}}}
	_, err = g.policy.Judge(ctx, release.GatherFacts(release.Known{Environment: release.Environment{Name: "staging"}, Digest: subject.Digest, Release: r, Trust: g.trust, Evidence: found, Now: time.Now()}))
	return err
}

// gates keeps what is warm, by directory.
type gates map[string]*gate

func (w gates) do(ctx context.Context, o bench.Order) error {
	g := w[o.Target]
	if g == nil || o.Library != "warm" {
		var err error
		if g, err = openGate(ctx, o.Target); err != nil {
			return err
		}
		w[o.Target] = g
	}
	if o.Library != "hundred" {
		return g.judge(ctx, o.Source)
	}
	var group sync.WaitGroup
	errs := make([]error, 100)
	for n := range errs {
		group.Go(func() { errs[n] = g.judge(ctx, o.Source) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// evidenceCases are B5 and B15.
func evidenceCases(p bench.Programs, v map[string]string, dir string, ours, theirs *bench.Worker) []bench.EvidenceCase {
	home := []string{"K=--key cosign.pub --new-bundle-format --trusted-root trusted_root.json --insecure-ignore-tlog=true --allow-http-registry", "D=" + dir}
	script := func(name, tuning, text string, all bool) *bench.Tool {
		return bench.Script(bench.Tool{Name: name, Tuning: tuning, Version: v["cosign"], Evidence: all}, filepath.Dir(p.Cosign), "cd $D; "+text, append(home, "REF=SRC"))
	}
	library := func(how, order string) *bench.Tool {
		t := ours.Library(bench.Tool{Name: "pkg/registry, pkg/sign, pkg/policy", Tuning: bench.Default, Ours: true, Evidence: true, Version: "this checkout", How: how}, bench.Order{Library: order})
		return t
	}
	cosign := theirs.Library(bench.Tool{Name: "cosign.VerifyImageAttestations", Tuning: bench.Default, Evidence: true, Version: v["cosign"], How: "VerifyImageAttestations with all six types, no policy"}, bench.Order{})
	command := func() *bench.Tool {
		t := bench.Command(bench.Tool{Name: "promote", Tuning: bench.Default, Ours: true, Evidence: true, Version: "this checkout"}, p.Promote,
			[]string{"-c", filepath.Join(dir, "promote.yaml"), "verify", "SRC"}, []string{"XDG_CACHE_HOME=" + filepath.Join(dir, "cache")})
		t.How = "promote verify REF"
		return t
	}
	const (
		twice  = "cosign verify $K $REF >/dev/null; cosign verify-attestation --type vuln $K $REF >att.json"
		policy = "; jq -r .payload att.json | base64 -d >scan.json; conftest test -p policy scan.json"
		rest   = "; for t in https://sigstore.dev/cosign/sign/v1 slsaprovenance1 cyclonedx https://in-toto.io/attestation/test-result/v0.1 https://slsa.dev/verification_summary/v1; do cosign verify-attestation --type $t $K $REF >/dev/null; done"
	)
	cold := []*bench.Tool{command(), library("new client, verifier and policy", "cold"), cosign}
	if p.Conftest != "" {
		cold = append(cold, script("cosign ×2, conftest", bench.Default, twice+policy, true), script("cosign ×6, conftest", bench.Default, twice+rest+policy, true))
	}
	cold = append(cold, script("cosign ×2", bench.Default, twice, false), script("cosign version ×2", bench.Default, "cosign version >/dev/null; cosign version >/dev/null", false))
	hundred := "seq 100 | xargs -P%d -I{} sh -c 'cosign verify $K $REF >/dev/null 2>&1'"
	return []bench.EvidenceCase{
		{ID: "B5", Work: "six attestations, cold", Target: bench.Target{Default: 5}, Tools: cold},
		{ID: "B5", Work: "six attestations, warm", Target: bench.Target{Default: 10}, Tools: []*bench.Tool{library("the same client, verifier and policy", "warm"), cosign}},
		{ID: "B15", Work: "100 gates at once on one digest", Delays: []int{20}, Most: 2, Tools: []*bench.Tool{
			library("100 goroutines, a new client", "hundred"),
			script("100 × cosign verify", bench.Default, fmt.Sprintf(hundred, 1), false),
			script("100 × cosign verify, xargs -P2", bench.Tuned, fmt.Sprintf(hundred, 2), false),
		}},
	}
}

// verifying measures B5 and B15.
func verifying(ctx context.Context, s settings, p bench.Programs, w *bench.World, dir, self string) (results []bench.Result, err error) {
	w.Source.Begin(0, nil)
	project := filepath.Join(dir, "project")
	image, err := attested(ctx, w, project)
	if err != nil {
		return nil, fmt.Errorf("preparing evidence: %w", err)
	}
	versions, err := p.Versions()
	if err != nil {
		return nil, err
	}
	ours, err := bench.StartWorker(self, "gate")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	theirs, err := bench.StartWorker(p.CosignLibrary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, theirs.Close()) }()
	suite := &bench.EvidenceSuite{Registry: w.Source, Image: image, Dir: project, Options: s.Options, Cases: evidenceCases(p, versions, project, ours, theirs)}
	return suite.Run(ctx)
}
