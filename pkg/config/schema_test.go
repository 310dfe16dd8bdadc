package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	generate "github.com/invopop/jsonschema"
	validate "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/promote-dev/promote/internal/yamlpos"
)

var update = flag.Bool("update", false, "rewrite docs/schema/promote.schema.json")

const schemaFile = "../../docs/schema/promote.schema.json"

// schema gives the JSON Schema of promote.yaml, made from the types and their
// comments. It lives in a test, so that nobody links its libraries at run time.
func schema(t *testing.T) []byte {
	t.Helper()
	r := &generate.Reflector{
		FieldNameTag: "yaml", DoNotReference: true, RequiredFromJSONSchemaTags: true, Anonymous: true,
	}
	if err := r.AddGoComments("github.com/promote-dev/promote/pkg/config", "."); err != nil {
		t.Fatal(err)
	}
	for key, text := range r.CommentMap {
		r.CommentMap[key] = strings.ReplaceAll(text, "\n", " ")
	}
	scalar := func(pattern string) *generate.Schema { return &generate.Schema{Type: "string", Pattern: pattern} }
	var mapper func(reflect.Type) *generate.Schema
	inner := func(v any, but reflect.Type) *generate.Schema {
		plain := *r
		plain.Mapper = func(t reflect.Type) *generate.Schema {
			if t == but {
				return nil
			}
			return mapper(t)
		}
		s := plain.Reflect(v)
		s.Version = ""
		return s
	}
	mapper = func(t reflect.Type) *generate.Schema {
		switch t {
		case reflect.TypeFor[time.Duration]():
			return scalar(`^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`)
		case reflect.TypeFor[Day](), reflect.TypeFor[LastDay]():
			return scalar(`^[0-9]{4}-[0-9]{2}-[0-9]{2}`)
		case reflect.TypeFor[Scalar]():
			return &generate.Schema{OneOf: []*generate.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
		case reflect.TypeFor[Rate]():
			return scalar(`^[0-9]+(\.[0-9]+)?/[smh]$`)
		case reflect.TypeFor[Holders]():
			list := &generate.Schema{Type: "array", Items: inner(Party{}, nil)}
			return &generate.Schema{OneOf: []*generate.Schema{list, inner(Holders{}, t)}}
		case reflect.TypeFor[FileLedger]():
			return &generate.Schema{OneOf: []*generate.Schema{{Type: "string"}, inner(FileLedger{}, t)}}
		}
		return nil
	}
	r.Mapper = mapper
	s := r.Reflect(&File{})
	s.Title = "promote.yaml"
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for escaped, plain := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		raw = bytes.ReplaceAll(raw, []byte(escaped), []byte(plain))
	}
	return append(raw, '\n')
}

func TestTheSchemaIsUpToDate(t *testing.T) {
	want := schema(t)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the types say (%v): go test ./pkg/config -run Schema -update", schemaFile, err)
	}
}

func compiled(t *testing.T) *validate.Schema {
	t.Helper()
	doc, err := validate.UnmarshalJSON(bytes.NewReader(schema(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := validate.NewCompiler()
	if err := c.AddResource("promote.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("promote.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemaAndLoaderAgree on the example of the documentation, on the demo's
// file, and on what is wrong in form.
func TestSchemaAndLoaderAgree(t *testing.T) {
	s := compiled(t)
	judge := func(text string) error {
		n, err := yamlpos.Parse("promote.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(n.Any())
		if err != nil {
			t.Fatal(err)
		}
		value, err := validate.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(value)
	}
	example := readExample(t)
	demo, err := os.ReadFile("../../examples/agent/promote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := []string{
		example, string(demo), "name: a\nregistry: ghcr.io/a\n",
		"name: a\nregistry: ghcr.io/a\nledger: {file: {path: x, shared: true}}\n",
		"name: a\nregistry: ghcr.io/a\nregistries: {'localhost:5000': {plainHTTP: false, ca: x.pem, mirrors: [a.dev/b]}, docker.io: {}}\n",
		"name: a\nregistry: ghcr.io/a\nsmoke: {checks: [{name: a, service: b, http: {json: {a: 3, b: true, c: x, 'd[0]': ''}, within: 500ms}}, {name: c, service: b, logNot: x}]}\n",
		"name: a\nregistry: ghcr.io/a\nsmoke: {egress: deny, state: off, parity: {accept: [{environment: a, field: model, statement: c}]}, stop: {http: {service: a, path: /x}}}\n",
		"name: a\nregistry: ghcr.io/a\nscan: {waive: [{distribution: debian 12, statement: why, expires: 2030-01-31}]}\n",
	}
	for _, text := range good {
		if err := judge(text); err != nil {
			t.Errorf("the schema refuses\n%s\n%v", text, err)
		}
	}
	const head = "name: a\nregistry: ghcr.io/a\n"
	for _, text := range []string{
		"name: a\n", "registry: ghcr.io/a\n", "name: A\nregistry: x\n", head + "nmae: x\n",
		head + "scan: {failOn: terrible}\n", head + "scan: {maxAge: 24}\n", head + "scan: {maxAge: one day}\n",
		head + "compose: {files: compose.yaml}\n", head + "trust: {builder: {name: x}}\n", head + "trust: {bilder: []}\n",
		head + "trust: {builder: [{key: x}]}\n", head + "smoke: {memory: {maxPercentOfLimit: 101}}\n",
		head + "smoke: {checks: [{name: a, service: b, http: {path: health}}]}\n",
		head + "smoke: {memory: {load: {http: {service: a, rate: 20}}}}\n",
		head + "smoke: {egress: maybe}\n", head + "smoke: {state: keep}\n", head + "smoke: {stop: {requests: 4}}\n", head + "smoke: {parity: {accept: [{environment: a, field: b}]}}\n",
		head + "smoke: {checks: [{name: a, service: b, http: {json: {a: [1]}}}]}\n", head + "smoke: {stop: {http: {service: a}, requests: 65}}\n",
		head + "environments: {a: {targets: [{host: x}]}}\n", head + "environments: {a: {approvals: {notBy: [me]}}}\n",
		head + "environments: {a: {strategy: {onFailure: pray}}}\n", head + "notify: [{webhook: https://hooks.example.com/secret}]\n",
		head + "notify: [{webhook: env://X, on: [paniced]}]\n", head + "notify: [{webhook: env://X, on: []}]\n",
		head + "notify: [{webhook: env://X, secret: s3cret}]\n", head + "notify: [{webhook: env://X, format: xml}]\n",
		head + "registries: [a.dev]\n", head + "registries: {a.dev: {plainHTTP: 1}}\n", head + "registries: {a.dev: {password: x}}\n",
		head + "registries: {a.dev: {mirrors: b.dev}}\n",
	} {
		if judge(text) == nil {
			t.Errorf("the schema accepts\n%s", text)
		}
		if _, err := load(t, text); err == nil {
			t.Errorf("the loader accepts\n%s", text)
		}
	}
}

// TestEveryKeyIsDescribed: the schema is the reference that editors show.
func TestEveryKeyIsDescribed(t *testing.T) {
	var root any
	if err := json.Unmarshal(schema(t), &root); err != nil {
		t.Fatal(err)
	}
	var bare []string
	var walk func(v any, path string)
	walk = func(v any, path string) {
		node, ok := v.(map[string]any)
		if !ok {
			return
		}
		if properties, ok := node["properties"].(map[string]any); ok {
			for name, p := range properties {
				if text, _ := p.(map[string]any)["description"].(string); text == "" {
					bare = append(bare, path+"."+name)
				}
			}
		}
		for key, child := range node {
			if list, ok := child.([]any); ok {
				for _, item := range list {
					walk(item, path+"."+key)
				}
			}
			walk(child, path+"."+key)
		}
	}
	walk(root, "")
	if slices.Sort(bare); len(bare) > 0 {
		t.Errorf("keys without a comment: %s", strings.Join(bare, "\n"))
	}
}
