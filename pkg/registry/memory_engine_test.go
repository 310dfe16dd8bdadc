//go:build engine

package registry_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/sha256"

	memory "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/promote-dev/promote/pkg/registry"
	"github.com/promote-dev/promote/pkg/registry/registrytest"
	"github.com/promote-dev/promote/pkg/release"
)

func init() { child = client }

// order is what a client in a process of its own shall do.
type order struct {
	Do          string // copy, resolve, platform, tags, attachments, legacy, release
	Reference   string
	Subject     release.Subject
	Destination string
	Secret      string // a password for the subject's host
}

// outcome is what came of it, and what it took.
type outcome struct {
	Kind      release.Kind
	Error     string
	HighWater int64 // VmHWM: the most that was resident, in bytes
	Anonymous int64 // the most of it that no file stands behind
	Took      time.Duration
}

// client does an order, as a user's client would.
func client() {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childOf)), &o); err != nil {
		panic(err)
	}
	var most atomic.Int64
	go func() {
		for {
			most.Store(max(most.Load(), status("RssAnon")))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	host, _, _ := strings.Cut(o.Subject.Repository, "/")
	keychain := registrytest.Credentials{}
	if o.Secret != "" {
		keychain[host] = registry.Credential{Username: "user", Password: o.Secret}
	}
	c, err := registry.New(registry.Options{Keychain: keychain})
	if err != nil {
		panic(err)
	}
	start := time.Now()
	err = obey(c, o)
	result := outcome{Kind: release.KindOf(err), HighWater: status("VmHWM"), Anonymous: most.Load(), Took: time.Since(start)}
	if err != nil {
		result.Error = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}

func obey(c *registry.Client, o order) (err error) {
	ctx := context.Background()
	options := registry.CopyOptions{Referrers: true, Tags: []string{"v1"}}
	switch o.Do {
	case "resolve":
		_, err = c.Resolve(ctx, o.Subject.String())
	case "platform":
		_, err = c.Platform(ctx, o.Subject, "linux/amd64")
	case "tags":
		_, err = c.Tags(ctx, o.Subject.Repository)
	case "attachments":
		_, err = c.Attachments(ctx, o.Subject)
	case "legacy":
		_, err = c.LegacyAttachments(ctx, o.Subject)
	case "release":
		_, err = c.PullRelease(ctx, o.Subject)
	case "copy":
		if strings.HasPrefix(o.Destination, "oci") {
			_, err = c.Transfer(ctx, o.Subject.String(), o.Destination, options)
		} else {
			_, err = c.Copy(ctx, o.Subject, o.Destination, options)
		}
	default:
		err = errors.New("no such order")
	}
	return err
}

// status reads a figure of this process, in bytes.
func status(field string) int64 {
	raw, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// send lets a client in a process of its own do an order; the registries are
// here, so that only the client's memory counts.
func send(t *testing.T, o order) outcome {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childOf+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var result outcome
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%-12s %q after %s: at most %d MiB resident, %d MiB of them its own", o.Do, result.Kind, result.Took.Round(time.Millisecond), result.HighWater>>20, result.Anonymous>>20)
	return result
}

// generated is a blob that is made as it is read: blocks that differ in their
// number only.
type generated struct {
	seed, size, at int64
	block          []byte
}

func (g *generated) Read(p []byte) (int, error) {
	if g.at >= g.size {
		return 0, io.EOF
	}
	const block = 1 << 20
	within := g.at % block
	binary.BigEndian.PutUint64(g.block, uint64(g.seed))
	binary.BigEndian.PutUint64(g.block[8:], uint64(g.at/block))
	n := copy(p, g.block[within:min(block, within+g.size-g.at)])
	g.at += int64(n)
	return n, nil
}

func (g *generated) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		g.at = offset
	case io.SeekCurrent:
		g.at += offset
	default:
		g.at = g.size + offset
	}
	return g.at, nil
}

// discarding takes blobs, checks them, and keeps their sizes only.
type discarding struct{ sizes sync.Map }

func (d *discarding) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	return nil, memory.ErrNotFound
}

func (d *discarding) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	if n, ok := d.sizes.Load(h.String()); ok {
		return n.(int64), nil
	}
	return 0, memory.ErrNotFound
}

func (d *discarding) Put(_ context.Context, _ string, h v1.Hash, r io.ReadCloser) error {
	defer r.Close()
	n, err := io.Copy(io.Discard, r) // it verifies
	if err == nil {
		d.sizes.Store(h.String(), n)
	}
	return err
}

// A copy of 2 GiB takes less than 64 MB, whatever the destination is.
func TestMemoryOfCopying(t *testing.T) {
	const layers, size = 8, 256 << 20
	source := registrytest.Serve(t, inMemory(true).New(t))
	config := registrytest.NewImage(1).Blobs[0]
	source.PutBlob(t, "src", config.Bytes)
	var list []registrytest.Descriptor
	for i := range int64(layers) {
		open := func() *generated { return &generated{seed: i, size: size, block: registrytest.Random(7, 1<<20)} }
		h := sha256.New()
		if _, err := io.Copy(h, open()); err != nil {
			t.Fatal(err)
		}
		d := release.DigestFromSum([32]byte(h.Sum(nil)))
		list = append(list, registrytest.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: size})
		serve := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.ServeContent(w, r, "", time.Time{}, open())
		}
		source.On("GET", "/blobs/"+d.String(), serve)
		source.On("HEAD", "/blobs/"+d.String(), serve)
	}
	m := registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "config": registrytest.Describe(config), "layers": list})
	s := release.Subject{Repository: source.Host + "/src", Digest: source.PutManifest(t, "src", "v1", m.MediaType, m.Bytes)}
	blobs := &discarding{}
	destination := registrytest.Serve(t, memory.New(memory.WithReferrersSupport(true), memory.WithBlobHandler(blobs)))
	dir := t.TempDir()
	for _, to := range []string{destination.Host + "/dst", "oci:" + filepath.Join(dir, "layout"), "oci-archive:" + filepath.Join(dir, "image.tar")} {
		got := send(t, order{Do: "copy", Subject: s, Destination: to})
		if got.Kind != "" {
			t.Errorf("%s: %s", to, got.Error)
		}
		if got.HighWater > 64_000_000 {
			t.Errorf("%s: %d bytes were resident, of which %d its own", to, got.HighWater, got.Anonymous)
		}
		if err := os.RemoveAll(filepath.Join(dir, "layout")); err != nil {
			t.Fatal(err)
		}
	}
}

// bomb makes JSON that is much larger when it is parsed.
func bomb(prefix, suffix string) []byte {
	const most = 4<<20 - 1000
	var b bytes.Buffer
	b.WriteString(prefix)
	for b.Len() < most {
		b.WriteString(`{"a":0},`)
	}
	b.WriteString("0" + suffix)
	return b.Bytes()
}

// padded makes a manifest of nearly the largest size.
func padded(seed int) release.Blob {
	img := registrytest.NewImage(1)
	return registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest,
		"config": registrytest.Describe(img.Blobs[0]), "layers": []any{}, "annotations": map[string]string{"a": strings.Repeat("x", 4<<20-2000), "n": strconv.Itoa(seed)}})
}

// many makes a manifest with n annotations, of which tooMany are as many as fit
// into one, and allowed as many as are taken. It is written by hand: a map of so
// many takes a client's time tens of times over.
func many(seed, n int, subject *registrytest.Descriptor) release.Blob {
	config, err := json.Marshal(registrytest.Describe(registrytest.NewImage(1).Blobs[0]))
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[],`, release.MediaTypeManifest, config)
	if subject != nil {
		raw, err := json.Marshal(subject)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, `"subject":%s,`, raw)
	}
	fmt.Fprintf(&b, `"annotations":{"n":"%d"`, seed)
	for i := range n {
		b.WriteString(`,"_` + strconv.FormatInt(int64(i), 36) + `":""`)
	}
	b.WriteString("}}")
	return registrytest.NewBlob(release.MediaTypeManifest, b.Bytes())
}

const tooMany, allowed = 290_000, 49_000

func each(n int, f func(i int) release.Blob) (list []release.Blob) {
	for i := range n {
		list = append(list, f(i))
	}
	return list
}

// Whatever a registry sends, the client stays below 512 MB and a minute.
func TestMemoryOfReading(t *testing.T) {
	img := registrytest.NewImage(1, 10)
	forever := bytes.Repeat([]byte(" "), 1<<20)
	type world struct {
		p *registrytest.Proxy
		s release.Subject
	}
	endless := func(pattern, mediaType string) func(w *world) {
		return func(w *world) {
			w.p.On("GET", pattern, registrytest.Endless(forever, 1<<40, "Content-Type", mediaType))
		}
	}
	serve := func(w *world, blobs ...release.Blob) {
		for _, b := range blobs {
			w.p.On("GET", "/manifests/"+b.Digest.String(), registrytest.Answer(http.StatusOK, b.Bytes, "Content-Type", b.MediaType))
		}
	}
	index := func(w *world, children []release.Blob) {
		var list []registrytest.Image
		for _, c := range children {
			list = append(list, registrytest.Image{Manifest: c})
		}
		root := registrytest.NewIndex(list...).Manifest
		serve(w, append(children, root)...)
		w.s.Digest = root.Digest
	}
	var mu sync.Mutex
	listing := func(w *world, entries []registrytest.Descriptor, annotations string) {
		raw, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": entries})
		raw = bytes.ReplaceAll(raw, []byte(`"artifactType"`), []byte(annotations+`"artifactType"`))
		page := 0
		w.p.On("GET", "/referrers/", func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			mu.Lock()
			defer mu.Unlock()
			page++
			registrytest.Page(release.MediaTypeIndex, raw, fmt.Sprintf("?page=%d", page))(rw, r, next)
		})
	}
	entry := func(b release.Blob) registrytest.Descriptor {
		d := registrytest.Describe(b)
		d.ArtifactType = release.MediaTypeBundle
		return d
	}
	refer := func(w *world, n, annotations int) {
		about := registrytest.Describe(img.Manifest)
		var entries []registrytest.Descriptor
		for _, m := range each(n, func(i int) release.Blob { return many(i, annotations, &about) }) {
			serve(w, m)
			entries = append(entries, entry(m))
		}
		raw, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeIndex, "manifests": entries})
		w.p.On("GET", "/referrers/"+img.Manifest.Digest.String(), registrytest.Page(release.MediaTypeIndex, raw, ""))
	}
	cases := map[string]struct {
		do     []string
		kind   release.Kind
		script func(w *world)
	}{
		"99 MiB manifest": {[]string{"resolve", "copy", "platform"}, release.KindDenied, func(w *world) {
			w.p.On("GET", "/manifests/", registrytest.Answer(http.StatusOK, bytes.Repeat(forever, 99), "Content-Type", release.MediaTypeManifest))
		}},
		"endless manifest": {[]string{"resolve", "copy"}, release.KindDenied, endless("/manifests/", release.MediaTypeManifest)},
		"endless config":   {[]string{"platform"}, release.KindUnavailable, endless("/blobs/", "application/json")},
		"endless tags":     {[]string{"tags"}, release.KindDenied, endless("/tags/", "application/json")},
		"endless list":     {[]string{"attachments", "copy"}, release.KindDenied, endless("/referrers/", release.MediaTypeIndex)},
		"endless failure": {[]string{"resolve", "tags", "attachments"}, release.KindUnavailable, func(w *world) {
			w.p.On("GET", ".", func(rw http.ResponseWriter, r *http.Request, _ http.Handler) {
				rw.WriteHeader(http.StatusInternalServerError)
				for r.Context().Err() == nil {
					if _, err := rw.Write(forever); err != nil {
						return
					}
				}
			})
		}},
		"endless token": {[]string{"resolve"}, release.KindUnavailable, func(w *world) {
			w.p.On("", "^/v2/", registrytest.Answer(http.StatusUnauthorized, nil, "WWW-Authenticate", `Bearer realm="http://`+w.p.Host+`/token",service="s"`))
			w.p.On("", "^/token", registrytest.Endless(forever, 1<<40, "Content-Type", "application/json"))
		}},
		"compressed manifest": {[]string{"resolve"}, release.KindDenied, func(w *world) { w.p.On("GET", "/manifests/", registrytest.Gzip()) }},
		"10,000 children": {[]string{"resolve", "copy"}, release.KindDenied, func(w *world) {
			var list []registrytest.Image
			for i := range 10_000 {
				list = append(list, registrytest.Image{Manifest: release.Blob{MediaType: release.MediaTypeManifest, Digest: release.DigestOf(fmt.Append(nil, i))}})
			}
			root := registrytest.NewIndex(list...).Manifest
			serve(w, root)
			w.s.Digest = root.Digest
		}},
		"a manifest of small things": {[]string{"resolve", "copy"}, release.KindDenied, func(w *world) {
			m := registrytest.NewBlob(release.MediaTypeManifest, bomb(strings.TrimSuffix(string(img.Manifest.Bytes), "}")+`,"x":[`, "]}"))
			serve(w, m)
			w.s.Digest = m.Digest
		}},
		"64 children of small things": {[]string{"copy"}, release.KindDenied, func(w *world) {
			var list []release.Blob
			for i := range 64 {
				list = append(list, registrytest.NewBlob(release.MediaTypeManifest, bomb(strings.TrimSuffix(string(img.Manifest.Bytes), "}")+`,"n":`+strconv.Itoa(i)+`,"x":[`, "]}")))
			}
			index(w, list)
		}},
		"120 large children": {[]string{"copy"}, release.KindDenied, func(w *world) {
			var list []release.Blob
			for i := range 120 {
				list = append(list, padded(i))
			}
			index(w, list)
		}},
		"64 children of annotations": {[]string{"copy"}, release.KindDenied, func(w *world) {
			index(w, each(64, func(i int) release.Blob { return many(i, tooMany, nil) }))
		}},
		"64 children as rich as allowed": {[]string{"copy"}, release.KindDenied, func(w *world) {
			index(w, each(64, func(i int) release.Blob { return many(i, allowed, nil) }))
		}},
		"64 referrers of annotations":         {[]string{"copy", "attachments"}, "", func(w *world) { refer(w, 64, tooMany) }},
		"64 referrers as rich as allowed":     {[]string{"copy"}, release.KindDenied, func(w *world) { refer(w, 64, allowed) }},
		"250 attestations as rich as allowed": {[]string{"attachments"}, "", func(w *world) { refer(w, 250, allowed) }},
		"pages of annotations": {[]string{"attachments", "copy"}, release.KindDenied, func(w *world) {
			var b strings.Builder
			b.WriteString(`"annotations":{"-":""`)
			for i := range 290_000 {
				b.WriteString(`,"_` + strconv.FormatInt(int64(i), 36) + `":""`)
			}
			listing(w, []registrytest.Descriptor{entry(img.Manifest)}, b.String()+"},")
		}},
		"pages of long tags": {[]string{"tags"}, release.KindDenied, func(w *world) {
			page := 0
			w.p.On("GET", "/tags/list", func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				page++
				registrytest.Page("application/json", []byte(`{"tags":["`+strings.Repeat("x", 4<<20-100)+strconv.Itoa(page)+`"]}`), fmt.Sprintf("?page=%d", page))(rw, r, next)
			})
		}},
		"pages of many tags": {[]string{"tags"}, release.KindDenied, func(w *world) {
			raw := []byte(`{"tags":[` + strings.Repeat(`"x",`, 1<<20-100) + `"x"]}`)
			w.p.On("GET", "/tags/list", registrytest.Page("application/json", raw, "?again"))
		}},
		"a config of small things": {[]string{"platform"}, release.KindDenied, func(w *world) {
			config := registrytest.NewBlob("application/vnd.oci.image.config.v1+json", bomb(`{"os":"linux","architecture":"amd64","x":[`, "]}"))
			w.p.PutBlob(t, "src", config.Bytes)
			m := registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "config": registrytest.Describe(config), "layers": []any{}})
			serve(w, m)
			w.s.Digest = m.Digest
		}},
		"attestations as large as they may be": {[]string{"attachments", "copy"}, "", func(w *world) {
			var refs []registrytest.Image
			for i := range 4 {
				refs = append(refs, registrytest.NewReferrer(img.Manifest, release.MediaTypeBundle, release.MediaTypeBundle, registrytest.Random(uint64(i+1), 32<<20)))
			}
			w.p.Refer(t, registrytest.Backend{Referrers: true}, "src", img.Manifest, refs...)
		}},
		"a release of large layers": {[]string{"release"}, release.KindDenied, func(w *world) {
			blob := registrytest.NewBlob("application/vnd.promote.model.v1+json", append(bytes.Repeat([]byte(" "), 16<<20-2), '{', '}'))
			w.p.PutBlob(t, "src", blob.Bytes)
			var layers []registrytest.Descriptor
			for range 500 {
				layers = append(layers, registrytest.Describe(blob))
			}
			m := registrytest.Encode(release.MediaTypeManifest, map[string]any{"schemaVersion": 2, "mediaType": release.MediaTypeManifest, "artifactType": release.ArtifactType,
				"config": registrytest.Describe(img.Blobs[0]), "layers": layers})
			serve(w, m)
			w.s.Digest = m.Digest
		}},
	}
	for name, c := range cases {
		for _, do := range c.do {
			t.Run(name+"/"+do, func(t *testing.T) {
				w := &world{p: registrytest.Serve(t, inMemory(true).New(t))}
				w.s = w.p.Put(t, "src", "v1", img)
				destination := registrytest.Serve(t, memory.New(memory.WithReferrersSupport(true), memory.WithBlobHandler(&discarding{})))
				c.script(w)
				got := send(t, order{Do: do, Subject: w.s, Destination: destination.Host + "/dst"})
				if got.Kind != c.kind && c.kind != "" {
					t.Errorf("got %q: %.600s", got.Kind, got.Error)
				}
				if got.HighWater > 512_000_000 {
					t.Errorf("%d MB were resident: %.300s", got.HighWater/1_000_000, got.Error)
				}
				if got.Took > time.Minute {
					t.Errorf("it took %s", got.Took)
				}
			})
		}
	}
}
