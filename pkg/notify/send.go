package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// receiver is a webhook with its secrets. Only host is for people to see.
type receiver struct {
	host        string
	url         string
	key         []byte // nil: unsigned
	contentType string
	client      *http.Client
}

// refusal is why a message was not taken. It says nothing that the receiver
// sent but the status: whoever knows the URL could send it back.
type refusal struct {
	what  string
	again bool          // another try may help
	wait  time.Duration // that the receiver asked for
}

func (r *refusal) Error() string { return r.what }

// maxHeader bounds the header of an answer in bytes. Its body is not read.
const maxHeader = 64 << 10

// open reads a webhook's variables. Errors say nothing of what they hold.
func open(hook Webhook, getenv func(string) string) (*receiver, error) {
	text := strings.TrimSpace(getenv(hook.Variable))
	if text == "" {
		return nil, fmt.Errorf("the variable %s is not set", hook.Variable)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("the variable %s holds no URL such as https://host/path", hook.Variable)
	}
	if u.Scheme == "http" && !hook.PlainHTTP && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("the URL in %s would be sent in the clear: use https, or write plainHTTP: true", hook.Variable)
	}
	r := &receiver{host: u.Host, url: u.String(), contentType: "application/json"}
	if hook.Format == FormatCloudEvents {
		r.contentType = "application/cloudevents+json; charset=utf-8"
	}
	if hook.Secret != "" {
		if r.key, err = signingKey(strings.TrimSpace(getenv(hook.Secret))); err != nil {
			return nil, fmt.Errorf("the variable %s %w", hook.Secret, err)
		}
	}
	r.client = &http.Client{
		Timeout: oneTry,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: oneTry / 2}).DialContext,
			TLSHandshakeTimeout:    oneTry / 2,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
			DisableKeepAlives:      true,
		},
		// The URL is a secret and the message is not for anybody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

const secretPrefix = "whsec_"

// signingKey reads a secret: "whsec_" and base64, or any other text as it is.
func signingKey(text string) ([]byte, error) {
	encoded, standard := strings.CutPrefix(text, secretPrefix)
	if !standard {
		if text == "" {
			return nil, errors.New("is not set, and nothing is sent unsigned")
		}
		return []byte(text), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("holds no base64 behind " + secretPrefix)
	}
	return key, nil
}

// signature signs a message as Standard Webhooks says, with HMAC-SHA256.
func signature(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// post sends a message once. A status of 2xx means that it arrived.
func (r *receiver) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return &refusal{what: "its URL cannot be asked"}
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", r.contentType)
	req.Header.Set("User-Agent", "promote")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	if r.key != nil {
		req.Header.Set("Webhook-Signature", signature(r.key, id, timestamp, body))
	}
	answer, err := r.client.Do(req)
	if err != nil {
		return failure(ctx, err)
	}
	_ = answer.Body.Close() // nothing in it matters
	if answer.StatusCode/100 == 2 {
		return nil
	}
	return refused(answer)
}

// refused judges a status that is not 2xx.
func refused(answer *http.Response) *refusal {
	r := &refusal{what: fmt.Sprintf("it answers with status %d", answer.StatusCode)}
	switch code := answer.StatusCode; {
	case code/100 == 3:
		r.what += ", a redirect, which is not followed: correct the URL"
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		r.again, r.wait = true, retryAfter(answer.Header.Get("Retry-After"), time.Now())
	}
	return r
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); zero if there
// is nothing to wait for.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// failure says in words of our own what went wrong: errors of the transport
// hold the URL, or what the other side sent.
func failure(ctx context.Context, err error) *refusal {
	var (
		dns   *net.DNSError
		name  x509.HostnameError
		chain x509.UnknownAuthorityError
		cert  x509.CertificateInvalidError
		errno syscall.Errno
		late  interface{ Timeout() bool }
	)
	switch {
	case ctx.Err() != nil:
		return &refusal{what: "no answer before promote ended"}
	case errors.As(err, &name):
		return &refusal{what: "its certificate is for another name"}
	case errors.As(err, &chain):
		return &refusal{what: "its certificate is signed by an unknown authority"}
	case errors.As(err, &cert):
		return &refusal{what: "its certificate is not valid"}
	case errors.As(err, &dns):
		return &refusal{what: "its name cannot be resolved", again: true}
	case errors.As(err, &late) && late.Timeout():
		return &refusal{what: "no answer within " + oneTry.String(), again: true}
	case errors.As(err, &errno):
		return &refusal{what: errno.Error(), again: true}
	}
	return &refusal{what: "the connection broke", again: true}
}
