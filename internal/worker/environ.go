package worker

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
)

// passed lists what every worker may see: where tools and caches are, how to
// reach engine, BuildKit, registries and proxies, and what CI says about the
// source. A name that ends in "*" is a prefix.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_*", "TERM", "TZ", "NO_COLOR", "CI", "XDG_*",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
	"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE",
	"BUILDKIT_HOST", "SOURCE_DATE_EPOCH",
	"TRIVY_*", "OTEL_*", "TRACEPARENT",
	"GITHUB_ACTIONS", "GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_REF", "GITHUB_RUN_ID", "GITHUB_SERVER_URL",
	"SSH_AUTH_SOCK", "GOCOVERDIR", "PROMOTE_CACHE",
}

// secret lists what no worker may see, even when a caller names it.
var secret = []string{
	"COSIGN_*", "SIGSTORE_*", "PROMOTE_KEY*", "ACTIONS_ID_TOKEN_*", "ACTIONS_RUNTIME_TOKEN", "GITHUB_TOKEN", "GH_TOKEN",
	"AWS_*", "AZURE_*", "GOOGLE_*", "VAULT_*", "BAO_*", "TRANSIT_*", "PKCS11_*",
}

// Environment filters environ down to the allow-list and the further names;
// signing variables are dropped whatever the names say.
func Environment(environ, names []string) []string {
	var kept []string
	for _, pair := range environ {
		name, _, ok := strings.Cut(pair, "=")
		if ok && !matches(secret, name) && (matches(passed, name) || slices.Contains(names, name)) {
			kept = append(kept, pair)
		}
	}
	return kept
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, wild := strings.CutSuffix(p, "*"); p == name || wild && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// lineWriter writes whole messages, from several goroutines, one a line.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) write(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(line, '\n'))
	return err
}

func (l *lineWriter) answer(result any, err error) int {
	m := message{}
	if err == nil {
		m.Result, err = json.Marshal(result)
	}
	if err != nil {
		m = message{Fault: faultOf(err)}
	}
	if l.write(m) != nil {
		return 1
	}
	return 0
}
