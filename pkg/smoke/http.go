package smoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mostAnswer is how much of an answer's body is read.
const mostAnswer = 1 << 20

// client makes requests to the services under test and to nothing else: no
// proxy, no redirects, no cookies.
func newClient(connections int) *http.Client {
	return &http.Client{
		Timeout: checkTimeout,
		Transport: &http.Transport{
			MaxIdleConnsPerHost:    connections,
			MaxConnsPerHost:        connections,
			MaxResponseHeaderBytes: 64 << 10,
			ResponseHeaderTimeout:  checkTimeout,
			IdleConnTimeout:        checkTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// address is where a service's port can be reached from here: as published on
// loopback, else at the container's own address.
func (r *run) address(ctx context.Context, service string, port int) (string, error) {
	c, err := r.Engine.Inspect(ctx, r.monitor.id(service))
	if err != nil {
		return "", err
	}
	for _, p := range c.Ports {
		if int(p.Target) == port && p.Published != "" && p.Protocol != "udp" {
			host := p.HostIP
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			return net.JoinHostPort(host, p.Published), nil
		}
	}
	for _, network := range slices.Sorted(maps.Keys(c.Networks)) {
		if ip := c.Networks[network]; ip != "" {
			return net.JoinHostPort(ip, strconv.Itoa(port)), nil
		}
	}
	return "", fmt.Errorf("port %d of %s is not reachable: the container is %s", port, service, c.State)
}

// request makes one request and reports what is wrong with the answer, and how
// long it took to the last byte.
func request(ctx context.Context, client *http.Client, address string, h HTTP) (took time.Duration, err error) {
	method, path := h.Method, h.Path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader(h.Body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "promote-smoke")
	if h.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, withoutAddress(err, address)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	took = time.Since(begin)
	switch {
	case h.Status != 0 && resp.StatusCode != h.Status:
		return took, fmt.Errorf("%s %s answered %d, want %d: %s", method, path, resp.StatusCode, h.Status, oneLine(string(body)))
	case h.Status == 0 && resp.StatusCode >= 400:
		return took, fmt.Errorf("%s %s answered %d: %s", method, path, resp.StatusCode, oneLine(string(body)))
	case h.Within > 0 && took > h.Within:
		return took, fmt.Errorf("%s %s answered %d after %s, want within %s", method, path, resp.StatusCode, round(took), h.Within)
	}
	if err := wants(body, h.JSON); err != nil {
		return took, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return took, nil
}

// withoutAddress takes the address of this run out of an error, so that the
// same failure reads the same in every run.
func withoutAddress(err error, address string) error {
	return fmt.Errorf("%s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), "http://"+address, ""), address, "the service"))
}

// dial opens and closes a connection.
func (r *run) dial(ctx context.Context, service string, port int) error {
	address, err := r.address(ctx, service, port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	reach := r.reach
	if reach == nil {
		reach = new(net.Dialer).DialContext
	}
	conn, err := reach(ctx, "tcp", address)
	if err != nil {
		return withoutAddress(err, address)
	}
	defer conn.Close()
	if r.reach == nil {
		return nil
	}
	// What forwards takes a connection before it knows whether the port does.
	_ = conn.SetReadDeadline(time.Now().Add(forwardedTime))
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("port %d took no connection", port)
	}
	return nil
}

// forwardedTime is how long a forwarded connection must stay open to count; tests
// shorten it.
var forwardedTime = time.Second

func (r *run) http(ctx context.Context, service string, h HTTP) (time.Duration, error) {
	s, _ := r.workload.Service(service)
	address, err := r.address(ctx, service, portOf(s, h.Port))
	if err != nil {
		return 0, err
	}
	return request(ctx, r.client, address, h)
}
