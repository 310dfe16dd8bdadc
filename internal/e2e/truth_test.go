//go:build e2e && linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// promotes runs `to production`, or another command, and holds its end and the
// truth about each host against what is wanted: "name status" each.
func (h *hosts) promotes(t *testing.T, code int, args []string, want ...string) hostResult {
	t.Helper()
	return h.during(t, "", nil, code, args, want...)
}

// during also does something once the command has said a text.
func (h *hosts) during(t *testing.T, says string, do func(*os.Process), code int, args []string, want ...string) hostResult {
	t.Helper()
	cmd := h.command(t.Context(), nil, append([]string{"--progress", "plain", "-o", "json"}, args...)...)
	said := &watcher{text: []byte(says), seen: make(chan struct{})}
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if do != nil {
		select {
		case <-said.seen:
			do(cmd.Process)
		case err := <-ended:
			t.Fatalf("promote %q ended before it said %q: %v\n%s", args, says, err, said.String())
		}
	}
	<-ended
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("promote %q: exit %d, want %d\n%s", args, got, code, said.String())
	}
	described(t, args[0], stdout.String())
	var result hostResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	var got []string
	for _, s := range result.Targets {
		got = append(got, s.Name+" "+s.Status)
		if bad := s.Status == "failed" || s.Status == "unreachable"; bad && s.Message == "" {
			t.Errorf("%s is %s and nothing says why", s.Name, s.Status)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q\n%s", got, want, said.String())
	}
	h.truth(t, result)
	return result
}

// truth compares what a result, and the ledger with it, says of each host with
// what its own engine says. Before anything is known of the release nobody looks.
func (h *hosts) truth(t *testing.T, result hostResult) {
	t.Helper()
	for _, s := range result.Targets {
		if len(result.Images) == 0 && len(s.Running) == 0 {
			continue
		}
		runs := h.all[s.Name].containers()
		if len(s.Running) != len(runs) {
			t.Errorf("%s (%s): the result says %+v, it runs %+v", s.Name, s.Status, s.Running, runs)
		}
		for _, r := range s.Running {
			if c := runs[r.Service]; !c.called(r.Digest) || c.id != r.Container || c.up != (r.State == "") {
				t.Errorf("%s (%s): %s is %+v, the result says %+v", s.Name, s.Status, r.Service, c, r)
			}
		}
	}
	if result.Record == nil {
		return
	}
	var log struct {
		Records []struct {
			Record struct {
				Sequence int64
				Phase    string
				Targets  []hostTruth
			}
		}
	}
	h.must(t, &log, "log", "production", "-n", "1")
	last := log.Records[0].Record
	if last.Sequence != result.Record.Sequence || last.Phase != "intended" && fmt.Sprint(last.Targets) != fmt.Sprint(result.Targets) {
		t.Errorf("the ledger says %+v\nthe result %+v", last, result)
	}
}

// run fails unless hosts, both of production if none is named, run a release and
// nothing else.
func (h *hosts) run(t *testing.T, result hostResult, machines ...*machine) {
	t.Helper()
	if len(machines) == 0 {
		machines = []*machine{h.one, h.two}
	}
	for _, m := range machines {
		runs := m.containers()
		for _, image := range result.Images {
			if c := runs[image.Service]; !c.called(image.Digest) || !c.up {
				t.Errorf("%s: %s is %+v, want %s", m.name, image.Service, c, image.Digest)
			}
		}
		if names := strings.Fields(m.docker("ps", "-a", "--format", "{{.Names}}")); len(names) != len(result.Images) {
			t.Errorf("%s has the containers %q", m.name, names)
		}
	}
}

// identical compares what BuildKit returned, what the registry of production
// holds, what the ledger says, and what each of the three hosts runs: by the name
// that its container has, and by the engine's own id, which is the digest of the
// configuration or that of the manifest, as its store will have it.
func (h *hosts) identical(t *testing.T, built []serviceResult) hostResult {
	result := h.promotes(t, 0, toProduction, one+" unchanged", two+" unchanged")
	if !result.Unchanged || len(built) != 2 || len(result.Images) != 4 {
		t.Errorf("unchanged %t, built %+v, images %+v", result.Unchanged, built, result.Images)
	}
	var status statusResult
	h.must(t, &status, "status")
	h.run(t, result)
	recorded := map[string][]runningResult{}
	for _, env := range status.Environments {
		for _, target := range env.Targets {
			recorded[target.Name] = target.Running
		}
	}
	for _, image := range result.Images {
		if i := slices.IndexFunc(built, func(b serviceResult) bool { return b.Service == image.Service }); i >= 0 && built[i].Digest != image.Digest {
			t.Errorf("BuildKit returned %s for %s, promoted is %s", built[i].Digest, image.Service, image.Digest)
		}
		_, name, _ := strings.Cut(image.Repository, "/")
		code, raw, _ := h.get(t, "GET", name+"/manifests/"+image.Digest)
		sum := sha256.Sum256(raw)
		if code != 200 || "sha256:"+hex.EncodeToString(sum[:]) != image.Digest || !strings.HasPrefix(name, "production/") {
			t.Errorf("the registry answers %d with %x for %s", code, sum, name)
		}
		config := h.config(t, name, raw)
		for _, m := range []*machine{h.staged, h.one, h.two} {
			if !slices.Contains(recorded[m.name], runningResult{image.Service, image.Digest}) {
				t.Errorf("the ledger says of %s: %+v; promoted is %s", m.name, recorded[m.name], image.Digest)
			}
			c := m.containers()[image.Service]
			if c.image != image.Digest && c.image != config {
				t.Errorf("%s runs %s as %s, which is neither the manifest %s nor its configuration %s", m.name, c.image, image.Service, image.Digest, config)
			}
			// What came through a view came over ssh: nothing else can have. A classic
			// store shows that by the tag it is kept under; the containerd store knows
			// what it holds by its digest, wherever it came from.
			viewed, classic := !strings.HasSuffix(c.ref, "@"+image.Digest), c.image == config
			if !c.called(image.Digest) || viewed && m == h.staged || classic && viewed == (m == h.staged) {
				t.Errorf("%s runs %s", m.name, c.ref)
			}
		}
	}
	return result
}

// differs watches both hosts, has nothing named on them, changes a container of
// each by hand, and has just that named.
func (h *hosts) differs(t *testing.T) {
	var watch struct {
		Result   string
		Findings []struct{ Target, Service, Kind, Name string }
		Targets  []struct{ Name string }
	}
	h.must(t, &watch, "watch", "production")
	if watch.Result != "fine" || len(watch.Findings) != 0 || len(watch.Targets) != 2 {
		t.Errorf("watch says %+v", watch)
	}
	h.drifts(t, 0)
	for _, m := range []*machine{h.one, h.two} {
		planner := m.containers()["planner"].id
		m.docker("update", "--memory=100m", "--memory-swap=100m", planner)
		h.drifts(t, 7, m.name+" planner memory", m.name+" planner memorySwap")
		m.docker("update", "--memory=128m", "--memory-swap=128m", planner)
	}
}

// drifts has what differs on the hosts of production named.
func (h *hosts) drifts(t *testing.T, code int, want ...string) {
	t.Helper()
	var drift struct {
		Targets []struct {
			Name        string
			Differences []struct{ Service, Field string }
		}
	}
	o := h.promote(t, "drift", "production", "-o", "json")
	o.want(t, code)
	described(t, "drift", o.stdout)
	if err := json.Unmarshal([]byte(o.stdout), &drift); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, target := range drift.Targets {
		for _, d := range target.Differences {
			got = append(got, target.Name+" "+d.Service+" "+d.Field)
		}
	}
	if len(drift.Targets) != 2 || !slices.Equal(got, want) {
		t.Errorf("drift says %q of %d hosts, want %q\n%s", got, len(drift.Targets), want, o.stdout)
	}
}

// config gives the digest of the configuration that a manifest names, of the one
// for this platform where it is an index.
func (h *hosts) config(t *testing.T, repository string, raw []byte) string {
	t.Helper()
	var manifest struct {
		Config    struct{ Digest string }
		Manifests []struct {
			Digest   string
			Platform struct{ OS, Architecture string }
		}
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest.Manifests {
		if m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH {
			_, raw, _ := h.get(t, "GET", repository+"/manifests/"+m.Digest)
			return h.config(t, repository, raw)
		}
	}
	return manifest.Config.Digest
}
