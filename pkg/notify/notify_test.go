package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

const (
	urlToken = "T0K3N-of-the-url"
	hmacKey  = "K3Y-of-the-signature-0123456789"
)

// inbox is a webhook that remembers what it was sent.
type inbox struct {
	*httptest.Server
	mu   sync.Mutex
	got  []delivery
	next []http.HandlerFunc // how the next ones are answered; then 204
}

type delivery struct {
	path   string
	header http.Header
	body   []byte
}

func newInbox(t *testing.T, answers ...http.HandlerFunc) *inbox {
	b := &inbox{next: answers}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.got = append(b.got, delivery{r.URL.Path, r.Header, body})
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	if len(b.next) > 0 {
		answer, b.next = b.next[0], b.next[1:]
	}
	b.mu.Unlock()
	answer(w, r)
}

func (b *inbox) deliveries() []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]delivery{}, b.got...)
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, urlToken)
	}
}

// hang answers nothing until the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// cut breaks the connection off.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	_ = conn.Close()
}

// garble answers something that is not HTTP and holds the URL's secret.
func garble(w http.ResponseWriter, _ *http.Request) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	_, _ = io.WriteString(conn, urlToken+" "+urlToken+"\r\n\r\n")
	_ = conn.Close()
}

// run is one run of promote: records, then the end.
type run struct {
	t       *testing.T
	letters string
	hooks   []Webhook
	environ map[string]string
	offline bool
	grace   time.Duration
	pause   time.Duration

	mu     sync.Mutex
	events []event.Event
}

func newRun(t *testing.T, url string) *run {
	return &run{t: t, letters: filepath.Join(t.TempDir(), "state", "letters.jsonl"),
		hooks:   []Webhook{{Variable: "HOOK", Secret: "KEY"}},
		environ: map[string]string{"HOOK": url + "/" + urlToken, "KEY": hmacKey},
		grace:   5 * time.Second, pause: time.Millisecond}
}

func (r *run) context() context.Context {
	return event.With(r.t.Context(), func(e event.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	})
}

func (r *run) open() *Notifier {
	n := New(Options{Project: "openclaw", Letters: r.letters, Offline: r.offline, Webhooks: r.hooks,
		Repository: func(environment string) string {
			if environment == "production" {
				return "registry.prod.acme.dev:5000/openclaw/openclaw"
			}
			return "ghcr.io/acme/openclaw/openclaw"
		},
		Getenv: func(name string) string { return r.environ[name] }})
	n.grace, n.pause = r.grace, r.pause
	return n
}

// tell records entries and ends.
func (r *run) tell(entries ...release.Entry) {
	r.t.Helper()
	n, ctx := r.open(), r.context()
	for _, e := range entries {
		n.Recorded(ctx, e)
	}
	n.Close(ctx)
	r.secretsKept()
}

// said gives what a person was shown.
func (r *run) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, e := range r.events {
		fmt.Fprintf(&b, "%s: %s\n", e.Type, e.Message)
	}
	return b.String()
}

func (r *run) kept() []letter {
	r.t.Helper()
	all, err := letters{r.letters}.read()
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// secretsKept looks for the secrets in what is shown and in what is kept.
func (r *run) secretsKept() {
	r.t.Helper()
	texts := map[string][]byte{"what is shown": []byte(r.said())}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(r.letters), "*"))
	for _, f := range files {
		texts[f], _ = os.ReadFile(f)
	}
	for where, text := range texts {
		for _, secret := range []string{urlToken, hmacKey, base64.StdEncoding.EncodeToString([]byte(hmacKey))} {
			if bytes.Contains(text, []byte(secret)) {
				r.t.Errorf("%s holds the secret %q: %s", where, secret, text)
			}
		}
	}
}

func entry(sequence int64, phase release.Phase) release.Entry {
	return release.Entry{
		Digest: release.DigestOf([]byte(strconv.FormatInt(sequence, 10))),
		Signer: release.Signer{Name: "ops"},
		Record: release.Record{Sequence: sequence, Phase: phase, Kind: release.KindPromote, Environment: "production", Version: "1.4.2",
			Release: release.DigestOf([]byte("release")), Time: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
			Actor: release.Actor{User: "alice", Host: "laptop"}, Reason: "because <!channel> & more"},
	}
}

// verifies checks a signature by the scheme's own words, with nothing of ours.
func verifies(d delivery, key []byte) bool {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", d.header.Get("webhook-id"), d.header.Get("webhook-timestamp"), d.body)
	version, encoded, _ := strings.Cut(d.header.Get("webhook-signature"), ",")
	sum, err := base64.StdEncoding.DecodeString(encoded)
	seconds, notANumber := strconv.ParseInt(d.header.Get("webhook-timestamp"), 10, 64)
	return version == "v1" && err == nil && hmac.Equal(sum, mac.Sum(nil)) && notANumber == nil && time.Since(time.Unix(seconds, 0)).Abs() < time.Hour
}

func TestARecordIsToldOnceAndSigned(t *testing.T) {
	t.Parallel()
	box := newInbox(t)
	r := newRun(t, box.URL)
	r.tell(entry(42, release.Deployed))
	got := box.deliveries()
	if len(got) != 1 || got[0].path != "/"+urlToken {
		t.Fatalf("got %d deliveries; said %s", len(got), r.said())
	}
	d := got[0]
	if !verifies(d, []byte(hmacKey)) || verifies(d, []byte("another key")) {
		t.Errorf("the signature %q does not verify", d.header.Get("webhook-signature"))
	}
	if d.header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" || d.header.Get("webhook-id") != entry(42, "").Digest.String() {
		t.Errorf("header %v", d.header)
	}
	if said := r.said(); said != "" {
		t.Errorf("said %s", said)
	}
	if _, err := os.Stat(filepath.Dir(r.letters)); err == nil {
		t.Error("files were made though everything was delivered")
	}
}

func TestAStandardSecretIsDecoded(t *testing.T) {
	t.Parallel()
	box := newInbox(t)
	r := newRun(t, box.URL)
	r.environ["KEY"] = "whsec_" + base64.StdEncoding.EncodeToString([]byte(hmacKey))
	r.tell(entry(1, release.Deployed))
	if got := box.deliveries(); len(got) != 1 || !verifies(got[0], []byte(hmacKey)) {
		t.Errorf("got %d; said %s", len(got), r.said())
	}
}

func TestOnlyThePhasesThatAreNamed(t *testing.T) {
	t.Parallel()
	named, all := newInbox(t), newInbox(t)
	r := newRun(t, named.URL)
	r.hooks = []Webhook{{Variable: "HOOK", On: []string{"deployed", "denied"}}, {Variable: "ALL"}}
	r.environ["ALL"] = all.URL
	r.tell(entry(1, release.Intended), entry(2, release.Deployed), entry(3, release.Approved), entry(4, release.DeniedPhase))
	var got []string
	for _, d := range named.deliveries() {
		var e cloudEvent
		if err := json.Unmarshal(d.body, &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Data.CustomData.Phase))
		if d.header.Get("webhook-signature") != "" {
			t.Error("signed without a secret")
		}
	}
	if strings.Join(got, " ") != "deployed denied" || len(all.deliveries()) != 4 {
		t.Errorf("named %q, all %d", got, len(all.deliveries()))
	}
}

func TestTriesAgain(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"500": status(500), "503": status(503), "429": status(429), "408": status(408), "cut": cut, "garbled": garble,
	} {
		t.Run(name, func(t *testing.T) {
			box := newInbox(t, answer, answer)
			r := newRun(t, box.URL)
			r.tell(entry(42, release.Deployed))
			got := box.deliveries()
			if len(got) != 3 || len(r.kept()) != 0 || r.said() != "" {
				t.Fatalf("%d deliveries, %d kept; said %s", len(got), len(r.kept()), r.said())
			}
			for _, d := range got {
				if !verifies(d, []byte(hmacKey)) || !bytes.Equal(d.body, got[0].body) || d.header.Get("webhook-id") != got[0].header.Get("webhook-id") {
					t.Error("a second try is another message")
				}
			}
		})
	}
}

func TestWhatCannotHelpIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	elsewhere := newInbox(t)
	for name, answer := range map[string]http.HandlerFunc{
		"400": status(400), "404": status(404), "410": status(410),
		"302": status(302, "Location", elsewhere.URL), "307": status(307, "Location", elsewhere.URL), "304": status(304),
	} {
		t.Run(name, func(t *testing.T) {
			box := newInbox(t, answer)
			r := newRun(t, box.URL)
			r.tell(entry(42, release.Deployed))
			if n := len(box.deliveries()); n != 1 {
				t.Errorf("%d deliveries", n)
			}
			if said := r.said(); strings.HasPrefix(name, "3") != strings.Contains(said, "a redirect, which is not followed") {
				t.Errorf("said %s", said)
			}
			if said := r.said(); len(r.kept()) != 1 || !strings.Contains(said, "warning: notifying "+strings.TrimPrefix(box.URL, "http://")+" of record 42 (deployed): it answers with status "+name) {
				t.Errorf("kept %v; said %s", r.kept(), said)
			}
		})
	}
	if n := len(elsewhere.deliveries()); n != 0 {
		t.Errorf("%d messages followed a redirect", n)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(429, "Retry-After", "1"))
	r := newRun(t, box.URL)
	start := time.Now()
	r.tell(entry(1, release.Deployed))
	if took := time.Since(start); len(box.deliveries()) != 2 || took < time.Second {
		t.Errorf("%d deliveries after %s; said %s", len(box.deliveries()), took, r.said())
	}

	// More than can be waited for: kept, and not sent before its time.
	box.next = []http.HandlerFunc{status(503, "Retry-After", "3600")}
	r.tell(entry(2, release.Deployed))
	kept := r.kept()
	if len(box.deliveries()) != 3 || len(kept) != 1 || time.Until(kept[0].NotBefore) < 50*time.Minute {
		t.Fatalf("%d deliveries, kept %+v", len(box.deliveries()), kept)
	}
	r.tell(entry(3, release.Deployed))
	if len(box.deliveries()) != 4 || len(r.kept()) != 1 {
		t.Errorf("%d deliveries, %d kept: sent before its time", len(box.deliveries()), len(r.kept()))
	}
	now := time.Now()
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999999999999": 0,
		now.Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).UTC().Format(http.TimeFormat): 0} {
		if got := retryAfter(text, now); (got - want).Abs() > 2*time.Second {
			t.Errorf("Retry-After %q: %s, want %s", text, got, want)
		}
	}
}

func TestNothingIsHeldUp(t *testing.T) {
	t.Parallel()
	box := newInbox(t, hang, hang, hang, hang)
	r := newRun(t, box.URL)
	r.grace = 100 * time.Millisecond
	n, ctx := r.open(), r.context()
	start := time.Now()
	for i := range int64(5) {
		n.Recorded(ctx, entry(i, release.Deployed))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("telling took %s", took)
	}
	n.Close(ctx)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
	if said := r.said(); len(r.kept()) != 5 || !strings.Contains(said, "record 0 (deployed) and 4 more: no answer before promote ended") {
		t.Errorf("kept %d; said %s", len(r.kept()), said)
	}
	r.secretsKept()
}

func TestAnInterruptedRunEndsSoon(t *testing.T) {
	t.Parallel()
	box := newInbox(t, hang)
	r := newRun(t, box.URL)
	r.grace = time.Hour
	ctx, cancel := context.WithCancel(r.context())
	n := r.open()
	n.Recorded(ctx, entry(1, release.Deployed))
	cancel()
	start := time.Now()
	n.Close(ctx)
	if took := time.Since(start); took > lastMoment+5*time.Second || len(r.kept()) != 1 {
		t.Errorf("took %s, kept %d", took, len(r.kept()))
	}
}

// A closing run does not sit out a pause that ends behind its own end.
func TestNoPauseIsSatOutInVain(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(503, "Retry-After", "60"))
	r := newRun(t, box.URL)
	r.grace = 30 * time.Second
	start := time.Now()
	r.tell(entry(1, release.Deployed))
	if took := time.Since(start); took > 10*time.Second || len(r.kept()) != 1 {
		t.Errorf("took %s, kept %d", took, len(r.kept()))
	}
}

func TestEndlessAnswers(t *testing.T) {
	t.Parallel()
	endless := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			for block := bytes.Repeat([]byte("x"), 1<<16); r.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	}
	header := func(w http.ResponseWriter, _ *http.Request) { status(200, "X", strings.Repeat("x", 1<<20))(w, nil) }
	box := newInbox(t, endless(200), endless(404), header, header, header, header)
	r := newRun(t, box.URL)
	r.tell(entry(1, release.Deployed), entry(2, release.Deployed), entry(3, release.Deployed))
	kept := r.kept()
	if len(kept) != 2 || kept[0].Sequence != 2 || kept[1].Sequence != 3 {
		t.Errorf("kept %+v; said %s", kept, r.said())
	}
}

func TestALaterRunSendsWhatIsLeftOnce(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(400), status(400))
	r := newRun(t, box.URL)
	r.tell(entry(1, release.Deployed))
	r.tell(entry(2, release.Deployed))
	if info, err := os.Stat(r.letters); err != nil || info.Mode().Perm() != 0o600 || len(r.kept()) != 2 {
		t.Fatalf("%v, %v, kept %d", info, err, len(r.kept()))
	}
	lost := box.deliveries()
	r.hooks[0].On = []string{"deployed"}
	for range 3 { // also a record that nobody asked for is an occasion
		r.tell(entry(3, release.Intended))
	}
	got := box.deliveries()[len(lost):]
	if len(got) != 2 || !bytes.Equal(got[0].body, lost[0].body) || !bytes.Equal(got[1].body, lost[1].body) || !verifies(got[1], []byte(hmacKey)) {
		t.Fatalf("%d deliveries; said %s", len(got), r.said())
	}
	if _, err := os.Stat(r.letters); err == nil || !strings.Contains(r.said(), "of 2 records that earlier runs could not deliver") {
		t.Errorf("the file is still there, or nothing was said: %s", r.said())
	}
}

func TestSeveralRunsSendWhatIsLeftOnce(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(400))
	r := newRun(t, box.URL)
	r.tell(entry(1, release.Deployed))
	r.hooks[0].On = []string{"deployed"}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			n, ctx := r.open(), r.context()
			n.Recorded(ctx, entry(2, release.Intended))
			n.Close(ctx)
		})
	}
	all.Wait()
	if got := box.deliveries(); len(got) != 2 {
		t.Errorf("%d deliveries, want the failed one and one more", len(got))
	}
}

func TestLettersAreBounded(t *testing.T) {
	t.Parallel()
	s := letters{filepath.Join(t.TempDir(), "letters.jsonl")}
	var many []letter
	for i := range int64(mostLetters + 7) {
		many = append(many, letter{message: message{ID: strconv.FormatInt(i, 10)}, Webhook: "A", Failed: time.Now(), Body: json.RawMessage(`{}`)})
	}
	if dropped, err := s.add(many); err != nil || dropped != 7 {
		t.Fatalf("dropped %d, %v", dropped, err)
	}
	all, err := s.read()
	if err != nil || len(all) != mostLetters || all[0].ID != "7" {
		t.Fatalf("%d kept, %v", len(all), err)
	}
	large := letter{message: message{ID: "large"}, Webhook: "A", Failed: time.Now(), Body: json.RawMessage(`"` + strings.Repeat("x", mostBytes/2) + `"`)}
	if _, err := s.add([]letter{large, large, large}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.path); err != nil || info.Size() > mostBytes+1024 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	old := letter{message: message{ID: "old"}, Webhook: "A", Failed: time.Now().Add(-oldest - time.Hour), Body: json.RawMessage(`{}`)}
	torn := []byte("{\"id\":\n")
	raw, _ := json.Marshal(old)
	if err := os.WriteFile(s.path, append(append(raw, '\n'), torn...), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := s.read(); err != nil || len(all) != 0 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestWhatCannotBeKeptIsSaid(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(400), status(400))
	r := newRun(t, box.URL)
	if err := os.WriteFile(filepath.Dir(r.letters), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n, ctx := r.open(), r.context()
	n.Recorded(ctx, entry(1, release.Deployed))
	n.Close(ctx)
	r.letters = ""
	n = r.open()
	n.Recorded(ctx, entry(1, release.Deployed))
	n.Close(ctx)
	if said := r.said(); strings.Count(said, "it is lost") != 2 {
		t.Errorf("said %s", said)
	}
}

func TestOfflineSendsNothingAndSaysSo(t *testing.T) {
	t.Parallel()
	box := newInbox(t, status(400))
	r := newRun(t, box.URL)
	r.tell(entry(1, release.Deployed))
	r.offline = true
	r.tell(entry(2, release.Frozen), entry(3, release.Unfrozen))
	if n := len(box.deliveries()); n != 1 || strings.Count(r.said(), "notice: nobody is notified: --offline sends nothing") != 1 {
		t.Errorf("%d deliveries; said %s", n, r.said())
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, key, want string }{
		{"", hmacKey, "the variable HOOK is not set"},
		{urlToken, hmacKey, "the variable HOOK holds no URL such as https://host/path"},
		{"ftp://example.com/" + urlToken, hmacKey, "holds no URL"},
		{"https://exa mple.com/" + urlToken, hmacKey, "holds no URL"},
		{"http://example.com/" + urlToken, hmacKey, "would be sent in the clear: use https, or write plainHTTP: true"},
		{"https://127.0.0.1:1/" + urlToken, "", "the variable KEY is not set, and nothing is sent unsigned"},
		{"https://127.0.0.1:1/" + urlToken, "whsec_" + urlToken + "!", "the variable KEY holds no base64"},
	} {
		r := newRun(t, "")
		r.environ = map[string]string{"HOOK": c.url, "KEY": c.key}
		r.tell(entry(1, release.Deployed), entry(2, release.Deployed))
		if said := r.said(); strings.Count(said, c.want) != 1 || len(r.kept()) != 0 {
			t.Errorf("%q: said %s", c.url, said)
		}
	}
	if _, err := open(Webhook{Variable: "HOOK", PlainHTTP: true}, func(string) string { return "http://example.com/x" }); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeReachedIsSaidWithoutTheURL(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := closed.Addr().String()
	_ = closed.Close()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer untrusted.Close()
	plain := newInbox(t)
	for url, want := range map[string]string{
		"http://" + address: "connection refused",
		untrusted.URL:       "its certificate is signed by an unknown authority",
		strings.Replace(plain.URL, "http:", "https:", 1): "the connection broke",
		"https://user:" + hmacKey + "@" + address:        "connection refused",
	} {
		r := newRun(t, url)
		r.tell(entry(1, release.Deployed))
		if said := r.said(); !strings.Contains(said, want) || len(r.kept()) != 1 {
			t.Errorf("%s: said %s", url, said)
		}
	}
}
