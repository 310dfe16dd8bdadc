//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The JSON results, as the contract describes them: only fields that others
// may rely on.
type (
	serviceResult struct{ Service, Repository, Digest string }
	releaseResult struct {
		Release, Version string
		Services         []serviceResult
	}
	runningResult struct{ Service, Digest string }
	targetResult  struct {
		Name, Status string
		Running      []runningResult
	}
	promotionResult struct {
		Release, Version string
		Images           []serviceResult
		Decision         *struct{ Result, Trust string }
		Targets          []targetResult
		Record           *struct {
			Sequence int64
			Digest   string
		}
	}
	statusResult struct {
		Environments []struct {
			Name, Release, Version string
			Targets                []targetResult
			Open                   json.RawMessage
		}
	}
)

func TestTheStory(t *testing.T) {
	for _, says := range []string{
		"$ promote release", "$ promote --to staging", "$ promote --to production", "exit code 3",
		"CVE-2023-39659", "langchain 0.0.200", "deploy_key.pem", "$ promote rollback production", "it can be proven",
	} {
		if !strings.Contains(theStage.story, says) {
			t.Errorf("the story does not tell %q", says)
		}
	}
	if n := strings.Count(theStage.story, "✓ "); n < 9 {
		t.Errorf("%d claims", n)
	}
}

// The digest that BuildKit returned, the one in the registry, the one in the
// ledger and what each container runs are the same, asked with tools that are
// not ours.
func TestTheIdenticalDigestAtFourPlaces(t *testing.T) {
	s := theStage
	var built struct{ Images []serviceResult }
	s.must(t, &built, "build")
	if len(built.Images) != 2 {
		t.Fatalf("built %+v", built)
	}
	s.must(t, &promotionResult{}, "to", "staging")
	var promoted promotionResult
	s.must(t, &promoted, "to", "production")
	var log struct {
		Records []struct {
			Record struct {
				Phase, Environment string
				Targets            []targetResult
			}
		}
	}
	s.must(t, &log, "log", "production", "-n", "1")
	if len(log.Records) != 1 || log.Records[0].Record.Phase != "deployed" {
		t.Fatalf("the last record is %+v", log)
	}
	ledger := map[string]string{}
	for _, r := range log.Records[0].Record.Targets[0].Running {
		ledger[r.Service] = r.Digest
	}
	for _, image := range built.Images {
		for _, repository := range []string{"agent/" + image.Service, "production/agent/" + image.Service} {
			code, raw, _ := s.get(t, "GET", repository+"/manifests/"+image.Digest)
			sum := sha256.Sum256(raw)
			if code != 200 || "sha256:"+hex.EncodeToString(sum[:]) != image.Digest {
				t.Errorf("the registry answers %d with %x for %s of %s", code, sum, image.Digest, repository)
			}
			if repository != "production/agent/"+image.Service {
				continue
			}
			var manifest struct{ Config struct{ Digest string } }
			if err := json.Unmarshal(raw, &manifest); err != nil {
				t.Fatal(err)
			}
			container := docker(t, "ps", "-q", "--filter", "label=com.docker.compose.service="+image.Service, "--filter", "label=com.docker.compose.project="+s.project(t, "production"))
			// The classic store's image id is the config's digest, the
			// containerd store's the manifest's.
			if id := docker(t, "inspect", "--format", "{{.Image}}", container); id != manifest.Config.Digest && id != image.Digest {
				t.Errorf("%s runs image %s; the manifest is %s with config %s", image.Service, id, image.Digest, manifest.Config.Digest)
			}
			if ref := docker(t, "inspect", "--format", "{{.Config.Image}}", container); !strings.HasSuffix(ref, "@"+image.Digest) {
				t.Errorf("%s was created from %s", image.Service, ref)
			}
		}
		if ledger[image.Service] != image.Digest {
			t.Errorf("the ledger says %s, BuildKit returned %s", ledger[image.Service], image.Digest)
		}
	}
}

func (s *stage) project(t *testing.T, env string) string {
	t.Helper()
	file := map[string]string{"staging": "compose.staging.yml", "production": "compose.prod.yml"}[env]
	raw, err := os.ReadFile(filepath.Join(s.tree, file))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if name, ok := strings.CutPrefix(line, "name: "); ok {
			return name
		}
	}
	t.Fatalf("%s names no project", file)
	return ""
}

func TestAFlagBehindTheArgumentWorks(t *testing.T) {
	s := theStage
	var before, after statusResult
	s.must(t, &before, "status")
	o := s.promote(t, "to", "staging", "--release", "v1.0.0", "--dry-run")
	if o.code != 3 && o.code != 0 {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	s.must(t, &after, "status")
	if before.Environments[0].Release != after.Environments[0].Release {
		t.Error("a dry run deployed")
	}
	s.promote(t, "to", "staging", "--dyr-run").want(t, 2, "--dry-run")
	s.promote(t, "--to", "staging", "status").want(t, 2, "--to")
}

func TestATypoInTheConfiguration(t *testing.T) {
	s := theStage
	path := filepath.Join(s.tree, "promote.yaml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(path, good, 0o644)
	bad := strings.Replace(strings.Replace(string(good), "failOn:", "failon:", 1), "after: staging", "after: stagin", 1)
	if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	s.promote(t, "status").want(t, 2, "promote.yaml:", "failOn", "stagin")
}

func TestNoEngine(t *testing.T) {
	s := theStage
	s.with(t, []string{"DOCKER_HOST=unix:///nonexistent/docker.sock"}, "to", "production").want(t, 1, "→")
}

func TestNoBuildKit(t *testing.T) {
	s := theStage
	s.change(t, "no buildkit")
	s.with(t, []string{"BUILDKIT_HOST=unix:///nonexistent/buildkitd.sock"}, "release").want(t, 1, "→")
}

// Somebody strips a signature in staging's registry before production asks.
func TestASignatureIsDeleted(t *testing.T) {
	s := theStage
	s.change(t, "a signature will be deleted")
	var staged promotionResult
	s.must(t, &staged, "to", "staging")
	planner := slices.IndexFunc(staged.Images, func(i serviceResult) bool { return i.Service == "planner" })
	digest := staged.Images[planner].Digest
	tag := strings.Replace(digest, ":", "-", 1)
	code, _, header := s.get(t, "HEAD", "agent/planner/manifests/"+tag)
	if code != 200 {
		t.Fatalf("no referrers under %s: %d", tag, code)
	}
	if code, _, _ := s.get(t, "DELETE", "agent/planner/manifests/"+header.Get("Docker-Content-Digest")); code != 202 {
		t.Fatalf("deleting the referrers: %d", code)
	}
	o := s.promote(t, "to", "production")
	o.want(t, 3, "planner", "signature")
	// Releasing again makes what is missing: nothing is lost for good.
	s.change(t, "and made again")
	s.must(t, &staged, "to", "staging")
	s.must(t, &promotionResult{}, "to", "production")
}

func TestTheDatabaseIsGone(t *testing.T) {
	s := theStage
	s.change(t, "no database")
	code, _, header := s.get(t, "HEAD", "trivy-db/manifests/2")
	if code != 200 {
		t.Fatalf("no database: %d", code)
	}
	if code, _, _ := s.get(t, "DELETE", "trivy-db/manifests/"+header.Get("Docker-Content-Digest")); code != 202 {
		t.Fatalf("deleting the database: %d", code)
	}
	s.with(t, []string{"XDG_CACHE_HOME=" + t.TempDir()}, "release").want(t, 1, "database", "→")
	if o := s.promote(t, "db", "build", s.registry+"/trivy-db"); o.code != 0 {
		t.Fatalf("making it again: %s", o.stderr)
	}
	s.must(t, &releaseResult{}, "release")
}

// With another key nothing that the ledger holds is believed.
func TestTheKeyIsSwapped(t *testing.T) {
	s := theStage
	keys := filepath.Join(s.dir, "keys")
	if err := os.Rename(keys, keys+".mine"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = os.RemoveAll(keys)
		if err := os.Rename(keys+".mine", keys); err != nil {
			t.Fatal(err)
		}
	}()
	if o := s.promote(t, "keys", "generate", "../keys/promote.key"); o.code != 0 {
		t.Fatalf("making a key: %s", o.stderr)
	}
	before := docker(t, "ps", "-q", "--no-trunc", "--filter", "label=com.docker.compose.project="+s.project(t, "production"))
	o := s.promote(t, "to", "production")
	if o.code != 1 && o.code != 3 || !strings.Contains(o.stderr, "→") {
		t.Errorf("exit %d\n%s", o.code, o.stderr)
	}
	if after := docker(t, "ps", "-q", "--no-trunc", "--filter", "label=com.docker.compose.project="+s.project(t, "production")); after != before {
		t.Error("production was touched")
	}
}

func TestAWrongPassphrase(t *testing.T) {
	s := theStage
	s.change(t, "a wrong passphrase")
	o := s.with(t, []string{"COSIGN_PASSWORD=wrong"}, "release")
	o.want(t, 2, "→")
	if strings.Contains(o.stderr, "wrong\"") {
		t.Error("the passphrase is in the message")
	}
}

// waitFor starts promote and sends a signal once it says a text.
func (s *stage) signal(t *testing.T, when string, signal syscall.Signal, args ...string) outcome {
	t.Helper()
	cmd := s.command(t.Context(), nil, append([]string{"--progress", "plain"}, args...)...)
	said := &watcher{text: []byte(when), seen: make(chan struct{})}
	cmd.Stderr = said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-said.seen:
	case <-time.After(3 * time.Minute):
		t.Errorf("it never said %q", when)
	case err := <-ended:
		t.Fatalf("it ended before it said %q: %v\n%s", when, err, said.String())
	}
	at := time.Now()
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	<-ended
	if late := time.Since(at); late > 10*time.Second {
		t.Errorf("it took %s to end", late)
	}
	return outcome{code: cmd.ProcessState.ExitCode(), stderr: said.String(), took: time.Since(began)}
}

func (s *stage) wholeAfterResume(t *testing.T) {
	t.Helper()
	var resumed promotionResult
	s.must(t, &resumed, "resume", "production")
	var status statusResult
	s.must(t, &status, "status", "production")
	if open := string(status.Environments[0].Open); open != "null" {
		t.Errorf("still open: %s", open)
	}
	names := docker(t, "ps", "-a", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project="+s.project(t, "production"))
	list := strings.Fields(names)
	if len(list) != 4 {
		t.Errorf("production has the containers %q", list)
	}
	for _, name := range list {
		if strings.Contains(name, "promote-old") {
			t.Errorf("%s was left behind", name)
		}
	}
	s.promote(t, "plan", "--to", "production", "--detailed-exitcode").want(t, 0)
}

func TestCtrlCInTheMiddleOfADeployment(t *testing.T) {
	s := theStage
	s.change(t, "interrupted")
	s.must(t, &promotionResult{}, "to", "staging")
	o := s.signal(t, "[deploy] production", syscall.SIGINT, "to", "production")
	o.want(t, 130, "promote resume production")
	s.promote(t, "to", "production").want(t, 6, "promote resume production")
	s.wholeAfterResume(t)
}

func TestKillInTheMiddleOfADeployment(t *testing.T) {
	s := theStage
	s.change(t, "killed")
	s.must(t, &promotionResult{}, "to", "staging")
	s.signal(t, "recreate planner", syscall.SIGKILL, "to", "production")
	s.wholeAfterResume(t)
}

func TestTwoTerminals(t *testing.T) {
	s := theStage
	s.change(t, "two terminals")
	s.must(t, &promotionResult{}, "to", "staging")
	results := make(chan outcome, 2)
	for range 2 {
		go func() { results <- s.promote(t, "to", "production") }()
	}
	one, two := <-results, <-results
	codes := []int{one.code, two.code}
	slices.Sort(codes)
	// The second one is refused, or comes late enough to find everything done.
	if codes[0] != 0 || codes[1] != 6 && codes[1] != 0 {
		t.Errorf("exit codes %v\n%s\n%s", codes, one.stderr, two.stderr)
	}
	var log struct {
		Records []struct{ Record struct{ Phase string } }
	}
	s.must(t, &log, "log", "production", "-n", "2")
	if log.Records[0].Record.Phase != "deployed" || log.Records[1].Record.Phase != "intended" {
		t.Errorf("records %+v", log.Records)
	}
}

func TestSecretsAreNowhere(t *testing.T) {
	s := theStage
	var secrets []string
	for _, pair := range s.environ {
		if name, value, _ := strings.Cut(pair, "="); name == "DB_PASSWORD" || name == "COSIGN_PASSWORD" {
			secrets = append(secrets, value)
		}
	}
	if len(secrets) != 2 {
		t.Fatalf("%d secrets", len(secrets))
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(path) == "demo.env" {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if strings.Contains(s.story, secret) {
			t.Error("the demo printed a secret")
		}
	}
}

// A ledger that was edited is refused.
func TestTheLedgerIsEdited(t *testing.T) {
	s := theStage
	dir := filepath.Join(s.tree, ".promote", "ledger")
	var log string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if info, err := d.Info(); err == nil && !d.IsDir() && (log == "" || info.Size() > size(log)) {
			log = path
		}
		return nil
	})
	good, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(log, good, 0o600)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(log, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	s.promote(t, "status").want(t, 1, "→")
	s.promote(t, "to", "production").want(t, 1, "→")
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

type watcher struct {
	b    bytes.Buffer
	text []byte
	seen chan struct{}
	done bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.b.Write(p)
	if !w.done && bytes.Contains(w.b.Bytes(), w.text) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

func (w *watcher) String() string { return w.b.String() }
