//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/bbolt"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
	"github.com/promote-dev/promote/pkg/scan/findings"
	"github.com/promote-dev/promote/pkg/scan/store"
)

// Databases are kept by the digest of the artifact they came as and never
// change: a reader keeps its own while another process downloads a newer one.
// Beside them, a pointer for each repository says which is its newest.
//
//	db/<digest>/trivy.db, metadata.json, record.json
//	db/<digest of the repository's name>.json
//	db/lock
const (
	schemaVersion = 2
	databaseFile  = "trivy.db"
	metadataFile  = "metadata.json"
	recordFile    = "record.json"
)

// database is one that is at hand.
type database struct {
	dir   string
	info  release.Database
	next  time.Time // when the database itself expects a newer one
	asked time.Time // when the repository was last asked
}

// pointer says which database is a repository's newest, as of when it was asked.
type pointer struct {
	Repository string         `json:"repository"`
	Digest     release.Digest `json:"digest"`
	Asked      time.Time      `json:"asked"`
}

// record says what a database's file was when it was unpacked.
type record struct {
	Covers   []string       `json:"covers"`
	Content  release.Digest `json:"content"` // of trivy.db
	Size     int64          `json:"size"`
	Modified time.Time      `json:"modified"`
}

type metadata struct {
	Version    int
	NextUpdate time.Time
	UpdatedAt  time.Time
}

func (o Options) databases() string { return filepath.Join(o.CacheDir, "db") }

func (o Options) pointerFile() string {
	return filepath.Join(o.databases(), release.DigestOf([]byte(o.Database.Repository)).Hex()+".json")
}

var errNoDatabase = errors.New("there is no vulnerability database here yet")

// atHand gives the database that is here, or errNoDatabase. One that is
// damaged is not here.
func atHand(o Options) (database, error) {
	var p pointer
	if err := readJSON(o.pointerFile(), &p); err != nil || p.Digest.IsZero() || p.Repository != o.Database.Repository {
		return database{}, errNoDatabase
	}
	d := database{dir: filepath.Join(o.databases(), p.Digest.Hex()), asked: p.Asked}
	var m metadata
	var r record
	if err := errors.Join(readJSON(filepath.Join(d.dir, metadataFile), &m), readJSON(filepath.Join(d.dir, recordFile), &r)); err != nil {
		return database{}, fmt.Errorf("%w (%w)", errNoDatabase, err)
	}
	if err := intact(d.dir, r); err != nil {
		return database{}, fmt.Errorf("%w: the one in the cache is damaged (%w)", errNoDatabase, err)
	}
	d.next = m.NextUpdate
	d.info = release.Database{Version: m.Version, UpdatedAt: m.UpdatedAt.UTC(), Digest: p.Digest, Covers: r.Covers}
	return d, nil
}

// intact compares the database's file with the record of it. Its content is
// hashed only if somebody has written to it since.
func intact(dir string, r record) error {
	info, err := os.Stat(filepath.Join(dir, databaseFile))
	if err != nil {
		return err
	}
	if info.Size() != r.Size {
		return fmt.Errorf("%d bytes instead of %d", info.Size(), r.Size)
	}
	if info.ModTime().Equal(r.Modified) {
		return nil
	}
	content, err := hashFile(filepath.Join(dir, databaseFile))
	if err != nil {
		return err
	}
	if content != r.Content {
		return fmt.Errorf("its content is %s instead of %s", content, r.Content)
	}
	return nil
}

func readJSON(file string, v any) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// ensure gives the newest database that can be had: the one at hand while it
// is new enough, else that of the repository. If the repository cannot be
// reached, the one at hand serves while it is not too old.
func ensure(ctx context.Context, o Options) (database, error) {
	have, err := atHand(o)
	missing := err != nil
	if !missing && (o.Offline || !findings.NeedsUpdate(have.info, have.next, have.asked, o.Database.MaxAge, o.Now())) {
		return have, nil
	}
	if o.Offline {
		return database{}, release.Unavailable("run promote db update where the network is, or without --offline", "opening the vulnerability database: %w", err)
	}
	got, err := update(ctx, o)
	if err != nil && !missing && release.KindOf(err) == release.KindUnavailable &&
		findings.CheckAge(have.info, o.Database.MaxAge, o.Now()) == nil {
		event.Warnf(ctx, "the vulnerability database could not be updated (%v); using the one of %s", err, have.info.UpdatedAt.Format(time.RFC3339))
		return have, nil
	}
	return got, err
}

// update asks the repository for its newest database and downloads it if it is
// not the one at hand. One process at a time does.
func update(ctx context.Context, o Options) (database, error) {
	before := o.Now()
	unlock, err := lock(ctx, o)
	if err != nil {
		return database{}, err
	}
	defer unlock()
	if have, err := atHand(o); err == nil && have.asked.After(before) {
		return have, nil // another process has just done it
	}
	digest, err := download(ctx, o)
	if err != nil {
		return database{}, err
	}
	raw, err := json.Marshal(pointer{Repository: o.Database.Repository, Digest: digest, Asked: o.Now().UTC()})
	if err != nil {
		return database{}, err
	}
	if err := store.WriteFile(o.pointerFile(), raw); err != nil {
		return database{}, cacheFault(err)
	}
	have, err := atHand(o)
	if err != nil {
		return database{}, release.Unavailable("delete the cache directory and run it again", "opening the vulnerability database: %w", err)
	}
	prune(o)
	return have, nil
}

func cacheFault(err error) error {
	return release.Unavailable("make room on the disk, or use a cache directory that can be written", "keeping the vulnerability database: %w", err)
}

// lock makes other processes wait for a download instead of repeating it.
func lock(ctx context.Context, o Options) (func(), error) {
	if err := os.MkdirAll(o.databases(), 0o700); err != nil {
		return nil, cacheFault(err)
	}
	l := flock.New(filepath.Join(o.databases(), "lock"))
	ok, err := l.TryLock()
	if err == nil && !ok {
		event.Noticef(ctx, "waiting for another process that downloads the vulnerability database")
		_, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, cacheFault(err)
	}
	return func() { _ = l.Unlock() }, nil
}

// prune removes databases that no repository points to. Whoever still reads
// one has it open. Failing to is no failure of the update.
func prune(o Options) {
	entries, err := os.ReadDir(o.databases())
	if err != nil {
		return
	}
	keep := map[string]bool{}
	for _, e := range entries {
		var p pointer
		if strings.HasSuffix(e.Name(), ".json") && readJSON(filepath.Join(o.databases(), e.Name()), &p) == nil {
			keep[p.Digest.Hex()] = true
		}
	}
	for _, e := range entries {
		if e.IsDir() && !keep[e.Name()] {
			_ = os.RemoveAll(filepath.Join(o.databases(), e.Name()))
		}
	}
}

// buckets lists the non-empty buckets of a database's file.
func buckets(file string) (names []string, err error) {
	db, err := bbolt.Open(file, 0o400, &bbolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if first, _ := b.Cursor().First(); first != nil {
				names = append(names, string(name))
			}
			return nil
		})
	})
	return names, err
}

// DatabaseStatus describes the database at hand without asking the network. It
// judges its age: too old and from the future are KindDenied faults, which
// come with the description; none at all is KindUnavailable.
func DatabaseStatus(_ context.Context, o Options) (release.Database, error) {
	o, err := o.complete()
	if err != nil {
		return release.Database{}, err
	}
	have, err := atHand(o)
	if err != nil {
		return release.Database{}, release.Unavailable("run promote db update", "opening the vulnerability database: %w", err)
	}
	return have.info, findings.CheckAge(have.info, o.Database.MaxAge, o.Now())
}

// UpdateDatabase asks the repository for its newest database and downloads it
// if it is not at hand.
func UpdateDatabase(ctx context.Context, o Options) (release.Database, error) {
	o, err := o.complete()
	if err != nil {
		return release.Database{}, err
	}
	if o.Offline {
		return release.Database{}, release.Misuse("run it without --offline", "updating the vulnerability database: offline")
	}
	done, err := prepare()
	if err != nil {
		return release.Database{}, err
	}
	defer done()
	got, err := update(ctx, o)
	return got.info, err
}
