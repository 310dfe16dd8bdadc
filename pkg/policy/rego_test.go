package policy

import (
	"strings"
	"testing"
)

// The gates' own tests, in policies/*_test.rego.
func TestDefaultGates(t *testing.T) {
	outcomes, err := Test(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, o := range outcomes {
		tested[o.Package] = true
		if !o.Passed {
			t.Errorf("%s:%d: %s.%s: %s", o.File, o.Line, o.Package, o.Name, o.Message)
		}
	}
	for _, name := range gateNames {
		if !tested["data.promote.gates."+name+"_test"] {
			t.Errorf("gate %s has no tests", name)
		}
	}
}

func TestATestThatFailsSaysWhere(t *testing.T) {
	dir := write(t, map[string]string{
		"ports.rego":      `package promote.ports` + "\n" + `deny contains {"rule": "ports/x", "message": "no"} if input.trust == "x"`,
		"ports_test.rego": "package promote.ports_test\nimport data.promote.ports\ntest_fails if {\n  count(ports.deny) == 1\n}\ntodo_test_later if true\ntest_holds if count(ports.deny) == 1 with input as {\"trust\": \"x\"}\n",
	})
	outcomes, err := Test(t.Context(), Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Outcome{}
	for _, o := range outcomes {
		if o.Package == "data.promote.ports_test" {
			got[o.Name] = o
		}
	}
	if o := got["test_fails"]; o.Passed || o.Line != 4 || !strings.HasSuffix(o.File, "ports_test.rego") || o.Message == "" {
		t.Errorf("a failing test: %+v", o)
	}
	if o := got["todo_test_later"]; o.Passed {
		t.Errorf("a skipped test passes: %+v", o)
	}
	if o := got["test_holds"]; !o.Passed {
		t.Errorf("a test that holds: %+v", o)
	}
}

func TestTestsAreCompiledStrictlyToo(t *testing.T) {
	dir := write(t, map[string]string{
		"ports.rego":      "package promote.ports\ndeny contains {\"rule\": \"ports/x\", \"message\": \"no\"} if input.trust == \"x\"",
		"ports_test.rego": "package promote.ports_test\ntest_net if http.send({}) == 1\n",
	})
	if _, err := Test(t.Context(), Options{Dirs: []string{dir}}); err == nil || !strings.Contains(err.Error(), "http.send") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.Context(), Options{Dirs: []string{dir}}); err != nil {
		t.Errorf("a broken test stops a promotion: %v", err)
	}
}
