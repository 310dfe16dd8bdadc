package registrytest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// Case is a case of the threat table, or a row of its table of actors.
type Case struct {
	Number  int // 0: a row of the table of actors
	Attack  string
	Outcome string // what must happen, with the exit code
	// runs are scenarios beside the cells of the matrix that carry the number.
	runs map[string]func(t *testing.T, b Backend)
}

// Name is the name of the case's test.
func (c Case) Name() string {
	if c.Number == 0 {
		return "row: " + c.Attack
	}
	return fmt.Sprintf("case %02d: %s", c.Number, c.Attack)
}

// Scenarios are the names of the tests below the case's that are no cells.
func (c Case) Scenarios() []string { return slices.Sorted(maps.Keys(c.runs)) }

// Cells is how many cells of the matrix the case has for a kind of registry.
func (c Case) Cells(b Backend) int {
	n := 0
	for _, cell := range cells(b) {
		if c.has(cell) {
			n++
		}
	}
	return n
}

func (c Case) has(x cell) bool { return x.number == c.Number && (c.Number > 0 || c.runs == nil) }

type scenarios = map[string]func(t *testing.T, b Backend)

// Cases are the threat table's cases that concern registries, in its order.
func Cases() []Case {
	return []Case{
		{1, "a manifest served as another media type, with an echoed digest header", "3", scenarios{"tag moved between reading and copying": testTagMoves}},
		{2, "HEAD answers A, GET gives B", "3", scenarios{"tag": testHeadAndGet, "header": testHeaderAndBytes}},
		{3, "PUT answers 201 but a GET gives 404 or other bytes", "1", destinationFaults()},
		{4, "a child swapped", "3", scenarios{"another child": testChildSwapped, "the index lies about it": testIndexLies}},
		{5, "a blob truncated or too long", "bounded retries, 1, no tag", scenarios{"retries are bounded": testBoundedRetries}},
		{6, "a 99 MiB manifest", "3, memory below 512 MB", nil},
		{7, "an index nested 50 deep or with 10,000 children", "3", scenarios{"deep": testDeep, "wide": testWide, "many by few": testManyByFew}},
		{8, "a manifest with both layers and manifests, duplicate keys, trailing bytes", "3", scenarios{"image": testAmbiguous, "child": testAmbiguousChild, "evidence": testAmbiguousEvidence}},
		{9, "a malformed digest", "2", scenarios{"reference": testMalformedReference, "inside a manifest": testMalformedInside}},
		{10, "layers with foreign urls", "never fetched", scenarios{"layers": testForeign}},
		{11, "one byte a second", "1 at the deadline", nil},
		{12, "500, 500, 200; 429 with Retry-After", "one success, waited", scenarios{"500": testPassingFailure, "429": testRetryAfter, "never": testEndlessPatience}},
		{13, "10,000 referrers", "3, within 10 s and 150 requests", scenarios{"flood": testFlood}},
		{14, "the needed signature on the second page of referrers", "found", scenarios{"pages": testPages}},
		{17, "only the child signed where the index is wanted, and the reverse", "evidence of the other counts for nothing", scenarios{"honest": testOtherSubject, "lying list": testLyingList}},
		{36, "caches deleted or corrupted", "rebuilt, same answers", scenarios{"capabilities": testCaches}},
		{39, "the registry dies between image and evidence", "the tag is absent", scenarios{"evidence": testDies}},
		{0, "redirects or challenges to steal credentials", "credentials go to the configured host only", scenarios{"canary": testCanary}},
		{0, "answers that are no answers", "1, or 3 for an address where nobody must be sent", nil},
	}
}
