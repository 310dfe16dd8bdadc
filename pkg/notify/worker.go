package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// message is what one webhook is told of one record.
type message struct {
	ID       string `json:"id"` // the record's digest; the same at every delivery
	Sequence int64  `json:"sequence"`
	Phase    string `json:"phase"`
	Body     []byte `json:"-"`
}

// String names the message to a person.
func (m message) String() string { return fmt.Sprintf("record %d (%s)", m.Sequence, m.Phase) }

// worker sends to one webhook, in the order of the records.
type worker struct {
	n    *Notifier
	hook Webhook

	running sync.WaitGroup
	mu      sync.Mutex
	queue   []message
	active  bool
	swept   bool // what was left from earlier runs had its turn
	opened  bool
	to      *receiver
}

// start queues a record, if it is wanted, and makes sure that somebody sends.
func (w *worker) start(ctx context.Context, e release.Entry, wanted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open(ctx) || !wanted && w.swept {
		return
	}
	if wanted {
		m := message{ID: e.Digest.String(), Sequence: e.Record.Sequence, Phase: string(e.Record.Phase), Body: w.n.body(w.hook.Format, e)}
		if len(w.queue) >= mostPending {
			event.Warnf(ctx, "notifying %s: %s is left out, %d others wait", w.to.host, m, mostPending)
			return
		}
		w.queue = append(w.queue, m)
	}
	if !w.active {
		w.active = true
		w.running.Go(func() { w.run(ctx) })
	}
}

// open reads the variables, once. Without an address nothing can be sent, now
// or later.
func (w *worker) open(ctx context.Context) bool {
	if !w.opened {
		w.opened = true
		var err error
		if w.to, err = open(w.hook, w.n.o.Getenv); err != nil {
			event.Warnf(ctx, "nobody is notified by notify's %s: %v", w.hook.Variable, err)
		}
	}
	return w.to != nil
}

// run sends what is queued, then what earlier runs left. Once promote ends, the
// rest is kept at once.
func (w *worker) run(ctx context.Context) {
	for {
		m, ok := w.next()
		switch {
		case !ok:
			return
		case m == nil:
			w.sweep(ctx)
			continue
		}
		if err := w.deliver(*m); err != nil {
			w.keep(ctx, append([]message{*m}, w.rest()...), err)
		}
	}
}

// rest takes what need not be tried any more, because promote ends.
func (w *worker) rest() []message {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.swept = true // where one failed just now, another try changes nothing
	if w.n.wanted.Err() == nil {
		return nil
	}
	rest := w.queue
	w.queue = nil
	return rest
}

// next gives the next message, or nil when it is the turn of those that are
// left from earlier runs.
func (w *worker) next() (*message, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.queue) > 0:
		m := w.queue[0]
		w.queue = w.queue[1:]
		return &m, true
	case !w.swept:
		w.swept = true
		return nil, true
	}
	w.active = false
	return nil, false
}

// deliver tries a few times.
func (w *worker) deliver(m message) error {
	pause := w.n.pause
	for try := 1; ; try++ {
		err := w.to.post(w.n.wanted, m.ID, m.Body)
		if err == nil {
			return nil
		}
		var refused *refusal
		if !errors.As(err, &refused) || !refused.again || try == tries {
			return err
		}
		wait := max(refused.wait, pause+rand.N(pause))
		if wait > longestWait || !w.n.sleep(wait) {
			return err
		}
		pause *= 2
	}
}

// keep puts what could not be delivered into the file.
func (w *worker) keep(ctx context.Context, list []message, cause error) {
	what := list[0].String()
	if more := len(list) - 1; more > 0 {
		what += fmt.Sprintf(" and %d more", more)
	}
	if w.n.letters.path == "" {
		event.Warnf(ctx, "notifying %s of %s: %v; it is lost", w.to.host, what, cause)
		return
	}
	var kept []letter
	for _, m := range list {
		kept = append(kept, w.letter(m, cause))
	}
	dropped, err := w.n.letters.add(kept)
	if err != nil {
		event.Warnf(ctx, "notifying %s of %s: %v; it is lost: %v", w.to.host, what, cause, err)
		return
	}
	event.Warnf(ctx, "notifying %s of %s: %v; it is kept in %s, and a later run sends it", w.to.host, what, cause, w.n.letters.path)
	if dropped > 0 {
		event.Warnf(ctx, "%s is full: the %d oldest messages were left out", w.n.letters.path, dropped)
	}
}

func (w *worker) letter(m message, cause error) letter {
	l := letter{message: m, Webhook: w.hook.Variable, Format: w.hook.Format, Failed: time.Now().UTC().Truncate(time.Second), Error: cause.Error(), Body: m.Body}
	var refused *refusal
	if errors.As(cause, &refused) && refused.wait > 0 {
		l.NotBefore = l.Failed.Add(refused.wait)
	}
	return l
}

// sweep sends what earlier runs could not deliver, each once, oldest first,
// until one fails again. Another process that does so is left alone.
func (w *worker) sweep(ctx context.Context) {
	claim, ok := w.n.letters.claim(w.hook.Variable)
	if !ok {
		return
	}
	defer claim.Close()
	left, err := w.n.letters.of(w.hook.Variable, w.hook.Format)
	if err != nil {
		event.Warnf(ctx, "notifying %s of what earlier runs kept: %v", w.to.host, err)
		return
	}
	var sent []letter
	for _, l := range left {
		if l.NotBefore.After(time.Now()) || w.to.post(w.n.wanted, l.ID, l.Body) != nil {
			break
		}
		sent = append(sent, l)
	}
	if len(sent) == 0 {
		return
	}
	if err := w.n.letters.remove(sent); err != nil {
		event.Warnf(ctx, "%d messages that were kept are delivered, and may be sent again: %v", len(sent), err)
		return
	}
	event.Noticef(ctx, "notified %s of %d records that earlier runs could not deliver", w.to.host, len(sent))
}
