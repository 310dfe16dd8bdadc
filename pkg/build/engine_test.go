//go:build engine

package build_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/build"
	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// bench is what the tests of this tier build on and push to.
type bench struct {
	registry string // host:port
	base     string // name:tag of a Debian image in it
	digest   string // of base
}

// needBench skips where there is no BuildKit or registry, and fails in CI.
func needBench(t *testing.T) bench {
	t.Helper()
	b := bench{registry: env("PROMOTE_TEST_REGISTRY", "127.0.0.1:5000")}
	b.base = env("PROMOTE_TEST_BASE", b.registry+"/base/python:bookworm")
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := build.Reach(ctx, os.Getenv("BUILDKIT_HOST")); err != nil {
		missing("no BuildKit: %v", err)
	}
	repository, tag, _ := cutLast(b.base, ":")
	_, digest, err := manifest(b.registry, strings.TrimPrefix(repository, b.registry+"/"), tag)
	if err != nil {
		missing("no base image %s: %v", b.base, err)
	}
	b.digest = digest.String()
	return b
}

func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func cutLast(s, sep string) (string, string, bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

type ociManifest struct {
	MediaType string `json:"mediaType"`
	Config    struct {
		Digest string `json:"digest"`
	} `json:"config"`
	Layers []struct {
		Digest string `json:"digest"`
	} `json:"layers"`
	Manifests []struct {
		Digest   string            `json:"digest"`
		Platform map[string]string `json:"platform"`
	} `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

// manifest asks the registry itself and hashes the answer.
func manifest(host, repository, ref string) (ociManifest, release.Digest, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+host+"/v2/"+repository+"/manifests/"+ref, nil)
	if err != nil {
		return ociManifest{}, release.Digest{}, err
	}
	request.Header.Set("Accept", release.MediaTypeManifest+", "+release.MediaTypeIndex)
	body, err := get(request)
	if err != nil {
		return ociManifest{}, release.Digest{}, err
	}
	var m ociManifest
	return m, release.DigestOf(body), json.Unmarshal(body, &m)
}

func get(request *http.Request) ([]byte, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

type imageConfig struct {
	Created string `json:"created"`
	Config  struct {
		User   string            `json:"User"`
		Labels map[string]string `json:"Labels"`
	} `json:"config"`
}

func (b bench) config(t *testing.T, repository, digest string) imageConfig {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+b.registry+"/v2/"+repository+"/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := get(request)
	if err != nil {
		t.Fatal(err)
	}
	var c imageConfig
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// events collects what a build reports.
type events struct {
	mu   sync.Mutex
	list []event.Event
}

func (e *events) ctx(parent context.Context) context.Context {
	return event.With(parent, func(ev event.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.list = append(e.list, ev)
	})
}

func (e *events) all() []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

func (b bench) options(dir, repository string) build.Options {
	return build.Options{Address: os.Getenv("BUILDKIT_HOST"), Context: dir, Repository: b.registry + "/" + repository,
		Epoch: time.Unix(1_700_000_000, 0), Revision: "0123456789abcdef0123456789abcdef01234567"}
}

func image(t *testing.T, o build.Options) release.Image {
	t.Helper()
	got, err := build.Image(t.Context(), "planner", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(got.Subject()) })
	return got
}

// remove deletes an image from the registry, where that is allowed.
func remove(s release.Subject) {
	host, repository, _ := strings.Cut(s.Repository, "/")
	request, err := http.NewRequest(http.MethodDelete, "http://"+host+"/v2/"+repository+"/manifests/"+s.Digest.String(), nil)
	if err != nil {
		return
	}
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
	}
}

// unique makes a step that no cache knows.
func unique(t *testing.T) string { return fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano()) }

func (b bench) agent(t *testing.T, dir, mark string) {
	t.Helper()
	put(t, dir, "Dockerfile", "FROM "+b.base+"@"+b.digest+` AS deps
RUN mkdir -p /opt/deps && echo `+mark+` > /opt/deps/mark
FROM deps
WORKDIR /app
COPY . .
COPY --from=deps /opt/deps /copied
RUN echo compiled > /app/out
USER 65532:65532
`)
	put(t, dir, "main.py", "print('hello')\n")
	put(t, dir, "lib/util.py", "x = 1\n")
	put(t, dir, ".dockerignore", "ignored\n")
}

func TestSameContentSameDigest(t *testing.T) {
	b := needBench(t)
	mark, repository := unique(t), "build-test/reproducible"
	one := t.TempDir()
	b.agent(t, one, mark)
	o := b.options(one, repository)
	o.NoCache = true
	first := image(t, o)
	if first.Cached {
		t.Error("a build without cache reports that it was cached")
	}

	// Another checkout: other times, permissions and ignored files, a step
	// that runs in another second.
	two := t.TempDir()
	b.agent(t, two, mark)
	put(t, two, "ignored", "by .dockerignore")
	for _, f := range []string{"main.py", "lib/util.py"} {
		if err := os.Chmod(filepath.Join(two, f), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(two, f), time.Time{}, time.Unix(1_600_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(two, "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	o = b.options(two, repository)
	o.NoCache = true
	if second := image(t, o); second.Digest != first.Digest {
		t.Errorf("the same content gave %s and %s", first.Digest, second.Digest)
	}

	// What is in the registry is what was returned, unwrapped.
	m, digest, err := manifest(b.registry, repository, first.Digest.String())
	if err != nil || digest != first.Digest || m.MediaType != release.MediaTypeManifest {
		t.Fatalf("registry has %s %s, %v", m.MediaType, digest, err)
	}
	config := b.config(t, repository, m.Config.Digest)
	labels := config.Config.Labels
	if config.Created != "1980-01-02T00:00:00Z" || labels["org.opencontainers.image.created"] != "2023-11-14T22:13:20Z" ||
		labels["org.opencontainers.image.base.digest"] != b.digest || labels["org.opencontainers.image.base.name"] != b.base ||
		labels["org.opencontainers.image.title"] != "planner" {
		t.Errorf("config: %+v", config)
	}
	if m.Annotations["org.opencontainers.image.revision"] != o.Revision {
		t.Errorf("annotations: %v", m.Annotations)
	}
	if !slices.Equal(first.Platforms, []string{"linux/amd64"}) && !slices.Equal(first.Platforms, []string{"linux/arm64"}) {
		t.Errorf("platforms %v", first.Platforms)
	}
}

// A layer that comes from the cache of an earlier commit must not carry that
// commit's times into the next one's image.
func TestCacheDoesNotChangeTheDigest(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	b.agent(t, dir, unique(t))
	early := b.options(dir, "build-test/cache")
	image(t, early)
	put(t, dir, "main.py", "print('world')\n")
	later := early
	time.Sleep(1100 * time.Millisecond) // the next commit is made after the layer
	later.Epoch = time.Now()
	cached := image(t, later)
	later.NoCache = true
	if fresh := image(t, later); fresh.Digest != cached.Digest {
		t.Errorf("with an earlier commit's cache %s, without %s", cached.Digest, fresh.Digest)
	}
}

func TestUnchangedIsCached(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	b.agent(t, dir, unique(t))
	o := b.options(dir, "build-test/unchanged")
	first := image(t, o)
	again := image(t, o)
	if first.Cached || !again.Cached || first.Digest != again.Digest {
		t.Errorf("first %v %s, again %v %s", first.Cached, first.Digest, again.Cached, again.Digest)
	}
	o.Epoch = o.Epoch.Add(time.Hour)
	if next := image(t, o); !next.Cached {
		t.Error("another commit's time alone makes the steps run again")
	}
	put(t, dir, "main.py", "print('HELLO')\n") // of the same size
	if changed := image(t, o); changed.Cached || changed.Digest == first.Digest {
		t.Errorf("a changed file was not built: cached %v", changed.Cached)
	}
}

func TestServicesShareStages(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+b.base+" AS deps\nRUN sleep 1; date +%s%N > /when # "+unique(t)+"\nFROM deps AS planner\nRUN true\nFROM deps AS executor\nRUN true; true\n")
	layers := make([]string, 2)
	var wg sync.WaitGroup
	for i, target := range []string{"planner", "executor"} {
		wg.Go(func() {
			o := b.options(dir, "build-test/"+target)
			o.Target = target
			got, err := build.Image(t.Context(), target, o)
			if err != nil {
				t.Error(err)
				return
			}
			m, _, err := manifest(b.registry, "build-test/"+target, got.Digest.String())
			if err != nil {
				t.Error(err)
				return
			}
			remove(got.Subject())
			layers[i] = m.Layers[len(m.Layers)-2].Digest
		})
	}
	wg.Wait()
	if layers[0] == "" || layers[0] != layers[1] {
		t.Errorf("the shared stage ran twice: %v", layers)
	}
}

func TestSeveralPlatforms(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM scratch\nCOPY a /a\n")
	put(t, dir, "a", unique(t))
	o := b.options(dir, "build-test/platforms")
	o.Platforms = []string{"linux/amd64", "linux/arm64"}
	got := image(t, o)
	m, digest, err := manifest(b.registry, "build-test/platforms", got.Digest.String())
	if err != nil || digest != got.Digest || m.MediaType != release.MediaTypeIndex {
		t.Fatalf("registry has %s %s, %v", m.MediaType, digest, err)
	}
	var arch []string
	for _, child := range m.Manifests {
		arch = append(arch, child.Platform["architecture"])
	}
	if !slices.Equal(arch, []string{"amd64", "arm64"}) {
		t.Errorf("the index holds %v", arch)
	}
	if !strings.Contains(string(got.Provenance), `"linux/arm64"`) {
		t.Error("provenance tells nothing of arm64")
	}
}

func TestProvenanceOfARealBuild(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	b.agent(t, dir, unique(t))
	o := b.options(dir, "build-test/provenance")
	o.Args = map[string]string{"DEPLOY_TOKEN": "swordfish-swordfish"}
	o.Builder = "https://ci.example/workflow@main"
	got := image(t, o)
	var p struct {
		BuildDefinition struct {
			ResolvedDependencies []struct {
				URI         string            `json:"uri"`
				Digest      map[string]string `json:"digest"`
				Annotations map[string]bool   `json:"annotations"`
			} `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(got.Provenance, &p); err != nil {
		t.Fatal(err)
	}
	deps := p.BuildDefinition.ResolvedDependencies
	if len(deps) != 2 || deps[0].Digest["gitCommit"] != o.Revision || "sha256:"+deps[1].Digest["sha256"] != b.digest || !deps[1].Annotations["pinned"] {
		t.Errorf("dependencies %+v", deps)
	}
	if p.RunDetails.Builder.ID != o.Builder {
		t.Errorf("builder %q", p.RunDetails.Builder.ID)
	}
	if strings.Contains(string(got.Provenance), "swordfish") {
		t.Error("the provenance holds the value of a secret argument")
	}
}

func TestFailures(t *testing.T) {
	b := needBench(t)
	closed := closedPort(t)
	cases := map[string]struct {
		dockerfile string
		change     func(*build.Options)
		kind       release.Kind
		want       []string
	}{
		"failing step": {"FROM " + b.base + "\n\nRUN echo before; echo the reason >&2; exit 7\n", nil, release.KindUnavailable,
			[]string{"Dockerfile:3: ", "exit code: 7", "  | before", "  | the reason"}},
		"syntax":        {"FROM " + b.base + "\nRUNN x\n", nil, release.KindConfig, []string{"Dockerfile:2: ", "unknown instruction"}},
		"missing file":  {"FROM scratch\nCOPY absent /\n", nil, release.KindConfig, []string{"Dockerfile:2: ", "absent"}},
		"unknown stage": {"FROM scratch AS one\nFROM scratch\nCOPY --from=Nope/UPPER a /\n", nil, release.KindConfig, []string{"Dockerfile:3: "}},
		"missing base":  {"FROM " + b.registry + "/base/absent:1\n", nil, release.KindUnavailable, []string{"Dockerfile:1: ", "base/absent:1"}},
		"base's registry is down": {"FROM " + closed + "/base:1\n", nil, release.KindUnavailable,
			[]string{"Dockerfile:1: ", "connection refused"}},
		"registry is down": {"FROM scratch\nCOPY Dockerfile /\n", func(o *build.Options) { o.Repository = closed + "/x" }, release.KindUnavailable,
			[]string{"connection refused"}},
		"no BuildKit": {"FROM scratch\n", func(o *build.Options) { o.Address = "unix://" + t.TempDir() + "/absent.sock" }, release.KindUnavailable,
			[]string{"reaching BuildKit", "absent.sock"}},
		"attestation by argument": {"FROM scratch\n", func(o *build.Options) { o.Args = map[string]string{"BUILDKIT_ATTEST_PROVENANCE": "mode=max"} },
			release.KindConfig, []string{"BUILDKIT_ATTEST_PROVENANCE"}},
		"platform":       {"FROM scratch\n", func(o *build.Options) { o.Platforms = []string{"a/b/c/d"} }, release.KindConfig, []string{"a/b/c/d"}},
		"unknown cache":  {"FROM scratch\n", func(o *build.Options) { o.Cache = []string{"gha"} }, release.KindConfig, []string{`unknown build cache "gha"`}},
		"no such target": {"FROM scratch AS one\n", func(o *build.Options) { o.Target = "two" }, release.KindConfig, []string{`no stage "two"`}},
		"no context": {"FROM scratch\n", func(o *build.Options) {
			o.Dockerfile, o.Context = filepath.Join(o.Context, "Dockerfile"), filepath.Join(o.Context, "absent")
		}, release.KindConfig, []string{"reading the build context"}},
		"no Dockerfile": {"FROM scratch\n", func(o *build.Options) { o.Dockerfile = "other/Dockerfile" }, release.KindConfig, []string{"other/Dockerfile: reading Dockerfile"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "Dockerfile", c.dockerfile)
			o := b.options(dir, "build-test/failures")
			if c.change != nil {
				c.change(&o)
			}
			got, err := build.Image(t.Context(), "planner", o)
			if err == nil {
				t.Fatalf("built %s", got.Digest)
			}
			if release.KindOf(err) != c.kind {
				t.Errorf("kind %s, want %s", release.KindOf(err), c.kind)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			var f *release.Fault
			if !errors.As(err, &f) || f.Hint == "" {
				t.Errorf("no hint: %+v", err)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestCancelIsPrompt(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+b.base+"\nRUN echo begun; sleep 120; echo "+unique(t)+"\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cancelled time.Time
	var once sync.Once
	ctx = event.With(ctx, func(e event.Event) {
		if e.Type == event.Log && e.Message == "begun" {
			once.Do(func() { cancelled = time.Now(); cancel() })
		}
	})
	_, err := build.Image(ctx, "planner", b.options(dir, "build-test/cancel"))
	if release.KindOf(err) != release.KindInterrupted || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(cancelled); took > 3*time.Second {
		t.Errorf("ended %v after it was cancelled", took)
	}
}

// A daemon that no longer answers must not keep a cancelled build waiting.
func TestCancelWhenTheDaemonIsSilent(t *testing.T) {
	b := needBench(t)
	socket, ok := strings.CutPrefix(os.Getenv("BUILDKIT_HOST"), "unix://")
	if !ok {
		if os.Getenv("CI") == "true" {
			t.Fatal("BUILDKIT_HOST is not a unix socket")
		}
		t.Skip("BUILDKIT_HOST is not a unix socket")
	}
	front := filepath.Join(t.TempDir(), "front.sock")
	silence := relay(t, front, socket)
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+b.base+"\nRUN echo begun; sleep 5; echo "+unique(t)+"\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cancelled time.Time
	var once sync.Once
	ctx = event.With(ctx, func(e event.Event) {
		if e.Type == event.Log && e.Message == "begun" {
			once.Do(func() { silence(); cancelled = time.Now(); cancel() })
		}
	})
	o := b.options(dir, "build-test/silent")
	o.Address = "unix://" + front
	_, err := build.Image(ctx, "planner", o)
	if release.KindOf(err) != release.KindInterrupted {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(cancelled); took > 3*time.Second {
		t.Errorf("ended %v after it was cancelled", took)
	}
}

// relay passes connections on until it is told to fall silent.
func relay(t *testing.T, front, back string) (silence func()) {
	t.Helper()
	l, err := net.Listen("unix", front)
	if err != nil {
		t.Fatal(err)
	}
	quiet, over := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { l.Close(); close(over) })
	pass := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			select {
			case <-quiet:
				<-over
				return
			default:
			}
			if err != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", back)
			if err != nil {
				in.Close()
				return
			}
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return sync.OnceFunc(func() { close(quiet) })
}

// The convention for programs that put a time into what they make.
func TestSourceDateEpoch(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+b.base+"\nARG SOURCE_DATE_EPOCH\nRUN echo epoch=$SOURCE_DATE_EPOCH # "+unique(t)+"\n")
	var e events
	got, err := build.Image(e.ctx(t.Context()), "planner", b.options(dir, "build-test/epoch"))
	if err != nil {
		t.Fatal(err)
	}
	remove(got.Subject())
	var output []string
	for _, ev := range e.all() {
		if ev.Type == event.Log && strings.Contains(ev.Name, "RUN") {
			output = append(output, ev.Message)
		}
	}
	if !slices.Equal(output, []string{"epoch=1700000000"}) {
		t.Errorf("the step said %q", output)
	}
}

// A registry on another loopback port that wants a password serves the base
// and takes the image.
func TestCredentials(t *testing.T) {
	b := needBench(t)
	upstream := &url.URL{Scheme: "http", Host: b.registry}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Host = r.In.Host // the registry names itself in its answers
	}}
	var refused sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, secret, ok := r.BasicAuth(); !ok || user != "robot" || secret != "s3cret" {
			refused.Store(r.URL.Path, true)
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	put(t, dir, "Dockerfile", "FROM "+strings.Replace(b.base, b.registry, host, 1)+"\nCOPY mark /\n")
	put(t, dir, "mark", unique(t))
	o := b.options(dir, "build-test/credentials")
	o.Repository = host + "/build-test/credentials"
	var asked sync.Map
	o.Credentials = func(_ context.Context, host string) (string, string, error) {
		asked.Store(host, true)
		return "robot", "s3cret", nil
	}
	got := image(t, o)
	if _, digest, err := manifest(b.registry, "build-test/credentials", got.Digest.String()); err != nil || digest != got.Digest {
		t.Errorf("registry has %s, %v", digest, err)
	}
	if _, ok := asked.Load(host); !ok {
		t.Error("the credentials were not asked for")
	}
	o.Credentials = func(context.Context, string) (string, string, error) { return "robot", "wrong", nil }
	put(t, dir, "mark", unique(t))
	_, err := build.Image(t.Context(), "planner", o)
	var f *release.Fault
	if release.KindOf(err) != release.KindUnavailable || !errors.As(err, &f) || !strings.Contains(f.Hint, "docker login") {
		t.Errorf("wrong password: %+v", err)
	}
}

func TestRegistryCache(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	b.agent(t, dir, unique(t))
	o := b.options(dir, "build-test/buildcache")
	o.Cache = []string{"registry"}
	plain := o
	plain.Cache = nil
	if with, without := image(t, o), image(t, plain); with.Digest != without.Digest {
		t.Errorf("exporting the cache changed the digest: %s, %s", with.Digest, without.Digest)
	}
	_, digest, err := manifest(b.registry, "build-test/buildcache", "buildcache")
	if err != nil {
		t.Fatalf("no cache was written: %v", err)
	}
	remove(release.Subject{Repository: o.Repository, Digest: digest})
}

func TestEventsOfARealBuild(t *testing.T) {
	b := needBench(t)
	dir := t.TempDir()
	b.agent(t, dir, unique(t))
	put(t, dir, "blob", strings.Repeat("x", 3<<20)+unique(t))
	var e events
	got, err := build.Image(e.ctx(t.Context()), "planner", b.options(dir, "build-test/events"))
	if err != nil {
		t.Fatal(err)
	}
	remove(got.Subject())
	open, seen := map[string]bool{}, map[string]bool{}
	var moved int64
	for _, ev := range e.all() {
		switch ev.Type {
		case event.Started:
			open[ev.Step], seen[ev.Name] = true, true
		case event.Done:
			delete(open, ev.Step)
		case event.Progress:
			moved = max(moved, ev.Current)
		}
	}
	if len(open) > 0 {
		t.Errorf("left open: %v", open)
	}
	if !seen["[planner stage-1 2/5] COPY . ."] && !seen["[planner stage-1 2/4] COPY . ."] {
		t.Errorf("steps: %v", seen)
	}
	if moved < 3<<20 {
		t.Errorf("%d bytes were reported", moved)
	}
}
