package registry

import (
	"context"
	"sync"
)

// pace is how many transfers run at once. It begins small, allows one more for
// each that went well, up to a most, and halves when a registry asks for
// patience; from then on it grows slowly.
type pace struct {
	most int

	mu      sync.Mutex
	limit   int
	active  int
	credit  int  // went well since the last growth, after a registry complained
	patient bool // a registry has complained
	deaf    int  // transfers to end before another complaint counts
	changed chan struct{}
}

func newPace(start, most int) *pace {
	return &pace{limit: min(start, most), most: most, changed: make(chan struct{})}
}

// run runs f as soon as the pace allows.
func (p *pace) run(ctx context.Context, f func(context.Context) error) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	err := f(context.WithValue(ctx, paceKey{}, p))
	p.end(err == nil)
	return err
}

func (p *pace) begin(ctx context.Context) error {
	for {
		p.mu.Lock()
		if err := ctx.Err(); err != nil {
			p.mu.Unlock()
			return err
		}
		if p.active < p.limit {
			p.active++
			p.mu.Unlock()
			return nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (p *pace) end(well bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.deaf = max(0, p.deaf-1)
	if well && p.limit < p.most {
		p.credit++
		if !p.patient || p.credit >= p.limit {
			p.limit++
			p.credit = 0
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// complaint halves the pace. The complaints of those that were under way at
// the same time are one.
func (p *pace) complaint() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf > 0 {
		return
	}
	p.patient, p.credit, p.deaf = true, 0, p.active
	p.limit = max(1, p.limit/2)
}

type paceKey struct{}

// complain tells the pace of a request, if it has one, that a registry asked
// for patience.
func complain(ctx context.Context) {
	if p, ok := ctx.Value(paceKey{}).(*pace); ok {
		p.complaint()
	}
}
