//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/aquasecurity/trivy/pkg/db"

	"github.com/promote-dev/promote/pkg/release"
)

// trivy-db keeps its open database in a variable of the process. Scans of one
// database share it; a scan of another waits until it is closed.
var opened struct {
	sync.Mutex
	dir   string
	users int
}

// use opens a database for Trivy's detectors, read-only. The function it
// returns must be called when they are done.
func use(ctx context.Context, d database) (func(), error) {
	for {
		ok, err := tryUse(d.dir)
		if err != nil {
			return nil, err
		}
		if ok {
			return doneUsing, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tryUse(dir string) (bool, error) {
	opened.Lock()
	defer opened.Unlock()
	if opened.users > 0 && opened.dir != dir {
		return false, nil
	}
	if opened.users == 0 {
		if err := db.Init(dir); err != nil {
			return false, errDamaged{err}
		}
		opened.dir = dir
	}
	opened.users++
	return true, nil
}

func doneUsing() {
	opened.Lock()
	defer opened.Unlock()
	if opened.users--; opened.users == 0 {
		_ = db.Close()
	}
}

// errDamaged says that a database cannot be read although it looked whole.
type errDamaged struct{ error }

func (e errDamaged) Unwrap() error { return e.error }

// surviving runs f, which reads a database that is mapped into memory, and
// turns what a damaged file does to it into an error.
func surviving(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = errDamaged{fmt.Errorf("%v", r)}
		}
	}()
	return f()
}

// withDatabase runs f with the database. One that turns out to be damaged is
// thrown away and downloaded again, once.
func withDatabase(ctx context.Context, o Options, d database, f func(database) error) error {
	err := usingOnce(ctx, d, f)
	var damaged errDamaged
	if !errors.As(err, &damaged) {
		return err
	}
	if rmErr := os.RemoveAll(d.dir); rmErr != nil {
		return cacheFault(rmErr)
	}
	again, getErr := ensure(ctx, o)
	if getErr != nil {
		return getErr
	}
	if err = usingOnce(ctx, again, f); errors.As(err, &damaged) {
		return release.Unavailable(databaseHint, "reading the vulnerability database: %w", err)
	}
	return err
}

func usingOnce(ctx context.Context, d database, f func(database) error) error {
	done, err := use(ctx, d)
	if err != nil {
		return err
	}
	defer done()
	return surviving(func() error { return f(d) })
}
