package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/promote-dev/promote/pkg/release"
)

// request is one call of the distribution API.
type request struct {
	method string
	repo   repository // whose registry it is; credentials go to its endpoint only
	url    *url.URL
	accept []string
	header http.Header
	// body opens the request's body anew for each attempt; nil is none.
	body func() (io.ReadCloser, error)
	size int64 // of the body
	// scopes are what a token must allow: "repository:path:pull".
	scopes []string
	// expect lists the statuses that are no error.
	expect []int
	limits *Limits // nil is the client's
}

// answer is a small answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// api is the URL of a path under the repository.
func (c *Client) api(r repository, elem ...string) *url.URL {
	return &url.URL{
		Scheme: c.scheme(r.endpoint()),
		Host:   r.endpoint(),
		Path:   "/v2/" + r.path + "/" + strings.Join(elem, "/"),
	}
}

func (c *Client) scheme(host string) string {
	if c.PlainHTTP(host) {
		return "http"
	}
	return "https"
}

// fetch makes a request whose answer is small: it is read up to most bytes,
// within Limits.Small, and tried again where that may help. A longer answer is
// a denial.
func (c *Client) fetch(ctx context.Context, r *request, most int64) (answer, error) {
	var a answer
	err := c.retry(ctx, r.repo.host, func() (err error) {
		a, err = c.fetchOnce(ctx, r, most)
		return err
	})
	return a, final(r.repo.host, err)
}

// fetchOnce is one attempt of fetch.
func (c *Client) fetchOnce(ctx context.Context, r *request, most int64) (answer, error) {
	small, cancel := context.WithTimeoutCause(ctx, c.limitsOf(r).Small, errSlow)
	defer cancel()
	resp, err := c.open(ctx, small, r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if r.method == http.MethodHead {
		return a, nil
	}
	if resp.ContentLength > most {
		return answer{}, tooLarge(r.url, resp.ContentLength, most)
	}
	a.body, err = readAll(resp.Body, resp.ContentLength, most)
	if err != nil {
		return answer{}, c.classify(ctx, small, r.repo.host, err)
	}
	if int64(len(a.body)) > most {
		return answer{}, tooLarge(r.url, -1, most)
	}
	return a, nil
}

func (c *Client) limitsOf(r *request) *Limits {
	if r.limits != nil {
		return r.limits
	}
	return &c.limits
}

func bytesBody(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func tooLarge(u *url.URL, size, most int64) error {
	length := "more"
	if size >= 0 {
		length = fmt.Sprint(size)
	}
	return release.Denied("nothing legitimate is that large; look at what the registry serves", "%s: %s bytes, at most %d are read", u.Path, length, most)
}

// final gives a bare status error, which retry passes on, its kind.
func final(host string, err error) error {
	var status *statusError
	var fault *release.Fault
	if errors.As(err, &status) && !errors.As(err, &fault) {
		return status.fault(host)
	}
	return err
}

// open makes one attempt. The answer's body is watched, and closing it ends the
// attempt. caller is the context whose end is the caller's doing; ctx may end
// earlier.
func (c *Client) open(caller, ctx context.Context, r *request) (*http.Response, error) {
	attempt, cancel := context.WithCancelCause(ctx)
	limits := c.limitsOf(r)
	w := newWatch(cancel, limits)
	w.arm(limits.Header, errSilent)
	resp, err := c.authorized(attempt, r, w)
	w.stop()
	if err != nil {
		err = c.classify(caller, attempt, r.repo.host, c.session(r.repo.endpoint()).conceal(err))
		cancel(nil)
		return nil, err
	}
	resp.Body = &receiving{body: resp.Body, ctx: attempt, cancel: cancel, limits: limits}
	if slices.Contains(r.expect, resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, retryable(readStatus(r, resp, c.session(r.repo.endpoint()).hide), resp.Header)
}

// readStatus reads the registry's explanation of a status, within bounds.
func readStatus(r *request, resp *http.Response, hide func(string) string) *statusError {
	e := &statusError{method: r.method, url: hide(r.url.Host + r.url.Path), status: resp.StatusCode}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 256*kib))
	var body struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
	}
	if json.Unmarshal(raw, &body) == nil {
		var words []string
		for _, said := range body.Errors {
			words = append(words, said.Code+" "+said.Message)
			e.errors = append(e.errors, apiError{said.Code, said.Message, string(said.Detail)})
		}
		e.message = printable(hide(strings.Join(words, "; ")), 300)
	}
	return e
}

// authorized sends a request with what authorization the registry is known to
// want, and once more when it asks for another.
func (c *Client) authorized(ctx context.Context, r *request, w *watch) (*http.Response, error) {
	s := c.session(r.repo.endpoint())
	for first := true; ; first = false {
		authorization, err := s.authorization(ctx, r.repo, r.scopes)
		if err != nil {
			return nil, err
		}
		resp, err := c.follow(ctx, r, authorization, w)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || !first || resp.Request.URL.Host != r.repo.endpoint() {
			return resp, nil
		}
		again := s.challenged(resp.Header.Values("WWW-Authenticate"), authorization, r.scopes)
		if !again {
			return resp, nil
		}
		drain(resp)
		w.arm(w.limits.Header, errSilent)
	}
}

func newRequest(ctx context.Context, r *request, u *url.URL, w *watch) (*http.Request, error) {
	var body io.ReadCloser
	if r.body != nil && r.size > 0 {
		opened, err := r.body()
		if err != nil {
			return nil, err
		}
		body = sending{opened, w}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		if body != nil {
			body.Close()
		}
		return nil, err
	}
	if body != nil {
		req.Body, req.ContentLength = body, r.size
	}
	for key, values := range r.header {
		req.Header[key] = values
	}
	if len(r.accept) > 0 {
		req.Header.Set("Accept", strings.Join(r.accept, ", "))
	}
	return req, nil
}

// drain lets a connection be used again, unless that costs much.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 8*kib)
	resp.Body.Close()
}

type tallyKey struct{}

// tally counts what a call cost.
type tally struct{ requests atomic.Int64 }

// withTally gives a context whose requests are counted.
func withTally(ctx context.Context) (context.Context, *tally) {
	t := &tally{}
	return context.WithValue(ctx, tallyKey{}, t), t
}

func count(ctx context.Context) {
	if t, ok := ctx.Value(tallyKey{}).(*tally); ok {
		t.requests.Add(1)
	}
}
