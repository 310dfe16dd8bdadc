package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Answer answers with these bytes and headers ("Key", "value", …).
func Answer(status int, body []byte, headers ...string) Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		if w.Header().Get("Content-Length") == "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

// Change lets the backend answer and changes its answer.
func Change(f func(header http.Header, body []byte) []byte) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		seen := httptest.NewRecorder()
		next.ServeHTTP(seen, r)
		body := f(seen.Header(), seen.Body.Bytes())
		for key, values := range seen.Header() {
			w.Header()[key] = values
		}
		if r.Method != http.MethodHead && w.Header().Get("Content-Length") != "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(seen.Code)
		_, _ = w.Write(body)
	}
}

// Cut lets the backend answer, announces its length, and breaks off after n
// bytes of what is to be sent.
func Cut(n int) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		seen := httptest.NewRecorder()
		next.ServeHTTP(seen, r)
		for key, values := range seen.Header() {
			w.Header()[key] = values
		}
		body := seen.Body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(seen.Code)
		_, _ = w.Write(body[:min(n, len(body))])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Drip lets the backend answer and sends its body a byte at a time.
func Drip(pause time.Duration) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		seen := httptest.NewRecorder()
		next.ServeHTTP(seen, r)
		for key, values := range seen.Header() {
			w.Header()[key] = values
		}
		w.Header().Set("Content-Length", strconv.Itoa(seen.Body.Len()))
		w.WriteHeader(seen.Code)
		for _, b := range seen.Body.Bytes() {
			if _, err := w.Write([]byte{b}); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// Hang answers nothing until the client gives up.
func Hang() Action {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }
}

// Statuses answers with one status after the other, then as the backend does.
// headers go along with each status.
func Statuses(codes []int, headers ...string) Action {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		i := int(n.Add(1)) - 1
		if i >= len(codes) {
			next.ServeHTTP(w, r)
			return
		}
		Answer(codes[i], nil, headers...)(w, r, next)
	}
}

// Swallow says that a write went well and does nothing.
func Swallow() Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusCreated) }
}

// Validate lets a backend that takes any manifest refuse those whose blobs or
// children it lacks, naming them as distribution does.
func Validate() Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		var manifest struct {
			Config    *Descriptor  `json:"config"`
			Layers    []Descriptor `json:"layers"`
			Manifests []Descriptor `json:"manifests"`
		}
		_ = json.Unmarshal(raw, &manifest)
		base, _, _ := strings.Cut(r.URL.Path, "/manifests/")
		var unknown []map[string]string
		check := func(kind string, d Descriptor) {
			seen := httptest.NewRecorder()
			next.ServeHTTP(seen, httptest.NewRequest(http.MethodHead, base+"/"+kind+"/"+d.Digest.String(), nil))
			if seen.Code != http.StatusOK {
				unknown = append(unknown, map[string]string{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": d.Digest.String()})
			}
		}
		if manifest.Config != nil {
			check("blobs", *manifest.Config)
		}
		for _, d := range manifest.Layers {
			check("blobs", d)
		}
		for _, d := range manifest.Manifests {
			check("manifests", d)
		}
		if unknown == nil {
			next.ServeHTTP(w, r)
			return
		}
		body, _ := json.Marshal(map[string]any{"errors": unknown})
		Answer(http.StatusBadRequest, body, "Content-Type", "application/json")(w, r, next)
	}
}

// Break takes n bytes of a request's body, hands them to took (which may be
// nil), and breaks the connection.
func Break(n int64, took func(r *http.Request, next http.Handler, some []byte)) Action {
	return func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		some, _ := io.ReadAll(io.LimitReader(r.Body, n))
		if took != nil {
			took(r, next, some)
		}
		panic(http.ErrAbortHandler)
	}
}

// Reluctantly lets an action answer and keeps all but the first of the errors
// that it names to itself.
func Reluctantly(do Action) Action {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		Change(func(_ http.Header, body []byte) []byte {
			var answer struct {
				Errors []json.RawMessage `json:"errors"`
			}
			if json.Unmarshal(body, &answer) != nil || len(answer.Errors) < 2 {
				return body
			}
			answer.Errors = answer.Errors[:1]
			body, _ = json.Marshal(answer)
			return body
		})(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { do(w, r, next) }))
	}
}
