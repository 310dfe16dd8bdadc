//go:build engine

package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Where the services of an instance listen, inside a network of their own.
const (
	fulcioURL    = "http://127.0.0.1:15555"
	timestampURL = "http://127.0.0.1:15556/api/v1/timestamp"
	rekor2Writes = "http://127.0.0.1:15557"
	rekor2URL    = "http://127.0.0.1:15562"
	rekor1URL    = "http://127.0.0.1:15560"
	ctURL        = "http://127.0.0.1:15561/ct"
	rekor2Origin = "rekor.local" // by which its checkpoints name it
)

// instance is a private sigstore instance: an issuer of identity tokens, and
// the real services, each as a process that keeps nothing.
type instance struct {
	dir             string
	people, actions *issuer
	rootText        []byte // its trusted root
	root            *Root
	stop            func()
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	in := &instance{dir: t.TempDir(), people: newIssuer(t), actions: newIssuer(t)}
	running := []*exec.Cmd{}
	in.stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		running = nil
		in.people.server.Close()
		in.actions.server.Close()
	}
	t.Cleanup(in.stop)
	start := func(p thirdParty, args ...string) *lines {
		cmd := exec.Command(p.built(t), args...)
		cmd.Dir = in.dir
		out := &lines{first: make(chan string, 1)}
		cmd.Stdout = out
		log, err := os.Create(filepath.Join(in.dir, p.name+".log"))
		check(t, err)
		defer log.Close()
		cmd.Stderr = log
		check(t, cmd.Start())
		running = append(running, cmd)
		return out
	}
	ctKey, logKey := in.keys(t)
	in.write(t, "fulcio.yaml", fmt.Sprintf("oidc-issuers:\n  %[1]s: {issuer-url: %[1]s, client-id: sigstore, type: email}\n  %[2]s: {issuer-url: %[2]s, client-id: sigstore, type: github-workflow}\n",
		in.people.server.URL, in.actions.server.URL))
	trees := start(trillmem)
	start(timestampServer, "serve", "--host", "127.0.0.1", "--port", "15556", "--timestamp-signer", "memory", "--disable-ntp-monitoring")
	start(rekor2Server, "serve", "--http-address", "127.0.0.1", "--http-port", "15557", "--grpc-address", "127.0.0.1", "--grpc-port", "15558",
		"--http-metrics-port", "15559", "--hostname", rekor2Origin, "--storage-dir", filepath.Join(in.dir, "log"), "--signer-filepath", "rekor2.pem", "--checkpoint-interval", "500ms")
	start(fulcioServer, "serve", "--ca", "ephemeralca", "--ct-log-url", ctURL, "--config-path", "fulcio.yaml", "--host", "127.0.0.1", "--port", "15555",
		"--grpc-host", "127.0.0.1", "--grpc-port", "15554", "--metrics-port", "15553", "--legacy-unix-domain-socket", filepath.Join(in.dir, "fulcio.sock"))
	var address, tree, ctTree string
	if _, err := fmt.Sscan(trees.wait(t), &address, &tree, &address, &ctTree); err != nil {
		t.Fatalf("trillmem: %v", err)
	}
	host, port, err := net.SplitHostPort(address)
	check(t, err)
	start(rekor1Server, "serve", "--port", "15560", "--rekor_server.address", "127.0.0.1", "--trillian_log_server.address", host, "--trillian_log_server.port", port,
		"--trillian_log_server.tlog_id", tree, "--enable_retrieve_api=false", "--rekor_server.signer", "memory",
		"--enabled_api_endpoints", "createLogEntry,getLogEntryByUUID,getLogEntryByIndex,getLogInfo,getLogProof,getPublicKey,searchLogQuery")

	var chains struct {
		Chains []struct{ Certificates []string }
	}
	check(t, json.Unmarshal(in.get(t, fulcioURL+"/api/v2/trustBundle"), &chains))
	authority := []byte(chains.Chains[0].Certificates[0])
	in.write(t, "fulcio.pem", string(authority))
	in.write(t, "ct.cfg", fmt.Sprintf(`config { log_id: %s prefix: "ct" roots_pem_file: %q private_key: { [type.googleapis.com/keyspb.PEMKeyFile] { path: %q password: "x" } } ext_key_usages: "CodeSigning" max_merge_delay_sec: 86400 expected_merge_delay_sec: 120 }`,
		ctTree, filepath.Join(in.dir, "fulcio.pem"), filepath.Join(in.dir, "ct.pem")))
	start(ctServer, "--http_endpoint", "127.0.0.1:15561", "--log_rpc_server", address, "--log_config", "ct.cfg", "--quota_remote=false")
	in.get(t, ctURL+"/ct/v1/get-sth")
	in.publish(t)
	in.trust(t, authority, ctKey, logKey)
	return in
}

// publish serves what Rekor's second version publishes, a directory, beside where
// it takes entries, as its operators do.
func (in *instance) publish(t *testing.T) {
	t.Helper()
	writes, err := url.Parse(rekor2Writes)
	check(t, err)
	listener, err := net.Listen("tcp", strings.TrimPrefix(rekor2URL, "http://"))
	check(t, err)
	mux := http.NewServeMux()
	mux.Handle("GET /api/v2/", http.StripPrefix("/api/v2/", http.FileServer(http.Dir(filepath.Join(in.dir, "log")))))
	mux.Handle("POST /", httputil.NewSingleHostReverseProxy(writes))
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
}

// keys makes those of the logs that read theirs from a file.
func (in *instance) keys(t *testing.T) (ct crypto.PublicKey, log ed25519.PublicKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.MarshalECPrivateKey(private)
	check(t, err)
	//lint:ignore SA1019 the certificate log reads only this
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte("x"), x509.PEMCipherAES256)
	check(t, err)
	in.write(t, "ct.pem", string(pem.EncodeToMemory(block)))
	log, other, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	der, err = x509.MarshalPKCS8PrivateKey(other)
	check(t, err)
	in.write(t, "rekor2.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return private.Public(), log
}

func (in *instance) write(t *testing.T, name, text string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(in.dir, name), []byte(text), 0o600))
}

// get waits until a service answers.
func (in *instance) get(t *testing.T, url string) []byte {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.Get(url)
		if err == nil {
			text, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err == nil && r.StatusCode == http.StatusOK {
				return text
			}
		}
		if time.Now().After(deadline) {
			logs, _ := filepath.Glob(filepath.Join(in.dir, "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s: %s", filepath.Base(log), tail(text))
			}
			t.Fatalf("%s does not answer: %v", url, err)
		}
	}
}

// trust makes the instance's trusted root.
func (in *instance) trust(t *testing.T, authority []byte, ct crypto.PublicKey, log ed25519.PublicKey) {
	t.Helper()
	since := time.Now().Add(-time.Hour)
	keyOf := func(public crypto.PublicKey) (string, []byte) {
		der, err := x509.MarshalPKIXPublicKey(public)
		check(t, err)
		sum := sha256.Sum256(der)
		return hex.EncodeToString(sum[:]), sum[:]
	}
	ecdsaLog := func(base string, public crypto.PublicKey) (string, *root.TransparencyLog) {
		name, id := keyOf(public)
		return name, &root.TransparencyLog{BaseURL: base, ID: id, ValidityPeriodStart: since, HashFunc: crypto.SHA256, PublicKey: public, SignatureHashFunc: crypto.SHA256}
	}
	block, _ := pem.Decode(in.get(t, rekor1URL+"/api/v1/log/publicKey"))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	check(t, err)
	first, firstLog := ecdsaLog(rekor1URL, public)
	certificates, certificateLog := ecdsaLog(ctURL, ct)
	_, id, err := note.KeyHash(rekor2Origin, log)
	check(t, err)
	ca := certificatesOf(t, authority)
	stamps := certificatesOf(t, in.get(t, timestampURL+"/certchain"))
	last := len(stamps) - 1
	made, err := root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{Root: ca[len(ca)-1], Intermediates: ca[:len(ca)-1], ValidityPeriodStart: since, URI: fulcioURL}},
		map[string]*root.TransparencyLog{certificates: certificateLog},
		[]root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{Root: stamps[last], Intermediates: stamps[1:last], Leaf: stamps[0], ValidityPeriodStart: since}},
		map[string]*root.TransparencyLog{first: firstLog, hex.EncodeToString(id): {BaseURL: "https://" + rekor2Origin, ID: id, ValidityPeriodStart: since,
			HashFunc: crypto.SHA256, PublicKey: log, SignatureHashFunc: crypto.Hash(0)}})
	check(t, err)
	in.rootText, err = made.MarshalJSON()
	check(t, err)
	in.root, err = ParseRoot(in.rootText)
	check(t, err)
}

func certificatesOf(t *testing.T, text []byte) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		check(t, err)
		list = append(list, c)
	}
	return list
}

// lines keeps the first line that a program writes.
type lines struct {
	text  bytes.Buffer
	first chan string
}

func (l *lines) Write(p []byte) (int, error) {
	l.text.Write(p)
	if line, _, ok := strings.Cut(l.text.String(), "\n"); ok {
		select {
		case l.first <- line:
		default:
		}
	}
	return len(p), nil
}

func (l *lines) wait(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l.first:
		return line
	case <-time.After(time.Minute):
		t.Fatal("the program says nothing")
		return ""
	}
}

// issuer gives identity tokens, as an OpenID Connect issuer does, and as GitHub
// Actions does to its jobs.
type issuer struct {
	server *httptest.Server
	key    *ecdsa.PrivateKey
	claims map[string]any // beside the usual ones
}

// bearer is what GitHub gives a job to ask for tokens with.
const bearer = "canary-bearer-5d1e"

var base64URL = base64.RawURLEncoding

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	i := &issuer{key: key}
	point, err := key.PublicKey.Bytes()
	check(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer(w, map[string]any{"issuer": i.server.URL, "jwks_uri": i.server.URL + "/keys", "authorization_endpoint": i.server.URL + "/auth",
			"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1",
			"x": base64URL.EncodeToString(point[1:33]), "y": base64URL.EncodeToString(point[33:])}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+bearer || r.URL.Query().Get("audience") != audience || r.URL.Query().Get("run") != "7" {
			http.Error(w, "who are you?", http.StatusForbidden)
			return
		}
		answer(w, map[string]any{"value": i.token(t, nil)})
	})
	i.server = httptest.NewServer(mux)
	return i
}

// token makes a token, with other claims than the usual ones if asked to.
func (i *issuer) token(t *testing.T, other map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": i.server.URL, "aud": audience, "sub": "somebody", "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}
	for _, more := range []map[string]any{i.claims, other} {
		for name, value := range more {
			claims[name] = value
		}
	}
	part := func(v any) string {
		text, err := json.Marshal(v)
		check(t, err)
		return base64URL.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	check(t, err)
	return text + "." + base64URL.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}
