//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	validate "github.com/santhosh-tekuri/jsonschema/v6"
)

// stage is what `promote demo --keep` left: an agent stack that has been all
// the way to production and back, its registry, its key, its ledger. The tests
// go on from there, one after the other.
type stage struct {
	binary   string
	state    string
	dir      string // the workspace
	tree     string // the checkout in it
	registry string
	story    string // what the demo printed
	environ  []string
}

var theStage *stage

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("DOCKER_HOST") == "" && os.Getenv("CI") != "true" {
		if _, err := os.Stat("/var/run/docker.sock"); err != nil {
			fmt.Println("skipping: no engine; make test sets one up")
			return 0
		}
	}
	prepare()
	s, err := open()
	if s != nil {
		defer s.close()
	}
	if err != nil {
		fmt.Println("setting the stage:", err)
		return 1
	}
	theStage = s
	return m.Run()
}

func open() (*stage, error) {
	state, err := os.MkdirTemp("", "promote-e2e-")
	if err != nil {
		return nil, err
	}
	s := &stage{binary: os.Getenv("PROMOTE_BINARY"), state: state}
	if s.binary == "" {
		s.binary = filepath.Join(state, "promote")
		if out, err := exec.Command("go", "build", "-o", s.binary, "../../cmd/promote").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building promote: %w\n%s", err, out)
		}
	}
	s.environ = append(os.Environ(), "XDG_STATE_HOME="+state)
	out := &bytes.Buffer{}
	cmd := exec.Command(s.binary, "demo", "--keep")
	cmd.Env = s.environ
	cmd.Stdout = io.MultiWriter(out, os.Stdout)
	cmd.Stderr = os.Stderr
	err = cmd.Run()
	s.story = out.String()
	kept := regexp.MustCompile(`Kept: cd (\S+)/agent`).FindStringSubmatch(s.story)
	if kept == nil {
		return s, errors.Join(err, errors.New("the demo kept nothing"))
	}
	s.dir, s.tree = kept[1], kept[1]+"/agent"
	if err != nil {
		return s, err
	}
	s.registry = regexp.MustCompile(`its registry (\S+),`).FindStringSubmatch(s.story)[1]
	secrets, err := os.ReadFile(filepath.Join(s.dir, "demo.env"))
	if err != nil {
		return s, err
	}
	s.environ = append(s.environ, strings.Fields(strings.TrimPrefix(string(secrets), "export "))...)
	return s, s.hurry()
}

// The memory test of the demo's promote.yaml, and the one of most tests.
const (
	fullMemory  = "    duration: 20s\n    warmup: 5s"
	shortMemory = "    duration: 4s\n    warmup: 1s"
)

// hurry makes the smoke runs of the following releases short: the demo has
// shown a full one, and what is tested from here on is something else.
func (s *stage) hurry() error {
	path := filepath.Join(s.tree, "promote.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	short := strings.Replace(string(text), fullMemory, shortMemory, 1)
	if short == string(text) {
		return errors.New("promote.yaml has another memory test than expected")
	}
	if err := os.WriteFile(path, []byte(short), 0o644); err != nil {
		return err
	}
	out, err := exec.Command("git", "-C", s.tree, "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-a", "-m", "shorter smoke runs").CombinedOutput()
	if err != nil {
		return fmt.Errorf("committing: %w: %s", err, out)
	}
	return nil
}

func (s *stage) close() {
	cmd := exec.Command(s.binary, "clean")
	cmd.Env = s.environ
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Printf("cleaning up: %v\n%s", err, out)
		return
	}
	_ = os.RemoveAll(s.state)
}

// outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

func (s *stage) promote(t *testing.T, args ...string) outcome { return s.with(t, nil, args...) }

// with runs promote with further environment variables.
func (s *stage) with(t *testing.T, environ []string, args ...string) outcome {
	t.Helper()
	cmd := s.command(t.Context(), environ, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	o := outcome{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		o.code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *stage) command(ctx context.Context, environ []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir, cmd.Env = s.tree, append(append([]string{}, s.environ...), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// must runs promote, expects success and decodes its JSON result.
func (s *stage) must(t *testing.T, into any, args ...string) {
	t.Helper()
	o := s.promote(t, append(args, "-o", "json")...)
	if o.code != 0 {
		t.Fatalf("promote %s: exit %d\n%s", strings.Join(args, " "), o.code, o.stderr)
	}
	if err := json.Unmarshal([]byte(o.stdout), into); err != nil {
		t.Fatalf("promote %s: %v\n%s", strings.Join(args, " "), err, o.stdout)
	}
	described(t, args[0], o.stdout)
}

// described holds a command's result to its schema.
func described(t *testing.T, command, result string) {
	t.Helper()
	if command == "resume" || command == "rollback" { // as a promotion's
		command = "to"
	}
	s, err := validate.NewCompiler().Compile("../../docs/schema/results/" + command + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := validate.UnmarshalJSON(strings.NewReader(result))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("promote %s: %v\n%s", command, err, result)
	}
}

func (o outcome) want(t *testing.T, code int, says ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit %d, want %d\n%s", o.code, code, o.stderr)
	}
	for _, text := range says {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("it does not say %q:\n%s", text, o.stderr)
		}
	}
}

// change commits a new prompt, so that there is something to release.
func (s *stage) change(t *testing.T, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.tree, "prompts", "plan.md"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.git(t, "commit", "-q", "-a", "-m", text)
}

func (s *stage) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", s.tree, "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// docker asks the engine with a tool that is not ours.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := dockerOutput(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dockerOutput(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("docker %q: %w: %s", args, err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// get asks the registry over plain HTTP.
func (s *stage) get(t *testing.T, method, path string) (int, []byte, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.registry+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body, response.Header
}
