package deploy

import (
	"context"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// How often a container is probed: soon at first, and never again before the
// last answer is there.
const (
	probeFirst   = 50 * time.Millisecond
	probeLongest = time.Second
	probeTime    = 3 * time.Second
)

// prober asks a container whether it is well while the engine has not asked
// yet: an engine's first health check comes after a whole interval.
type prober struct {
	watch *watch
	ctx   context.Context

	mu      sync.Mutex
	started time.Time // the life of the container that is asked about
	well    bool
	stop    context.CancelFunc
}

// says gives the last answer, and sees to it that there will be one.
func (p *prober) says(c release.Container) bool {
	if p.watch.probe == nil || c.State != "running" || c.Health != "starting" || len(c.HealthTest) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop == nil || !p.started.Equal(c.Started) {
		p.end()
		ctx, stop := context.WithCancel(p.ctx)
		p.started, p.well, p.stop = c.Started, false, stop
		go p.ask(ctx, c)
	}
	return p.well
}

// end stops asking. p.mu is held.
func (p *prober) end() {
	if p.stop != nil {
		p.stop()
	}
}

func (p *prober) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *prober) ask(ctx context.Context, c release.Container) {
	for pause := probeFirst; ; pause = min(2*pause, probeLongest) {
		bounded, cancel := context.WithTimeout(ctx, probeTime)
		well := p.watch.probe(bounded, c)
		cancel()
		if well && ctx.Err() == nil {
			p.mu.Lock()
			p.well = p.started.Equal(c.Started)
			p.mu.Unlock()
			select {
			case p.watch.bell(c.ID) <- struct{}{}:
			default:
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
