//go:build goexperiment.jsonv2

package scan

import (
	"context"
	"log"
	"log/slog"
	"sync"

	dblog "github.com/aquasecurity/trivy-db/pkg/log"

	"github.com/promote-dev/promote/pkg/event"
)

// Trivy logs to the process's default logger, trivy-db to standard error.
// While a scan runs, what they say goes to the scan's events instead.
func init() { dblog.SetLogger(slog.New(slog.DiscardHandler)) }

var loggers struct {
	sync.Mutex
	scans   int
	restore func()
}

// quiet redirects the process's default logger; the last caller of the
// function it returns puts the old one back.
func quiet() func() {
	loggers.Lock()
	defer loggers.Unlock()
	if loggers.scans++; loggers.scans == 1 {
		old, writer, flags := slog.Default(), log.Writer(), log.Flags()
		slog.SetDefault(slog.New(toEvents{}))
		loggers.restore = func() {
			slog.SetDefault(old)
			log.SetOutput(writer) // SetDefault has redirected it
			log.SetFlags(flags)
		}
	}
	return func() {
		loggers.Lock()
		defer loggers.Unlock()
		if loggers.scans--; loggers.scans == 0 {
			loggers.restore()
		}
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
	event.Emit(ctx, event.Event{Type: event.Log, Name: "[scan]", Message: message})
	return nil
}

func (h toEvents) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h toEvents) WithGroup(string) slog.Handler      { return h }
