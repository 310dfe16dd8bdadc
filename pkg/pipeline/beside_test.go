package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// Whether staging is settled is found out beside reading the release; it is the
// answer all the same, whatever else is wrong.
func TestThatStagingIsNotSettledComesFirst(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.hosts["stage"].running["planner"] = release.DigestOf([]byte("by hand"))
	p.Project.Values = func(string) (map[string]string, error) { return nil, errors.New("a value is missing") }
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindDenied)
	if !strings.Contains(err.Error(), "staging does not run what its record says") {
		t.Errorf("got %v", err)
	}
}

// until scans until it is told to end or interrupted.
type until struct {
	*world
	end <-chan struct{}
}

func (u until) Scan(ctx context.Context, s release.Subject) (release.Scan, error) {
	defer u.note("scan ended")
	select {
	case <-ctx.Done():
		return release.Scan{}, ctx.Err()
	case <-u.end:
		return u.world.Scan(ctx, s)
	}
}

func TestAScanDoesNotOutliveItsPromotion(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	w.hosts["stage"].running["planner"] = release.DigestOf([]byte("by hand"))
	p.Scanner = until{world: w}
	_, err := p.To(t.Context(), pipeline.PromoteOptions{Environment: "production"})
	wantKind(t, err, release.KindDenied)
	if w.count("scan ended") != 1 || w.count("get key ready") != 1 { // staging's
		t.Errorf("%q", w.journal)
	}
}

func TestTheKeyIsGotReadyAfterTheLastScan(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	end := make(chan struct{})
	p.Scanner = until{w, end}
	time.AfterFunc(50*time.Millisecond, func() { close(end) })
	before := len(w.journal)
	to(t, p, "production")
	did := w.journal[before:]
	ready, scanned := slices.Index(did, "get key ready"), slices.Index(did, "scan ended")
	if scanned < 0 || ready < scanned {
		t.Errorf("%q", did)
	}
	before = w.count("get key ready")
	if out := to(t, p, "production"); !out.Unchanged || w.count("get key ready") != before {
		t.Errorf("there is nothing to do, and the key is got ready: %+v", out)
	}
}

// readings counts how often release documents are read.
type readings struct {
	*world
	n *atomic.Int64
}

func (r readings) PullRelease(ctx context.Context, s release.Subject) (release.Document, error) {
	r.n.Add(1)
	return r.world.PullRelease(ctx, s)
}

func TestAPromotionReadsItsReleaseOnce(t *testing.T) {
	w, p := fixture(t)
	to(t, p, "staging")
	var n atomic.Int64
	p.Documents = readings{w, &n}
	if to(t, p, "production"); n.Load() != 1 {
		t.Errorf("read %d times", n.Load())
	}
}
