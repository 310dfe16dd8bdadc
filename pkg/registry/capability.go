package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
)

// Capabilities remembers what registries were proven to do, in a file that
// several processes may use. A file that is gone or damaged means that nothing
// is known: it is made again.
type Capabilities struct {
	path string
	now  func() time.Time

	mu    sync.Mutex
	known map[string]capability // by endpoint; nil before the file was read
}

// capability is what one registry does. A registry may be replaced by another
// one, so it is asked again after a while.
type capability struct {
	// Validates: it refuses a manifest whose blobs it lacks, and names them.
	Validates bool      `json:"validates"`
	Asked     time.Time `json:"asked"`
}

// capabilityAge is how long an answer counts.
const capabilityAge = 24 * time.Hour

// RememberCapabilities keeps what is learnt in a file, whose directory is made
// when there is something to keep.
func RememberCapabilities(file string) *Capabilities { return &Capabilities{path: file, now: time.Now} }

func (k *Capabilities) get(endpoint string) (c capability, known bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = k.read()
	}
	c, known = k.known[endpoint]
	age := k.now().Sub(c.Asked)
	return c, known && age >= 0 && age < capabilityAge
}

func (k *Capabilities) put(endpoint string, validates bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := capability{Validates: validates, Asked: k.now().UTC().Truncate(time.Second)}
	all := k.read() // others may have learnt, too
	all[endpoint] = fresh
	maps.DeleteFunc(all, func(_ string, c capability) bool { return k.now().Sub(c.Asked) > capabilityAge })
	k.known = all
	return k.write(all)
}

func (k *Capabilities) read() map[string]capability {
	all := map[string]capability{}
	raw, err := os.ReadFile(k.path)
	if err != nil || len(raw) > mib || json.Unmarshal(raw, &all) != nil || all == nil {
		return map[string]capability{}
	}
	return all
}

func (k *Capabilities) write(all map[string]capability) error {
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(k.path), ".registries-*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), k.path)
	}
	if err != nil {
		if removed := os.Remove(f.Name()); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}

// validates reports whether the repository's registry is known to validate
// manifests.
func (s *remote) validates() (yes, known bool) {
	if s.c.capabilities == nil || s.c.host(s.repo.endpoint()).careful {
		return false, false
	}
	c, known := s.c.capabilities.get(s.repo.endpoint())
	return known && c.Validates, known
}

// disproved forgets that a registry validates: it took a manifest without all
// its blobs.
func (s *remote) disproved(ctx context.Context) {
	if s.c.capabilities == nil {
		return
	}
	if err := s.c.capabilities.put(s.repo.endpoint(), false); err != nil {
		event.Warnf(ctx, "what registry %s does is not remembered: %v", s.repo.host, err)
	}
}

// probe asks a registry that nobody asked yet, with a manifest whose blobs do
// not exist: one that refuses it, naming both blobs, is trusted to do the same
// with real ones. One that takes it keeps no such promise, and is asked to
// delete it.
func (s *remote) probe(ctx context.Context) (bool, error) {
	if s.c.capabilities == nil || s.c.host(s.repo.endpoint()).careful {
		return false, nil
	}
	unlock := s.c.linking.lock("probe " + s.repo.endpoint())
	defer unlock()
	if yes, known := s.validates(); known {
		return yes, nil
	}
	probe, err := newProbe(rand.Text, s.c.limits)
	if err != nil {
		return false, err
	}
	err = s.writeManifest(ctx, probe.digest.String(), probe)
	var answered *statusError
	if err != nil && !errors.As(err, &answered) {
		return false, err
	}
	proven := provenBy(err, probe)
	if err == nil {
		s.deleteManifest(ctx, probe)
	}
	if err := s.c.capabilities.put(s.repo.endpoint(), proven); err != nil {
		event.Warnf(ctx, "what registry %s does is not remembered: %v", s.repo.host, err)
	}
	return proven, nil
}

// deleteManifest removes what only we know of. Registries that don't delete
// keep a few hundred bytes that nothing refers to.
func (s *remote) deleteManifest(ctx context.Context, m manifest) {
	r := s.request(http.MethodDelete, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	r.url = s.c.api(s.repo, "manifests", m.digest.String())
	if _, err := s.c.fetchOnce(ctx, r, s.c.limits.Manifest); err != nil {
		event.Noticef(ctx, "registry %s keeps the manifest %s, which was to show what it validates and which nothing refers to: %v", s.repo.host, m.digest, err)
	}
}
