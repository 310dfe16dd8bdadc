package engine

import (
	"errors"
	"io"
	"net/http"
	"strings"
)

// mostAnswer bounds what an engine may answer where a container decides how
// long that is: the names of files that it wrote, its processes, what it was
// made with.
const mostAnswer = 32 << 20

var errLongAnswer = errors.New("the engine's answer takes more than 32 MiB")

// bound ends reading such an answer with errLongAnswer. Streams have bounds of
// their own where they are read.
func bound(r *http.Response) {
	if r.Request == nil || r.Body == nil {
		return
	}
	for _, end := range []string{"/changes", "/json", "/top"} {
		if strings.HasSuffix(r.Request.URL.Path, end) {
			r.Body = &bounded{ReadCloser: r.Body, left: mostAnswer}
			return
		}
	}
}

type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongAnswer
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// tooLong reports whether an answer was not read to its end. Decoders of JSON
// keep the words of what they failed on, not always the error.
func tooLong(err error) bool {
	return err != nil && strings.Contains(err.Error(), errLongAnswer.Error())
}
