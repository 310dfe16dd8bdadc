package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/promote-dev/promote/pkg/release"
)

// Events subscribes to what happens to the containers of a project. Nothing
// that happens after it returned is missed. The channel is closed when the
// context ends or the engine goes away; whoever still waits then has to look
// for themselves.
func (h *Host) Events(ctx context.Context, project string) (<-chan release.ContainerEvent, error) {
	// The engine answers before it subscribes, so it is asked for everything
	// since a moment of its own clock before that.
	info, err := h.Info(ctx)
	if err != nil {
		return nil, err
	}
	options := client.EventsListOptions{
		Filters: client.Filters{}.Add("type", string(events.ContainerEventType)).Add("label", release.LabelProject+"="+project),
	}
	if !info.Time.IsZero() {
		options.Since = fmt.Sprintf("%d.%09d", info.Time.Unix(), info.Time.Nanosecond())
	}
	stream := h.client.Events(ctx, options)
	select {
	case err := <-stream.Err:
		return nil, h.fault("subscribing to events of", h.Name(), err)
	default:
	}
	out := make(chan release.ContainerEvent, 64)
	go func() {
		defer close(out)
		for {
			select {
			case <-stream.Err:
				return
			case m := <-stream.Messages:
				select {
				case out <- containerEvent(m):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

func containerEvent(m events.Message) release.ContainerEvent {
	e := release.ContainerEvent{
		Time:      time.Unix(0, m.TimeNano),
		Container: m.Actor.ID,
		Service:   m.Actor.Attributes[release.LabelService],
		Action:    string(m.Action),
	}
	e.ExitCode, _ = strconv.Atoi(m.Actor.Attributes["exitCode"]) // only "die" has one
	return e
}
