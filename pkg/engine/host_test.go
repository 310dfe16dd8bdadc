package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// stub is an engine of a given API version that gives set answers, in the form
// of the API's reference, on a socket.
type stub struct {
	version string
	answers map[string]string // "GET /images/x/json" without the version → body
	status  map[string]int

	mu   sync.Mutex
	seen []*http.Request
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", s.version)
	w.Header().Set("Ostype", "linux")
	if strings.HasSuffix(r.URL.Path, "/_ping") {
		return
	}
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v"+s.version); ok {
		path = rest
	}
	s.mu.Lock()
	s.seen = append(s.seen, r)
	key := r.Method + " " + path
	if r.URL.Query().Has("manifests") {
		key += "?manifests"
	}
	body, ok := s.answers[key]
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if status := s.status[key]; status != 0 {
		w.WriteHeader(status)
	} else if !ok {
		w.WriteHeader(http.StatusNotFound)
		body = `{"message":"No such thing: ` + key + `"}`
	}
	_, _ = w.Write([]byte(body))
}

// host opens a stub.
func (s *stub) host(t *testing.T, o Options) *Host {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	server.Start()
	t.Cleanup(server.Close)
	h, err := Open(context.Background(), release.Target{Name: "prod-1", Host: "unix://" + socket}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// The version spoken is the engine's, whatever it is, never a fixed one.
func TestVersionsAreNegotiated(t *testing.T) {
	for _, version := range []string{"1.40", "1.41", "1.47", "1.52"} {
		s := &stub{version: version, answers: map[string]string{"GET /info": `{"ServerVersion":"x","OSType":"linux","Architecture":"x86_64","Driver":"overlay2","SystemTime":"2026-01-02T03:04:05.6Z"}`}}
		info, err := s.host(t, Options{}).Info(context.Background())
		if err != nil || info.APIVersion != version || info.Architecture != "amd64" || info.CgroupVersion != "1" || info.Containerd || info.Time.IsZero() {
			t.Errorf("%s: %+v, %v", version, info, err)
		}
	}
}

func TestTooOldAnEngine(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: &stub{version: "1.24"}}}
	server.Start()
	defer server.Close()
	_, err = Open(context.Background(), release.Target{Host: "unix://" + socket}, Options{})
	if release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "1.40") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
}

const (
	index    = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	manifest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	other    = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

var planner = release.Subject{Repository: "registry.test/planner", Digest: release.MustDigest(index)}

// With the containerd store a subject that is an index runs as the manifest of
// the engine's platform, and that is what must be compared.
func TestContainerdStore(t *testing.T) {
	image := "GET /images/" + planner.String() + "/json"
	platform := func(id, architecture string) string {
		return `{"ID":"` + id + `","Available":true,"Kind":"image","Descriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + id +
			`","size":1},"ImageData":{"Platform":{"architecture":"` + architecture + `","os":"linux"},"Containers":[],"Size":{"Unpacked":1}}}`
	}
	inspected := `{"Id":"` + index + `","Os":"linux","Architecture":"arm64","Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"` + index + `","size":1}`
	s := &stub{version: "1.52", answers: map[string]string{
		"GET /info":          `{"ServerVersion":"29.0.0","OSType":"linux","Architecture":"aarch64","Driver":"overlayfs","CgroupVersion":"2","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`,
		image:                inspected + `}`,
		image + "?manifests": inspected + `,"Manifests":[` + platform(other, "amd64") + `,` + platform(manifest, "arm64") + `]}`,
		"GET /volumes":       `{"Volumes":[{"Name":"m","Driver":"local","CreatedAt":"2026-01-02T03:04:05Z","Labels":null},{"Name":"n","Driver":"nfs","CreatedAt":"2026-01-02T03:04:05Z"}]}`,
		"GET /volumes/m":     `{"Name":"m","Driver":"local","CreatedAt":"2026-01-02T03:04:05Z","Labels":null}`,
		"GET /containers/c/json": `{"Id":"c","Name":"/agent-planner-1","Image":"` + index + `","ImageManifestDescriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + manifest + `","size":1},
			"State":{"Status":"running","Pid":7,"StartedAt":"2026-01-02T03:04:05.6Z","Health":{"Status":"healthy","Log":[]}},
			"Mounts":[{"Type":"volume","Name":"m","Destination":"/m","RW":true}],"Config":{"Image":"` + planner.String() + `","Labels":{"com.docker.compose.service":"planner"}}}`,
	}}
	h := s.host(t, Options{})
	info, err := h.Info(context.Background())
	if err != nil || !info.Containerd || info.CgroupVersion != "2" || info.Architecture != "arm64" {
		t.Errorf("%+v, %v", info, err)
	}
	if id, present, err := h.ImageID(context.Background(), planner); id != manifest || !present || err != nil {
		t.Errorf("image %s %t %v, want %s", id, present, err, manifest)
	}
	c, err := h.Inspect(context.Background(), "c")
	if err != nil || c.Image != manifest || c.Service != "planner" || c.Health != "healthy" {
		t.Errorf("container %+v, %v", c, err)
	}
	// From 23.0 on the creation time of a local volume is one.
	volumes, err := h.volumes(context.Background())
	if err != nil || len(volumes) != 2 || volumes[0].Identity != "m@2026-01-02T03:04:05Z" || volumes[1].Identity != "n" {
		t.Errorf("volumes %+v, %v", volumes, err)
	}
	if v, err := h.Volume(context.Background(), "m"); err != nil || v.Identity != "m@2026-01-02T03:04:05Z" {
		t.Errorf("volume %+v, %v", v, err)
	}
	c, err = h.inspect(context.Background(), "c", release.Observed{Volumes: volumes}, nil)
	if err != nil || len(c.Mounts) != 1 || c.Mounts[0].Identity != "m@2026-01-02T03:04:05Z" {
		t.Errorf("mounts %+v, %v", c.Mounts, err)
	}
}

// Before 23.0 the creation time of a volume is that of its last change.
func TestVolumesOfOldEngines(t *testing.T) {
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /volumes": `{"Volumes":[{"Name":"m","Driver":"local","CreatedAt":"2026-01-02T03:04:05Z"},{"Name":"n","Driver":"local","CreatedAt":"2026-01-02T03:04:05Z","Labels":{"dev.promote.identity":"abc"}}]}`,
	}}
	volumes, err := s.host(t, Options{}).volumes(context.Background())
	if err != nil || len(volumes) != 2 || volumes[0].Identity != "m" || volumes[1].Identity != "n@abc" {
		t.Errorf("%+v, %v", volumes, err)
	}
}

func TestUnreachable(t *testing.T) {
	directory := t.TempDir()
	refusing := filepath.Join(directory, "refusing")
	listener, err := net.Listen("unix", refusing)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = listener.Close()
	for _, socket := range []string{filepath.Join(directory, "nobody"), refusing} {
		_, err := Open(context.Background(), release.Target{Host: "unix://" + socket}, Options{})
		var f *release.Fault
		if release.KindOf(err) != release.KindUnavailable || !errors.As(err, &f) || !strings.Contains(f.Hint, "start the engine") || !strings.Contains(f.Hint, socket) {
			t.Errorf("%v, hint %+v", err, f)
		}
	}
	if os.Getuid() == 0 { // root may do everything
		return
	}
	if err := os.Chmod(refusing, 0); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(context.Background(), release.Target{Host: "unix://" + refusing}, Options{}); !strings.Contains(err.(*release.Fault).Hint, "docker group") {
		t.Errorf("%v", err)
	}
}

// An engine that hangs is not waited for.
func TestHanging(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // it never accepts; the kernel does
	began := time.Now()
	_, err = Open(context.Background(), release.Target{Host: "unix://" + socket}, Options{Timeout: 50 * time.Millisecond})
	if release.KindOf(err) != release.KindUnavailable || time.Since(began) > 5*time.Second {
		t.Errorf("%v (%s) after %s", err, release.KindOf(err), time.Since(began))
	}
}

// An engine answers before it subscribes: events are asked for from a moment of
// its own clock on, which is before that. When it hangs up, the channel closes.
func TestEventsAreAskedForFromTheEnginesNow(t *testing.T) {
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /info":   `{"SystemTime":"2026-01-02T03:04:05.000000006Z"}`,
		"GET /events": `{"Type":"container","Action":"die","Actor":{"ID":"c","Attributes":{"exitCode":"3","com.docker.compose.service":"planner"}},"timeNano":7}` + "\n",
	}}
	events, err := s.host(t, Options{}).Events(context.Background(), "agent")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Container != "c" || e.Service != "planner" || e.Action != "die" || e.ExitCode != 3 {
		t.Errorf("%+v", e)
	}
	if e, open := <-events; open {
		t.Errorf("still open: %+v", e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	query := s.seen[len(s.seen)-1].URL.Query()
	if since := query.Get("since"); since != "1767323045.000000006" {
		t.Errorf("since %s", since)
	}
	if filters := query.Get("filters"); !strings.Contains(filters, `"com.docker.compose.project=agent":true`) {
		t.Errorf("filters %s", filters)
	}
}

// Being told to stop is neither an engine that does not answer nor a denial.
func TestCancelled(t *testing.T) {
	h := (&stub{version: "1.41"}).host(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Observe(ctx, "agent"); release.KindOf(err) != release.KindInterrupted {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
}

// A pull sends the credentials of the image's registry, tells its progress by
// layer, and believes nothing but what it then finds.
func TestPull(t *testing.T) {
	stream := `{"status":"Pulling from planner","id":"latest"}
{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"abc"}
{"status":"Status: Downloaded"}
`
	cases := map[string]struct {
		body   string
		status int
		there  bool
		says   string
		absent bool
	}{
		"well":         {body: stream, there: true},
		"lies":         {body: stream, says: "does not have the image"},
		"fails midway": {body: `{"errorDetail":{"message":"write: no space left on device"},"error":"x"}`, says: "no space left"},
		"unknown":      {body: `{"message":"manifest for registry.test/planner not found: manifest unknown"}`, status: 404, says: "manifest unknown", absent: true},
		"unauthorized": {body: `{"message":"unauthorized: authentication required"}`, status: 500, says: "unauthorized"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := &stub{version: "1.41", answers: map[string]string{"POST /images/create": c.body}, status: map[string]int{"POST /images/create": c.status}}
			asked := ""
			h := s.host(t, Options{Keychain: func(_ context.Context, host string) (string, string, error) {
				asked = host
				return "robot", "secret", nil
			}})
			var events []event.Event
			ctx := event.With(context.Background(), func(e event.Event) {
				events = append(events, e)
				if c.there && e.Type == event.Progress { // it is there when the pull is done
					s.mu.Lock()
					s.answers["GET /images/"+planner.String()+"/json"] = `{"Id":"` + other + `"}`
					s.mu.Unlock()
				}
			})
			err := h.Pull(ctx, planner)
			if c.says == "" && err != nil || c.says != "" && (release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v (%s)", err, release.KindOf(err))
			}
			if errors.Is(err, release.ErrNotFound) != c.absent {
				t.Errorf("absent: %v", err)
			}
			if asked != "registry.test" {
				t.Errorf("asked for credentials of %q", asked)
			}
			checkAuth(t, s)
			if last := events[len(events)-1]; last.Type != event.Done || (last.Error == "") != (c.says == "") {
				t.Errorf("last event %+v", last)
			}
			progress := false
			for _, e := range events {
				progress = progress || e.Type == event.Progress && e.Part == "abc downloading" && e.Current == 5 && e.Total == 10
			}
			if progress != strings.Contains(c.body, "Downloading") {
				t.Errorf("progress %t: %+v", progress, events)
			}
		})
	}
}

func checkAuth(t *testing.T, s *stub) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.seen {
		if !strings.HasSuffix(r.URL.Path, "/images/create") {
			continue
		}
		if q := r.URL.Query(); q.Get("fromImage") != planner.Repository || q.Get("tag") != index {
			t.Errorf("pulled %s at %s", q.Get("fromImage"), q.Get("tag"))
		}
		raw, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth"))
		var auth struct{ Username, Password, ServerAddress string }
		if err = errors.Join(err, json.Unmarshal(raw, &auth)); err != nil || auth.Username != "robot" || auth.Password != "secret" || auth.ServerAddress != "registry.test" {
			t.Errorf("credentials %s, %v", raw, err)
		}
		return
	}
	t.Error("nothing was pulled")
}

// What an engine lists has bounds.
func TestTooManyObjects(t *testing.T) {
	s := &stub{version: "1.41", answers: map[string]string{
		"GET /networks": `[]`, "GET /containers/json": `[]`, "GET /info": `{"ServerVersion":"20.10.0"}`,
		"GET /volumes": `{"Volumes":[` + strings.Repeat(`{"Name":"v"},`, mostObjects) + `{"Name":"v"}]}`,
	}}
	if _, err := s.host(t, Options{}).Observe(context.Background(), "agent"); release.KindOf(err) != release.KindUnavailable || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v (%s)", err, release.KindOf(err))
	}
}
