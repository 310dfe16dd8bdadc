package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promote-dev/promote/pkg/ledger"
	"github.com/promote-dev/promote/pkg/pipeline"
)

// distant is a file store that takes its time for every answer, one after the
// other, as a repository on another machine does.
type distant struct {
	ledger.Store
	away  atomic.Int64
	reads atomic.Int64
	turn  sync.Mutex
}

func (d *distant) wait() {
	d.turn.Lock()
	defer d.turn.Unlock()
	time.Sleep(time.Duration(d.away.Load()))
}

// Read implements ledger.Store.
func (d *distant) Read(ctx context.Context) (ledger.State, error) {
	d.reads.Add(1)
	d.wait()
	return d.Store.Read(ctx)
}

// ReadRange implements ledger.Ranger.
func (d *distant) ReadRange(ctx context.Context, from, to int64) (ledger.State, bool, error) {
	d.reads.Add(1)
	d.wait()
	return d.Store.(ledger.Ranger).ReadRange(ctx, from, to)
}

// Write implements ledger.Store.
func (d *distant) Write(ctx context.Context, from ledger.Position, add, checkpoint []byte) error {
	d.wait()
	return d.Store.Write(ctx, from, add, checkpoint)
}

func indexOf(images []pipeline.PromotedImage, service string) int {
	return slices.IndexFunc(images, func(i pipeline.PromotedImage) bool { return i.Service == service })
}
