package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/promote-dev/promote/pkg/release"
)

// Source is a log to be read from beginning to end, as often as it takes.
type Source interface {
	Stream(ctx context.Context) (*Stream, error)
	fmt.Stringer
}

// Stream is a log that is being read, and the checkpoint that goes with it.
type Stream struct {
	io.Reader
	Close      func() error
	Checkpoint []byte
	// Line is the number of the log's first line in what it is read from.
	Line int64
	// Bytes is the log's length, as far as it is known beforehand.
	Bytes int64
	// Exported says that nothing may follow what the checkpoint covers: no
	// append was ever under way here.
	Exported bool
}

// Streamer is a Store that gives what Read gives without holding the log in
// memory.
type Streamer interface {
	Stream(ctx context.Context) (*Stream, error)
}

// stored is a store as a source.
type stored struct{ Store }

func (s stored) Stream(ctx context.Context) (*Stream, error) {
	if s, ok := s.Store.(Streamer); ok {
		return s.Stream(ctx)
	}
	state, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	return &Stream{Reader: bytes.NewReader(state.Log), Close: noClose, Checkpoint: state.Checkpoint, Line: 1, Bytes: int64(len(state.Log))}, nil
}

func noClose() error { return nil }

// Stream gives the log as it is now. The lock is held while it is opened, not
// while it is read: what a checkpoint covers never changes.
func (s *fileStore) Stream(ctx context.Context) (*Stream, error) {
	lock, err := s.share(ctx)
	if err != nil {
		return nil, err
	}
	defer lock()
	checkpoint, err := readBounded(s.path(checkpointFile), maxCheckpoint)
	if err != nil {
		return nil, s.unreadable(err)
	}
	f, err := os.Open(s.path(logFile))
	if errors.Is(err, os.ErrNotExist) {
		return &Stream{Reader: bytes.NewReader(nil), Close: noClose, Checkpoint: checkpoint, Line: 1}, nil
	}
	if err != nil {
		return nil, s.unreadable(err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(s.unreadable(err), f.Close())
	}
	return &Stream{Reader: io.LimitReader(f, info.Size()), Close: f.Close, Checkpoint: checkpoint, Line: 1, Bytes: info.Size()}, nil
}

// ExportedFile is a file that Export wrote, or a log of a file ledger without
// its checkpoint.
type ExportedFile struct{ Path string }

func (f ExportedFile) String() string { return f.Path }

// Stream reads the checkpoint from the first line, and gives the rest.
func (f ExportedFile) Stream(context.Context) (*Stream, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, release.Misuse("check the path", "reading an exported ledger: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = release.Misuse("give a file, or the directory of a ledger", "reading an exported ledger: %s is no regular file", f.Path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s := &Stream{Reader: bufio.NewReaderSize(file, maxCheckpoint+1), Close: file.Close, Line: 1, Bytes: info.Size(), Exported: true}
	if err := s.first(); err != nil {
		return nil, errors.Join(release.Unavailable("check the disk", "reading %s: %w", f.Path, err), file.Close())
	}
	return s, nil
}

// first takes the checkpoint off, unless the first line is a record.
func (s *Stream) first() error {
	in := s.Reader.(*bufio.Reader)
	head, err := in.Peek(maxCheckpoint + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	line, _, whole := bytes.Cut(head, []byte{'\n'})
	if _, err := payloadOf(line, PayloadTypeRecord); err == nil || !whole {
		return nil
	}
	s.Checkpoint, s.Line = bytes.Clone(line), 2
	s.Bytes -= int64(len(line)) + 1
	_, err = in.Discard(len(line) + 1)
	return err
}

// batchBytes is about how much of a log is read at once.
const batchBytes = 256 << 10

// batch is some lines of a log, in order.
type batch struct {
	text  []byte // whole lines, with their line feeds
	first int64  // the number of records before
	lines []span
	leafs []tlog.Hash
	made  []prepared // for those that are judged
	// torn says that the last line has no line feed, long that it is longer
	// than a record can be: what follows it is not read.
	torn, long bool
	err        error // why reading ended, if it was not the end
	ready      chan struct{}
}

type span struct{ from, to int }

func (b *batch) line(i int) []byte { return b.text[b.lines[i].from:b.lines[i].to] }

// batches reads a log in batches and hands them out, in order, to next. The
// buffers are used again.
type batches struct {
	in   io.Reader
	rest []byte // of a line that is not whole yet
	n    int64
}

// fill reads the next batch and reports whether there may be more.
func (r *batches) fill(b *batch) bool {
	*b = batch{text: append(b.text[:0], r.rest...), first: r.n, lines: b.lines[:0], leafs: b.leafs[:0], made: b.made[:0], ready: make(chan struct{})}
	for {
		from := len(b.text)
		b.text = grown(b.text, batchBytes)
		n, err := io.ReadFull(r.in, b.text[from:from+batchBytes])
		b.text = b.text[:from+n]
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			b.err = err
			return false
		}
		whole := bytes.LastIndexByte(b.text, '\n') + 1
		if whole == 0 && !ended && len(b.text) <= maxRecord {
			continue
		}
		b.split(b.text[:whole])
		r.n += int64(len(b.lines))
		r.rest = append(r.rest[:0], b.text[whole:]...)
		switch {
		case len(r.rest) > maxRecord:
			b.long = true
			b.lines = append(b.lines, span{whole, len(b.text)})
		case ended && len(r.rest) > 0:
			b.torn = true
			b.lines = append(b.lines, span{whole, len(b.text)})
		}
		return !ended && !b.long
	}
}

func (b *batch) split(text []byte) {
	for at := 0; at < len(text); {
		end := at + bytes.IndexByte(text[at:], '\n')
		b.lines = append(b.lines, span{at, end})
		at = end + 1
	}
}

func grown(b []byte, more int) []byte {
	if cap(b)-len(b) >= more {
		return b[:len(b)+more]
	}
	return append(b, make([]byte, more)...)
}

// FromStore gives the log of a store as a source.
func FromStore(s Store) Source { return stored{s} }
