//go:build engine

package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/signtest"
)

// inside says that the tests run in a network of their own.
const inside = "SIGN_TEST_INSIDE"

// isolated runs a test again in a network namespace with nothing but loopback:
// the services listen on ports of their own choice, and nothing they or the
// clients do can leave the machine. It reports whether this is that run.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		loopbackUp(t)
		return true
	}
	self, err := os.Executable()
	check(t, err)
	again := []string{self, "-test.run", "^" + t.Name() + "$", "-test.v", "-test.timeout", "10m"}
	var failures []string
	for _, enter := range [][]string{{"unshare", "-n"}, {"unshare", "-rn"}, {"sudo", "-n", "-E", "unshare", "-n"}} {
		if err := exec.CommandContext(t.Context(), enter[0], append(enter[1:], "true")...).Run(); err != nil {
			failures = append(failures, strings.Join(enter, " ")+": "+err.Error())
			continue
		}
		cmd := exec.CommandContext(t.Context(), enter[0], append(enter[1:], again...)...)
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	missing(t, "cannot make a network namespace: %s", strings.Join(failures, "; "))
	return false
}

func loopbackUp(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	check(t, err)
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	check(t, err)
	request.SetUint16(unix.IFF_UP)
	check(t, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request))
}

// Everything that is signed keyless is signed with the real services: Fulcio
// with a certificate log, Rekor of both versions, a timestamp authority.
func TestKeyless(t *testing.T) {
	if os.Getenv(inside) == "" {
		for _, p := range []thirdParty{trillmem, fulcioServer, timestampServer, rekor1Server, rekor2Server, ctServer} {
			p.built(t) // where there is a network
		}
		t.Setenv(stockPaths, strings.Join(stockCosigns(t), "\n"))
	}
	if !isolated(t) {
		return
	}
	in := newInstance(t)
	signed := map[string]release.Attachment{}
	t.Run("Rekor v1", func(t *testing.T) { signed["v1"] = signsAsPerson(t, in, in.services(t, 1)) })
	t.Run("Rekor v2", func(t *testing.T) { signed["v2"] = signsAsPerson(t, in, in.services(t, 2)) })
	t.Run("Rekor v1 without timestamp authority", func(t *testing.T) {
		k := in.services(t, 1)
		k.Timestamp = ""
		signed["v1 only"] = signsAsPerson(t, in, k)
	})
	t.Run("timestamp authority only", func(t *testing.T) {
		// The root has logs, so it asks for an entry.
		k := in.services(t, 1)
		k.Rekor = ""
		i, err := OpenIdentity(t.Context(), k)
		check(t, err)
		defer i.Close()
		if _, err := i.Sign(t.Context(), signtest.Scan(person)); release.KindOf(err) != release.KindConfig {
			t.Errorf("error %v", err)
		}
	})
	t.Run("GitHub Actions", func(t *testing.T) { signed["actions"] = signsAsWorkflow(t, in) })
	stockVerifies := stockKeyless(t, in)
	t.Run("answers that get lost", func(t *testing.T) { survivesLostAnswers(t, in) })
	t.Run("tokens that are refused", func(t *testing.T) { tellsNoToken(t, in) })
	in.stop()
	t.Run("offline", func(t *testing.T) {
		for name, a := range signed {
			if e := in.judge(t, personally(in), workflow(in)).Verify(t.Context(), person, []release.Attachment{a})[0]; !e.Verified {
				t.Errorf("%s: %s", name, e.Reason)
			}
		}
		if len(signed) != 4 {
			t.Errorf("%d signatures", len(signed))
		}
		stockVerifies(t)
	})
}

var person = signtest.Subject("planner")

const email = "alice@example.com"

// services are those of the instance, with a token of a person.
func (in *instance) services(t *testing.T, version int) Keyless {
	in.people.claims = map[string]any{"email": email, "email_verified": true}
	return Keyless{Fulcio: fulcioURL, Rekor: map[int]string{1: rekor1URL, 2: rekor2URL}[version], RekorVersion: version, Timestamp: timestampURL, Root: in.root,
		Token: func(ctx context.Context) (Token, error) {
			t.Setenv("SIGSTORE_ID_TOKEN", in.people.token(t, nil))
			return AmbientToken(ctx, in.people.server.URL)
		}}
}

func personally(in *instance) release.Party {
	return release.Party{Name: "alice", Identity: email, Issuer: in.people.server.URL}
}

func (in *instance) judge(t *testing.T, parties ...release.Party) *Verifier {
	t.Helper()
	v, err := New(Options{Root: in.root, Trust: release.Trust{Roles: map[release.Role][]release.Party{release.Scanner: parties}}})
	check(t, err)
	return v
}

func signsAsPerson(t *testing.T, in *instance, k Keyless) release.Attachment {
	t.Helper()
	i, err := OpenIdentity(t.Context(), k)
	check(t, err)
	defer i.Close()
	if p := i.Proof(); p.ID != email || p.Issuer != in.people.server.URL {
		t.Fatalf("signs as %+v", p)
	}
	party, err := PartyOf(release.Trust{Roles: map[release.Role][]release.Party{release.Scanner: {personally(in)}}}, i)
	if err != nil || party.Name != "alice" || !party.Has(release.Scanner) {
		t.Errorf("party %+v, %v", party, err)
	}
	first, err := i.Sign(t.Context(), signtest.Scan(person))
	check(t, err)
	again, err := i.Sign(t.Context(), signtest.Scan(person))
	check(t, err)
	judged := func(party release.Party) []release.Evidence {
		return in.judge(t, party).Verify(t.Context(), person, []release.Attachment{first, again})
	}
	for _, e := range judged(personally(in)) {
		if !e.Verified || e.Signer.Name != "alice" || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	for name, other := range map[string]release.Party{
		"another person": {Name: "bob", Identity: "bob@example.com", Issuer: in.people.server.URL},
		"another issuer": {Name: "alice", Identity: email, Issuer: in.actions.server.URL},
	} {
		for _, e := range judged(other) {
			if e.Verified {
				t.Errorf("verified for %s", name)
			}
		}
	}
	signsRecords(t, in, i)
	return first
}

// workflowClaims are what GitHub says about a job.
var workflowClaims = map[string]any{
	"sub": "repo:acme/planner:ref:refs/heads/main", "repository": "acme/planner", "ref": "refs/heads/main", "event_name": "push", "workflow": "release",
	"job_workflow_ref": "acme/planner/.github/workflows/release.yml@refs/heads/main", "sha": strings.Repeat("a1", 20), "job_workflow_sha": strings.Repeat("a1", 20),
	"workflow_ref": "acme/planner/.github/workflows/release.yml@refs/heads/main", "workflow_sha": strings.Repeat("a1", 20), "runner_environment": "github-hosted",
	"repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "private", "run_id": "3", "run_attempt": "1",
}

func workflow(in *instance) release.Party {
	return release.Party{Name: "ci", IdentityMatch: `https://github\.com/acme/planner/\.github/workflows/release\.yml@refs/heads/.+`, Issuer: in.actions.server.URL,
		Claims: &release.Claims{Repository: "https://github.com/acme/planner", Ref: "refs/heads/main", Trigger: "push", Runner: "github-hosted"}}
}

func signsAsWorkflow(t *testing.T, in *instance) release.Attachment {
	t.Helper()
	in.actions.claims = workflowClaims
	t.Setenv("SIGSTORE_ID_TOKEN", "")
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", in.actions.server.URL+"/token?run=7")
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", bearer)
	k := in.services(t, 2)
	k.Token = func(ctx context.Context) (Token, error) { return AmbientToken(ctx, "") }
	i, err := OpenIdentity(t.Context(), k)
	check(t, err)
	defer i.Close()
	a, err := i.Sign(t.Context(), signtest.Scan(person))
	check(t, err)
	verify := func(p release.Party) release.Evidence {
		return in.judge(t, p).Verify(t.Context(), person, []release.Attachment{a})[0]
	}
	if e := verify(workflow(in)); !e.Verified || e.Signer.Name != "ci" {
		t.Errorf("%+v", e)
	}
	for name, change := range map[string]func(*release.Party){
		"fork":       func(p *release.Party) { p.Claims.Repository = "https://github.com/mallory/planner" },
		"branch":     func(p *release.Party) { p.Claims.Ref = "refs/heads/release" },
		"trigger":    func(p *release.Party) { p.Claims.Trigger = "pull_request_target" },
		"own runner": func(p *release.Party) { p.Claims.Runner = "self-hosted" },
		"longer":     func(p *release.Party) { p.IdentityMatch = `https://github\.com/acme/planner` },
	} {
		p := workflow(in)
		change(&p)
		if verify(p).Verified {
			t.Errorf("verified for another %s", name)
		}
	}
	t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "canary-wrong")
	if _, err := OpenIdentity(t.Context(), k); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
	return a
}

// losing loses the answer to the first request of a kind, after the service has
// done what it was asked; or refuses it for now, before the service hears of it.
type losing struct {
	path   string
	refuse bool

	asked        atomic.Int32
	certificates atomic.Int32 // asked of the authority
	added        atomic.Int32 // entries of the log
	lost         []byte
}

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	first := strings.HasSuffix(r.URL.Path, l.path) && l.asked.Add(1) == 1
	if first && l.refuse {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("not now")), Request: r}, nil
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/signingCert"):
		l.certificates.Add(1)
	case strings.HasSuffix(r.URL.Path, "/log/entries") && response.StatusCode == http.StatusCreated:
		l.added.Add(1)
	}
	if !first {
		return response, nil
	}
	defer response.Body.Close()
	if l.lost, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	return nil, errors.New("connection reset by peer")
}

// A service that did its work and whose answer got lost, or that had no time, is
// asked again: there is one signature, one certificate where its answer arrived,
// and the log's entry about it is the one that was made first. A registry that
// loses its answers, too, has one attestation in the end.
func survivesLostAnswers(t *testing.T, in *instance) {
	const entries, certificate, timestamp = "/log/entries", "/api/v2/signingCert", "/api/v1/timestamp"
	for _, c := range []struct {
		version int
		path    string
		refuse  bool
	}{{1, entries, false}, {2, entries, false}, {2, certificate, false}, {2, timestamp, false},
		{1, entries, true}, {2, entries, true}, {1, certificate, true}, {1, timestamp, true}, {2, timestamp, true}} {
		t.Run(fmt.Sprintf("%d%s refused %v", c.version, c.path, c.refuse), func(t *testing.T) {
			k := in.services(t, c.version)
			flaky := &losing{path: c.path, refuse: c.refuse}
			k.Transport = flaky
			i, err := OpenIdentity(t.Context(), k)
			check(t, err)
			defer i.Close()
			list := attachedOnce(t, func(s release.Subject) release.Attachment {
				a, err := i.Sign(t.Context(), signtest.Scan(s))
				check(t, err)
				if e := in.judge(t, personally(in)).Verify(t.Context(), s, []release.Attachment{a})[0]; !e.Verified {
					t.Error(e.Reason)
				}
				return a
			})
			if n := flaky.asked.Load(); n != 2 {
				t.Errorf("asked %d times, want twice", n)
			}
			certificates, added := int32(1), int32(1)
			if c.path == certificate && !c.refuse {
				certificates = 2 // the first one's owner never saw it
			}
			if c.version == 2 && c.path == entries && !c.refuse {
				added = flaky.added.Load() // this version may answer with the same entry
			}
			if flaky.certificates.Load() != certificates || flaky.added.Load() != added {
				t.Errorf("%d certificates and %d entries, want %d and %d", flaky.certificates.Load(), flaky.added.Load(), certificates, added)
			}
			if c.refuse {
				return
			}
			if first, used := index.FindSubmatch(flaky.lost), index.FindSubmatch(list[0].Bundle); first != nil && string(first[1]) != string(used[1]) {
				t.Errorf("signed with entry %s, the first one was %s", used[1], first[1])
			} else if c.path == entries && first == nil {
				t.Errorf("the log's answer was %s", flaky.lost)
			}
		})
	}
}

// attachedOnce attaches what is signed about an image to registries that lose
// the answer to each kind of write, and checks that it is there once.
func attachedOnce(t *testing.T, sign func(release.Subject) release.Attachment) []release.Attachment {
	t.Helper()
	var list []release.Attachment
	client := registrytest.NewClient(t, registrytest.FastLimits())
	var made *release.Attachment
	for _, api := range []bool{true, false} {
		p := registrytest.Serve(t, ggcr.New(ggcr.WithReferrersSupport(api), ggcr.Logger(log.New(io.Discard, "", 0))))
		s := p.Put(t, "agent/planner", "v1", registrytest.NewImage(1, 100))
		if made == nil {
			a := sign(s)
			made = &a
		}
		for _, write := range []string{"/blobs/uploads/", "/manifests/sha256:", "/manifests/sha256-"} {
			p.OnTimes(1, http.MethodPut, write, registrytest.Lose())
		}
		for range 2 { // and what ran again changes nothing
			check(t, client.Attach(t.Context(), s, *made))
		}
		var err error
		list, err = client.Attachments(t.Context(), s)
		check(t, err)
		if len(list) != 1 || list[0].Digest != made.Digest || bytes.Count(list[0].Bundle, []byte(`"sig":`)) != 1 {
			t.Fatalf("%d attestations with the referrers API %v", len(list), api)
		}
	}
	return list
}

// index is an entry's place in its log, in an answer and in a bundle.
var index = regexp.MustCompile(`"logIndex": *"?(\d+)`)

// No error shows a part of a token, whoever refuses it.
func tellsNoToken(t *testing.T, in *instance) {
	stranger := newIssuer(t)
	defer stranger.server.Close()
	for name, raw := range map[string]string{
		"unknown issuer": stranger.token(t, nil),
		"unverified":     in.people.token(t, map[string]any{"email_verified": false}),
		"forged":         in.people.token(t, nil) + "AA",
		"no workflow":    in.actions.token(t, map[string]any{"job_workflow_ref": ""}),
	} {
		k := in.services(t, 2)
		k.Token = func(context.Context) (Token, error) { return ParseToken(raw) }
		i, err := OpenIdentity(t.Context(), k)
		if i != nil || err == nil {
			t.Errorf("%s: opened", name)
			continue
		}
		for _, part := range strings.Split(raw, ".") {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: error shows the token: %v", name, err)
			}
		}
		if kind := release.KindOf(err); kind != release.KindDenied && kind != release.KindConfig {
			t.Errorf("%s: %s: %v", name, kind, err)
		}
	}
}
