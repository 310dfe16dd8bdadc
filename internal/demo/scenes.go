package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// released and promoted are the parts of the commands' JSON results that the
// story uses: the contract that everybody else relies on, too.
type released struct {
	Release  release.Digest `json:"release"`
	Version  string         `json:"version"`
	Services []struct {
		Service    string         `json:"service"`
		Repository string         `json:"repository"`
		Digest     release.Digest `json:"digest"`
	} `json:"services"`
}

func (r released) digest(service string) release.Digest {
	for _, s := range r.Services {
		if s.Service == service {
			return s.Digest
		}
	}
	return release.Digest{}
}

type promoted struct {
	Release release.Digest `json:"release"`
	Version string         `json:"version"`
	Images  []struct {
		Service    string         `json:"service"`
		Repository string         `json:"repository"`
		Digest     release.Digest `json:"digest"`
	} `json:"images"`
	Targets []release.TargetStatus `json:"targets"`
	Record  struct {
		Sequence int64          `json:"sequence"`
		Digest   release.Digest `json:"digest"`
	} `json:"record"`
}

func (p promoted) running(service string) (release.Running, bool) {
	for _, t := range p.Targets {
		for _, r := range t.Running {
			if r.Service == service {
				return r, true
			}
		}
	}
	return release.Running{}, false
}

type planned struct {
	Changes bool           `json:"changes"`
	Release release.Digest `json:"release"`
	Steps   []release.Step `json:"steps"`
}

const agent = "planner" // the service whose digest the story follows

func (s *story) release(ctx context.Context) error {
	_, err := s.shell.promote(ctx, 0, &s.first, "release")
	if err != nil {
		return err
	}
	s.claim("built once, judged on evidence", "%s is release %s; %s is %s", s.first.Version, s.first.Release, agent, s.first.digest(agent))
	return nil
}

func (s *story) toStaging(ctx context.Context) error {
	_, err := s.shell.promote(ctx, 0, &s.staging, "--to", "staging")
	return err
}

func (s *story) toProduction(ctx context.Context) error {
	_, err := s.shell.promote(ctx, 0, &s.production, "--to", "production")
	return err
}

// stations shows the digest where it was built, in both registries, in the
// ledger, and on the engine.
func (s *story) stations(ctx context.Context) error {
	want := s.first.digest(agent)
	fmt.Fprintf(s.o.Out, "%-34s %s\n", "BuildKit returned", want)
	for _, image := range append(s.staging.Images, s.production.Images...) {
		if image.Service != agent {
			continue
		}
		got, err := s.registrySays(ctx, image.Repository, want.String())
		if err != nil {
			return err
		}
		if got != want {
			return unexpected("%s serves %s for %s", image.Repository, got, want)
		}
		fmt.Fprintf(s.o.Out, "%-34s %s\n", strings.TrimPrefix(image.Repository, s.w.Registry+"/"), got)
	}
	for name, p := range map[string]promoted{"staging": s.staging, "production": s.production} {
		runs, ok := p.running(agent)
		if !ok || runs.Digest != want {
			return unexpected("%s runs %s, not %s", name, runs.Digest, want)
		}
		fmt.Fprintf(s.o.Out, "%-34s %s\n", fmt.Sprintf("ledger, record %d, %s", p.Record.Sequence, name), runs.Digest)
	}
	images, err := s.o.Inspect(ctx, s.w.Projects[1])
	if err != nil {
		return err
	}
	runs, _ := s.production.running(agent)
	if images[agent] != runs.Image {
		return unexpected("the engine runs image %s, the ledger says %s", images[agent], runs.Image)
	}
	fmt.Fprintf(s.o.Out, "%-34s %s (its image id there)\n", "the engine, production", images[agent])
	s.claim("the identical digest everywhere", "%s: BuildKit, two registries, the ledger's records %d and %d, and the engine agree", want, s.staging.Record.Sequence, s.production.Record.Sequence)
	return nil
}

// registrySays asks the registry over plain HTTP and hashes what it gets.
func (s *story) registrySays(ctx context.Context, repository, reference string) (release.Digest, error) {
	raw, _, err := s.manifest(ctx, repository, reference)
	return release.DigestOf(raw), err
}

func (s *story) manifest(ctx context.Context, repository, reference string) (raw []byte, mediaType string, err error) {
	path := strings.TrimPrefix(repository, s.w.Registry+"/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.w.Registry+"/v2/"+path+"/manifests/"+reference, nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Accept", release.MediaTypeManifest+", "+release.MediaTypeIndex)
	raw, header, err := do(request)
	return raw, header.Get("Content-Type"), err
}

func do(request *http.Request) ([]byte, http.Header, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode >= 300 {
		return nil, nil, fmt.Errorf("%s %s: %s: %.200s", request.Method, request.URL, response.Status, body)
	}
	return body, response.Header, nil
}

const (
	lesson = "invoices are paid on Fridays"
	topic  = "invoices"
)

// upgrade teaches production's agent something and then brings a release with
// other prompts all the way.
func (s *story) upgrade(ctx context.Context) error {
	body, err := json.Marshal(map[string]string{"key": topic, "value": lesson})
	if err != nil {
		return err
	}
	if _, err := s.planner(ctx, http.MethodPost, "/learn", body); err != nil {
		return err
	}
	prompt := filepath.Join(s.shell.dir, "prompts", "plan.md")
	f, err := os.OpenFile(prompt, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\nPrefer the shortest plan.\n")
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := s.commit(ctx, "prompts: prefer the shortest plan", "v1.1.0"); err != nil {
		return err
	}
	s.sayf("the first environment makes what is missing: release and promotion in one command")
	if _, err := s.shell.promote(ctx, 0, &s.staging, "--to", "staging"); err != nil {
		return err
	}
	if _, err := s.shell.promote(ctx, 0, &s.second, "release"); err != nil {
		return err
	}
	if _, err := s.shell.promote(ctx, 0, &s.production, "--to", "production"); err != nil {
		return err
	}
	if s.second.digest("bus") != s.first.digest("bus") || s.second.digest(agent) == s.first.digest(agent) {
		return unexpected("a change of prompts must change the planner and leave the bus alone")
	}
	return s.remembers(ctx, "an update")
}

// planner calls production's planner.
func (s *story) planner(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d%s", s.ports["production"], path)
	fmt.Fprintf(s.o.Out, "%s\n", bold(s.o.Out, fmt.Sprintf("$ curl -X %s %s %s", method, url, body)))
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, _, err := do(request)
	if err == nil {
		fmt.Fprintf(s.o.Out, "%s\n", bytes.TrimSpace(answer))
	}
	return answer, err
}

func (s *story) remembers(ctx context.Context, after string) error {
	answer, err := s.planner(ctx, http.MethodGet, "/recall/"+topic, nil)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, []byte(lesson)) {
		return unexpected("after %s the agent says %s", after, answer)
	}
	s.claim("state survives "+after, "production's planner still knows %q", lesson)
	return nil
}

// refuse lays an overlay over the tree and expects a release to be denied.
func (s *story) refuse(ctx context.Context, overlay string, mustName ...string) error {
	if err := s.overlay(overlay); err != nil {
		return err
	}
	if err := s.commit(ctx, "the "+overlay+" variant", ""); err != nil {
		return err
	}
	// Plain, because what is said must be read, whatever the terminal is.
	said, err := s.shell.promote(ctx, 3, nil, "--progress", "plain", "release")
	if err != nil {
		return err
	}
	for _, name := range mustName {
		if !strings.Contains(said, name) {
			return unexpected("the denial of the %s variant does not name %s:\n%s", overlay, name, said)
		}
	}
	return s.shell.git(ctx, "reset", "-q", "--hard", "v1.1.0")
}

func (s *story) vulnerable(ctx context.Context) error {
	s.sayf("langchain 0.0.200 is planted as dist-info metadata, without its code")
	cves := []string{"CVE-2023-36095", "CVE-2023-38860", "CVE-2023-39631", "CVE-2023-39659"}
	if err := s.refuse(ctx, "vulnerable", append(cves, "langchain 0.0.200")...); err != nil {
		return err
	}
	s.claim("a critical vulnerability does not ship", "exit 3 at the scan, naming %s and langchain 0.0.200", strings.Join(cves, ", "))
	return nil
}

func (s *story) secret(ctx context.Context) error {
	if err := s.refuse(ctx, "secret", "deploy_key.pem"); err != nil {
		return err
	}
	s.claim("a secret in a layer does not ship", "exit 3 at the scan, naming deploy_key.pem")
	return nil
}

func (s *story) leak(ctx context.Context) error {
	if err := s.refuse(ctx, "leak", "executor", "memory"); err != nil {
		return err
	}
	s.claim("a leak is found before production", "exit 3 at smoke: the executor under its 128 MB limit")
	return nil
}

// movedTag points the version's tag at another image, as anybody with push
// rights can, and looks whether anything follows it.
func (s *story) movedTag(ctx context.Context) error {
	var repository string
	for _, i := range s.production.Images {
		if i.Service == agent {
			repository = i.Repository
		}
	}
	raw, mediaType, err := s.manifest(ctx, repository, s.first.digest(agent).String())
	if err != nil {
		return err
	}
	path := strings.TrimPrefix(repository, s.w.Registry+"/")
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+s.w.Registry+"/v2/"+path+"/manifests/"+s.second.Version, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", mediaType)
	if _, _, err := do(request); err != nil {
		return err
	}
	s.sayf("%s:%s now names %s", path, s.second.Version, s.first.digest(agent))
	var plan planned
	if _, err := s.shell.promote(ctx, 0, &plan, "plan", "--to", "production"); err != nil {
		return err
	}
	if plan.Changes || plan.Release != s.second.Release {
		return unexpected("a moved tag changed the plan: %+v", plan)
	}
	s.claim("tags decide nothing", "%s:%s was moved to %s; production runs %s and the plan has no step", path, s.second.Version, s.first.digest(agent).Short(), s.second.digest(agent).Short())
	return nil
}

func (s *story) rollback(ctx context.Context) error {
	began := time.Now()
	var back promoted
	if _, err := s.shell.promote(ctx, 0, &back, "rollback", "production", "--reason", "the demo wants to go back"); err != nil {
		return err
	}
	took := time.Since(began)
	if runs, ok := back.running(agent); !ok || runs.Digest != s.first.digest(agent) || back.Release != s.first.Release {
		return unexpected("after the rollback production runs %s, not %s", runs.Digest, s.first.digest(agent))
	}
	s.claim("it can be undone", "production is back at %s (%s) after %s, record %d", back.Version, back.Release.Short(), took.Round(100*time.Millisecond), back.Record.Sequence)
	return s.remembers(ctx, "a rollback")
}

func (s *story) status(ctx context.Context) error {
	if _, err := s.shell.promote(ctx, 0, nil, "status"); err != nil {
		return err
	}
	var log struct {
		Records release.History `json:"records"`
	}
	if _, err := s.shell.promote(ctx, 0, &log, "log"); err != nil {
		return err
	}
	if _, err := s.shell.promote(ctx, 0, nil, "verify", s.first.Version); err != nil {
		return err
	}
	s.claim("it can be proven", "%d signed records, each with its decision and evidence; promote verify %s names every attestation and signer", len(log.Records), s.first.Version)
	return nil
}
