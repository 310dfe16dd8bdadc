package localregistry

import (
	"context"
	"crypto/rand"
	"io"
	"log"
	"os"
	"path/filepath"
	"reflect"

	"github.com/sirupsen/logrus"
)

// quiet gives a context in which distribution logs its errors to w, and nothing
// else anywhere. Distribution takes its logger from the context, under a key
// that it keeps to itself; without one it uses logrus's global logger, which is
// not ours to silence: other libraries in this process log to it.
func quiet(ctx context.Context, w io.Writer) context.Context {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	if w != nil {
		logger.SetOutput(w)
	}
	logger.SetLevel(logrus.ErrorLevel)
	return loggingContext{ctx, logrus.NewEntry(logger)}
}

// logging gives a context the logger of another one that quiet made.
func logging(ctx, quiet context.Context) context.Context {
	return loggingContext{ctx, quiet.(loggingContext).entry}
}

type loggingContext struct {
	context.Context
	entry *logrus.Entry
}

// loggerKey is how the type of distribution's key for its logger is called.
const loggerKey = "dcontext.loggerKey"

func (c loggingContext) Value(key any) any {
	if t := reflect.TypeOf(key); t != nil && t.String() == loggerKey {
		return c.entry
	}
	return c.Context.Value(key)
}

func errorLog(w io.Writer) *log.Logger {
	if w == nil {
		w = io.Discard
	}
	return log.New(w, "", log.LstdFlags)
}

// secret signs the state of uploads, which end with the process.
func secret() string { return rand.Text() }

// clearUploads removes what an earlier process received only in part. The
// caller holds the lock, so nobody is uploading.
func clearUploads(root string) {
	base := filepath.Join(root, "docker", "registry", "v2", "repositories")
	_ = filepath.WalkDir(base, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		switch entry.Name() {
		case "_uploads":
			_ = os.RemoveAll(path)
			return filepath.SkipDir
		case "_layers", "_manifests":
			return filepath.SkipDir
		}
		return nil
	})
}
