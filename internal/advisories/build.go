//go:build goexperiment.jsonv2

package advisories

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/ecosystem"
	dblog "github.com/aquasecurity/trivy-db/pkg/log"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	"github.com/aquasecurity/trivy-db/pkg/vulnsrc/osv"
	"github.com/aquasecurity/trivy-db/pkg/vulnsrc/vulnerability"
	"go.etcd.io/bbolt"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// sourceID is under which records are stored; Trivy takes severities from it.
const sourceID types.SourceID = "osv"

// updateInterval is what the database says about when to ask for a newer one.
const updateInterval = 24 * time.Hour

// The databases of records, by the file they come in.
var sources = map[ecosystem.Type]types.DataSource{
	ecosystem.Pip: {ID: sourceID, Name: "PyPA Advisory Database (demo snapshot)", URL: "https://github.com/pypa/advisory-database"},
	ecosystem.Go:  {ID: sourceID, Name: "Go Vulnerability Database (demo snapshot)", URL: "https://pkg.go.dev/vuln/"},
}

// trivy-db writes to standard error unless told otherwise, and keeps its open
// database in a variable of the process.
func init() { dblog.SetLogger(slog.New(slog.DiscardHandler)) }

var building sync.Mutex

// Build makes a database in the directory out (trivy.db and metadata.json)
// from the *.ndjson.gz files at the root of records, which hold one OSV record
// a line. now becomes the database's time of update. It must not run in a
// process that scans at the same time.
func Build(ctx context.Context, records fs.FS, out string, now time.Time) (err error) {
	building.Lock()
	defer building.Unlock()
	step := event.Start(ctx, "[database] building the demo's vulnerability database")
	defer func() { step.Done(err) }()
	work, err := os.MkdirTemp("", "promote-advisories-")
	if err != nil {
		return release.Unavailable("make room in the temporary directory", "building the database: %w", err)
	}
	defer os.RemoveAll(work)
	count, err := unpack(ctx, records, filepath.Join(work, recordDir))
	if err != nil {
		return err
	}
	step.Logf("%d records", count)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return release.Unavailable("choose a directory that can be written", "building the database: %w", err)
	}
	if err := errors.Join(removeOld(out), compile(work, out, now)); err != nil {
		return release.Unavailable("make room on the disk and run it again", "building the database: %w", err)
	}
	return ctx.Err()
}

const recordDir = "records"

func removeOld(out string) error {
	var errs []error
	for _, name := range []string{"trivy.db", "metadata.json"} {
		if err := os.Remove(filepath.Join(out, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func compile(work, out string, now time.Time) (err error) {
	// Nobody misses a half-built database: it is built again.
	if err := db.Init(out, db.WithBoltOptions(&bbolt.Options{NoSync: true, NoFreelistSync: true, Timeout: 5 * time.Second})); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	source := osv.New(recordDir, sourceID, sources, osv.WithTransformer(platforms{}))
	if err := source.Update(work); err != nil {
		return err
	}
	if err := settle(db.Config{}); err != nil {
		return err
	}
	if err := metadata.NewClient(out).Update(metadata.Metadata{
		Version: Schema, UpdatedAt: now.UTC(), NextUpdate: now.UTC().Add(updateInterval),
	}); err != nil {
		return err
	}
	return db.Config{}.Connection().Sync()
}

// settle turns what was inserted into what Trivy reads: each vulnerability's
// details become one entry, and the buckets that are only needed on the way go.
// trivy-db's own package for this, vulndb, must not be linked: it imports every
// source of vulnerabilities, and one of them runs the go command whenever the
// program starts.
func settle(c db.Config) error {
	client := vulnerability.New(c)
	err := c.ForEachVulnerabilityID(func(tx *bbolt.Tx, id string) error {
		details := client.GetDetails(id)
		if client.IsRejected(details) {
			return nil
		}
		if err := c.SaveAdvisoryDetails(tx, id); err != nil || len(details) == 0 {
			return err
		}
		return c.PutVulnerability(tx, id, client.Normalize(id, details))
	})
	return errors.Join(err, c.DeleteVulnerabilityIDBucket(), c.DeleteVulnerabilityDetailBucket(), c.DeleteAdvisoryDetailBucket())
}

// platforms keeps for which systems a Go advisory counts, as trivy-db does for
// the records it keeps.
type platforms struct{}

func (platforms) PostParseAffected(a osv.Advisory, affected osv.Affected) (osv.Advisory, error) {
	for _, i := range affected.EcosystemSpecific.Imports {
		a.OSes = append(a.OSes, i.GOOS...)
		a.Arches = append(a.Arches, i.GOARCH...)
	}
	return a, nil
}

func (platforms) TransformAdvisories(list []osv.Advisory, _ osv.Entry) ([]osv.Advisory, error) {
	return list, nil
}
