//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"sync"

	dblog "github.com/aquasecurity/trivy-db/pkg/log"
	xos "github.com/aquasecurity/trivy/pkg/x/os"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// Trivy logs to the process's default logger, trivy-db to standard error.
// While a scan runs, what they say goes to the scan's events instead.
func init() { dblog.SetLogger(slog.New(slog.DiscardHandler)) }

// guests is what Trivy needs of the process while it works: the default logger
// and a directory for temporary files, of which it has one for each process.
var guests struct {
	sync.Mutex
	scans   int
	restore func()
	tidied  bool
}

// prepare readies the process for Trivy; the last caller of the function it
// returns puts everything back.
func prepare() (func(), error) {
	guests.Lock()
	defer guests.Unlock()
	if guests.scans == 0 {
		if guests.tidied {
			// Whoever makes the directory first owns what Trivy writes into it.
			if err := os.Mkdir(xos.TempDir(), 0o700); err != nil {
				return nil, release.Unavailable("make room in the temporary directory", "scanning: %w", err)
			}
		}
		guests.restore = redirect()
	}
	guests.scans++
	return leave, nil
}

func leave() {
	guests.Lock()
	defer guests.Unlock()
	if guests.scans--; guests.scans > 0 {
		return
	}
	guests.restore()
	guests.tidied = os.RemoveAll(xos.TempDir()) == nil
}

// redirect sends the process's default logger to events.
func redirect() (restore func()) {
	old, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(toEvents{}))
	return func() {
		slog.SetDefault(old)
		log.SetOutput(writer) // SetDefault has redirected it
		log.SetFlags(flags)
	}
}

// toEvents passes warnings on to whoever watches the scan.
type toEvents struct{}

func (toEvents) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (toEvents) Handle(ctx context.Context, r slog.Record) error {
	message := r.Message
	r.Attrs(func(a slog.Attr) bool {
		message += " " + a.String()
		return true
	})
	event.Emit(ctx, event.Event{Type: event.Log, Name: "[scan]", Message: fmt.Sprintf("%.500s", message)})
	return nil
}

func (h toEvents) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h toEvents) WithGroup(string) slog.Handler      { return h }
