package notify

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// The formats of messages.
const (
	FormatCloudEvents = "cloudevents" // the default
	FormatSlack       = "slack"       // {"text": …}, which Slack, Mattermost and others take
)

// Formats are those that Webhook.Format may name.
var Formats = []string{FormatCloudEvents, FormatSlack}

// Webhook is somebody who wants to be told.
type Webhook struct {
	// Variable names the environment variable that holds the URL, which is a
	// secret.
	Variable string
	// Secret names the variable that holds what messages are signed with:
	// "whsec_" and base64, or any text. Empty: they are not signed.
	Secret string
	// On are the phases of records to tell of; none means all.
	On []string
	// Format is one of Formats.
	Format string
	// PlainHTTP allows http: beyond this machine.
	PlainHTTP bool
}

// Options says who is told what.
type Options struct {
	Project string // its name
	// Repository gives the repository of the releases that an environment runs;
	// of an empty name, the project's.
	Repository func(environment string) string
	Webhooks   []Webhook
	// Getenv reads the variables that Webhooks name.
	Getenv func(string) string
	// Letters is the file that keeps what could not be delivered; empty: it is
	// lost.
	Letters string
	// Offline sends nothing, and says so.
	Offline bool
}

// How long things may take.
const (
	tries       = 4                      // of a message in one run
	firstPause  = 500 * time.Millisecond // doubled after each try
	oneTry      = 10 * time.Second
	longestWait = 2 * time.Minute // that a receiver may ask for within a run
	lastWait    = 10 * time.Second
	lastMoment  = 2 * time.Second // once the run was interrupted
	mostPending = 1000
)

// Notifier tells of records. It may be used by several goroutines.
type Notifier struct {
	o       Options
	letters letters
	workers []*worker
	pause   time.Duration // firstPause
	grace   time.Duration // lastWait

	told    sync.Once // of --offline
	wanted  context.Context
	abort   context.CancelFunc
	closing chan struct{}
	once    sync.Once

	mu       sync.Mutex
	deadline time.Time // once closing
}

// New makes a notifier. It reads nothing and sends nothing yet.
func New(o Options) *Notifier {
	n := &Notifier{o: o, letters: letters{o.Letters}, pause: firstPause, grace: lastWait, closing: make(chan struct{})}
	n.wanted, n.abort = context.WithCancel(context.Background())
	for _, hook := range o.Webhooks {
		hook.Format = cmp.Or(hook.Format, FormatCloudEvents)
		n.workers = append(n.workers, &worker{n: n, hook: hook})
	}
	return n
}

// Recorded tells of a record that is durable. It returns at once; what goes
// wrong is a warning to the context's sink.
func (n *Notifier) Recorded(ctx context.Context, e release.Entry) {
	for _, w := range n.workers {
		wanted := len(w.hook.On) == 0 || slices.Contains(w.hook.On, string(e.Record.Phase))
		if n.o.Offline {
			if wanted {
				n.told.Do(func() { event.Noticef(ctx, "nobody is notified: --offline sends nothing") })
			}
			continue
		}
		// A record that nobody asked for still is an occasion to send what is
		// left from earlier runs.
		w.start(context.WithoutCancel(ctx), e, wanted)
	}
}

// Close waits for what is being sent, for ten seconds at most and two if ctx
// has ended, and keeps the rest for a later run. Nothing may be recorded after
// it.
func (n *Notifier) Close(ctx context.Context) {
	n.once.Do(func() {
		n.mu.Lock()
		n.deadline = time.Now().Add(n.grace)
		n.mu.Unlock()
		close(n.closing)
		interrupted := ctx.Done()
		timer := time.NewTimer(n.grace)
		defer timer.Stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, w := range n.workers {
				w.running.Wait()
			}
		}()
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			case <-timer.C:
				waiting = false
			case <-interrupted:
				interrupted = nil
				timer.Reset(min(lastMoment, time.Until(n.deadline)))
			}
		}
		n.abort()
		<-done // what is left goes to the file at once
	})
}

// sleep waits, and reports whether it did: not if the notifier is aborted, or
// closes before the wait would be over.
func (n *Notifier) sleep(wait time.Duration) bool {
	over := time.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	closing := n.closing
	for {
		select {
		case <-timer.C:
			return n.wanted.Err() == nil
		case <-n.wanted.Done():
			return false
		case <-closing:
			n.mu.Lock()
			late := over.After(n.deadline)
			n.mu.Unlock()
			if late {
				return false
			}
			closing = nil
		}
	}
}
