package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// testResult follows in-toto's test-result predicate; services, checks and
// times are our extension, which other readers ignore.
// https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
type testResult struct {
	Result        string         `json:"result"` // PASSED, WARNED or FAILED
	Configuration []resource     `json:"configuration"`
	Passed        []string       `json:"passedTests"`
	Warned        []string       `json:"warnedTests"`
	Failed        []string       `json:"failedTests"`
	Services      []SmokeService `json:"services"`
	Checks        []SmokeCheck   `json:"checks"`
	StartedOn     time.Time      `json:"startedOn"`
	FinishedOn    time.Time      `json:"finishedOn"`
}

// The results of the test-result predicate, by ours.
var testResults = map[Result]string{Passed: "PASSED", Warned: "WARNED", Failed: "FAILED", Unknown: "FAILED"}

// SmokePredicate encodes a prod-like run as in-toto's test-result predicate.
// configuration names what was run by digest: the smoke model.
func SmokePredicate(s Smoke, configuration map[string]Digest) (json.RawMessage, error) {
	p := testResult{
		Result: testResults[s.Result], Configuration: []resource{},
		Passed: []string{}, Warned: []string{}, Failed: []string{},
		Services: withoutLogs(s.Services), Checks: s.Checks,
		StartedOn: s.Started.UTC(), FinishedOn: s.Finished.UTC(),
	}
	for _, name := range sortedKeys(asAny(configuration)) {
		p.Configuration = append(p.Configuration, resource{Name: name, Digest: map[string]string{"sha256": configuration[name].Hex()}})
	}
	for _, c := range s.Checks {
		switch c.Result {
		case Passed:
			p.Passed = append(p.Passed, c.Name)
		case Warned:
			p.Warned = append(p.Warned, c.Name)
		default:
			p.Failed = append(p.Failed, c.Name)
		}
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding the smoke predicate: %w", err)
	}
	return raw, nil
}

// withoutLogs leaves out what services wrote: it may be secret, and predicates
// are for everybody.
func withoutLogs(services []SmokeService) []SmokeService {
	out := slices.Clone(services)
	for i := range out {
		out[i].Log = nil
	}
	return out
}

func asAny(m map[string]Digest) map[string]any {
	out := make(map[string]any, len(m))
	for k := range m {
		out[k] = nil
	}
	return out
}

// read fills the facts from a test-result predicate. What the predicate says
// twice must agree: a run that calls itself passed and lists a failed test, an
// unhealthy service or one killed for its memory is a failed run.
func (f *SmokeFacts) read(raw json.RawMessage) error {
	var p testResult
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("the smoke result cannot be read: %w", err)
	}
	if len(p.Services) == 0 {
		return errors.New("the smoke result names no services")
	}
	if p.FinishedOn.IsZero() {
		return errors.New("the smoke result does not say when it was made")
	}
	result := Failed
	for ours, theirs := range testResults {
		if theirs == p.Result && ours != Unknown {
			result = ours
		}
	}
	for _, c := range p.Checks {
		switch c.Result {
		case Passed:
		case Warned:
			f.WarnedChecks = append(f.WarnedChecks, c)
		default:
			f.FailedChecks = append(f.FailedChecks, c)
		}
	}
	for _, name := range p.Failed {
		if !named(f.FailedChecks, name) {
			f.FailedChecks = append(f.FailedChecks, SmokeCheck{Name: name, Result: Failed})
		}
	}
	if len(f.FailedChecks) > 0 {
		result = Failed
	}
	f.Services, f.FinishedAt, f.Result = p.Services, p.FinishedOn.UTC(), result.String()
	return nil
}

func named(checks []SmokeCheck, name string) bool {
	for _, c := range checks {
		if c.Name == name {
			return true
		}
	}
	return false
}

// parseImageURL takes a "pkg:docker/…" package URL apart: the image's name as
// people write it, and whether the URL's qualifiers hold a digest.
func parseImageURL(purl string) (name string, pinned bool, err error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(purl, imageScheme), "?")
	path, version, tagged := strings.Cut(path, "@")
	if name, err = url.PathUnescape(path); err != nil {
		return "", false, fmt.Errorf("reading base %s: %w", clip(purl), err)
	}
	if version, err = url.PathUnescape(version); err != nil {
		return "", false, fmt.Errorf("reading base %s: %w", clip(purl), err)
	}
	qualifiers, err := url.ParseQuery(query)
	if err != nil {
		return "", false, fmt.Errorf("reading base %s: %w", clip(purl), err)
	}
	for _, candidate := range []string{qualifiers.Get("digest"), version} {
		if _, err := ParseDigest(candidate); err == nil {
			pinned = true
		}
	}
	if tagged && !strings.HasPrefix(version, digestPrefix) {
		name += ":" + version
	}
	return name, pinned, nil
}
