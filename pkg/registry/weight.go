package registry

import (
	"bytes"
	"io"

	"github.com/promote-dev/promote/pkg/release"
)

// JSON can be a hundred times larger in memory than on the wire: "{}," is three
// bytes, and an object. So the limits on bytes are of little use without one on
// how much there is in them.
const (
	// mostValues bounds the values of a manifest, a page of a listing or a
	// configuration. An index of a thousand children has about thirty thousand.
	mostValues = 100_000
	// mostModelValues bounds those of a layer of a release.
	mostModelValues = 4 * mostValues
	// valueBytes is what a value costs in memory, about.
	valueBytes = 64
)

// values counts the values of JSON, names of members included, without parsing
// it: the separators and brackets that stand outside of strings. Of anything
// else than JSON it counts something.
func values(raw []byte) int {
	n, text := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case !text && (c == ',' || c == ':' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// tooRich is the denial of JSON with more values than anything legitimate has;
// nil if it has fewer.
func tooRich(raw []byte, most int) error {
	if n := values(raw); n > most {
		return release.Denied("nothing legitimate is that large; look at what the registry serves", "%d values in %d bytes of JSON, at most %d are read", n, len(raw), most)
	}
	return nil
}

// weight is what a manifest costs in memory, about.
func (m manifest) weight() int64 { return int64(len(m.raw)) + valueBytes*int64(m.values) }

// large manifests are parsed a few at a time: while that goes on, each takes
// many times its size.
const large = 256 * kib

var parsing = make(chan struct{}, 2)

// alone runs f when few others do, if it is about many bytes.
func alone(size int, f func()) {
	if size >= large {
		parsing <- struct{}{}
		defer func() { <-parsing }()
	}
	f()
}

// readAll reads at most most bytes, and one more to show that there are more.
// size is how many are expected; a negative one is not known.
func readAll(r io.Reader, size, most int64) ([]byte, error) {
	// A buffer grows by doubling, which leaves twice as much behind.
	b := bytes.NewBuffer(make([]byte, 0, min(max(size, 0), most)+bytes.MinRead))
	_, err := b.ReadFrom(io.LimitReader(r, most+1))
	return b.Bytes(), err
}
