package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/sign/internal/envelope"
)

// DefaultRootAge is how old the public trusted root may be.
const DefaultRootAge = 7 * 24 * time.Hour

// Roots keeps the public sigstore instance's trusted root, as its update
// framework (TUF) gives it, in a directory of this user. It is only asked where
// there are certificates to verify.
type Roots struct {
	Dir string
	// MaxAge is how old it may be since it was last found to be current; zero is
	// DefaultRootAge. Half as old, it is refreshed beside the work.
	MaxAge time.Duration
	// Offline never refreshes it.
	Offline bool
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Fetch gets the current one; nil is the public instance's. Whatever it
	// keeps, it keeps in dir.
	Fetch func(ctx context.Context, dir string) ([]byte, error)
	// background is for tests: it is told when a refresh beside the work is over.
	background func(error)
}

// kept is a trusted root as it lies in the cache.
type kept struct {
	Checked time.Time      `json:"checked"` // when it was last found to be current
	Digest  release.Digest `json:"digest"`
	Root    []byte         `json:"root"`
}

// Root gives the trusted root: the one that is kept, or a fresh one where that
// is missing, damaged or too old. If then none can be had it is a
// KindUnavailable fault: an old one could trust what was revoked.
func (r Roots) Root(ctx context.Context) (*Root, error) {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	limit := r.MaxAge
	if limit <= 0 {
		limit = DefaultRootAge
	}
	held, root, err := r.read()
	age := now().Sub(held.Checked)
	switch current := err == nil && age >= -5*time.Minute && age <= limit; {
	case current && (age <= limit/2 || r.Offline):
		return root, nil
	case current:
		go r.refreshBeside(context.WithoutCancel(ctx), now)
		return root, nil
	case r.Offline:
		return nil, release.Unavailable("run any command that verifies once with a network, or set sign.trustedRoot to a trusted_root.json that you bring here",
			"the public trusted root is %s, and --offline asks for none", whyNot(held, err, limit))
	}
	fresh, err := r.refresh(ctx, now)
	if err != nil {
		return nil, &release.Fault{Kind: release.KindUnavailable, Op: "refreshing the public trusted root", Err: err,
			Hint: "check that this machine reaches https://tuf-repo-cdn.sigstore.dev, or set sign.trustedRoot to a trusted_root.json of your own"}
	}
	return fresh, nil
}

func whyNot(held kept, err error, limit time.Duration) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "not on this machine"
	case err != nil:
		return "damaged: " + envelope.Tidy(err.Error())
	}
	return fmt.Sprintf("of %s, older than %s", held.Checked.UTC().Format(time.RFC3339), limit)
}

func (r Roots) file() string { return filepath.Join(r.Dir, "public.json") }

func (r Roots) read() (kept, *Root, error) {
	var held kept
	info, err := os.Stat(r.file())
	if err != nil {
		return held, nil, err
	}
	if info.Size() > 2*maxRoot || !info.Mode().IsRegular() {
		return held, nil, errors.New("too large")
	}
	text, err := os.ReadFile(r.file())
	if err != nil {
		return held, nil, err
	}
	if err := json.Unmarshal(text, &held); err != nil {
		return held, nil, err
	}
	if release.DigestOf(held.Root) != held.Digest {
		return held, nil, errors.New("its digest is another one")
	}
	root, err := ParseRoot(held.Root)
	return held, root, err
}

// refresh gets the current root and keeps it, whole or not at all.
func (r Roots) refresh(ctx context.Context, now func() time.Time) (*Root, error) {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, err
	}
	fetch := r.Fetch
	if fetch == nil {
		fetch = fetchPublic
	}
	at := now()
	text, err := within(ctx, func(ctx context.Context) ([]byte, error) { return fetch(ctx, filepath.Join(r.Dir, "tuf")) })
	if err != nil {
		return nil, err
	}
	root, err := ParseRoot(text)
	if err != nil {
		return nil, err
	}
	held, err := json.Marshal(kept{Checked: at.UTC(), Digest: root.Digest(), Root: text})
	if err != nil {
		return nil, err
	}
	next, err := os.CreateTemp(r.Dir, "public-*.new")
	if err != nil {
		return nil, err
	}
	defer os.Remove(next.Name())
	_, err = next.Write(held)
	if err = errors.Join(err, next.Close()); err != nil {
		return nil, err
	}
	return root, os.Rename(next.Name(), r.file())
}

// refreshBeside is for the next run; this one has what it needs.
func (r Roots) refreshBeside(ctx context.Context, now func() time.Time) {
	_, err := r.refresh(ctx, now)
	if r.background != nil {
		r.background(err)
	}
}
