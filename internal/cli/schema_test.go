package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	generate "github.com/invopop/jsonschema"
	"github.com/urfave/cli/v2"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

var update = flag.Bool("update", false, "rewrite docs/schema/results")

const resultSchemas = "../../docs/schema/results"

// results are what commands give with -o json, by schema.
var results = map[string]any{
	"approve":        pipeline.ApproveResult{},
	"attest":         pipeline.AttestResult{},
	"audit-verify":   release.LedgerAudit{},
	"build":          pipeline.BuildResult{},
	"clean":          CleanResult{},
	"copy":           CopyResult{},
	"db-build":       databaseResult{},
	"doctor":         doctorResult{},
	"drift":          pipeline.DriftResult{},
	"error":          errorResult{},
	"freeze":         pipeline.FreezeResult{},
	"keys":           KeyResult{},
	"ledger-compact": pipeline.CompactResult{},
	"ledger-export":  ExportResult{},
	"ledger-import":  ImportResult{},
	"log":            logResult{},
	"pin":            PinResult{},
	"plan":           pipeline.PlanResult{},
	"release":        pipeline.ReleaseResult{},
	"scan":           release.Scan{},
	"sign":           pipeline.SignResult{},
	"smoke":          release.Smoke{},
	"status":         pipeline.Status{},
	"to":             pipeline.Promotion{},
	"trust-accept":   acceptResult{},
	"trust-edit":     editResult{},
	"trust-list":     trustResult{},
	"unfreeze":       pipeline.UnfreezeResult{},
	"verify":         pipeline.Verification{},
	"verify-bundle":  BundleResult{},
	"version":        VersionResult{},
	"watch":          pipeline.WatchResult{},
}

// schemas of commands that share one.
var sharedSchemas = map[string]string{
	"rollback": "to", "resume": "to", "keys-generate": "keys", "keys-public": "keys",
	"trust-add": "trust-edit", "trust-rotate": "trust-edit", "trust-revoke": "trust-edit",
}

// noResult are commands that tell a story and give no result.
var noResult = []string{"demo"}

// resultSchema makes the schema of a result from its type and comments. Strict
// ones allow no property that the type does not have; what is published lets
// programs that were made for it read what a later promote adds.
func resultSchema(t *testing.T, name string, strict bool) []byte {
	t.Helper()
	named := map[string]reflect.Type{}
	r := &generate.Reflector{
		Anonymous: true, ExpandedStruct: true, AllowAdditionalProperties: !strict, Mapper: plainType(t),
		Namer: func(of reflect.Type) string {
			if of.Name() == "" {
				return ""
			}
			word := of.PkgPath()[strings.LastIndex(of.PkgPath(), "/")+1:] + "." + of.Name()
			named[word] = of
			return word
		},
	}
	var err error
	if r.CommentMap, err = comments(); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(results[name])
	s.Title = "promote " + strings.ReplaceAll(name, "-", " ") + ", as JSON"
	nullable(s, reflect.TypeOf(results[name]))
	for word, d := range s.Definitions {
		nullable(d, named[word])
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for escaped, plain := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		raw = bytes.ReplaceAll(raw, []byte(escaped), []byte(plain))
	}
	return append(raw, '\n')
}

// comments are those of the results' types, by their names.
var comments = sync.OnceValues(func() (map[string]string, error) {
	var r generate.Reflector
	for _, dir := range []string{".", "../../pkg/pipeline", "../../pkg/release"} {
		if err := r.AddGoComments("github.com/promote-dev/promote/internal/cli", dir); err != nil {
			return nil, err
		}
	}
	for key, text := range r.CommentMap {
		r.CommentMap[key] = strings.ReplaceAll(text, "\n", " ")
	}
	return r.CommentMap, nil
})

// plainType gives the schemas of types that are written as text, and refuses
// durations: they are written in seconds, as numbers.
func plainType(t *testing.T) func(reflect.Type) *generate.Schema {
	return func(of reflect.Type) *generate.Schema {
		switch of {
		case reflect.TypeFor[release.Digest]():
			return &generate.Schema{Type: "string", Pattern: "^(sha256:[0-9a-f]{64})?$", Description: "Empty where there is none."}
		case reflect.TypeFor[release.Result]():
			return &generate.Schema{Type: "string", Enum: []any{"passed", "warned", "unknown", "failed"}}
		case reflect.TypeFor[time.Duration]():
			t.Error("a result holds a time.Duration: give seconds")
		}
		return nil
	}
}

// nullable lets the pointers of a struct be null where they are always written.
func nullable(s *generate.Schema, of reflect.Type) {
	if of.Kind() != reflect.Struct || s.Properties == nil {
		return
	}
	for _, f := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if p, ok := s.Properties.Get(name); ok && f.Type.Kind() == reflect.Pointer && !strings.Contains(options, "omit") {
			text := p.Description
			p.Description = ""
			s.Properties.Set(name, &generate.Schema{AnyOf: []*generate.Schema{p, {Type: "null"}}, Description: text})
		}
	}
}

func TestTheResultSchemasAreUpToDate(t *testing.T) {
	var want []string
	for name := range results {
		file := filepath.Join(resultSchemas, name+".schema.json")
		want = append(want, file)
		text := resultSchema(t, name, false)
		if *update {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what the types say (%v): go test ./internal/cli -run Schema -update", file, err)
		}
	}
	got, err := filepath.Glob(filepath.Join(resultSchemas, "*"))
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q: %v", resultSchemas, got, want, err)
	}
}

func TestEveryCommandHasASchema(t *testing.T) {
	var walk func(prefix string, list []*cli.Command)
	walk = func(prefix string, list []*cli.Command) {
		for _, c := range list {
			name := prefix + c.Name
			switch {
			case c.Hidden || slices.Contains(noResult, name):
			case len(c.Subcommands) > 0:
				walk(name+"-", c.Subcommands)
			case results[name] == nil && results[sharedSchemas[name]] == nil:
				t.Errorf("promote %s has no schema of its result", strings.ReplaceAll(name, "-", " "))
			}
		}
	}
	walk("", (&run{}).app().Commands)
}

// TestPromisedFields holds the schemas to the fields that others rely on: a dot
// goes into an object, [] into a list's elements.
func TestPromisedFields(t *testing.T) {
	for name, fields := range map[string]string{
		"build":   "images[].service images[].repository images[].digest images[].platforms images[].cached",
		"release": "release version revision services[].service services[].repository services[].digest services[].origin dimensions record.sequence record.digest",
		"scan":    "subject.repository subject.digest database.version database.updatedAt database.digest database.covers summary findings[].id findings[].severity findings[].package findings[].version findings[].fixedIn findings[].path findings[].layer findings[].class findings[].suppressedBy result",
		"verify":  "subject attestations[].signer attestations[].issuer attestations[].role attestations[].predicateType attestations[].verified attestations[].reason result",
		"smoke": "release services[].name services[].healthy services[].oomKilled services[].restarts services[].memory.limit services[].memory.peak services[].memory.slopePerSecond services[].memory.samples " +
			"checks[].name checks[].result checks[].detail result",
		"plan": "environment release decision steps[].target steps[].service steps[].action steps[].from steps[].to steps[].cause changes",
		"to": "environment release version images[].service images[].repository images[].digest decision.result decision.trust decision.policy decision.configuration decision.verdicts[].gate decision.verdicts[].result " +
			"decision.verdicts[].reasons[].rule decision.verdicts[].reasons[].message decision.verdicts[].reasons[].file decision.verdicts[].reasons[].line decision.verdicts[].reasons[].fix " +
			"targets[].name targets[].status targets[].running[].service targets[].running[].digest record.sequence record.digest",
		"status": "environments[].name environments[].release environments[].version environments[].since environments[].targets environments[].open environments[].exceptions",
		"drift":  "targets[].name targets[].differences[].service targets[].differences[].field targets[].differences[].recorded targets[].differences[].running",
		"log":    "records[].record records[].digest records[].signer",
		"error":  "error.code error.kind error.message error.hint error.file error.line",
	} {
		var root map[string]any
		if err := json.Unmarshal(resultSchema(t, name, false), &root); err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(fields) {
			if !property(root, root, field) {
				t.Errorf("the schema of %s has no %s", name, field)
			}
		}
	}
}

// property reports whether a schema has a field.
func property(root, s map[string]any, field string) bool {
	if at, ok := s["$ref"].(string); ok {
		definitions, _ := root["$defs"].(map[string]any)
		s, _ = definitions[strings.TrimPrefix(at, "#/$defs/")].(map[string]any)
	}
	if list, ok := s["anyOf"].([]any); ok {
		first, _ := list[0].(map[string]any)
		return property(root, first, field)
	}
	if field == "" {
		return s != nil
	}
	if rest, ok := strings.CutPrefix(field, "[]"); ok {
		items, _ := s["items"].(map[string]any)
		return items != nil && property(root, items, strings.TrimPrefix(rest, "."))
	}
	end := strings.IndexAny(field, ".[")
	if end < 0 {
		end = len(field)
	}
	properties, _ := s["properties"].(map[string]any)
	inner, ok := properties[field[:end]].(map[string]any)
	return ok && property(root, inner, strings.TrimPrefix(field[end:], "."))
}
