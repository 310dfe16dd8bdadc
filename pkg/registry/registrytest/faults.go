package registrytest

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/release"
)

// fault is one way of answering wrongly, and what must come of it.
type fault struct {
	name string
	// number is the case of the threat table, 0 if it is none of them.
	number int
	do     func(w *world, x target) Action
	// kinds is what must come of it by the target's kind; a kind that isn't
	// there is not attacked in this way.
	kinds map[string]release.Kind
	// served gives the bytes that contradict the digest, which the message must
	// name beside the true one; nil if there are none.
	served func(w *world, x target) []byte
	// drops: evidence that is answered like this counts for nothing, which is
	// no failure of reading.
	drops bool
	// bytes: what is served is whole, and not what was asked for.
	bytes bool
	// once: whoever asks once is not fooled.
	once bool
	// hides: a registry that answers a question for referrers like this has no
	// referrers API.
	hides bool
	// absent: this is a plain absence if the thing itself was asked for.
	absent bool
	limits func() registry.Limits // nil is FastLimits
}

const (
	denied      = release.KindDenied
	unavailable = release.KindUnavailable
)

// everywhere gives one answer for every kind of target.
func everywhere(k release.Kind) map[string]release.Kind {
	return map[string]release.Kind{aManifest: k, aTag: k, aBlob: k, aListing: k, aTagList: k}
}

func always(a func() Action) func(*world, target) Action {
	return func(*world, target) Action { return a() }
}

// serving answers with bytes, under the media type of the target, echoing the
// digest that was asked for.
func serving(bytes func(w *world, x target) []byte) func(*world, target) Action {
	return func(w *world, x target) Action {
		return Answer(http.StatusOK, bytes(w, x), "Content-Type", mediaType(x), "Docker-Content-Digest", x.blob.Digest.String())
	}
}

func mediaType(x target) string {
	switch x.kind {
	case aBlob:
		return "application/octet-stream"
	case aListing:
		return release.MediaTypeIndex
	case aTagList:
		return "application/json"
	}
	return x.blob.MediaType
}

// another is other content of the same kind and, for a blob, of the same size.
func another(w *world, x target) []byte {
	if x.kind == aBlob {
		return Random(77, len(x.blob.Bytes))
	}
	if x.blob.MediaType == release.MediaTypeIndex {
		return NewIndex(w.riscv, w.amd).Manifest.Bytes
	}
	return NewImage(66, 10).Manifest.Bytes
}

func flipped(_ *world, x target) []byte {
	b := bytes.Clone(x.blob.Bytes)
	b[len(b)/2] ^= 1
	return b
}

func sourceFaults() []fault {
	digests := map[string]release.Kind{aManifest: denied, aTag: denied, aBlob: denied}
	mostly := func(listing release.Kind) map[string]release.Kind {
		return map[string]release.Kind{aManifest: denied, aTag: denied, aBlob: unavailable, aListing: listing, aTagList: listing}
	}
	list := []fault{
		{name: "other bytes, echoed digest", number: 1, kinds: digests, do: serving(another), served: another},
		{name: "a bit flipped, echoed digest", number: 1, kinds: digests, do: serving(flipped), served: flipped},
		{name: "index for image, image for index", number: 1, kinds: map[string]release.Kind{aManifest: denied, aTag: denied}, drops: true,
			do: func(_ *world, x target) Action {
				other := release.MediaTypeIndex
				if x.blob.MediaType == other {
					other = release.MediaTypeManifest
				}
				return Answer(http.StatusOK, x.blob.Bytes, "Content-Type", other, "Docker-Content-Digest", x.blob.Digest.String())
			}},
		{name: "served as a page", number: 1, kinds: map[string]release.Kind{aManifest: denied, aTag: denied}, drops: true,
			do: func(_ *world, x target) Action {
				return Answer(http.StatusOK, x.blob.Bytes, "Content-Type", "text/html")
			}},
		{name: "the second answer differs", number: 2, kinds: digests, once: true,
			do: func(w *world, x target) Action { return After(1, serving(another)(w, x)) }},
		{name: "shorter than announced", number: 5, kinds: everywhere(unavailable), do: always(func() Action { return Cut(1) })},
		{name: "shorter, honestly", number: 5, bytes: true, kinds: mostly(unavailable), do: always(func() Action {
			return Change(func(_ http.Header, b []byte) []byte { return b[:len(b)/2] })
		})},
		{name: "longer", number: 5, bytes: true, kinds: mostly(unavailable), do: always(func() Action {
			return Change(func(_ http.Header, b []byte) []byte { return append(bytes.Clone(b), "{}"...) })
		})},
		{name: "longer, unannounced", number: 5, bytes: true, kinds: mostly(unavailable), do: always(func() Action {
			return Change(func(h http.Header, b []byte) []byte { h.Del("Content-Length"); return append(bytes.Clone(b), "{}"...) })
		})},
		{name: "99 MiB announced", number: 6, bytes: true, kinds: mostly(denied), do: func(_ *world, x target) Action {
			return Answer(http.StatusOK, []byte("{"), "Content-Type", mediaType(x), "Content-Length", "103809024")
		}},
		{name: "endless", number: 6, bytes: true, kinds: mostly(denied), do: func(_ *world, x target) Action {
			return Endless(bytes.Repeat([]byte(" "), 64<<10), 64<<20, "Content-Type", mediaType(x))
		}},
		{name: "compressed unasked", bytes: true, kinds: mostly(unavailable), do: always(Gzip)},
		{name: "a byte at a time", number: 11, kinds: everywhere(unavailable), limits: ImpatientLimits, do: always(func() Action { return Drip(25 * time.Millisecond) })},
		{name: "silence", number: 11, kinds: everywhere(unavailable), limits: ImpatientLimits, do: always(Hang)},
		{name: "gone", kinds: everywhere(unavailable), absent: true, drops: true, hides: true, do: always(func() Action { return Answer(http.StatusNotFound, nil) })},
	}
	for _, status := range []int{201, 204, 206, 304, 400, 401, 403, 410, 413, 416, 418, 451, 500, 501, 502, 503, 504, 507, 599} {
		list = append(list, fault{name: "status " + http.StatusText(status), kinds: everywhere(unavailable), hides: status == 400 || status == 501,
			do: always(func() Action { return Answer(status, nil) })})
	}
	return append(list, redirects()...)
}

func redirects() []fault {
	list := []fault{
		{name: "a redirect in circles", kinds: everywhere(unavailable), do: always(func() Action { return Redirect(http.StatusTemporaryRedirect, "") })},
		{name: "a redirect to nowhere", kinds: everywhere(unavailable), do: always(func() Action { return Redirect(http.StatusFound, "http://127.0.0.1:1/x") })},
	}
	for _, address := range []string{"file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "http://user:password@127.0.0.1:1/", "gopher://127.0.0.1:70/1", "http://storage.example/blob"} {
		list = append(list, fault{name: "a redirect to " + address, kinds: everywhere(denied), do: always(func() Action { return Redirect(http.StatusFound, address) })})
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, do := range map[string]func() Action{
		"no HTTP":               func() Action { return Raw("<html>this is not a registry</html>\n") },
		"nothing at all":        func() Action { return Raw() },
		"a reset in the header": Reset,
		"a thousand hints":      func() Action { return Flood("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 1<<20) },
		"an endless header": func() Action {
			return Flood(ok, "X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 4<<20)
		},
		"one huge header":   func() Action { return Raw(ok+"X-Padding: ", strings.Repeat("a", 1<<20), "\r\n\r\n") },
		"two lengths":       func() Action { return Raw(ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef") },
		"a negative length": func() Action { return Raw(ok + "Content-Length: -5\r\n\r\nabcdef") },
		"a broken chunk":    func() Action { return Raw(ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc") },
	} {
		list = append(list, fault{name: name, kinds: everywhere(unavailable), do: always(do)})
	}
	return list
}
