// Package localregistry is an OCI registry on loopback that keeps its content
// in a directory: the demo's and a single machine's default. It is the only home
// of github.com/distribution/distribution.
//
// A directory is served by one process at a time, which holds a lock on it;
// another process finds that one through Running. What one process stored, the
// next one serves. Writes are renamed into place, so a killed process leaves
// whole files only, and uploads that it did not finish are cleared away at the
// next start. Content is never collected: deleting a manifest frees its name,
// not its blobs, so nothing that a concurrent push relies on can vanish.
package localregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the only driver
	"github.com/gofrs/flock"

	"github.com/promote-dev/promote/pkg/release"
)

// Options say what to serve and where.
type Options struct {
	// Root is the directory that holds the content. It is made if it is
	// absent.
	Root string
	// Addr is the address to listen on, loopback only; empty is a free port of
	// 127.0.0.1.
	Addr string
	// Log takes the registry's errors; nil drops them.
	Log io.Writer
}

// Server is a running registry.
type Server struct {
	addr   string
	server *http.Server
	lock   *flock.Flock
	state  string // the file that tells others the address
	cancel context.CancelFunc

	closing sync.Once
	err     error
	done    chan struct{}
}

// Serve starts a registry, which answers when Serve returns and lives until
// Close or the end of ctx. A directory that another process serves is a
// KindUsage fault that names its address; an address that is taken or not
// loopback is one too.
func Serve(ctx context.Context, o Options) (*Server, error) {
	listener, lock, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	logged := quiet(ctx, o.Log)
	s := &Server{
		addr:   listener.Addr().String(),
		lock:   lock,
		state:  filepath.Join(o.Root, stateFile),
		cancel: cancel,
		done:   make(chan struct{}),
		server: &http.Server{
			Handler:           handlers.NewApp(logged, settings(o.Root)),
			BaseContext:       func(net.Listener) context.Context { return logged },
			ReadHeaderTimeout: 30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          errorLog(o.Log),
		},
	}
	if err := writeState(s.state, s.addr); err != nil {
		return nil, errors.Join(err, listener.Close(), lock.Unlock(), stop(cancel))
	}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_ = s.close(err)
		}
	}()
	go func() {
		select {
		case <-ctx.Done():
			_ = s.Close()
		case <-s.done:
		}
	}()
	return s, nil
}

// Handler is the registry without a listener, for who brings one: its content
// lies in a directory that the caller lets nobody else use. Errors are dropped.
func Handler(root string) http.Handler {
	logged := quiet(context.Background(), nil)
	app := handlers.NewApp(logged, settings(root))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.ServeHTTP(w, r.WithContext(logging(r.Context(), logged)))
	})
}

func stop(cancel context.CancelFunc) error {
	cancel()
	return nil
}

// prepare takes the lock and the address.
func prepare(ctx context.Context, o Options) (net.Listener, *flock.Flock, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, nil, release.Misuse("use 127.0.0.1:PORT: this registry asks nobody for a password", "address %q is not on loopback", o.Addr)
	}
	if err := os.MkdirAll(o.Root, 0o755); err != nil {
		return nil, nil, release.Unavailable("choose a directory that you can write to", "making the registry's directory: %w", err)
	}
	lock := flock.New(filepath.Join(o.Root, lockFile))
	// Running holds it for a moment, too.
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	held, err := lock.TryLockContext(short, 10*time.Millisecond)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, nil, release.Unavailable("", "locking the registry's directory: %w", err)
	}
	if !held {
		addr, _ := readState(filepath.Join(o.Root, stateFile))
		return nil, nil, release.Misuse("use the one that runs", "%s is served already, at %s", o.Root, addr)
	}
	clearUploads(o.Root)
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, nil, errors.Join(release.Misuse("choose another address", "listening on %s: %w", o.Addr, err), lock.Unlock())
	}
	return listener, lock, nil
}

// settings are distribution's: content under root, deletions allowed, its own
// purging of uploads off, because it could not be stopped.
func settings(root string) *configuration.Configuration {
	c := &configuration.Configuration{Version: "0.1"}
	c.Storage = configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": root},
		"delete":      configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}
	c.HTTP.Secret = secret()
	return c
}

// Addr is where the registry listens: "127.0.0.1:PORT".
func (s *Server) Addr() string { return s.addr }

// Done is closed when the registry has ended, by itself or by Close.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close ends the registry: requests under way get a few seconds, then their
// connections are cut. What they had stored stays.
func (s *Server) Close() error { return s.close(nil) }

func (s *Server) close(cause error) error {
	s.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := s.server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.server.Close()
		}
		s.cancel()
		s.err = errors.Join(cause, err, os.Remove(s.state), s.lock.Unlock())
		close(s.done)
	})
	<-s.done
	if s.err != nil {
		return fmt.Errorf("closing registry %s: %w", s.addr, s.err)
	}
	return nil
}

// Run serves until ctx ends: the body of a process that does nothing else.
// ready is told the address.
func Run(ctx context.Context, o Options, ready func(addr string)) error {
	s, err := Serve(ctx, o)
	if err != nil {
		return err
	}
	ready(s.Addr())
	<-s.Done()
	return s.Close()
}
