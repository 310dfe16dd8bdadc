package build

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"

	"github.com/promote-dev/promote/pkg/release"
)

// testdata/provenance.json is what a BuildKit 0.32 daemon recorded about a
// build with one pinned and one unpinned base and a secret build argument.
func recorded(t *testing.T) raw {
	t.Helper()
	body, err := os.ReadFile("testdata/provenance.json")
	if err != nil {
		t.Fatal(err)
	}
	return raw{predicateType: release.PredicateProvenance, body: body}
}

func testJob(platforms ...string) *job {
	return &job{service: "planner", redact: newRedactor(map[string]string{"API_TOKEN": "hunter2hunter2", "MODE": "fast"}),
		o: Options{Platforms: platforms, Builder: DefaultBuilder, Source: "https://example.com/acme/agent.git",
			Revision: "0123456789abcdef0123456789abcdef01234567"}}
}

// predicate is the part of SLSA v1 that verifiers read.
type predicate struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []struct {
			Name        string            `json:"name"`
			URI         string            `json:"uri"`
			Digest      map[string]string `json:"digest"`
			Annotations map[string]any    `json:"annotations"`
		} `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
		Metadata map[string]any `json:"metadata"`
	} `json:"runDetails"`
}

func completed(t *testing.T, j *job, p map[string]raw) (predicate, string) {
	t.Helper()
	out, err := j.complete(p, Daemon{Version: "v0.32.2"})
	if err != nil {
		t.Fatal(err)
	}
	var got predicate
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return got, string(out)
}

func checkDependencies(t *testing.T, got predicate) {
	t.Helper()
	deps := got.BuildDefinition.ResolvedDependencies
	if len(deps) != 3 {
		t.Fatalf("got %+v", deps)
	}
	if deps[0].URI != "git+https://example.com/acme/agent.git" || deps[0].Digest["gitCommit"] != "0123456789abcdef0123456789abcdef01234567" {
		t.Errorf("source: %+v", deps[0])
	}
	const python, redis = "17a33a266ef4e5b0b337ff2a0b438612369ad446da4d3b5861a83438441a3a67", "8e5636740a29dd6bca6ba9a35a413676cada6f41185a853022da7e5ad37f327e"
	if deps[1].Digest["sha256"] != python || deps[1].Annotations["pinned"] != true {
		t.Errorf("pinned base: %+v", deps[1])
	}
	if deps[2].Digest["sha256"] != redis || deps[2].Annotations["pinned"] != false {
		t.Errorf("unpinned base: %+v", deps[2])
	}
}

func TestProvenance(t *testing.T) {
	got, text := completed(t, testJob("linux/amd64"), map[string]raw{"linux/amd64": recorded(t)})
	checkDependencies(t, got)
	if got.RunDetails.Builder.ID != DefaultBuilder || got.RunDetails.Builder.Version["buildkit"] != "v0.32.2" {
		t.Errorf("builder: %+v", got.RunDetails.Builder)
	}
	for _, key := range []string{"invocationId", "startedOn", "finishedOn"} {
		if s, _ := got.RunDetails.Metadata[key].(string); s == "" {
			t.Errorf("metadata without %s: %v", key, got.RunDetails.Metadata)
		}
	}
	if got.BuildDefinition.InternalParameters["buildConfig"] == nil {
		t.Error("the build steps are missing: not mode=max")
	}
	if got.BuildDefinition.ExternalParameters["source"] == nil {
		t.Error("the source is missing from the parameters")
	}
	if strings.Contains(text, "sysUsage") {
		t.Error("samples of the machine's load are left")
	}
	again, err := release.CanonicalJSON([]byte(text))
	if err != nil || string(again) != text {
		t.Errorf("not canonical: %v", err)
	}
}

func TestProvenanceIsTidied(t *testing.T) {
	var p map[string]any
	if err := json.Unmarshal(recorded(t).body, &p); err != nil {
		t.Fatal(err)
	}
	definition := object(p, "buildDefinition")
	steps := object(object(definition, "internalParameters"), "buildConfig")["llbDefinition"].([]any)
	steps[0].(map[string]any)["resourceUsage"] = map[string]any{"samples": []any{1}}
	deps := definition["resolvedDependencies"].([]any)
	moved := map[string]any{"uri": "pkg:docker/moved@1?digest=sha256:" + strings.Repeat("b", 64), "digest": map[string]any{"sha256": strings.Repeat("c", 64)}}
	definition["resolvedDependencies"] = append(deps, deps[0], moved)
	changed, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	got, text := completed(t, testJob("linux/amd64"), map[string]raw{"linux/amd64": {release.PredicateProvenance, changed}})
	list := got.BuildDefinition.ResolvedDependencies
	if len(list) != 4 {
		t.Fatalf("want each dependency once: %+v", list)
	}
	if last := list[3]; last.Annotations["pinned"] != false {
		t.Errorf("a digest that is not the pinned one counts as pinned: %+v", last)
	}
	if strings.Contains(text, "resourceUsage") {
		t.Error("samples of the machine's load are left")
	}
}

func TestProvenanceHidesSecrets(t *testing.T) {
	const leak = "ghp_012345678901234567890123456789012345"
	source := base64.StdEncoding.EncodeToString([]byte("FROM x\nENV T=" + leak + "\nENV U=hunter2hunter2\n"))
	body := string(recorded(t).body)
	if !strings.Contains(body, "hunter2hunter2") {
		t.Fatal("the recording holds no secret")
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	infos := object(object(object(object(p, "runDetails"), "metadata"), "buildkit_metadata"), "source")["infos"].([]any)
	infos[0].(map[string]any)["data"] = source
	object(object(p, "buildDefinition"), "externalParameters")["registry"] = "https://user:pa55@registry.example/x"
	changed, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	_, text := completed(t, testJob("linux/amd64"), map[string]raw{"linux/amd64": {release.PredicateProvenance, changed}})
	clean := base64.StdEncoding.EncodeToString([]byte("FROM x\nENV T=[redacted]\nENV U=[redacted]\n"))
	if !strings.Contains(text, clean) {
		t.Error("the Dockerfile in the predicate is not redacted")
	}
	for _, secret := range []string{"hunter2", leak, source, "pa55"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is left", secret)
		}
	}
	if !strings.Contains(text, `"build-arg:API_TOKEN":"[redacted]"`) {
		t.Error("that the argument was given is lost")
	}
}

func TestProvenanceOfOlderDaemons(t *testing.T) {
	var one provenancetypes.ProvenancePredicateSLSA1
	if err := json.Unmarshal(recorded(t).body, &one); err != nil {
		t.Fatal(err)
	}
	old, err := json.Marshal(one.ConvertToSLSA02())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := completed(t, testJob("linux/amd64"), map[string]raw{"linux/amd64": {provenance02, old}})
	checkDependencies(t, got)
	if got.BuildDefinition.BuildType == "" || got.BuildDefinition.InternalParameters["buildConfig"] == nil {
		t.Errorf("got %+v", got.BuildDefinition)
	}
}

func TestProvenanceOfSeveralPlatforms(t *testing.T) {
	amd := recorded(t)
	arm := raw{amd.predicateType, []byte(strings.NewReplacer(
		"platform=linux%2Famd64", "platform=linux%2Farm64",
		"17a33a266ef4e5b0b337ff2a0b438612369ad446da4d3b5861a83438441a3a67", strings.Repeat("a", 64)).Replace(string(amd.body)))}
	got, _ := completed(t, testJob("linux/arm64", "linux/amd64"), map[string]raw{"linux/amd64": amd, "linux/arm64": arm})
	seen := map[string]bool{}
	for _, d := range got.BuildDefinition.ResolvedDependencies {
		seen[d.URI+d.Digest["sha256"]] = true
	}
	if len(seen) != 5 {
		t.Errorf("want the source and two bases for each platform: %v", seen)
	}
	if p, _ := got.BuildDefinition.InternalParameters["platforms"].(map[string]any); p["linux/arm64"] == nil {
		t.Errorf("the steps of arm64 are missing: %v", p)
	}
}

func TestProvenanceThatIsNone(t *testing.T) {
	for name, r := range map[string]raw{
		"other type":   {"https://spdx.dev/Document", []byte(`{}`)},
		"no JSON":      {release.PredicateProvenance, []byte(`{`)},
		"empty":        {release.PredicateProvenance, []byte(`{}`)},
		"no buildType": {release.PredicateProvenance, []byte(`{"buildDefinition":{"externalParameters":{"a":1}}}`)},
		"wrong shape":  {release.PredicateProvenance, []byte(`{"buildDefinition":[],"runDetails":7}`)},
		"old no JSON":  {provenance02, []byte(`[]`)},
	} {
		if out, err := testJob("linux/amd64").complete(map[string]raw{"linux/amd64": r}, Daemon{}); err == nil {
			t.Errorf("%s: got %s", name, out)
		}
	}
}
