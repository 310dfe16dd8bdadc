package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/promote-dev/promote/pkg/release"
)

// Keychain gives the credentials that somebody configured.
type Keychain interface {
	// Credential gives what is configured for a host, and for a path under it
	// where that is told apart; path may be empty. Nothing configured is the
	// zero Credential, not an error.
	Credential(ctx context.Context, host, path string) (Credential, error)
}

// Credential is a user name and password, or one of the tokens that Docker's
// configuration knows. Its text never shows a secret.
type Credential struct {
	Username string
	Password string
	// IdentityToken is exchanged for access tokens (OAuth2 refresh token).
	IdentityToken string
	// RegistryToken is sent to the registry as it is.
	RegistryToken string
}

func (c Credential) empty() bool { return c == Credential{} }

// String names the user only.
func (c Credential) String() string { return fmt.Sprintf("credential of %q", c.Username) }

// GoString is String: %#v shows no secret either.
func (c Credential) GoString() string { return c.String() }

// DefaultKeychain reads credentials where people keep them, the most explicit
// place first: $DOCKER_AUTH_CONFIG (the text of a Docker configuration),
// $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json or ~/.docker/config.json with
// its credential helpers, and Podman's auth.json. The first that has something
// for the host decides.
func DefaultKeychain() Keychain { return dockerKeychain{getenv: os.Getenv} }

type dockerKeychain struct{ getenv func(string) string }

const mostConfig = 1 * mib

func (k dockerKeychain) Credential(ctx context.Context, host, path string) (Credential, error) {
	if text := k.getenv("DOCKER_AUTH_CONFIG"); text != "" {
		config, err := parseDockerConfig(strings.NewReader(text))
		if err != nil {
			return Credential{}, release.Faultf(release.KindConfig, "it holds the text of a Docker config.json", "reading $DOCKER_AUTH_CONFIG: %w", err)
		}
		if cred, err := config.lookup(ctx, host, path); err != nil || !cred.empty() {
			return cred, err
		}
	}
	for _, file := range k.files() {
		cred, err := fromFile(ctx, file, host, path)
		if err != nil || !cred.empty() {
			return cred, err
		}
	}
	return Credential{}, nil
}

// files lists the configurations in order; most of them don't exist.
func (k dockerKeychain) files() []string {
	var list []string
	add := func(base string, elem ...string) {
		if base != "" {
			list = append(list, filepath.Join(append([]string{base}, elem...)...))
		}
	}
	home := k.getenv("HOME")
	add(k.getenv("REGISTRY_AUTH_FILE"))
	if dir := k.getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}
	add(k.getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := k.getenv("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}
	return list
}

func fromFile(ctx context.Context, file, host, path string) (Credential, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Credential{}, nil
	}
	if err != nil {
		return Credential{}, release.Faultf(release.KindConfig, "make the file readable for you, or remove it", "reading credentials: %w", err)
	}
	defer f.Close()
	config, err := parseDockerConfig(f)
	if err != nil {
		return Credential{}, &release.Fault{Kind: release.KindConfig, File: file, Hint: "repair the file, or log in again", Op: "reading credentials", Err: err}
	}
	return config.lookup(ctx, host, path)
}

// dockerConfig is the part of config.json that is about credentials.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func parseDockerConfig(r io.Reader) (dockerConfig, error) {
	var config dockerConfig
	raw, err := io.ReadAll(io.LimitReader(r, mostConfig+1))
	switch {
	case err != nil:
		return config, err
	case len(raw) > mostConfig:
		return config, fmt.Errorf("longer than %d bytes", mostConfig)
	case len(strings.TrimSpace(string(raw))) == 0:
		return config, nil
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return config, errors.New("not the JSON of a Docker configuration") // the text may hold a secret
	}
	return config, nil
}

// lookup follows Docker: a helper for the host, else the store for all, else
// what stands in the file.
func (c dockerConfig) lookup(ctx context.Context, host, path string) (Credential, error) {
	keys := configKeys(host, path)
	for _, key := range keys {
		if helper := c.CredHelpers[key]; helper != "" {
			return runHelper(ctx, helper, key)
		}
	}
	if c.CredsStore != "" {
		for _, key := range hostKeys(host) {
			cred, err := runHelper(ctx, c.CredsStore, key)
			if err != nil || !cred.empty() {
				return cred, err
			}
		}
	}
	for _, key := range keys {
		if auth, ok := c.Auths[key]; ok {
			cred, err := auth.credential()
			if err != nil {
				return Credential{}, release.Faultf(release.KindConfig, "log in again with `docker login "+host+"`", "credentials for %s: %w", host, err)
			}
			if !cred.empty() {
				return cred, nil
			}
		}
	}
	return Credential{}, nil
}

// configKeys are the names under which a repository's credentials may stand,
// the most specific first.
func configKeys(host, path string) []string {
	var keys []string
	for path != "" {
		keys = append(keys, host+"/"+path)
		i := strings.LastIndexByte(path, '/')
		path = path[:max(i, 0)]
	}
	return append(keys, hostKeys(host)...)
}

func hostKeys(host string) []string {
	if host == dockerHub || host == dockerHubEndpoint {
		return []string{"https://" + dockerHubEndpoint + "/v1/", dockerHub, dockerHubEndpoint}
	}
	return []string{host, "https://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/", "http://" + host}
}

func (a dockerAuth) credential() (Credential, error) {
	cred := Credential{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth == "" {
		return cred, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(a.Auth), "="))
	user, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return Credential{}, errors.New("auth is not base64 of user:password")
	}
	// Docker pads old entries with zero bytes.
	cred.Username, cred.Password = user, strings.Trim(password, "\x00")
	return cred, nil
}
