package registrytest

import (
	"bytes"
	"compress/gzip"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
)

// Raw answers with these pieces instead of an HTTP answer that a server would
// make, one write each, and breaks the connection off.
func Raw(pieces ...string) Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer conn.Close()
		for _, piece := range pieces {
			if _, err := conn.Write([]byte(piece)); err != nil {
				return
			}
		}
	}
}

// Reset breaks the connection off in the middle of an answer's header, with a
// reset instead of an orderly end.
func Reset() Action {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Ty"))
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// Flood sends a status line and then a header line again and again, most bytes
// of them.
func Flood(first, line string, most int) Action {
	return Raw(append([]string{first}, repeated(line, most)...)...)
}

func repeated(line string, most int) []string {
	block := strings.Repeat(line, max(1, 16<<10/len(line)))
	var list []string
	for n := 0; n < most; n += len(block) {
		list = append(list, block)
	}
	return list
}

// Endless answers with one piece again and again, without saying how long it
// will take, until the client leaves or most bytes are sent.
func Endless(piece []byte, most int, headers ...string) Action {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(http.StatusOK)
		for n := 0; n < most && r.Context().Err() == nil; n += len(piece) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}
}

// Gzip lets the backend answer and compresses its answer, as one who was never
// asked to.
func Gzip() Action {
	return Change(func(h http.Header, body []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(body)
		_ = w.Close()
		h.Set("Content-Encoding", "gzip")
		return b.Bytes()
	})
}

// Redirect sends the client elsewhere; an empty address is where it is.
func Redirect(status int, address string) Action {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		to := address
		if to == "" {
			to = r.URL.RequestURI()
		}
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	}
}

// After lets the backend answer the first n times, and another action then.
func After(n int, do Action) Action {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if seen.Add(1) <= int64(n) {
			next.ServeHTTP(w, r)
			return
		}
		do(w, r, next)
	}
}

// Lose lets the backend do what was asked and breaks the connection off
// instead of saying so.
func Lose() Action {
	return func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

// Page answers with a page of a listing and a link to the next one; an empty
// link is the last page.
func Page(mediaType string, body []byte, link string) Action {
	headers := []string{"Content-Type", mediaType, "Content-Length", strconv.Itoa(len(body))}
	if link != "" {
		headers = append(headers, "Link", "<"+link+`>; rel="next"`)
	}
	return Answer(http.StatusOK, body, headers...)
}
