package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/policies"
)

var gateNames = []string{
	"approvals", "freeze", "freshness", "models", "order", "pinned", "sbom", "secrets", "signature", "smoke", "soak", "user", "vulnerabilities", "window",
}

// goodText is the facts that pass every gate, as the Rego tests have them.
var goodText = sync.OnceValues(func() ([]byte, error) {
	text, err := policies.FS.ReadFile("facts_test.rego")
	if err != nil {
		return nil, err
	}
	module, err := ast.ParseModule("facts_test.rego", string(text))
	if err != nil {
		return nil, err
	}
	for _, r := range module.Rules {
		if ruleName(r) == "good" {
			v, err := ast.JSON(r.Head.Value.Value)
			if err != nil {
				return nil, err
			}
			return json.Marshal(v)
		}
	}
	return nil, errors.New("facts_test.rego has no good facts")
})

func good(t *testing.T) release.Facts {
	t.Helper()
	text, err := goodText()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var f release.Facts
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t *testing.T, dirs ...string) *Policy {
	t.Helper()
	p, err := Load(t.Context(), Options{Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func judge(t *testing.T, p *Policy, f release.Facts) map[string]release.Verdict {
	t.Helper()
	list, err := p.Judge(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]release.Verdict{}
	for _, v := range list {
		verdicts[v.Gate] = v
	}
	return verdicts
}

// The facts of the Rego tests are whole, and of the shape that gates get.
func TestTheTestsJudgeRealFacts(t *testing.T) {
	got, err := input(good(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := goodText()
	if err != nil {
		t.Fatal(err)
	}
	want, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.Compare(want) != 0 {
		t.Errorf("facts_test.rego differs from what gates get:\n%s\n%s", got, want)
	}
}

func TestGoodFactsPass(t *testing.T) {
	p := load(t)
	list, err := p.Judge(t.Context(), good(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list {
		names = append(names, v.Gate)
		if v.Result != release.Passed || v.Reasons == nil || len(v.Reasons) > 0 {
			t.Errorf("%s: %s, %v", v.Gate, v.Result, v.Reasons)
		}
	}
	if !slices.Equal(names, gateNames) {
		t.Errorf("gates %v, want %v", names, gateNames)
	}
	for i, g := range p.Gates() {
		if g.Name != gateNames[i] || g.Doc == "" || !g.Default {
			t.Errorf("gate %+v", g)
		}
	}
}
