package advisories

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/promote-dev/promote/pkg/release"
)

// Bounds of what is read: generous for a database's export, small for an attack.
const (
	maxRecord  = 4 << 20
	maxRecords = 1_000_000
)

// unpack writes every record of every *.ndjson.gz file to a file of its own in
// dir, because that is how trivy-db reads them, and counts them.
func unpack(ctx context.Context, records fs.FS, dir string) (int, error) {
	names, err := fs.Glob(records, "*.ndjson.gz")
	if err != nil {
		return 0, fmt.Errorf("listing advisories: %w", err)
	}
	if len(names) == 0 {
		return 0, release.Misuse("give a directory with OSV records, one a line, gzipped", "building the database: no *.ndjson.gz files")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, release.Unavailable("make room in the temporary directory", "unpacking advisories: %w", err)
	}
	count := 0
	for _, name := range names {
		if count, err = unpackFile(ctx, records, name, dir, count); err != nil {
			return 0, err
		}
	}
	if count == 0 {
		return 0, release.Misuse("give files with OSV records, one a line", "building the database: the files hold no records")
	}
	return count, nil
}

func unpackFile(ctx context.Context, records fs.FS, name, dir string, count int) (int, error) {
	f, err := records.Open(name)
	if err != nil {
		return count, release.Unavailable("check that the file can be read", "reading advisories: %w", err)
	}
	defer f.Close()
	broken := func(line int, err error) error {
		return &release.Fault{Kind: release.KindUsage, Op: "reading advisories", File: name, Line: line, Err: err,
			Hint: "take the file from its source again"}
	}
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return count, broken(0, err)
	}
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(make([]byte, 0, 1<<20), maxRecord)
	number := 0
	for lines.Scan() {
		number++
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return count, err
		}
		if err := checkRecord(lines.Bytes()); err != nil {
			return count, broken(number, err)
		}
		if count++; count > maxRecords {
			return count, broken(number, fmt.Errorf("more than %d records", maxRecords))
		}
		path := filepath.Join(dir, fmt.Sprintf("%07d.json", count))
		if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
			return count, release.Unavailable("make room in the temporary directory", "unpacking advisories: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		return count, broken(number+1, err)
	}
	// A truncated file must not make a database that knows half.
	if _, err := io.Copy(io.Discard, unzipped); err != nil {
		return count, broken(number, err)
	}
	return count, nil
}

func checkRecord(line []byte) error {
	var record struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return err
	}
	if record.ID == "" {
		return errors.New("a record without an id")
	}
	return nil
}
