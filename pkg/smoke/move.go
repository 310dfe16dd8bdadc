package smoke

import (
	"context"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// move does something to a service that would otherwise be its own fault, and
// waits with settle until all are well again; meanwhile nobody's health counts.
func (m *monitor) move(ctx context.Context, name string, do func(id string) error, settle func() error) error {
	return m.moveAs(ctx, release.MarkMove, name, do, settle)
}

// moveAs is move with the kind of mark that it leaves.
func (m *monitor) moveAs(ctx context.Context, kind, name string, do func(id string) error, settle func() error) error {
	m.mu.Lock()
	l := m.services[name]
	l.moved, m.excused = true, true
	l.mark(time.Now(), kind, "")
	id := l.id
	m.mu.Unlock()
	err := do(id)
	if err == nil {
		err = m.relearn(ctx, name)
	}
	m.mu.Lock()
	l.moved, l.calm = false, time.Now()
	m.mu.Unlock()
	if err == nil && settle != nil {
		err = settle()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.excused = false
	for _, l := range m.services {
		l.calm = time.Now()
	}
	return err
}

func (m *monitor) relearn(ctx context.Context, name string) error {
	seen, err := m.engine.Observe(ctx, m.project)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range seen.Containers {
		if c.Service == name {
			l := m.services[name]
			l.id, l.last = c.ID, c
			l.samples = nil // of another life
		}
	}
	return nil
}
