package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve starts a front before a handler that reads what it is sent and answers
// with as many bytes as the path says.
func serve(t *testing.T, n int) *Front {
	t.Helper()
	f, err := NewFront()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	f.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(n))
		_, _ = w.Write(make([]byte, n))
	}))
	return f
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func ask(t *testing.T, c *http.Client, f *Front, method, path string, body []byte) (int, int, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.Addr()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, len(got), err
}

func end(t *testing.T, f *Front) Count {
	t.Helper()
	c, err := f.End()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFrontCounts(t *testing.T) {
	f := serve(t, 1000)
	c := client(t)
	f.Begin(0, nil)
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, r := range []struct {
		method, path string
		body         int
	}{{"GET", "/v2/a/blobs/" + digest, 0}, {"GET", "/v2/a/blobs/" + digest, 0}, {"PATCH", "/v2/a/blobs/uploads/x", 500},
		{"POST", "/v2/a/blobs/uploads/?mount=" + digest + "&from=b", 0}, {"PUT", "/v2/a/manifests/v1", 70}} {
		if _, _, err := ask(t, c, f, r.method, r.path, make([]byte, r.body)); err != nil {
			t.Fatal(err)
		}
	}
	got := end(t, f)
	if got.Requests != 5 || got.Connections != 1 || got.BodyIn != 570 || got.BodyOut != 5000 {
		t.Errorf("got %+v", got)
	}
	if got.BytesIn <= got.BodyIn || got.BytesOut <= got.BodyOut || got.BytesOut > got.BodyOut+5*kib {
		t.Errorf("on the wire: %d in, %d out", got.BytesIn, got.BytesOut)
	}
	want := map[string]int64{"GET blob": 2, "PATCH upload": 1, "POST mount": 1, "PUT manifest by tag": 1}
	if fmt.Sprint(got.Kinds) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got.Kinds, want)
	}

	f.Begin(30*time.Millisecond, nil)
	begun := time.Now()
	if _, _, err := ask(t, client(t), f, "GET", "/v2/", nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("a request that should wait took %s", took)
	}
	if got := end(t, f); got.Requests != 1 || got.Connections != 1 || got.Kinds["GET ping"] != 1 {
		t.Errorf("begun anew, got %+v", got)
	}
}

func TestCutDownload(t *testing.T) {
	f := serve(t, 100_000)
	f.Begin(0, CutDownload(40_000))
	_, got, err := ask(t, client(t), f, "GET", "/v2/a/blobs/x", nil)
	if err == nil || got != 40_000 {
		t.Errorf("got %d bytes and %v, want 40000 and a broken connection", got, err)
	}
	if _, got, err := ask(t, client(t), f, "GET", "/v2/a/blobs/x", nil); err != nil || got != 100_000 {
		t.Errorf("the second time: %d bytes, %v", got, err)
	}
	if c := end(t, f); c.BodyOut != 140_000 {
		t.Errorf("counted %d bytes", c.BodyOut)
	}
}

func TestCutUpload(t *testing.T) {
	f := serve(t, 0)
	f.Begin(0, CutUpload(150_000))
	body := make([]byte, 100_000)
	if status, _, err := ask(t, client(t), f, "PATCH", "/v2/a/blobs/uploads/x", body); err != nil || status != http.StatusOK {
		t.Fatalf("below the limit: %d, %v", status, err)
	}
	if status, _, err := ask(t, client(t), f, "PATCH", "/v2/a/blobs/uploads/x", body); err == nil {
		t.Errorf("beyond the limit: status %d, want a broken connection", status)
	}
	if status, _, err := ask(t, client(t), f, "PATCH", "/v2/a/blobs/uploads/x", body); err != nil || status != http.StatusOK {
		t.Errorf("the second time: %d, %v", status, err)
	}
	end(t, f)
}

func TestStorm(t *testing.T) {
	f := serve(t, 0)
	f.Begin(0, Storm(1, time.Hour, 2*time.Second))
	for n, want := range []int{200, 429, 429} {
		if status, _, err := ask(t, client(t), f, "GET", "/v2/", nil); err != nil || status != want {
			t.Errorf("request %d: %d, %v", n, status, err)
		}
	}
	if c := end(t, f); c.Refused != 2 {
		t.Errorf("counted %d refused", c.Refused)
	}
	f.Begin(0, Storm(1, 0, time.Second))
	for range 3 {
		if status, _, err := ask(t, client(t), f, "GET", "/v2/", nil); err != nil || status != http.StatusOK {
			t.Errorf("after the storm: %d, %v", status, err)
		}
	}
}
