package registry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
)

const canary = "canary-5ecret"

// places are where people keep a password for a host.
func places(t *testing.T, host string) map[string]func(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + canary))
	inline := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth)
	helper := func(t *testing.T, config string) {
		dir := t.TempDir()
		script := fmt.Sprintf("#!/bin/sh\nread server\necho '{\"ServerURL\":\"'$server'\",\"Username\":\"user\",\"Secret\":\"%s\"}'\n", canary)
		writeFile(t, filepath.Join(dir, "docker-credential-vault"), script, 0o700)
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		writeFile(t, filepath.Join(dir, "config.json"), config, 0o600)
		t.Setenv("DOCKER_CONFIG", dir)
	}
	return map[string]func(t *testing.T){
		"DOCKER_AUTH_CONFIG": func(t *testing.T) { t.Setenv("DOCKER_AUTH_CONFIG", inline) },
		"REGISTRY_AUTH_FILE": func(t *testing.T) {
			t.Setenv("REGISTRY_AUTH_FILE", writeFile(t, filepath.Join(t.TempDir(), "auth.json"), inline, 0o600))
		},
		"config.json": func(t *testing.T) {
			t.Setenv("DOCKER_CONFIG", filepath.Dir(writeFile(t, filepath.Join(t.TempDir(), "config.json"), inline, 0o600)))
		},
		"path": func(t *testing.T) {
			t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths":{%q:{"username":"user","password":%q},%q:{"auth":"dXNlcjp3cm9uZw=="}}}`, host+"/src", canary, host))
		},
		"credHelpers": func(t *testing.T) { helper(t, fmt.Sprintf(`{"credHelpers":{%q:"vault"}}`, host)) },
		"credsStore":  func(t *testing.T) { helper(t, `{"credsStore":"vault"}`) },
		"identity token": func(t *testing.T) {
			t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths":{%q:{"identitytoken":%q}}}`, host, canary))
		},
		"registry token": func(t *testing.T) {
			t.Setenv("DOCKER_AUTH_CONFIG", fmt.Sprintf(`{"auths":{%q:{"registrytoken":%q}}}`, host, canary))
		},
	}
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// told reports whether a request proves that its sender knows the canary.
func told(r *http.Request) bool {
	_ = r.ParseForm()
	_, password, _ := r.BasicAuth()
	return password == canary || r.Header.Get("Authorization") == "Bearer "+canary || r.PostForm.Get("refresh_token") == canary
}

// A password is in no error, event or log line, wherever it was kept and
// whatever the registry does with it: also when it says it back.
func TestCanary(t *testing.T) {
	for _, variable := range []string{"DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(variable, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var logged bytes.Buffer
	log.SetOutput(&logged)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })

	p := registrytest.Serve(t, inMemory(true).New(t))
	s := p.Put(t, "src", "v1", registrytest.NewImage(1, 1000))
	issued := "token-of-" + canary
	for place, plant := range places(t, p.Host) {
		scheme, basic := "Basic", base64.StdEncoding.EncodeToString([]byte("user:"+canary))
		if strings.Contains(place, "token") {
			scheme, basic = "Bearer", canary
		}
		echo := fmt.Sprintf(`{"errors":[{"code":"DENIED","message":"you sent %s, that is %s, and have %s"}]}`, basic, canary, issued)
		challenge := fmt.Sprintf(`%s realm="http://%s/token"`, scheme, p.Host)
		for failure, do := range map[string]registrytest.Action{
			"":                nil, // succeeds: the secret is in use
			"401":             registrytest.Answer(401, []byte(echo), "WWW-Authenticate", challenge),
			"403":             registrytest.Answer(403, []byte(echo)),
			"500":             registrytest.Answer(500, []byte(echo)),
			"404":             registrytest.Answer(404, []byte(echo)),
			"digest":          registrytest.Answer(200, []byte(echo), "Docker-Content-Digest", canary),
			"redirect":        registrytest.Answer(307, nil, "Location", "http://169.254.169.254/"+canary),
			"redirect host":   registrytest.Answer(307, nil, "Location", "http://user:"+canary+"@"+canary+".example/"+basic),
			"location":        registrytest.Answer(307, nil, "Location", "http://%zz"+canary),
			"realm":           registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="`+canary+`"`),
			"realm host":      registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="http://`+canary+`.example/`+basic+`"`),
			"no HTTP":         speak("HTTP/1.1 " + canary + "\r\n" + basic + "\r\n\r\n"),
			"no header":       speak("HTTP/1.1 200 OK\r\n" + canary + " " + basic + "\r\n\r\n"),
			"length":          speak("HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n"),
			"token server":    registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="http://`+p.Host+`/sick"`),
			"token server 2":  registrytest.Answer(401, nil, "WWW-Authenticate", `Bearer realm="http://`+p.Host+`/mute?`+canary+`"`),
			"token is echoed": registrytest.Answer(500, []byte(`{"errors":[{"message":"`+issued+`"}]}`)),
		} {
			t.Run(place+"/"+failure, func(t *testing.T) {
				plant(t)
				knew := false
				var mu sync.Mutex
				p.On("", ".", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					known := told(r)
					mu.Lock()
					knew = knew || known
					mu.Unlock()
					switch {
					case r.URL.Path == "/token" && known:
						fmt.Fprintf(w, `{"access_token":%q,"token":%q}`, issued, issued)
					case r.URL.Path == "/token":
						w.WriteHeader(http.StatusUnauthorized)
					case r.URL.Path == "/sick":
						registrytest.Answer(418, []byte(echo))(w, r, next)
					case r.URL.Path == "/mute":
						registrytest.Answer(200, []byte(echo+basic))(w, r, next)
					case !known && r.Header.Get("Authorization") != "Bearer "+issued:
						registrytest.Answer(401, nil, "WWW-Authenticate", challenge)(w, r, next)
					case do != nil:
						do(w, r, next)
					default:
						next.ServeHTTP(w, r)
					}
				})
				var events bytes.Buffer
				ctx := event.With(t.Context(), func(e event.Event) {
					mu.Lock()
					defer mu.Unlock()
					_ = json.NewEncoder(&events).Encode(e)
				})
				c, err := registry.New(registry.Options{Limits: registrytest.FastLimits(), CertDirs: []string{}})
				if err != nil {
					t.Fatal(err)
				}
				_, err = resolveAndCopy(ctx, c, s.Repository, p.Host)
				switch {
				case do == nil && err != nil:
					t.Errorf("it must succeed: %v", err)
				case do != nil && err == nil:
					t.Error("it must fail")
				}
				if !knew {
					t.Error("nobody was told the secret: the case shows nothing")
				}
				mu.Lock()
				defer mu.Unlock()
				shown := fmt.Sprintf("%v %+v %#v %+v %#v", err, err, err, c, c) + events.String() + logged.String()
				for _, secret := range []string{canary, basic, base64.StdEncoding.EncodeToString([]byte(canary))} {
					if i := strings.Index(shown, secret); i >= 0 {
						t.Errorf("it is shown: …%s…", shown[max(0, i-200):min(len(shown), i+100)])
					}
				}
			})
		}
	}
}

func resolveAndCopy(ctx context.Context, c *registry.Client, repository, host string) (registry.CopyResult, error) {
	s, err := c.Resolve(ctx, repository+":v1")
	if err != nil {
		return registry.CopyResult{}, err
	}
	return c.Copy(ctx, s, host+"/src", registry.CopyOptions{Tags: []string{"v2"}, Referrers: true})
}

// speak answers with these bytes instead of HTTP.
func speak(bytes string) registrytest.Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = conn.Write([]byte(bytes))
		conn.Close()
	}
}
