package build_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/release"
)

// digests gives every reference a digest of its own.
func digests(asked *[]string) func(context.Context, string) (release.Subject, error) {
	return func(_ context.Context, ref string) (release.Subject, error) {
		*asked = append(*asked, ref)
		if strings.Contains(ref, "absent") {
			return release.Subject{}, release.Unavailable("check the name", "no such image")
		}
		return release.NewSubject("any.example/repository", release.DigestOf([]byte(ref)))
	}
}

func pinned(written, ref string) string {
	return written + "@" + release.DigestOf([]byte(ref)).String()
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const dockerfile = "\ufeff# syntax = docker/dockerfile:1.7 \r\n" + `ARG PYTHON="python:3.12-slim"
ARG VERSION=7
# FROM python stays in comments
FROM --platform=$BUILDPLATFORM python AS python
RUN echo FROM python
FROM   ${PYTHON}   AS deps
COPY --from=ghcr.io/astral-sh/uv:0.4 /uv /bin/uv
RUN --mount=type=cache,from=busybox:1.36-musl,target=/c \
    # --mount=type=bind,from=busybox:1.36,target=/comment
    --mount=type=bind,from=busybox:1.36,target=/b true
FROM $PYTHON
COPY --from=deps /a /a
COPY --from=0 /a /b
RUN --mount=from=deps,target=/d true
from redis:${VERSION} as cache
FROM \
  postgres:16
FROM --platform=linux/amd64 amd64
FROM alpine:${ALPINE:-3.20}
FROM scratch
`

func TestPinDockerfile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "Dockerfile", dockerfile)
	var asked []string
	result, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked)})
	if err != nil {
		t.Fatal(err)
	}
	want := dockerfile
	for _, c := range []struct{ from, to string }{
		{"docker/dockerfile:1.7 ", pinned("docker/dockerfile:1.7", "docker/dockerfile:1.7") + " "},
		{`"python:3.12-slim"`, `"` + pinned("python:3.12-slim", "python:3.12-slim") + `"`},
		{"PLATFORM python AS", "PLATFORM " + pinned("python:latest", "python:latest") + " AS"},
		{"uv:0.4 ", pinned("uv:0.4", "ghcr.io/astral-sh/uv:0.4") + " "},
		{"from=busybox:1.36-musl,", "from=" + pinned("busybox:1.36-musl", "busybox:1.36-musl") + ","},
		{"from=busybox:1.36,target=/b ", "from=" + pinned("busybox:1.36", "busybox:1.36") + ",target=/b "},
		{"amd64 amd64\n", "amd64 " + pinned("amd64:latest", "amd64:latest") + "\n"},
		{"alpine:${ALPINE:-3.20}\n", pinned("alpine:${ALPINE:-3.20}", "alpine:3.20") + "\n"},
		{"redis:${VERSION} ", pinned("redis:${VERSION}", "redis:7") + " "},
		{"  postgres:16\n", "  " + pinned("postgres:16", "postgres:16") + "\n"},
	} {
		if strings.Count(want, c.from) != 1 {
			t.Fatalf("the test's text holds %q %d times", c.from, strings.Count(want, c.from))
		}
		want = strings.Replace(want, c.from, c.to, 1)
	}
	if got := read(t, dir, "Dockerfile"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var lines []int
	for _, c := range result.Changes {
		lines = append(lines, c.Line)
	}
	if want := []int{1, 5, 2, 8, 9, 11, 16, 18, 19, 20}; !reflect.DeepEqual(lines, want) {
		t.Errorf("lines %v, want %v: %+v", lines, want, result.Changes)
	}
	if len(result.Unpinned) > 0 {
		t.Errorf("unpinned: %+v", result.Unpinned)
	}
	if info, _ := os.Stat(filepath.Join(dir, "Dockerfile")); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}

	// What is pinned stays, and nothing is asked again.
	asked = nil
	again, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked)})
	if err != nil || len(again.Changes) != 0 || len(asked) != 0 || read(t, dir, "Dockerfile") != want {
		t.Errorf("a second run changed %+v, asked %v, %v", again.Changes, asked, err)
	}
	check, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinCheck})
	if err != nil || check.Err() != nil {
		t.Errorf("check after pin: %v %v", err, check.Err())
	}
}

func TestPinUpdate(t *testing.T) {
	dir := t.TempDir()
	old := "@" + release.DigestOf([]byte("old")).String()
	put(t, dir, "Dockerfile", "FROM python:3"+old+"\nFROM redis"+old+"\nFROM python:3\n")
	var asked []string
	result, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinUpdate, Resolve: digests(&asked)})
	if err != nil {
		t.Fatal(err)
	}
	// A digest without a tag has nothing to follow.
	if got, want := read(t, dir, "Dockerfile"), "FROM "+pinned("python:3", "python:3")+"\nFROM redis"+old+"\nFROM "+pinned("python:3", "python:3")+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(asked, []string{"python:3"}) {
		t.Errorf("asked %v", asked)
	}
	if len(result.Changes) != 2 || result.Changes[0].From != "python:3"+old {
		t.Errorf("changes %+v", result.Changes)
	}
}

const composeFile = `name: app # keep
x-bus: &bus
  image: 'redis:7'   # the bus
services:
  planner: {build: ., image: "acme/planner:dev"}
  bus: {<<: *bus}
  spare: {<<: *bus}
  copy: {image: "acme/planner:dev"}
  store:
    image: "postgres"
    ports: ["5432:5432"]
  tool:
    build:
      context: .
      additional_contexts: {base: "docker-image://alpine:3"}
`

func TestPinComposeWithMap(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "compose.yaml", composeFile)
	put(t, dir, "compose.prod.yml", "services:\n  planner: {image: acme/planner:prod}\n  extra: {image: quay.io/x/y}\n")
	put(t, dir, "agent/Dockerfile", "FROM docker.io/library/redis:6\n")
	var asked []string
	_, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked), Map: map[string]string{
		"redis":              "127.0.0.1:5000/base/redis",
		"docker.io/postgres": "127.0.0.1:5000/base/postgres:bookworm",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := composeFile
	for from, to := range map[string]string{
		"'redis:7'":  "'" + pinned("127.0.0.1:5000/base/redis:7", "127.0.0.1:5000/base/redis:7") + "'",
		`"postgres"`: `"` + pinned("127.0.0.1:5000/base/postgres:bookworm", "127.0.0.1:5000/base/postgres:bookworm") + `"`,
		"alpine:3":   pinned("alpine:3", "alpine:3"),
	} {
		want = strings.Replace(want, from, to, 1)
	}
	if got := read(t, dir, "compose.yaml"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := read(t, dir, "compose.prod.yml"), "services:\n  planner: {image: acme/planner:prod}\n  extra: {image: "+pinned("quay.io/x/y:latest", "quay.io/x/y:latest")+"}\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := read(t, dir, "agent/Dockerfile"), "FROM "+pinned("127.0.0.1:5000/base/redis:6", "127.0.0.1:5000/base/redis:6")+"\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPinMapsWhatIsPinned(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+pinned("python:3", "old")+"\n")
	var asked []string
	_, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked),
		Map: map[string]string{"docker.io/library/python": "mirror.example:5000/python"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, dir, "Dockerfile"), "FROM "+pinned("mirror.example:5000/python:3", "mirror.example:5000/python:3")+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A digest that a variable brings is a pin; a repository that one brings
// cannot be mapped.
func TestPinVariables(t *testing.T) {
	dir := t.TempDir()
	text := "ARG DIGEST=@" + release.DigestOf([]byte("x")).String() + "\nARG NAME=python\nFROM redis${DIGEST}\nFROM library/${NAME}:3\nFROM alpine:${A:-3}\n"
	put(t, dir, "Dockerfile", text)
	var asked []string
	result, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked), Map: map[string]string{"python": "mirror.example/python", "alpine": "mirror.example/alpine"}})
	want := strings.Replace(text, "alpine:${A:-3}", pinned("mirror.example/alpine:${A:-3}", "mirror.example/alpine:3"), 1)
	if err != nil || read(t, dir, "Dockerfile") != want {
		t.Errorf("got %v\n%s", err, read(t, dir, "Dockerfile"))
	}
	if len(result.Unpinned) != 1 || result.Unpinned[0].Line != 4 {
		t.Errorf("unpinned: %+v", result.Unpinned)
	}
	check, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinCheck})
	if err != nil || len(check.Unpinned) != 1 || check.Unpinned[0].Line != 4 {
		t.Errorf("check: %v %+v", err, check.Unpinned)
	}
}

func TestPinCheck(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "ARG BASE\nFROM python:3\nFROM redis:7@sha256:abc\nFROM $BASE\nFROM pyth\\\non:3\nFROM "+pinned("ok:1", "ok")+"\n")
	put(t, dir, "compose.yaml", "services:\n  a:\n    image: ${REGISTRY}/a:1\n  b:\n    image: "+pinned("${REGISTRY}/b:1", "b")+"\n")
	result, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinCheck})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range result.Unpinned {
		got = append(got, strings.Join([]string{u.File, u.Reference, u.Message}, " | "))
	}
	want := []string{
		"Dockerfile | python:3 | FROM is not pinned to a digest",
		`Dockerfile | redis:7@sha256:abc | FROM: digest "sha256:abc": want 64 hex digits, got 3`,
		"Dockerfile | $BASE | FROM is not pinned: ARG BASE has no default",
		"Dockerfile | python:3 | FROM is not pinned: it is not written in one piece",
		"compose.yaml | ${REGISTRY}/a:1 | image is not pinned: it holds a variable",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	denied := result.Err()
	if release.KindOf(denied) != release.KindDenied || !strings.Contains(denied.Error(), "Dockerfile:2: python:3: FROM is not pinned to a digest (and 4 more") {
		t.Errorf("got %v", denied)
	}
}

func TestPinWritesNothingWhenOneFails(t *testing.T) {
	dir := t.TempDir()
	const a, b = "FROM python:3\n", "FROM absent:1\nFROM absent:2\n"
	put(t, dir, "a/Dockerfile", a)
	put(t, dir, "b/Dockerfile", b)
	var asked []string
	_, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinWrite, Resolve: digests(&asked)})
	var list release.Errors
	if !errors.As(err, &list) || len(list) != 2 || list[1].File != "b/Dockerfile" || list[1].Line != 2 || list[1].Hint == "" {
		t.Fatalf("got %v", err)
	}
	if release.KindOf(err) != release.KindUnavailable {
		t.Errorf("kind %s", release.KindOf(err))
	}
	if read(t, dir, "a/Dockerfile") != a || read(t, dir, "b/Dockerfile") != b {
		t.Error("a file was written although a reference could not be resolved")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPinMisuse(t *testing.T) {
	dir := t.TempDir()
	var asked []string
	pin := func(m map[string]string, files ...string) error {
		_, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Files: files, Mode: build.PinWrite, Map: m, Resolve: digests(&asked)})
		return err
	}
	if err := pin(nil); release.KindOf(err) != release.KindConfig {
		t.Errorf("empty directory: %v", err)
	}
	put(t, dir, "Dockerfile", "FROM a\nRUN --nope x\n")
	put(t, dir, "compose.yaml", "services: [\n")
	err := pin(nil)
	if release.KindOf(err) != release.KindConfig || !strings.Contains(err.Error(), "Dockerfile:2: ") || !strings.Contains(err.Error(), "compose.yaml:") {
		t.Errorf("broken files: %v", err)
	}
	for from, to := range map[string]string{"a:1": "b", "a": "B C", "c": pinned("b", "b")} {
		if err := pin(map[string]string{from: to}, "Dockerfile"); release.KindOf(err) != release.KindUsage {
			t.Errorf("--map %s=%s: %v", from, to, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	put(t, dir, "Dockerfile", "FROM a\n")
	if _, err := build.Pin(ctx, build.PinOptions{Dir: dir, Files: []string{"Dockerfile"}, Mode: build.PinWrite, Resolve: digests(&asked)}); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPinFindsFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Dockerfile", "Dockerfile.dev", "a/Dockerfile", "a/b/app.Dockerfile"} {
		put(t, dir, name, "FROM "+pinned("x", "x")+"\n")
	}
	for _, name := range []string{"compose.yaml", "compose.prod-like.yml", "docker-compose.yml", "compose-dev.yaml"} {
		put(t, dir, name, "services: {}\n")
	}
	for _, name := range []string{"Dockerfile.dockerignore", ".git/Dockerfile", "a/b/c/Dockerfile", "node_modules/x/Dockerfile", "a/compose.yaml", "other.yaml"} {
		put(t, dir, name, "this would not parse: [")
	}
	result, err := build.Pin(t.Context(), build.PinOptions{Dir: dir, Mode: build.PinCheck})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Dockerfile", "Dockerfile.dev", "a/Dockerfile", "a/b/app.Dockerfile", "compose-dev.yaml", "compose.prod-like.yml", "compose.yaml", "docker-compose.yml"}
	if !reflect.DeepEqual(result.Files, want) {
		t.Errorf("got %v", result.Files)
	}
}
