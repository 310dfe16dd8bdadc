package build_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/release"
)

func lint(t *testing.T, src, target string) []string {
	t.Helper()
	reasons, err := build.Lint("Dockerfile", []byte(src), target)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range reasons {
		if r.File != "Dockerfile" || r.Fix == "" || r.Message == "" {
			t.Errorf("incomplete reason %+v", r)
		}
		got = append(got, fmt.Sprintf("%d %s", r.Line, r.Rule))
	}
	return got
}

func TestLint(t *testing.T) {
	base := "python:3@" + release.DigestOf([]byte("x")).String()
	clean := "ARG BASE=" + base + "\nFROM $BASE AS deps\nUSER 1000\nHEALTHCHECK CMD true\nENV TOKEN_FILE=/run/secrets/t PATH=/x PASSWORD=\nFROM deps\nCOPY --from=deps /a /a\n"
	if got := lint(t, clean, ""); len(got) != 0 {
		t.Errorf("clean: got %v", got)
	}
	dirty := `FROM python:3 AS deps
ARG NPM_TOKEN
ENV OPENAI_API_KEY=x OTHER=1
ENV FOO=ghp_012345678901234567890123456789012345
USER root:root
HEALTHCHECK NONE
FROM deps AS final
COPY --from=busybox /a /a
FROM ` + base + ` AS last
USER app
`
	want := []string{"1 dockerfile/unpinned-base", "2 dockerfile/secret", "3 dockerfile/secret", "4 dockerfile/secret",
		"5 dockerfile/root-user", "6 dockerfile/no-healthcheck", "8 dockerfile/unpinned-base"}
	if got := lint(t, dirty, "final"); !reflect.DeepEqual(got, want) {
		t.Errorf("final: got %v", got)
	}
	want = []string{"1 dockerfile/unpinned-base", "2 dockerfile/secret", "3 dockerfile/secret", "4 dockerfile/secret",
		"8 dockerfile/unpinned-base", "9 dockerfile/no-healthcheck"}
	if got := lint(t, dirty, ""); !reflect.DeepEqual(got, want) {
		t.Errorf("last: got %v", got)
	}
	if got := lint(t, "ARG D=@"+strings.Split(base, "@")[1]+"\nFROM python${D}\nHEALTHCHECK CMD true\nUSER 0\n", ""); !reflect.DeepEqual(got, []string{"4 dockerfile/root-user"}) {
		t.Errorf("digest in a variable, user 0: got %v", got)
	}
	if got := lint(t, "FROM scratch\n", ""); !reflect.DeepEqual(got, []string{"1 dockerfile/root-user", "1 dockerfile/no-healthcheck"}) {
		t.Errorf("scratch: got %v", got)
	}
}

func TestLintOfBrokenFiles(t *testing.T) {
	for src, want := range map[string]string{
		"FROM a\nFRUM b\n":     "Dockerfile:2: parsing Dockerfile: ",
		"":                     "Dockerfile: parsing Dockerfile: ",
		"ARG X=1\n":            "Dockerfile: parsing Dockerfile: no FROM",
		"RUN x\n":              "Dockerfile:1: parsing Dockerfile: ",
		"FROM a AS one\nRUN x": `Dockerfile: choosing the stage to build: no stage "two"`,
	} {
		_, err := build.Lint("Dockerfile", []byte(src), "two")
		if release.KindOf(err) != release.KindConfig || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", src, err, want)
		}
	}
}
