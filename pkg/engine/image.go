package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/promote-dev/promote/pkg/event"
	"github.com/promote-dev/promote/pkg/release"
)

// pullIdle is how long a pull may show no progress.
const pullIdle = 5 * time.Minute

// ImageID gives the engine's own id of a subject's image: the config digest on
// the classic image store, the digest of this platform's manifest on the
// containerd store. An image that is not there is no error.
func (h *Host) ImageID(ctx context.Context, s release.Subject) (id string, present bool, err error) {
	_, id, present, err = h.image(ctx, s)
	return id, present, err
}

// image gives also the name that the engine knows a subject's image by.
func (h *Host) image(ctx context.Context, s release.Subject) (name, id string, present bool, err error) {
	ctx, cancel := h.short(ctx)
	defer cancel()
	name, result, err := h.lookUp(ctx, s)
	if absent(err) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, h.fault("inspecting image", s.String(), err)
	}
	index := result.Descriptor != nil && strings.Contains(result.Descriptor.MediaType, "index") ||
		result.Descriptor != nil && strings.Contains(result.Descriptor.MediaType, "manifest.list")
	if index && versions.GreaterThanOrEqualTo(h.client.ClientVersion(), "1.48") {
		id, present, err = h.manifestID(ctx, s, name)
		return name, id, present, err
	}
	return name, result.ID, true, nil
}

// manifestID finds the manifest of the engine's platform within an index that
// the containerd store holds.
func (h *Host) manifestID(ctx context.Context, s release.Subject, name string) (string, bool, error) {
	result, err := h.client.ImageInspect(ctx, name, client.ImageInspectWithManifests(true))
	if err != nil {
		return "", false, h.fault("inspecting image", s.String(), err)
	}
	for _, m := range result.Manifests {
		if m.Available && m.ImageData != nil && m.ImageData.Platform.OS == result.Os && m.ImageData.Platform.Architecture == result.Architecture {
			return m.ID, true, nil
		}
	}
	return "", false, nil
}

// Pull fetches a subject's image by its digest and looks afterwards that it is
// there. An image that is there already costs no request to the registry.
func (h *Host) Pull(ctx context.Context, s release.Subject) (err error) {
	step := event.Start(ctx, "[%s] pull %s", h.Name(), short(s))
	if _, present, err := h.ImageID(ctx, s); err != nil || present {
		if err != nil {
			step.Done(err)
			return err
		}
		step.Cached()
		return nil
	}
	defer func() { step.Done(err) }()
	auth, err := h.credentials(ctx, registryHost(s.Repository))
	if err != nil {
		return err
	}
	cut := h.viewing()
	if !cut {
		err = h.pull(ctx, step, s, s.String(), auth)
		cut = err != nil && h.tunnel != nil && h.options.Source != nil && ctx.Err() == nil && cutOff(err)
	}
	if cut {
		step.Logf("its engine does not reach the registry: the image goes over ssh")
		err = h.pullView(ctx, step, s)
	}
	if err != nil {
		return err
	}
	_, present, err := h.ImageID(ctx, s)
	if err == nil && !present {
		return release.Unavailable("look at the engine's disk and log, then try again", "pulling %s: the engine says it is done, and does not have the image", s)
	}
	return err
}

func (h *Host) pull(ctx context.Context, step *event.Step, s release.Subject, name, auth string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := fmt.Errorf("no progress within %s", pullIdle)
	watchdog := time.AfterFunc(pullIdle, func() { cancel(idle) })
	defer watchdog.Stop()
	stream, err := h.client.ImagePull(ctx, name, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return h.pullFault(ctx, s, err)
	}
	defer stream.Close()
	for m, err := range stream.JSONMessages(ctx) {
		watchdog.Reset(pullIdle)
		if err == nil && m.Error != nil {
			err = m.Error
		}
		if err != nil {
			return h.pullFault(ctx, s, err)
		}
		switch {
		case m.ID != "" && m.Progress != nil && m.Progress.Total > 0:
			step.Bytes(clip(m.ID, 64)+" "+strings.ToLower(clip(m.Status, 64)), m.Progress.Current, m.Progress.Total)
		case m.ID == "" && m.Status != "":
			step.Logf("%s", clip(m.Status, 300))
		}
	}
	return nil
}

func (h *Host) pullFault(ctx context.Context, s release.Subject, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return release.Unavailable("check the host's way to the registry, then try again", "pulling %s: %w", s, cause)
	}
	host := registryHost(s.Repository)
	text := err.Error()
	switch {
	case ctx.Err() != nil:
	case absent(err) || strings.Contains(text, "manifest unknown") || strings.Contains(text, "not found"):
		return release.Unavailable("the registry does not have it under this name: was the release copied there?", "pulling %s: %w: %w", s, release.ErrNotFound, trimPrefix(err))
	case strings.Contains(text, "unauthorized") || strings.Contains(text, "denied") || strings.Contains(text, "no basic auth"):
		return release.Unavailable("log in to "+host+" (docker login "+host+") with an account that may pull", "pulling %s: %w", s, trimPrefix(err))
	case strings.Contains(text, "no space left"):
		return release.Unavailable("free disk space on the host (docker system df), then try again", "pulling %s: %w", s, trimPrefix(err))
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return release.Unavailable("give the registry a certificate, or name it in insecure-registries of the engine's daemon.json", "pulling %s: %w", s, trimPrefix(err))
	}
	return h.fault("pulling", s.String(), err)
}

// RemoveImage removes a subject's image from the engine; one that is not there
// is no error, one that a container uses is.
func (h *Host) RemoveImage(ctx context.Context, s release.Subject) error {
	ctx, cancel := h.short(ctx)
	defer cancel()
	name, _, err := h.lookUp(ctx, s)
	if err == nil {
		_, err = h.client.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true})
	}
	if absent(err) {
		return nil
	}
	return h.fault("removing image", s.String(), err)
}

// credentials encodes what the keychain holds for one registry host, and for
// that host only.
func (h *Host) credentials(ctx context.Context, registryHost string) (string, error) {
	if h.options.Keychain == nil {
		return "", nil
	}
	user, secret, err := h.options.Keychain(ctx, registryHost)
	if err != nil {
		return "", release.Unavailable("repair the credential helper, or docker login "+registryHost, "reading credentials for %s: %w", registryHost, err)
	}
	if user == "" && secret == "" {
		return "", nil
	}
	auth := registry.AuthConfig{ServerAddress: registryHost, Username: user, Password: secret}
	if user == "<token>" || user == "" { // as credential helpers mark an identity token
		auth = registry.AuthConfig{ServerAddress: registryHost, IdentityToken: secret}
	}
	return authconfig.Encode(auth)
}

// registryHost gives the registry of a repository name, by the rule that all
// engines follow: the first part is a host if it looks like one.
func registryHost(repository string) string {
	first, _, more := strings.Cut(repository, "/")
	if more && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first
	}
	return "docker.io"
}

// short names an image in a line of progress.
func short(s release.Subject) string {
	name := s.Repository[strings.LastIndexByte(s.Repository, '/')+1:]
	return name + "@" + s.Digest.Short()
}
