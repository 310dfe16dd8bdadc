package build

import (
	"testing"

	"github.com/promote-dev/promote/internal/yamlpos"
)

// Whatever a Dockerfile holds, finding its references neither panics nor
// points at other text.
func FuzzUses(f *testing.F) {
	f.Add("# syntax=docker/dockerfile:1\nARG A=\"b:1\"\nFROM $A AS x\nCOPY --from=c:${V:-2} a b\nRUN --mount=from=d,target=/x <<E\nfrom=d\nE\nUSER 0\n")
	f.Add("# escape=`\nFROM a `\n:1\nFROM scratch\nONBUILD COPY --from=x a b\n")
	f.Fuzz(func(t *testing.T, src string) {
		d, err := parseDockerfile("Dockerfile", []byte(src))
		if err != nil {
			return
		}
		for _, u := range d.uses() {
			if u.span != (yamlpos.Span{}) && src[u.span.Start:u.span.End] != u.text {
				t.Errorf("%s: span holds %q, want %q", u.what, src[u.span.Start:u.span.End], u.text)
			}
		}
		if _, err := Lint("Dockerfile", []byte(src), ""); err != nil {
			t.Error(err)
		}
	})
}
