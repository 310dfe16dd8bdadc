package ledger

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What lies in the branch. The log is cut into segments at ends of lines; all
// but the last one stay as they are for good, so that an append costs the last
// one and the directories above it, however long the log is.
const (
	formatFile  = "format"
	readmeFile  = "README.md"
	segmentsDir = "log"
	segmentSize = 64 << 10 // a segment that is not shorter is full
	maxSegments = 1 << 16
)

const formatText = "promote ledger 1\n"

const readmeText = `This branch holds the ledger of promote: what was let through, by whom, on what evidence.

Only promote writes here, and only by adding. Don't merge it, don't rebase it, and let nobody push to it with force.
` + "`cat log/*/*`" + ` is the log, checkpoint the signed statement about it. docs/ledger-format.md of promote says what every byte means.
`

// segment is a piece of the log, a file in the branch.
type segment struct {
	id   string // object id of the file
	size int64
}

func segmentPath(n int) string { return fmt.Sprintf("%s/%02x/%02x", segmentsDir, n>>8, n&0xff) }

// foreignError is a branch that holds something else than a ledger.
type foreignError struct{ error }

func (e *foreignError) Unwrap() error { return e.error }

// load reads the branch at a commit that is in the cache.
func (s *gitStore) load(ctx context.Context, commit string) (*tip, error) {
	files, err := s.batch(ctx, maxCheckpoint+1<<10, commit+":"+formatFile, commit+":"+checkpointFile)
	switch {
	case err != nil:
		return nil, err
	case files[0] == nil || files[1] == nil:
		return nil, s.lacking(ctx, commit)
	case string(files[0]) != formatText:
		return nil, &foreignError{fmt.Errorf("its format is %.40q, this version of promote knows %q", files[0], formatText)}
	case len(files[1]) > maxCheckpoint:
		return nil, &foreignError{fmt.Errorf("its checkpoint is larger than %d bytes", maxCheckpoint)}
	}
	t := &tip{commit: commit, checkpoint: files[1]}
	if t.segments, err = s.listSegments(ctx, commit); err != nil {
		return nil, err
	}
	t.log, err = s.assemble(ctx, t.segments)
	return t, err
}

// lacking tells a branch without our files from a cache without their content.
func (s *gitStore) lacking(ctx context.Context, commit string) error {
	out, err := s.at(localTime, "ls-tree", "-z", "--name-only", "--full-tree", commit, "--", formatFile, checkpointFile).run(ctx)
	if err != nil {
		return s.local(err)
	}
	for _, name := range []string{formatFile, checkpointFile} {
		if !strings.Contains("\x00"+string(out), "\x00"+name+"\x00") {
			return &foreignError{errors.New("it has no file " + name)}
		}
	}
	return &damagedError{errors.New("it lacks files of commit " + commit)}
}

// listSegments lists the log's pieces in their order.
func (s *gitStore) listSegments(ctx context.Context, commit string) ([]segment, error) {
	out, err := s.at(localTime, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", segmentsDir).run(ctx)
	if err != nil {
		return nil, s.local(err)
	}
	var list []segment
	var total int64
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if entry == "" {
			continue
		}
		about, path, _ := strings.Cut(entry, "\t")
		var mode, kind, size string
		var next segment
		_, _ = fmt.Sscan(about, &mode, &kind, &next.id, &size)
		if size == "BAD" {
			return nil, &damagedError{errors.New("it lacks " + path)}
		}
		if next.size, err = strconv.ParseInt(size, 10, 64); err != nil || mode != "100644" || kind != "blob" || path != segmentPath(len(list)) || len(list) == maxSegments {
			return nil, &foreignError{fmt.Errorf("%.100q is where %s is expected", path, segmentPath(len(list)))}
		}
		if total += next.size; total > maxLog {
			return nil, &foreignError{fmt.Errorf("its log is larger than %d bytes", maxLog)}
		}
		list = append(list, next)
	}
	return list, nil
}

// assemble gives the log's bytes: from the copy of it where that is right, from
// the objects where it is not, and then corrects the copy.
func (s *gitStore) assemble(ctx context.Context, list []segment) ([]byte, error) {
	starts := make([]int64, len(list)+1)
	for i, part := range list {
		starts[i+1] = starts[i] + part.size
	}
	total := starts[len(list)]
	log := make([]byte, total, total+4*segmentSize)
	have := s.readCopy(log)
	bad := make([]bool, len(list))
	inParallel(len(list), func(i int) {
		bad[i] = starts[i+1] > have || blobID(log[starts[i]:starts[i+1]], len(list[i].id)) != list[i].id
	})
	first := int64(-1)
	for from := 0; from < len(list); {
		if !bad[from] {
			from++
			continue
		}
		var names []string
		var size int64
		to := from
		for ; to < len(list) && bad[to] && (size == 0 || size+list[to].size <= maxGitOutput/2); to++ {
			names, size = append(names, list[to].id), size+list[to].size
		}
		parts, err := s.batch(ctx, size, names...)
		if err != nil {
			return nil, err
		}
		for i, part := range parts {
			if int64(len(part)) != list[from+i].size {
				return nil, &damagedError{fmt.Errorf("segment %d has %d bytes, want %d", from+i, len(part), list[from+i].size)}
			}
			copy(log[starts[from+i]:], part)
		}
		if first < 0 {
			first = starts[from]
		}
		from = to
	}
	if first >= 0 {
		s.copyLog(log, first)
	}
	return log, nil
}

// readCopy fills log from the copy and gives how much there was.
func (s *gitStore) readCopy(log []byte) int64 {
	f, err := os.Open(filepath.Join(s.dir(), copyFile))
	if err != nil {
		return 0
	}
	defer f.Close()
	n, _ := io.ReadFull(f, log)
	return int64(n)
}

// blobID gives git's id of a file's content, as so many hex digits.
func blobID(content []byte, digits int) string {
	h := sha1.New()
	if digits == 64 {
		h = sha256.New()
	}
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}

func inParallel(n int, do func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	group.Wait()
}

// commit makes the branch's next commit in the cache, on top of base.
func (s *gitStore) commit(ctx context.Context, base *tip, keep int64, add, checkpoint []byte) (*tip, error) {
	like := base.commit
	if like == "" { // the first append: another branch shows which hash is used
		var err error
		if like, err = s.look(ctx, "HEAD"); err != nil {
			return nil, err
		}
	}
	if err := s.prepare(ctx, like); err != nil {
		return nil, err
	}
	next := &tip{checkpoint: bytes.Clone(checkpoint)}
	kept, start := keepSegments(base.segments, keep)
	if keep < int64(len(base.log)) { // what was given away must not change
		next.log = append(bytes.Clone(base.log[:keep]), add...)
	} else {
		next.log = append(base.log, add...)
	}
	parts := cut(next.log[start:])
	digits := max(len(like), 40)
	next.segments = append(base.segments[:kept:kept], make([]segment, len(parts))...)
	if len(next.segments) > maxSegments {
		return nil, fmt.Errorf("it would have more than %d segments", maxSegments)
	}
	for i, part := range parts {
		next.segments[kept+i] = segment{blobID(part, digits), int64(len(part))}
	}
	c := s.at(localTime, "fast-import", "--quiet", "--force", "--date-format=raw")
	c.stdin = s.stream(base, next, parts, kept)
	out, err := c.run(ctx)
	if err != nil {
		return nil, s.local(err)
	}
	if next.commit = strings.TrimSpace(string(out)); !isID(next.commit) {
		return nil, &damagedError{fmt.Errorf("git fast-import answers %.80q", out)}
	}
	return next, nil
}

// keepSegments says how many segments stay as they are, and where the bytes
// begin that are cut anew: the last one is filled up.
func keepSegments(list []segment, keep int64) (kept int, start int64) {
	for kept < len(list) && start+list[kept].size <= keep {
		if kept == len(list)-1 && list[kept].size < segmentSize {
			break
		}
		start += list[kept].size
		kept++
	}
	return kept, start
}

// cut cuts bytes into segments: each ends with the line that fills it.
func cut(rest []byte) [][]byte {
	var parts [][]byte
	for len(rest) > 0 {
		end := len(rest)
		if len(rest) > segmentSize {
			if i := bytes.IndexByte(rest[segmentSize-1:], '\n'); i >= 0 {
				end = segmentSize + i
			}
		}
		parts, rest = append(parts, rest[:end]), rest[end:]
	}
	return parts
}

// stream is what git fast-import reads: one commit.
func (s *gitStore) stream(base, next *tip, parts [][]byte, kept int) io.Reader {
	var head bytes.Buffer
	p := s.place()
	message := "Begin the ledger\n"
	if base.commit != "" {
		message = "Append to the ledger\n"
	}
	if n := recordsOf(next.checkpoint); n > 0 {
		message = fmt.Sprintf("Append record %d\n", n-1)
	}
	if base.commit != "" && bytes.Equal(base.checkpoint, next.checkpoint) {
		message = "Take out lines of compacted records, or bring them back\n"
	}
	fmt.Fprintf(&head, "feature done\ncommit %s\nmark :1\ncommitter %s <%s> %d +0000\ndata %d\n%s\n",
		nextRef, ident(p.name), ident(p.email), time.Now().Unix(), len(message), message)
	if base.commit != "" {
		fmt.Fprintf(&head, "from %s\n", base.commit)
	} else {
		file(&head, formatFile, formatText)
		file(&head, readmeFile, readmeText)
	}
	file(&head, checkpointFile, string(next.checkpoint))
	readers := []io.Reader{&head}
	for i, part := range parts {
		readers = append(readers, strings.NewReader(fmt.Sprintf("M 100644 inline %s\ndata %d\n", segmentPath(kept+i), len(part))),
			bytes.NewReader(part), strings.NewReader("\n"))
	}
	for n := len(next.segments); n < len(base.segments); n++ {
		readers = append(readers, strings.NewReader("D "+segmentPath(n)+"\n"))
	}
	return io.MultiReader(append(readers, strings.NewReader("\nget-mark :1\ndone\n"))...)
}

func file(w io.Writer, path, content string) {
	fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n%s\n", path, len(content), content)
}

// ident makes a name fit for a commit.
func ident(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if strings.ContainsRune("<>\n\x00", r) {
			return -1
		}
		return r
	}, s))
}

// recordsOf gives how many records a checkpoint says that it covers; 0: it
// says nothing that can be read. Nothing is verified here.
func recordsOf(checkpoint []byte) int64 {
	text, err := openEnvelope(checkpoint, PayloadTypeCheckpoint)
	if err != nil {
		return 0
	}
	c, err := ParseCheckpoint(string(text))
	if err != nil {
		return 0
	}
	return c.TreeSize
}

// extends reports whether t holds all that the branch held at an older commit:
// the records that its checkpoint covered, by their leaf hashes. Whether lines
// that were taken out since may be gone, the records behind them say.
func (s *gitStore) extends(ctx context.Context, older string, t *tip) (_ bool, err error) {
	var list []segment
	if s.tip != nil && s.tip.commit == older {
		list = s.tip.segments
	} else if list, err = s.listSegments(ctx, older); err != nil {
		return false, err
	}
	same, start := 0, int64(0)
	for same < min(len(list), len(t.segments)) && list[same] == t.segments[same] {
		start += list[same].size
		same++
	}
	rest, err := s.assembleRest(ctx, list[same:])
	if err != nil || bytes.HasPrefix(t.log[start:], rest) {
		return err == nil, err
	}
	files, err := s.batch(ctx, maxCheckpoint, older+":"+checkpointFile)
	if err != nil {
		return false, err
	}
	covered := append(t.log[:start:start], rest...)
	covered = firstLines(covered, recordsOf(files[0]))
	return bytes.HasPrefix(t.log, covered) || sameLeafs(t.log, covered), nil
}

// sameLeafs reports whether a log begins with the records of another one.
func sameLeafs(log, first []byte) bool {
	for len(first) > 0 {
		a, restOfFirst, whole := bytes.Cut(first, []byte{'\n'})
		b, restOfLog, found := bytes.Cut(log, []byte{'\n'})
		if !whole || !found || leafOf(a) != leafOf(b) {
			return false
		}
		first, log = restOfFirst, restOfLog
	}
	return true
}

func (s *gitStore) assembleRest(ctx context.Context, list []segment) ([]byte, error) {
	var rest []byte
	for _, part := range list {
		content, err := s.batch(ctx, part.size, part.id)
		if err != nil {
			return nil, err
		}
		if content[0] == nil {
			return nil, &damagedError{errors.New("segment " + part.id + " is missing")}
		}
		rest = append(rest, content[0]...)
	}
	return rest, nil
}

// firstLines gives the first n lines, or everything where n says nothing.
func firstLines(log []byte, n int64) []byte {
	end := 0
	for i := int64(0); i < n; i++ {
		line := bytes.IndexByte(log[end:], '\n')
		if line < 0 {
			return log
		}
		end += line + 1
	}
	if n == 0 {
		return log
	}
	return log[:end]
}
