package policy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of what is read as policies.
const (
	maxFile    = 256 << 10 // bytes
	maxFiles   = 500       // in one directory, tests included
	maxEntries = 10000     // of any sort in one directory
)

const (
	extension     = ".rego"
	testExtension = "_test.rego"
)

// read lists the default files, then those of the directories.
func read(ctx context.Context, o Options) ([]source, error) {
	sources, err := readTree(ctx, o.defaults(), "promote/policies", "default/", true)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, release.Faultf(release.KindInternal, "reinstall promote", "reading the default policies: %w", err)
	}
	for i, dir := range o.Dirs {
		more, err := readDir(ctx, dir, fmt.Sprintf("%d/", i))
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, &release.Fault{Kind: release.KindConfig, Op: "reading policies", Subject: dir, Err: err,
				Hint: "name a directory with Rego files under policies in promote.yaml, or leave it out"}
		}
		sources = append(sources, more...)
	}
	return sources, nil
}

// readDir reads a directory, or a single file.
func readDir(ctx context.Context, dir, prefix string) ([]source, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readTree(ctx, os.DirFS(dir), dir, prefix, false)
	}
	if filepath.Ext(dir) != extension {
		return nil, fmt.Errorf("it is neither a directory nor a file *%s", extension)
	}
	name := filepath.Base(dir)
	s, err := readFile(os.DirFS(filepath.Dir(dir)), name)
	if err != nil {
		return nil, err
	}
	s.file, s.name = dir, prefix+name
	if s.test {
		return nil, errors.New("it holds tests only: it would judge nothing")
	}
	return []source{s}, nil
}

// readTree reads the *.rego files of a directory and of what is below it.
// Other files are not policies.
func readTree(ctx context.Context, files fs.FS, dir, prefix string, builtin bool) ([]source, error) {
	var list []source
	entries, judging := 0, 0
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		entries++
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case entries > maxEntries:
			return fmt.Errorf("it holds more than %d entries", maxEntries)
		case e.IsDir():
			return nil
		case path.Ext(name) != extension:
			return checkLink(files, name, e)
		case !utf8.ValidString(name):
			return fmt.Errorf("%q is no name in UTF-8", name)
		case len(list) == maxFiles:
			return fmt.Errorf("it holds more than %d files", maxFiles)
		}
		s, err := readFile(files, name)
		if err != nil {
			return err
		}
		s.file, s.name, s.builtin = path.Join(dir, name), prefix+name, builtin
		if !s.test {
			judging++
		}
		list = append(list, s)
		return nil
	})
	if err == nil && judging == 0 {
		err = errors.New("it holds no policies (*" + extension + ")")
	}
	return list, err
}

// readFile reads a regular file. A link is followed to one: left out silently
// it would be a gate that is missing. It looks before it opens, because opening
// a pipe waits for a writer.
func readFile(files fs.FS, name string) (source, error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return source{}, err
	}
	if !info.Mode().IsRegular() {
		return source{}, fmt.Errorf("%s is no regular file", name)
	}
	f, err := files.Open(name)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return source{}, err
	}
	if len(text) > maxFile {
		return source{}, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return source{text: string(text), test: strings.HasSuffix(name, testExtension)}, nil
}

// checkLink refuses a linked directory, which is not walked: what it holds
// would be missing in silence.
func checkLink(files fs.FS, name string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink == 0 {
		return nil
	}
	if info, err := fs.Stat(files, name); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a link to a directory; name that directory in promote.yaml", name)
	}
	return nil
}
