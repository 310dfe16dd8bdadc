package yamlpos

import (
	"strings"
	"testing"
)

const edited = `# the project
name: a # its name

# who may
trust: # say what
  # builds
  builder: [{name: ci, key: keys/ci.pub}]
  promoter:
    - {name: ops, key: keys/ops.pub} # until spring
  owner: {threshold: 2, of: [{name: alice, key: keys/alice.pub}, {name: carol, key: keys/carol.pub}]}

# where
environments: {staging: {}}
`

func change(t *testing.T, src string, f func(*Section) error) string {
	t.Helper()
	s, err := OpenSection("f.yaml", []byte(src), "trust")
	if err != nil {
		t.Fatal(err)
	}
	if err := f(s); err != nil {
		t.Fatal(err)
	}
	out, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("f.yaml", out); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestASectionIsChangedAlone: what stands around it stays byte for byte, and
// its comments stay.
func TestASectionIsChangedAlone(t *testing.T) {
	got := change(t, edited, func(s *Section) error {
		s.Entries("promoter", "of")[0].Set("notAfter", "2026-12-31T00:00:00Z")
		if err := s.Append("promoter", "of", []Field{{"name", "ops"}, {"key", "keys/new.pub"}}); err != nil {
			return err
		}
		if err := s.Append("owner", "of", []Field{{"name", "dave"}, {"identity", "d: #"}, {"claims", []Field{{"ref", "x"}}}}); err != nil {
			return err
		}
		return s.Append("revoked", "", []Field{{"key", "sha256:00"}, {"reason", "true"}})
	})
	before, _, _ := strings.Cut(edited, "trust:")
	_, after, _ := strings.Cut(edited, "carol.pub}]}\n")
	if !strings.HasPrefix(got, before) || !strings.HasSuffix(got, after) {
		t.Errorf("what stands around changed:\n%s", got)
	}
	for _, want := range []string{
		"# say what", "# builds", "# until spring", "  builder: [{name: ci, key: keys/ci.pub}]\n",
		`{name: ops, key: keys/ops.pub, notAfter: "2026-12-31T00:00:00Z"}`, "    - {name: ops, key: keys/new.pub}\n",
		"threshold: 2", "- {name: carol, key: keys/carol.pub}", `- {name: dave, identity: 'd: #', claims: {ref: x}}`,
		`- {key: 'sha256:00', reason: "true"}`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestASectionIsMade(t *testing.T) {
	for _, src := range []string{"name: a\n", "name: a", "name: a\n# trust: nobody\n"} {
		got := change(t, src, func(s *Section) error { return s.Append("owner", "of", []Field{{"name", "alice"}}) })
		if want := strings.TrimSuffix(src, "\n") + "\ntrust:\n  owner:\n    - {name: alice}\n"; got != want {
			t.Errorf("%q became %q", src, got)
		}
	}
}

func TestASectionForAPerson(t *testing.T) {
	for _, src := range []string{
		"x: &k [{name: a}]\ntrust:\n  owner: *k\n", "trust: []\n", "{name: a, trust: {}}\n", "trust:\n  - a\n", "a: [\n",
	} {
		s, err := OpenSection("f.yaml", []byte(src), "trust")
		if err == nil {
			err = s.Append("owner", "of", []Field{{"name", "alice"}})
		}
		if err == nil {
			out, textErr := s.Text()
			if textErr == nil {
				_, err = Parse("f.yaml", out)
			}
		}
		if err == nil {
			t.Errorf("%q was changed", src)
		}
	}
}
