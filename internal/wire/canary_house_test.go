//go:build engine && linux

package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/localregistry"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

// gossip is a registry behind a password, which writes down all that it is
// sent, and tells whoever asks for /echo/ the password back.
type gossip struct {
	addr string

	mu      sync.Mutex
	log     bytes.Buffer
	hanging string
	reached chan struct{}
}

func newGossip(t *testing.T, backend http.Handler, authorization string) *gossip {
	g := &gossip{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.listen(r)
		switch {
		case r.Header.Get("Authorization") != authorization:
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/echo/"):
			told, _ := json.Marshal(map[string]any{"errors": []any{map[string]any{"code": "DENIED", "message": "not with " + r.Header.Get("Authorization"), "detail": r.Header}}})
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(told)
		case strings.Contains(r.URL.Path, "/hang/") || g.hangs(r):
			<-r.Context().Done()
		default:
			backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	g.addr = strings.TrimPrefix(server.URL, "http://")
	return g
}

// listen writes a request down, without the password that is meant for it.
func (g *gossip) listen(r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	header := maps.Clone(r.Header)
	header.Del("Authorization")
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(&g.log, "%s %s %v\n%s\n", r.Method, r.URL, header, body)
}

func (g *gossip) heard() []byte { g.mu.Lock(); defer g.mu.Unlock(); return bytes.Clone(g.log.Bytes()) }

// hang makes writes below a path wait for ever, and says when one does.
func (g *gossip) hang(path string) (reached <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hanging, g.reached = path, make(chan struct{})
	return g.reached
}

func (g *gossip) hangs(r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hanging == "" || r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, g.hanging) {
		return false
	}
	select {
	case <-g.reached:
	default:
		close(g.reached)
	}
	return true
}

// newHouse plants the secrets and makes the project.
func newHouse(t *testing.T) *house {
	h := &house{aviary: &aviary{t: t, got: map[string]bool{}}, dir: t.TempDir(), state: t.TempDir(), home: t.TempDir()}
	passphrase, password, vaultToken := h.plant("passphrase"), h.plant("registry password"), h.plant("Vault token")
	key := h.keyWithCanaries(passphrase)
	basic := base64.StdEncoding.EncodeToString([]byte("somebody:" + password))
	h.registry = newGossip(t, localregistry.Handler(filepath.Join(h.state, "registry")), "Basic "+basic)

	// What a service is sent it says again, to whoever asks.
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		told, _ := json.Marshal(map[string]any{"code": 3, "message": fmt.Sprint("no: ", r.Header), "errors": []string{fmt.Sprint(r.Header.Get("X-Vault-Token"), " may not")}, "body": string(body)})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(told)
	}))
	t.Cleanup(echo.Close)

	docker := filepath.Join(t.TempDir(), "docker")
	h.write(docker, "config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, h.registry.addr, basic))
	silent := h.silence()
	h.environ = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.home, "TMPDIR=" + h.state, "XDG_CACHE_HOME=" + filepath.Join(h.state, "cache"),
		"DOCKER_CONFIG=" + docker, "DOCKER_HOST=" + silent, "BUILDKIT_HOST=" + silent,
		"COSIGN_PASSWORD=" + passphrase, "PROMOTE_KEY=" + key, "SIGSTORE_ID_TOKEN=" + h.token(), "VAULT_ADDR=" + echo.URL, "VAULT_TOKEN=" + vaultToken,
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + h.plant("token request token"), "ACTIONS_ID_TOKEN_REQUEST_URL=" + echo.URL + "/token",
		"GITHUB_TOKEN=" + h.plant("GitHub token"), "AWS_SECRET_ACCESS_KEY=" + h.plant("AWS secret"), "COSIGN_PKCS11_PIN=" + h.plant("PIN"),
		"PROMOTE_WEBHOOK=" + echo.URL + "/" + h.plant("webhook's URL"), "PROMOTE_WEBHOOK_SECRET=" + h.plant("webhook's secret")}
	for _, pair := range h.environ { // this process sets the project up
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	t.Setenv("CI", "")
	h.project(echo.URL)
	return h
}

func (h *house) write(dir, name, text string) {
	h.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// silence is where an engine or BuildKit takes calls and never answers.
func (h *house) silence() string {
	path := filepath.Join(h.t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			h.t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return "unix://" + path
}

// project makes a checkout, images at the registry and a ledger with a release.
func (h *house) project(services string) {
	t := h.t
	t.Helper()
	common := "name: agent\nregistry: " + h.registry.addr + "/agent\ncompose: {files: [compose.yaml]}\nscan: {database: {repository: " + h.registry.addr + "/hang/db}}\n" +
		"notify: [{webhook: env://PROMOTE_WEBHOOK, secret: env://PROMOTE_WEBHOOK_SECRET}]\n"
	root, err := os.ReadFile("../../pkg/sign/testdata/virtual/root.json")
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("../../pkg/sign/testdata/virtual/key.pub")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"promote.yaml": common,
		"keyless.yaml": common + "ledger: {file: {path: .promote/keyless}}\nsign: {key: env://PROMOTE_KEY, trustedRoot: root.json, keyless: {fulcio: " + services + ", rekor: " + services + "}}\n" +
			"trust: {builder: [{name: ci, identity: ci@example.com, issuer: https://accounts.example.com}], promoter: [{name: ops, key: ops.pub}]}\n",
		"vault.yaml":   common + "ledger: {file: {path: .promote/vault}}\nsign: {key: hashivault://promote}\n",
		"changed.yaml": common + "environments: {staging: {}}\n",
		"root.json":    string(root),
		"ops.pub":      string(public),
		"compose.yaml": "name: agent\nservices:\n  planner:\n    build: .\n    image: planner\n",
		"Dockerfile":   "FROM scratch\nCOPY compose.yaml /\n",
		".gitignore":   "predicate.json\n",
	} {
		h.write(h.dir, name, text)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "first"}} {
		if out, err := exec.Command("git", append([]string{"-C", h.dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git: %v: %s", err, out)
		}
	}
	backend := registrytest.Serve(t, localregistry.Handler(filepath.Join(h.state, "registry")))
	for n, repository := range []string{"agent/planner", "agent/unsigned", "agent/hanging"} {
		backend.Put(t, repository, "v1", registrytest.NewImage(uint64(n), 100))
	}
}

// release records a release that a smoke test can be asked for.
func (h *house) release() string {
	t := h.t
	t.Helper()
	c, err := config.Load(filepath.Join(h.dir, "promote.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, closePipeline, err := openPipeline(t.Context(), c, cli.PipelineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer closePipeline()
	image, err := p.Images.Resolve(t.Context(), h.registry.addr+"/agent/planner:v1")
	if err != nil {
		t.Fatal(err)
	}
	model := []byte(`{"name":"agent","services":{"planner":{"image":"planner"}}}`)
	doc := release.Document{
		Release: release.Release{SchemaVersion: 1, Name: "agent", Version: "1.0.0", Revision: strings.Repeat("0", 40),
			Services: map[string]release.Service{"planner": {Path: "planner", Digest: image.Digest, Origin: release.Built}},
			Models:   map[string]release.Digest{release.SmokeModel: release.DigestOf(model)}},
		Models: map[string][]byte{release.SmokeModel: model}, Lock: release.Lock{Models: map[string]release.Requirements{}},
	}
	subject, err := p.Documents.PushRelease(t.Context(), h.registry.addr+"/agent/agent", doc, []string{"release-1"})
	if err != nil {
		t.Fatal(err)
	}
	_, checkpoint, err := p.Ledger.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trust := p.Project.Trust
	record := release.Record{Phase: release.Released, Release: subject.Digest, Version: "1.0.0", Trust: &trust, Rules: release.DigestOf([]byte("x"))}
	if _, _, err := p.Ledger.Append(t.Context(), record, checkpoint.TreeSize); err != nil {
		t.Fatal(err)
	}
	return subject.Digest.String()
}
