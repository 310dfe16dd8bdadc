package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Source reads what registries hold, by digest; what it gives has the digest.
type Source interface {
	Manifest(ctx context.Context, s release.Subject) (mediaType string, raw []byte, err error)
	OpenBlob(ctx context.Context, repository string, d release.Digest, size int64, progress func(done int64)) (io.ReadCloser, error)
}

// view is a registry that a host behind ssh finds on its own loopback: it can be
// read only, holds the images that were offered and nothing else, and is read
// from the real registry as it is asked. Its names begin with a secret, so that
// other users of the host, who reach its port, too, get nothing.
type view struct {
	source Source
	secret string
	server *http.Server
	host   string // as the host's engine reaches it: 127.0.0.1:PORT

	mu      sync.Mutex
	offered map[string]content // by "repository/manifests/digest" and "…/blobs/…"
}

// content is one thing that a view holds: a manifest's bytes, or where a blob is.
type content struct {
	mediaType  string
	manifest   []byte
	repository string
	digest     release.Digest
	size       int64
}

// The most that one image may refer to, and how deep.
const (
	mostContents = 2000
	mostLevels   = 3
)

// openView serves a view and forwards a port of the host's loopback to it, over
// the connection that there is.
func openView(ctx context.Context, t *tunnel, source Source) (*view, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	v := &view{source: source, secret: hex.EncodeToString(secret), offered: map[string]content{}}
	socket := filepath.Join(t.dir, "view.sock") // nobody else of this machine may look into the directory
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, release.Unavailable("free space in the temporary directory, or set TMPDIR", "serving images to %s: %w", t.address, err)
	}
	v.server = &http.Server{Handler: v, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { _ = v.server.Serve(listener) }() // it ends with close
	port, err := t.forward(ctx, socket)
	if err != nil {
		_ = v.close()
		return nil, err
	}
	v.host = "127.0.0.1:" + strconv.Itoa(port)
	return v, nil
}

func (v *view) close() error { return v.server.Close() }

// forward lets a free port of the host's loopback lead to a socket of ours, and
// gives the port.
func (t *tunnel) forward(ctx context.Context, socket string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// The configuration says nothing here: what it forwards is not ours.
	cmd := exec.CommandContext(ctx, t.ssh, "-F", "none", "-S", t.control(), "-O", "forward", "-R", "127.0.0.1:0:"+socket, "--", "host")
	var said tail
	said.most = 4096
	cmd.Stderr = &said
	out, err := cmd.Output()
	port := 0
	if err == nil {
		port, err = strconv.Atoi(strings.TrimSpace(string(out)))
	}
	if err != nil || port < 1 || port > 65535 {
		return 0, release.Unavailable("let the host's sshd forward ports of its loopback (AllowTcpForwarding yes or remote), or let its engine reach the registry",
			"forwarding a port of %s: %s", t.address, oneLine(said.String()))
	}
	return port, nil
}

// offer adds an image with everything that it refers to, and gives the name that
// the host's engine finds it by.
func (v *view) offer(ctx context.Context, s release.Subject) (string, error) {
	_, path, ok := strings.Cut(s.Repository, "/")
	if !ok || registryHost(s.Repository) == "docker.io" {
		path = s.Repository
	}
	found := map[string]content{}
	if err := v.collect(ctx, s, path, found, 1); err != nil {
		return "", err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, c := range found {
		v.offered[name] = c
	}
	return v.host + "/" + v.secret + "/" + path + "@" + s.Digest.String(), nil
}

// collect reads a manifest and notes what it refers to.
func (v *view) collect(ctx context.Context, s release.Subject, path string, found map[string]content, level int) error {
	mediaType, raw, err := v.source.Manifest(ctx, s)
	if err != nil {
		return err
	}
	type descriptor struct {
		Digest release.Digest `json:"digest"`
		Size   int64          `json:"size"`
	}
	var m struct {
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return release.Denied("", "reading the manifest %s: %w", s, err)
	}
	found[path+"/manifests/"+s.Digest.String()] = content{mediaType: mediaType, manifest: raw, digest: s.Digest, size: int64(len(raw))}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	if len(found)+len(blobs)+len(m.Manifests) > mostContents {
		return release.Denied("nothing legitimate is that large", "%s refers to more than %d things", s, mostContents)
	}
	for _, b := range blobs {
		found[path+"/blobs/"+b.Digest.String()] = content{mediaType: "application/octet-stream", repository: s.Repository, digest: b.Digest, size: b.Size}
	}
	if level == mostLevels {
		return nil
	}
	for _, child := range m.Manifests {
		err := v.collect(ctx, release.Subject{Repository: s.Repository, Digest: child.Digest}, path, found, level+1)
		// An index may name platforms that the registry does not hold; the engine
		// asks for its own.
		if err != nil && !errors.Is(err, release.ErrNotFound) {
			return err
		}
	}
	return nil
}

// ServeHTTP answers as https://github.com/opencontainers/distribution-spec says
// for reading by digest; everything else is not there.
func (v *view) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this registry can only be read", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/v2/" {
		w.WriteHeader(http.StatusOK)
		return
	}
	c, ok := v.find(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", c.mediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(c.size, 10))
	w.Header().Set("Docker-Content-Digest", c.digest.String())
	if r.Method == http.MethodHead {
		return
	}
	if err := v.send(r.Context(), w, c); err != nil {
		panic(http.ErrAbortHandler) // the reader sees that it is not whole
	}
}

func (v *view) find(path string) (content, bool) {
	name, ok := strings.CutPrefix(path, "/v2/"+v.secret+"/")
	if !ok {
		return content{}, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c, ok := v.offered[name]
	return c, ok
}

func (v *view) send(ctx context.Context, w io.Writer, c content) error {
	if c.manifest != nil {
		_, err := w.Write(c.manifest)
		return err
	}
	blob, err := v.source.OpenBlob(ctx, c.repository, c.digest, c.size, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, blob)
	return errors.Join(err, blob.Close())
}

// cutOff reports whether an engine did not reach a registry at all, as far as
// its own words tell. A registry that answered, and said no, was reached.
func cutOff(err error) bool {
	for _, text := range []string{
		"dial tcp", "no such host", "connection refused", "i/o timeout", "Client.Timeout exceeded", "request canceled while waiting for connection",
		"TLS handshake timeout", "network is unreachable", "no route to host", "server misbehaving", "proxyconnect",
	} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// viewed gives the host's view; it is opened once.
func (h *Host) viewed(ctx context.Context) (*view, error) {
	h.views.Lock()
	defer h.views.Unlock()
	if h.view != nil {
		return h.view, nil
	}
	v, err := openView(ctx, h.tunnel, h.options.Source)
	if err != nil {
		return nil, err
	}
	h.view = v
	return v, nil
}

// kept is the tag under which an engine keeps an image that it pulled through a
// view: by its digest it is known only as coming from there.
func kept(s release.Subject) string { return s.Repository + ":promote-" + s.Digest.Hex() }

// lookUp finds a subject's image by the name that the engine knows it by; an
// error for which absent holds means that there is none.
func (h *Host) lookUp(ctx context.Context, s release.Subject) (name string, result client.ImageInspectResult, err error) {
	name = reference(s)
	result, err = h.client.ImageInspect(ctx, name)
	if absent(err) && h.tunnel != nil && s.Repository != "" {
		name = kept(s)
		result, err = h.client.ImageInspect(ctx, name)
	}
	return name, result, err
}

// pullView pulls an image through the host's view, and keeps it by a name that
// does not change with the next view's port.
func (h *Host) pullView(ctx context.Context, step *event.Step, s release.Subject) error {
	v, err := h.viewed(ctx)
	if err != nil {
		return err
	}
	name, err := v.offer(ctx, s)
	if err != nil {
		return err
	}
	if err := h.pull(ctx, step, s, name, ""); err != nil {
		return err
	}
	ctx, cancel := h.short(ctx)
	defer cancel()
	if _, err := h.client.ImageTag(ctx, client.ImageTagOptions{Source: name, Target: kept(s)}); err != nil {
		return h.fault("naming image", s.String(), err)
	}
	// Only the name goes; if it stays, it means nothing any more.
	_, _ = h.client.ImageRemove(ctx, name, client.ImageRemoveOptions{})
	return nil
}

// viewing reports whether the engine needed a view before.
func (h *Host) viewing() bool {
	h.views.Lock()
	defer h.views.Unlock()
	return h.view != nil
}
