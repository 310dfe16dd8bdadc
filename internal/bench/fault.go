package bench

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Fault stands between a Front and its registry and misbehaves.
type Fault func(next http.Handler) http.Handler

// CutDownload breaks the connection, once, when an answer has sent n bytes of
// its body.
func CutDownload(n int64) Fault {
	var done atomic.Bool
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&cutWriter{ResponseWriter: w, left: n, done: &done}, r)
		})
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int64
	done *atomic.Bool
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if int64(len(p)) < w.left || w.done.Load() {
		n, err := w.ResponseWriter.Write(p)
		w.left -= int64(n)
		return n, err
	}
	w.done.Store(true)
	_, _ = w.ResponseWriter.Write(p[:w.left])
	w.ResponseWriter.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// CutUpload breaks the connection, once, when all uploads together have
// received n bytes. The registry keeps what had arrived, as one does that saw
// its client disappear.
func CutUpload(n int64) Fault {
	c := &cut{left: n}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := &cutReader{ReadCloser: r.Body, cut: c}
			r.Body = body
			held := &held{ResponseWriter: w, body: body}
			next.ServeHTTP(held, r)
			if body.broken {
				panic(http.ErrAbortHandler)
			}
		})
	}
}

type cut struct {
	mu   sync.Mutex
	left int64
	done bool
}

// take says how many of n bytes still pass, and whether the line breaks then.
func (c *cut) take(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return n, false
	}
	if int64(n) < c.left {
		c.left -= int64(n)
		return n, false
	}
	c.done = true
	return int(c.left), true
}

type cutReader struct {
	io.ReadCloser
	cut    *cut
	broken bool
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.broken {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.ReadCloser.Read(p)
	passes, breaks := r.cut.take(n)
	if breaks {
		r.broken = true
		return passes, io.ErrUnexpectedEOF
	}
	return passes, err
}

// held drops what the registry says about a broken request: nobody hears it.
type held struct {
	http.ResponseWriter
	body *cutReader
}

func (h *held) WriteHeader(status int) {
	if !h.body.broken {
		h.ResponseWriter.WriteHeader(status)
	}
}

func (h *held) Write(p []byte) (int, error) {
	if h.body.broken {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}

func (h *held) Flush() { h.ResponseWriter.(http.Flusher).Flush() }

// Storm answers 429 with a Retry-After of whole seconds to everything that
// comes within a time, which begins after some requests were answered.
func Storm(after int64, lasts, retryAfter time.Duration) Fault {
	var seen, until atomic.Int64
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if seen.Add(1) > after {
				until.CompareAndSwap(0, time.Now().Add(lasts).UnixNano())
				if time.Now().UnixNano() < until.Load() {
					w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}
