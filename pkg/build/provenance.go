package build

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	provenancetypes "github.com/moby/buildkit/solver/llbsolver/provenance/types"

	"github.com/promote-dev/promote/pkg/release"
)

const provenance02 = "https://slsa.dev/provenance/v0.2"

// complete makes one SLSA v1 predicate of what the daemon recorded for each
// platform: https://slsa.dev/spec/v1.0/provenance. It adds who built (builder.id),
// the source revision, and for each image whether the Dockerfile had pinned
// it; it leaves out samples of the machine's load, and hides secrets.
func (j *job) complete(predicates map[string]raw, d Daemon) (json.RawMessage, error) {
	var merged map[string]any
	for _, platform := range j.sortedPlatforms() {
		p, err := slsa1(predicates[platform])
		if err != nil {
			return nil, err
		}
		if merged == nil {
			merged = p
			continue
		}
		mergePlatform(merged, p, platform)
	}
	if merged == nil {
		return nil, errors.New("no provenance")
	}
	definition, run := object(merged, "buildDefinition"), object(merged, "runDetails")
	j.dependencies(definition)
	if source := j.source(); source != nil {
		object(definition, "externalParameters")["source"] = source
	}
	builder := object(run, "builder")
	builder["id"] = j.o.Builder
	builder["version"] = map[string]any{"buildkit": d.Version}
	metadata := object(run, "metadata")
	kept := object(metadata, "buildkit_metadata")
	delete(kept, "sysUsage")
	dropUsage(definition)
	j.redactSources(object(kept, "source"))
	if err := checkPredicate(merged); err != nil {
		return nil, err
	}
	return release.Canonical(redactTree(j.redact, merged))
}

// slsa1 reads a predicate as SLSA v1. Daemons before 0.23 record v0.2.
func slsa1(r raw) (map[string]any, error) {
	body := r.body
	switch r.predicateType {
	case release.PredicateProvenance:
	case provenance02:
		var old provenancetypes.ProvenancePredicateSLSA02
		if err := json.Unmarshal(body, &old); err != nil {
			return nil, fmt.Errorf("provenance v0.2: %w", err)
		}
		converted, err := json.Marshal(old.ConvertToSLSA1())
		if err != nil {
			return nil, fmt.Errorf("provenance v0.2: %w", err)
		}
		body = converted
	default:
		return nil, fmt.Errorf("provenance of the unknown type %q", r.predicateType)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var p map[string]any
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return p, nil
}

// object gives a member as an object, making it one where it is not.
func object(parent map[string]any, key string) map[string]any {
	child, ok := parent[key].(map[string]any)
	if !ok {
		child = map[string]any{}
		parent[key] = child
	}
	return child
}

// mergePlatform adds a further platform's dependencies and build steps.
func mergePlatform(into, p map[string]any, platform string) {
	definition, other := object(into, "buildDefinition"), object(p, "buildDefinition")
	mine, _ := definition["resolvedDependencies"].([]any)
	theirs, _ := other["resolvedDependencies"].([]any)
	definition["resolvedDependencies"] = append(mine, theirs...)
	object(object(definition, "internalParameters"), "platforms")[platform] = object(other, "internalParameters")["buildConfig"]
}

// dependencies completes resolvedDependencies: the source first, each image
// once, in order.
func (j *job) dependencies(definition map[string]any) {
	given, _ := definition["resolvedDependencies"].([]any)
	seen := map[string]bool{}
	var list []any
	for _, item := range given {
		d, ok := item.(map[string]any)
		if !ok {
			continue
		}
		uri, _ := d["uri"].(string)
		if strings.HasPrefix(uri, "pkg:") {
			sha256, _ := object(d, "digest")["sha256"].(string)
			d["annotations"] = map[string]any{"pinned": pinnedURI(uri, sha256)}
		}
		if key, err := release.Canonical(d); err == nil && !seen[string(key)] {
			seen[string(key)] = true
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(a, b any) int {
		x, _ := a.(map[string]any)["uri"].(string)
		y, _ := b.(map[string]any)["uri"].(string)
		return cmp.Compare(x, y)
	})
	if source := j.source(); source != nil {
		list = append([]any{source}, list...)
	}
	definition["resolvedDependencies"] = list
}

// pinnedURI reports whether an image's package URL says that the reference in
// the Dockerfile held the digest: BuildKit adds the qualifier only then.
// https://github.com/package-url/purl-spec
func pinnedURI(uri, sha256 string) bool {
	_, query, _ := strings.Cut(uri, "?")
	values, err := url.ParseQuery(query)
	return err == nil && sha256 != "" && values.Get("digest") == "sha256:"+sha256
}

// source describes the commit as a resource descriptor.
func (j *job) source() map[string]any {
	if j.o.Revision == "" {
		return nil
	}
	d := map[string]any{"name": "source", "digest": map[string]any{"gitCommit": j.o.Revision}}
	if j.o.Source != "" {
		d["uri"] = "git+" + j.o.Source
	}
	return d
}

// dropUsage removes samples of the machine's load from the build steps.
func dropUsage(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "resourceUsage")
		for _, child := range v {
			dropUsage(child)
		}
	case []any:
		for _, child := range v {
			dropUsage(child)
		}
	}
}

// checkPredicate makes sure that what the specification requires is there.
func checkPredicate(p map[string]any) error {
	definition, run := object(p, "buildDefinition"), object(p, "runDetails")
	if s, _ := definition["buildType"].(string); s == "" {
		return errors.New("provenance without buildDefinition.buildType")
	}
	if len(object(definition, "externalParameters")) == 0 {
		return errors.New("provenance without buildDefinition.externalParameters")
	}
	if s, _ := object(run, "builder")["id"].(string); s == "" {
		return errors.New("provenance without runDetails.builder.id")
	}
	return nil
}

// redactSources hides secrets in the build's source files, which a predicate
// holds in base64.
func (j *job) redactSources(source map[string]any) {
	infos, _ := source["infos"].([]any)
	for _, item := range infos {
		info, _ := item.(map[string]any)
		data, _ := info["data"].(string)
		text, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			delete(info, "data")
		} else if data != "" {
			info["data"] = base64.StdEncoding.EncodeToString([]byte(j.redact.text(string(text))))
		}
	}
}

// redactTree hides secrets in every text of a JSON tree.
func redactTree(r redactor, v any) any {
	switch v := v.(type) {
	case string:
		return r.text(v)
	case []any:
		for i := range v {
			v[i] = redactTree(r, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = redactTree(r, v[k])
		}
	}
	return v
}
