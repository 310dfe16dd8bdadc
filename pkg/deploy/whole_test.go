package deploy_test

import (
	"context"
	"testing"

	"github.com/promote-dev/promote/pkg/deploy"
	"github.com/promote-dev/promote/pkg/release"
)

// impatient is an engine at which somebody gives up while the first container
// is being made.
type impatient struct {
	deploy.Engine
	giveUp  context.CancelFunc
	created int
}

func (e *impatient) Create(ctx context.Context, project string, s release.ServiceSpec, name string, labels map[string]string) (string, error) {
	e.giveUp()
	if err := ctx.Err(); err != nil {
		go func() { _, _ = e.Engine.Create(context.Background(), project, s, name, labels) }() // it goes on all the same
		return "", err
	}
	e.created++
	return e.Engine.Create(ctx, project, s, name, labels)
}

// What an engine has begun to make when a run is interrupted is known to the
// run, so that it can be taken down.
func TestACreationIsNotGivenUpInTheMiddle(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := &impatient{Engine: w.fake, giveUp: cancel}
	work := w.stack("1")
	if err := deploy.Up(ctx, e, w.run(work)); err == nil {
		t.Fatal("it was not interrupted")
	}
	if e.created == 0 {
		t.Error("the engine was left alone in the middle of a creation")
	}
	if err := deploy.Down(t.Context(), w.fake, work.Project, true); err != nil {
		t.Fatal(err)
	}
	if left := w.seen().Containers; len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
}
