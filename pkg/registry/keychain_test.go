package registry

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/promote-dev/promote/pkg/release"
)

// Base64 of "file:one" and so on.
const (
	authOne = "ZmlsZTpvbmU="
	authTwo = "ZmlsZTp0d28" // unpadded
)

func write(t *testing.T, dir string, parts ...string) string {
	t.Helper()
	file := filepath.Join(append([]string{dir}, parts[:len(parts)-1]...)...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(parts[len(parts)-1]), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func keychainOf(environment map[string]string) dockerKeychain {
	return dockerKeychain{getenv: func(key string) string { return environment[key] }}
}

func TestKeychainOrder(t *testing.T) {
	dir := t.TempDir()
	auths := func(host, auth string) string { return `{"auths":{"` + host + `":{"auth":"` + auth + `"}}}` }
	write(t, dir, "home", ".docker", "config.json", `{"auths":{"ghcr.io":{"auth":"`+authOne+`"},"https://index.docker.io/v1/":{"username":"hub","password":"pw"},"quay.io":{"identitytoken":"idt"},"https://old.example/v1/":{"auth":"`+authOne+`"}}}`)
	write(t, dir, "home", ".config", "containers", "auth.json", `{"auths":{"podman.example":{"auth":"`+authOne+`"},"ghcr.io/acme":{"auth":"`+authTwo+`"}}}`)
	explicit := write(t, dir, "explicit.json", auths("ghcr.io", authTwo))
	home := map[string]string{"HOME": filepath.Join(dir, "home")}
	with := func(key, value string) map[string]string {
		return map[string]string{"HOME": home["HOME"], key: value}
	}
	for _, test := range []struct {
		environment map[string]string
		host, path  string
		want        Credential
	}{
		{nil, "ghcr.io", "", Credential{}},
		{home, "ghcr.io", "", Credential{Username: "file", Password: "one"}},
		{home, "ghcr.io", "acme/app", Credential{Username: "file", Password: "one"}},
		{home, "docker.io", "", Credential{Username: "hub", Password: "pw"}},
		{home, "index.docker.io", "library/redis", Credential{Username: "hub", Password: "pw"}},
		{home, "quay.io", "", Credential{IdentityToken: "idt"}},
		{home, "old.example", "", Credential{Username: "file", Password: "one"}},
		{home, "podman.example", "", Credential{Username: "file", Password: "one"}},
		{home, "evil-ghcr.io", "", Credential{}},
		{home, "ghcr.io.evil.example", "", Credential{}},
		{with("REGISTRY_AUTH_FILE", explicit), "ghcr.io", "", Credential{Username: "file", Password: "two"}},
		{with("REGISTRY_AUTH_FILE", explicit), "quay.io", "", Credential{IdentityToken: "idt"}},
		{with("DOCKER_CONFIG", filepath.Join(dir, "nowhere")), "ghcr.io", "", Credential{}},
		{map[string]string{"DOCKER_AUTH_CONFIG": auths("ghcr.io", authTwo)}, "ghcr.io", "", Credential{Username: "file", Password: "two"}},
		{with("DOCKER_AUTH_CONFIG", auths("ghcr.io", authTwo)), "ghcr.io", "", Credential{Username: "file", Password: "two"}},
		{with("DOCKER_AUTH_CONFIG", auths("other", authTwo)), "ghcr.io", "", Credential{Username: "file", Password: "one"}},
		{map[string]string{"XDG_CONFIG_HOME": filepath.Join(dir, "home", ".config")}, "ghcr.io", "acme/app", Credential{Username: "file", Password: "two"}},
		{map[string]string{"XDG_CONFIG_HOME": filepath.Join(dir, "home", ".config")}, "ghcr.io", "acme2/app", Credential{}},
	} {
		got, err := keychainOf(test.environment).Credential(t.Context(), test.host, test.path)
		if err != nil || got != test.want {
			t.Errorf("%v %s/%s: got %+v, %v", test.environment, test.host, test.path, got, err)
		}
	}
}

func TestKeychainErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"no JSON":    `{"auths":{"ghcr.io":{"auth":"c2VjcmV0`,
		"bad base64": `{"auths":{"ghcr.io":{"auth":"%%%"}}}`,
		"no colon":   `{"auths":{"ghcr.io":{"auth":"c2VjcmV0"}}}`,
		"too long":   strings.Repeat(" ", mostConfig+1),
	} {
		for _, environment := range []map[string]string{
			{"DOCKER_AUTH_CONFIG": text}, {"REGISTRY_AUTH_FILE": write(t, dir, name, text)},
		} {
			_, err := keychainOf(environment).Credential(t.Context(), "ghcr.io", "")
			if environment["DOCKER_AUTH_CONFIG"] != "" && name == "too long" {
				continue // an environment is not that long
			}
			if release.KindOf(err) != release.KindConfig || strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", Credential{"u", "hidden", "hidden", "hidden"}, Credential{Password: "hidden"}, Credential{Password: "hidden"}, Credential{Password: "hidden"}); strings.Contains(text, "hidden") {
		t.Errorf("a credential's text is %s", text)
	}
}

func TestCredentialHelpers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "docker-credential-good", `#!/bin/sh
read server
case "$1 $server" in
"get ghcr.io") echo '{"ServerURL":"ghcr.io","Username":"helper","Secret":"s3"}' ;;
"get quay.io") echo '{"Username":"<token>","Secret":"idt"}' ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
`)
	write(t, dir, "docker-credential-broken", "#!/bin/sh\necho 'the vault is closed' >&2; exit 3\n")
	write(t, dir, "docker-credential-chatty", "#!/bin/sh\nhead -c 200000 /dev/zero\n")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	get := func(config, host string) (Credential, error) {
		return keychainOf(map[string]string{"DOCKER_AUTH_CONFIG": config}).Credential(t.Context(), host, "team/app")
	}
	for _, test := range []struct {
		config, host string
		want         Credential
	}{
		{`{"credHelpers":{"ghcr.io":"good"}}`, "ghcr.io", Credential{Username: "helper", Password: "s3"}},
		{`{"credHelpers":{"ghcr.io":"good"},"auths":{"ghcr.io":{"auth":"` + authOne + `"}}}`, "ghcr.io", Credential{Username: "helper", Password: "s3"}},
		{`{"credsStore":"good"}`, "quay.io", Credential{IdentityToken: "idt"}},
		{`{"credsStore":"good"}`, "other.example", Credential{}},
		{`{"credsStore":"good","auths":{"other.example":{"auth":"` + authOne + `"}}}`, "other.example", Credential{Username: "file", Password: "one"}},
		{`{"credHelpers":{"ghcr.io":"absent"}}`, "other.example", Credential{}},
	} {
		if got, err := get(test.config, test.host); err != nil || got != test.want {
			t.Errorf("%s for %s: got %+v, %v", test.config, test.host, got, err)
		}
	}
	for config, kind := range map[string]release.Kind{
		`{"credHelpers":{"ghcr.io":"absent"}}`:         release.KindConfig,
		`{"credHelpers":{"ghcr.io":"../../bin/evil"}}`: release.KindConfig,
		`{"credsStore":"broken"}`:                      release.KindUnavailable,
		`{"credsStore":"chatty"}`:                      release.KindUnavailable,
	} {
		if _, err := get(config, "ghcr.io"); release.KindOf(err) != kind {
			t.Errorf("%s: got %v, want %q", config, err, kind)
		}
	}
}

func TestClientCredentials(t *testing.T) {
	c, err := New(Options{Keychain: keychainOf(map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"ghcr.io":{"auth":"` + authOne + `"},"quay.io":{"identitytoken":"idt"}}}`})})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][2]string{"ghcr.io": {"file", "one"}, "quay.io": {"<token>", "idt"}, "other": {}} {
		user, secret, err := c.Credentials(t.Context(), host)
		if err != nil || user != want[0] || secret != want[1] {
			t.Errorf("%s: %q %q %v", host, user, secret, err)
		}
	}
}
