package registry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promote-dev/promote/pkg/release"
)

// Platform gives one platform's image behind a subject: "linux/amd64",
// "linux/arm/v7". An empty platform is the only one there is. Each manifest on
// the way, and the image's configuration, is held to the digest that its
// parent names. Two images for one platform are a denial: tools would choose
// differently.
func (c *Client) Platform(ctx context.Context, s release.Subject, platform string) (release.PlatformImage, error) {
	img, err := c.platform(ctx, s, platform)
	return img, wrap(ctx, "reading image", s.String(), err)
}

func (c *Client) platform(ctx context.Context, s release.Subject, want string) (release.PlatformImage, error) {
	m, err := c.subject(ctx, s)
	if err != nil {
		return release.PlatformImage{}, err
	}
	repo, err := subjectRepository(s)
	if err != nil {
		return release.PlatformImage{}, err
	}
	st := c.reading(repo)
	for depth := 0; isIndex(m.mediaType); depth++ {
		if depth == c.limits.Depth {
			return release.PlatformImage{}, refused(m.digest, "indexes nested deeper than %d", c.limits.Depth)
		}
		d, err := choose(m, want)
		if err != nil {
			return release.PlatformImage{}, err
		}
		if m, err = child(ctx, st, d); err != nil {
			return release.PlatformImage{}, err
		}
	}
	return c.image(ctx, st, m, want)
}

// choose picks the one entry of an index for a platform. Entries for
// "unknown/unknown" are attestations in BuildKit's manner, not images.
func choose(index manifest, want string) (descriptor, error) {
	var found []descriptor
	var names []string
	for _, d := range index.body.Manifests {
		if d.Platform == nil && !isIndex(d.MediaType) || d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		if d.Platform == nil || want == "" || matches(*d.Platform, want) {
			found = append(found, d)
		}
		if d.Platform != nil {
			names = append(names, d.Platform.String())
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return descriptor{}, release.Denied("build it for that platform, or use one that is there", "index %s has no image for %s, it has %s", index.digest, want, printable(strings.Join(names, ", "), 300))
	case want == "":
		return descriptor{}, release.Misuse("say which platform", "index %s has images for %s", index.digest, printable(strings.Join(names, ", "), 300))
	}
	return descriptor{}, release.Denied("name the variant too, or have it built with one image a platform", "index %s has %d images for %s", index.digest, len(found), want)
}

// matches compares a platform with "os/arch" or "os/arch/variant". The
// variant v8 of arm64 is its only one and may be left out.
func matches(p platform, want string) bool {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	want = strings.TrimSuffix(want, "/")
	if base, ok := strings.CutSuffix(want, "arm64/v8"); ok {
		want = base + "arm64"
	}
	return p.String() == want || strings.Count(want, "/") == 1 && p.OS+"/"+p.Architecture == want
}

// imageConfig is the part of an image's configuration that promote judges
// (image specification, config.md, and Docker's Healthcheck beside it).
type imageConfig struct {
	platform
	Config struct {
		User         string              `json:"User"`
		Volumes      map[string]struct{} `json:"Volumes"`
		Env          []string            `json:"Env"`
		Cmd          []string            `json:"Cmd"`
		Entrypoint   []string            `json:"Entrypoint"`
		WorkingDir   string              `json:"WorkingDir"`
		StopSignal   string              `json:"StopSignal"`
		Labels       map[string]string   `json:"Labels"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts"`
		Healthcheck  *struct {
			Test                                          []string
			Interval, Timeout, StartPeriod, StartInterval time.Duration
			Retries                                       int
		} `json:"Healthcheck"`
	} `json:"config"`
}

// defaults are what a model may leave open.
func (c imageConfig) defaults() *release.ImageDefaults {
	d := &release.ImageDefaults{
		Environment: map[string]string{}, Command: c.Config.Cmd, Entrypoint: c.Config.Entrypoint, WorkingDir: c.Config.WorkingDir,
		StopSignal: c.Config.StopSignal, Labels: c.Config.Labels, Expose: slices.Sorted(maps.Keys(c.Config.ExposedPorts)),
	}
	for _, pair := range c.Config.Env {
		key, value, _ := strings.Cut(pair, "=")
		d.Environment[key] = value
	}
	if h := c.Config.Healthcheck; h != nil {
		d.Health = &release.Health{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return d
}

func (c *Client) image(ctx context.Context, s store, m manifest, want string) (release.PlatformImage, error) {
	raw, err := c.readBlob(ctx, s, *m.body.Config, c.limits.Config)
	if err != nil {
		return release.PlatformImage{}, err
	}
	if err := tooRich(raw, mostValues); err != nil {
		return release.PlatformImage{}, err
	}
	config, err := parseConfig(raw)
	if err != nil {
		return release.PlatformImage{}, refused(m.digest, "configuration %s: %w", m.body.Config.Digest, err)
	}
	if want != "" && !matches(config.platform, want) {
		return release.PlatformImage{}, release.Denied("build it for that platform, or use one that is there", "image %s is for %s, not for %s", m.digest, printable(config.String(), 100), want)
	}
	img := release.PlatformImage{
		Platform: config.String(),
		Manifest: m.digest,
		Config:   m.body.Config.Digest,
		User:     config.Config.User,
		Volumes:  slices.Sorted(maps.Keys(config.Config.Volumes)),
		Defaults: config.defaults(),
	}
	if h := config.Config.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		img.Healthcheck = true
	}
	for _, l := range m.body.Layers {
		img.Size += l.Size
		img.Layers = append(img.Layers, l.Digest)
	}
	return img, nil
}

// parseConfig reads a configuration as strictly as a manifest: what is judged
// must be what an engine will read.
func parseConfig(raw []byte) (imageConfig, error) {
	var config imageConfig
	canonical, err := release.CanonicalJSON(raw)
	if err != nil {
		return config, err
	}
	var top map[string]any
	if err := json.Unmarshal(canonical, &top); err != nil {
		return config, err
	}
	if err := noLookalike(top, []string{"config", "os", "architecture", "variant", "rootfs", "history"}); err != nil {
		return config, err
	}
	if inner, ok := top["config"].(map[string]any); ok {
		if err := noLookalike(inner, []string{"User", "Volumes", "Healthcheck", "Env", "Entrypoint", "Cmd", "Labels", "ExposedPorts", "WorkingDir", "StopSignal"}); err != nil {
			return config, err
		}
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return config, err
	}
	if config.OS == "" || config.Architecture == "" {
		return config, errors.New("no os and architecture")
	}
	return config, nil
}
