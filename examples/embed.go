// Package examples carries the agent stack inside the binary, so that
// `promote demo` needs no checkout.
package examples

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed all:agent
var files embed.FS

const overlays = "demo"

// WriteAgent writes the agent stack into a directory, without the demo's
// overlays. Existing files are replaced.
func WriteAgent(directory string) error { return write(directory, "agent", overlays) }

// Overlay lays one of the demo's variants over a stack that WriteAgent wrote:
// leak, vulnerable or secret.
func Overlay(directory, name string) error {
	root := path.Join("agent", overlays, name)
	if info, err := fs.Stat(files, root); err != nil || !info.IsDir() {
		return fmt.Errorf("overlay %q: %w", name, fs.ErrNotExist)
	}
	return write(directory, root, "")
}

// write copies an embedded tree, leaving out one directory of its top and what
// Python leaves behind in a work tree.
func write(directory, root, without string) error {
	return fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		target := filepath.Join(directory, filepath.FromSlash(inside))
		if entry.IsDir() {
			if inside != "" && inside == without || entry.Name() == "__pycache__" {
				return fs.SkipDir
			}
			return os.MkdirAll(target, 0o755)
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(target, content, 0o644), os.Chmod(target, 0o644))
	})
}
