package hosts

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/engine"
	"github.com/promote-dev/promote/pkg/pipeline"
	"github.com/promote-dev/promote/pkg/release"
)

// These keys are for this test only.
const (
	recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	text      = "what the agent learned"
)

// A host opens what it sealed as long as it is open; another one does not.
func TestAHostOpensWhatItSealed(t *testing.T) {
	d := pipeline.Desired{Snapshots: release.Snapshots{Recipient: recipient, Keep: 3}, Before: release.DigestOf([]byte("before"))}
	h := &host{}
	var stored bytes.Buffer
	w, err := h.keeping(d).Seal(&stored)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := opened(h.keeping(d), stored.Bytes()); err != nil || got != text {
		t.Errorf("the host that sealed it: %q, %v", got, err)
	}
	for name, other := range map[string]*host{"one that sealed nothing": {}, "one that sealed": sealing(t, d)} {
		if got, err := opened(other.keeping(d), stored.Bytes()); release.KindOf(err) != release.KindUsage || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if k := h.keeping(d); k.Keep != 3 || k.Release != d.Before {
		t.Errorf("%+v", k)
	}
	if _, err := (&host{}).keeping(pipeline.Desired{}).Seal(io.Discard); release.KindOf(err) != release.KindConfig {
		t.Errorf("without a public key: %v", err)
	}
}

func sealing(t *testing.T, d pipeline.Desired) *host {
	t.Helper()
	h := &host{}
	if _, err := h.sealer(d.Snapshots.Recipient); err != nil {
		t.Fatal(err)
	}
	return h
}

func opened(k deploy.Keeping, raw []byte) (string, error) {
	r, err := k.Open(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	plain, err := io.ReadAll(r)
	return string(plain), err
}

// A health check that passed is not asked again at once, one that did not is, and
// so is that of another start.
func TestWhatPassedLatelyIsNotAskedAgain(t *testing.T) {
	asked, ok := 0, false
	h := &host{probe: func(context.Context, *engine.Host, release.Container) bool { asked++; return ok }}
	c := release.Container{ID: "1", Started: time.Unix(1, 0)}
	for i, step := range []struct {
		ask    func(context.Context, release.Container) bool
		passes bool
		start  int64
		want   bool
		asked  int
	}{
		{h.answers, false, 1, false, 1},
		{h.answers, true, 1, true, 2},
		{h.answers, false, 1, true, 2},
		{h.ask, true, 1, true, 3}, // a deployment always asks
		{h.answers, false, 2, false, 4},
		{h.ask, false, 1, false, 5},
		{h.answers, false, 1, false, 6},
	} {
		ok, c.Started = step.passes, time.Unix(step.start, 0)
		if got := step.ask(t.Context(), c); got != step.want || asked != step.asked {
			t.Errorf("step %d: %t, asked %d times, want %t and %d", i, got, asked, step.want, step.asked)
		}
	}
	h.passed[startOf(c)] = time.Now().Add(-lately)
	if h.answers(t.Context(), c) {
		t.Error("an old answer counts")
	}
}
