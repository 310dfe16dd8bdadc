package stub

import (
	"archive/tar"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// container serves /containers.
func (e *Engine) container(w http.ResponseWriter, r *http.Request, rest string) {
	name, action, _ := strings.Cut(rest, "/")
	switch {
	case rest == "json":
		e.list(w, r)
		return
	case rest == "create":
		e.create(w, r)
		return
	}
	e.mu.Lock()
	c := e.find(name)
	e.mu.Unlock()
	if c == nil {
		missing(w, r)
		return
	}
	switch r.Method + " " + action {
	case "GET json":
		e.mu.Lock()
		defer e.mu.Unlock()
		answer(w, http.StatusOK, c.InspectResponse)
	case "GET logs":
		w.WriteHeader(http.StatusOK)
	case "GET archive": // a directory, and something in it
		w.Header().Set("X-Docker-Container-Path-Stat", "e30=")
		out := tar.NewWriter(w)
		_ = out.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755})
		_ = out.WriteHeader(&tar.Header{Name: "memory", Typeflag: tar.TypeReg, Mode: 0o644})
		_ = out.Close()
	case "POST start":
		sleep(r.Context(), e.pace.Start)
		e.start(c)
		w.WriteHeader(http.StatusNoContent)
	case "POST stop":
		sleep(r.Context(), e.pace.Stop)
		e.change(c, "die", func() { c.State = &container.State{Status: "exited", StartedAt: c.State.StartedAt} })
		w.WriteHeader(http.StatusNoContent)
	case "POST rename":
		e.change(c, "rename", func() { c.Name = "/" + r.URL.Query().Get("name") })
		w.WriteHeader(http.StatusNoContent)
	case "DELETE ":
		e.change(c, "destroy", func() {
			e.containers = slices.DeleteFunc(e.containers, func(have *made) bool { return have == c })
		})
		w.WriteHeader(http.StatusNoContent)
	default:
		missing(w, r)
	}
}

// find looks a container up by id or name. Callers hold the lock.
func (e *Engine) find(name string) *made {
	for _, c := range e.containers {
		if c.ID == name || c.Name == "/"+name {
			return c
		}
	}
	return nil
}

func (e *Engine) list(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	match, list := labels(r), []container.Summary{}
	for _, c := range e.containers {
		if match(c.Config.Labels) {
			list = append(list, container.Summary{ID: c.ID, Names: []string{c.Name}, Image: c.Config.Image, ImageID: c.Image, Labels: c.Config.Labels, State: c.State.Status})
		}
	}
	answer(w, http.StatusOK, list)
}

func (e *Engine) create(w http.ResponseWriter, r *http.Request) {
	var asked container.CreateRequest
	if !read(w, r, &asked) {
		return
	}
	sleep(r.Context(), e.pace.Create)
	e.mu.Lock()
	defer e.mu.Unlock()
	name := r.URL.Query().Get("name")
	image, there := e.images[asked.Image]
	switch {
	case !there:
		answer(w, http.StatusNotFound, map[string]string{"message": "No such image: " + asked.Image})
		return
	case e.find(name) != nil:
		answer(w, http.StatusConflict, map[string]string{"message": "the name is in use: " + name})
		return
	}
	c := &made{}
	c.ID, c.Name, c.Image, c.Created = e.id(), "/"+name, image.String(), time.Now().UTC().Format(time.RFC3339Nano)
	c.Config, c.HostConfig, c.State = asked.Config, asked.HostConfig, &container.State{Status: "created"}
	if c.HostConfig == nil {
		c.HostConfig = &container.HostConfig{}
	}
	c.NetworkSettings = &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{}}
	if asked.NetworkingConfig != nil {
		for name, endpoint := range asked.NetworkingConfig.EndpointsConfig {
			endpoint.IPAddress = netip.AddrFrom4([4]byte{192, 0, 2, byte(len(e.containers))})
			c.NetworkSettings.Networks[name] = endpoint
		}
	}
	for _, m := range c.HostConfig.Mounts {
		if m.Type == mount.TypeVolume {
			c.Mounts = append(c.Mounts, container.MountPoint{Type: m.Type, Name: m.Source, Destination: m.Target, Driver: "local", RW: !m.ReadOnly})
		}
	}
	e.containers = append(e.containers, c)
	e.tell("create", c)
	answer(w, http.StatusCreated, container.CreateResponse{ID: c.ID})
}

// change does something to a container, and tells of it.
func (e *Engine) change(c *made, action events.Action, do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
	e.tell(action, c)
}

// start lets a container run, and be healthy after a while where it says how to
// ask.
func (e *Engine) start(c *made) {
	state := &container.State{Status: "running", Running: true, Pid: 1, StartedAt: time.Now().UTC().Format(time.RFC3339Nano)}
	checked := c.Config.Healthcheck != nil
	if checked {
		state.Health = &container.Health{Status: container.Starting}
	}
	e.change(c, "start", func() { c.State = state })
	if !checked {
		return
	}
	time.AfterFunc(e.pace.Healthy, func() {
		e.change(c, "health_status: healthy", func() {
			if c.State == state { // nothing else happened to it
				well := *state
				well.Health = &container.Health{Status: container.Healthy}
				c.State = &well
			}
		})
	})
}
