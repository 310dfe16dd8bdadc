package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

func env(pairs map[string]string) func(string) string {
	return func(key string) string { return pairs[key] }
}

func TestResolveAddress(t *testing.T) {
	home := t.TempDir()
	sum := sha256.Sum256([]byte("prod"))
	id := hex.EncodeToString(sum[:])
	write := func(content string, path ...string) {
		file := filepath.Join(append([]string{home, ".docker"}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"Name":"prod","Endpoints":{"docker":{"Host":"tcp://10.1.2.3:2376"}}}`, "contexts", "meta", id, "meta.json")
	write("", "contexts", "tls", id, "docker", "ca.pem")
	contextTLS := filepath.Join(home, ".docker", "contexts", "tls", id, "docker")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	current := t.TempDir()
	if err := os.WriteFile(filepath.Join(current, "config.json"), []byte(`{"currentContext":"gone"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, given       string
		env               map[string]string
		url, certificates string
		refused           bool
	}{
		{name: "default", url: "unix:///var/run/docker.sock"},
		{name: "given", given: "unix:///run/a.sock", env: map[string]string{"DOCKER_HOST": "unix:///run/b.sock"}, url: "unix:///run/a.sock"},
		{name: "DOCKER_HOST", env: map[string]string{"DOCKER_HOST": "unix:///run/b.sock", "DOCKER_CONTEXT": "prod"}, url: "unix:///run/b.sock"},
		{name: "DOCKER_HOST over TLS", env: map[string]string{"DOCKER_HOST": "tcp://h:2376", "DOCKER_CERT_PATH": "/c"}, url: "tcp://h:2376", certificates: "/c"},
		{name: "DOCKER_TLS_VERIFY alone", env: map[string]string{"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1"}, url: "tcp://h:2376", certificates: filepath.Join(home, ".docker")},
		{name: "DOCKER_CONTEXT", env: map[string]string{"DOCKER_CONTEXT": "prod"}, url: "tcp://10.1.2.3:2376", certificates: contextTLS},
		{name: "no such context", env: map[string]string{"DOCKER_CONTEXT": "nope"}, refused: true},
		{name: "a current context that is gone", env: map[string]string{"DOCKER_CONFIG": current}, refused: true},
		{name: "a broken configuration", env: map[string]string{"DOCKER_CONFIG": broken}, refused: true},
		{name: "ssh", given: "ssh://deploy@prod-1:2222/run/d.sock", url: "ssh://deploy@prod-1:2222/run/d.sock"},
		{name: "plain TCP on loopback", given: "tcp://127.0.0.1:2375", url: "tcp://127.0.0.1:2375"},
		{name: "plain TCP elsewhere", given: "tcp://10.0.0.1:2375", refused: true},
		{name: "plain HTTP elsewhere", given: "http://example.com:2375", refused: true},
		{name: "npipe", given: "npipe:////./pipe/x", refused: true},
		{name: "no scheme", given: "prod-1", refused: true},
		{name: "a password", given: "ssh://deploy:secret@prod-1", refused: true},
		{name: "an option as host", given: "ssh://-oProxyCommand=x/", refused: true},
		{name: "an option as user", given: "ssh://-l@prod-1", refused: true},
		{name: "a forwarding in the path", given: "ssh://prod-1/a:b", refused: true},
		{name: "a query", given: "ssh://prod-1?x=y", refused: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pairs := map[string]string{"HOME": home}
			for k, v := range c.env {
				pairs[k] = v
			}
			a, err := resolveAddress(c.given, env(pairs))
			if c.refused {
				if release.KindOf(err) != release.KindConfig {
					t.Errorf("%+v, %v", a, err)
				}
				return
			}
			if err != nil || a.url != c.url || a.certificates != c.certificates {
				t.Errorf("%+v, %v; want %s with %q", a, err, c.url, c.certificates)
			}
		})
	}
}

func TestSSHArguments(t *testing.T) {
	a, err := parseSSH("ssh://deploy@prod-1:2222")
	if err != nil {
		t.Fatal(err)
	}
	args := a.arguments("/etc/ssh/promote", "/tmp/x/engine.sock", "/tmp/x/ctl")
	text := strings.Join(args, " ")
	for _, want := range []string{
		"-o BatchMode=yes", "-o StrictHostKeyChecking=yes", "-o ExitOnForwardFailure=yes", "-M -S /tmp/x/ctl", "-o ControlPersist=no", "-F /etc/ssh/promote",
		"-L /tmp/x/engine.sock:/var/run/docker.sock", "-l deploy", "-p 2222",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if !slices.Equal(args[len(args)-2:], []string{"--", "prod-1"}) {
		t.Errorf("the host does not stand behind --: %s", text)
	}
	bare, err := parseSSH("ssh://prod-1/run/x/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	if text = strings.Join(bare.arguments("", "s", "c"), " "); strings.Contains(text, "-F") || strings.Contains(text, "-l ") || strings.Contains(text, "-p ") || !strings.Contains(text, "s:/run/x/docker.sock") {
		t.Errorf("what was not given is set: %s", text)
	}
}

// What ssh says when it gives up, and what we make of it.
func TestSSHFaults(t *testing.T) {
	cases := map[string]struct{ said, text, hint string }{
		"unknown key": {"No ED25519 host key is known for prod-1 and you have requested strict checking.\nHost key verification failed.", "key is unknown", "known_hosts"},
		"changed key": {"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending ED25519 key in /root/.ssh/known_hosts:3\nHost key verification failed.", "not the one in known_hosts", "between you and the host"},
		"revoked key": {"@       WARNING: REVOKED HOST KEY DETECTED!               @\nThe ED25519 host key for prod-1 is marked as revoked.\nHost key verification failed.", "revoked", "administrator"},
		"no account":  {"deploy@prod-1: Permission denied (publickey).", "Permission denied", "authorized_keys"},
		"no host":     {"ssh: Could not resolve hostname prod-9: Name or service not known", "Could not resolve", "network"},
		"silence":     {"", "said nothing", "ssh prod-1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := sshFault("ssh://prod-1", c.said)
			if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v (%s)", err, release.KindOf(err))
			}
			if f := err.(*release.Fault); !strings.Contains(f.Hint, c.hint) {
				t.Errorf("hint %q", f.Hint)
			}
		})
	}
}

func TestTailIsBounded(t *testing.T) {
	last := &tail{most: 10}
	for range 100 {
		if _, err := last.Write([]byte("abcdefg")); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(last.Bytes()); got != "efgabcdefg" {
		t.Errorf("%q", got)
	}
	first := &head{most: 10}
	for range 100 {
		if n, err := first.Write([]byte("abcdefg")); n != 7 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := string(first.bytes); got != "abcdefgabc" {
		t.Errorf("%q", got)
	}
}

func TestRegistryHost(t *testing.T) {
	for repository, want := range map[string]string{
		"ghcr.io/acme/planner": "ghcr.io", "127.0.0.1:5000/a": "127.0.0.1:5000", "localhost/a": "localhost",
		"library/redis": "docker.io", "redis": "docker.io", "acme/planner": "docker.io",
	} {
		if got := registryHost(repository); got != want {
			t.Errorf("%s: %s, want %s", repository, got, want)
		}
	}
}
