package build

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/tonistiigi/fsutil"

	"github.com/promote-dev/promote/pkg/release"
)

// solved is what the daemon made.
type solved struct {
	ref    string // of the build in the daemon's history
	digest release.Digest
	cached bool
}

// solve runs the build and waits until it is pushed.
func (j *job) solve(ctx context.Context, c *client.Client) (solved, error) {
	opt, err := j.solveOpt()
	if err != nil {
		return solved{}, err
	}
	t := newTracker(ctx, opt.Ref, j.service, j.redact)
	status := make(chan *client.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		t.run(status)
	}()
	response, err := solveOrAbandon(ctx, c, opt, status)
	<-shown
	if err != nil {
		if ctx.Err() != nil {
			err = j.interrupted(ctx)
			t.close(err)
			return solved{}, err
		}
		t.close(err)
		return solved{}, j.fault(err, t)
	}
	t.close(nil)
	digest, err := pushedDigest(response.ExporterResponse, len(j.o.Platforms))
	if err != nil {
		return solved{}, &release.Fault{Kind: release.KindUnavailable, Op: "building", Subject: j.service, Err: err,
			Hint: "the daemon answered in an unexpected form; is it BuildKit 0.13 or newer?"}
	}
	return solved{ref: opt.Ref, digest: digest, cached: t.cached() && !j.o.NoCache}, nil
}

// How long a cancelled build may take to end in good order.
const cancelGrace = time.Second

// solveOrAbandon ends soon after the context does: the client itself would
// wait seconds for the last of the daemon's progress.
func solveOrAbandon(ctx context.Context, c *client.Client, opt client.SolveOpt, status chan *client.SolveStatus) (*client.SolveResponse, error) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		select {
		case <-done:
		case <-time.After(cancelGrace):
			c.Close()
		}
	}()
	return c.Solve(ctx, nil, opt, status)
}

func (j *job) solveOpt() (client.SolveOpt, error) {
	files, err := contextFS(j.o.Context)
	if err != nil {
		return client.SolveOpt{}, err
	}
	dockerfiles, err := fsutil.NewFS(filepath.Dir(j.path))
	if err != nil {
		return client.SolveOpt{}, err
	}
	opt := client.SolveOpt{
		Ref:           identity.NewID(),
		Frontend:      "dockerfile.v0",
		FrontendAttrs: j.frontendAttrs(),
		Exports:       []client.ExportEntry{{Type: client.ExporterImage, Attrs: j.exporterAttrs()}},
		LocalMounts:   map[string]fsutil.FS{"context": files, "dockerfile": dockerfiles},
		Session:       []session.Attachable{j.auth()},
		// The daemon keeps the context of the last build with the same key and
		// asks for what changed.
		SharedKey: release.DigestOf([]byte(j.o.Context)).Hex(),
	}
	for _, c := range j.o.Cache {
		entry, err := j.cache(c)
		if err != nil {
			return client.SolveOpt{}, err
		}
		opt.CacheImports = append(opt.CacheImports, entry)
		opt.CacheExports = append(opt.CacheExports, client.CacheOptionsEntry{Type: entry.Type, Attrs: withMode(entry.Attrs)})
	}
	return opt, nil
}

func (j *job) frontendAttrs() map[string]string {
	attrs := map[string]string{
		"filename": filepath.Base(j.path),
		"platform": strings.Join(j.o.Platforms, ","),
	}
	if j.o.Target != "" {
		attrs["target"] = j.o.Target
	}
	if j.o.NoCache {
		attrs["no-cache"] = ""
	}
	for k, v := range j.o.Args {
		attrs["build-arg:"+k] = v
	}
	// Given to every Dockerfile, it would change each WORKDIR, and with it
	// everything after, from commit to commit.
	if _, given := j.o.Args[epochArg]; !given && !j.o.Epoch.IsZero() && j.dockerfile.declares(epochArg) {
		attrs["build-arg:"+epochArg] = strconv.FormatInt(j.o.Epoch.Unix(), 10)
	}
	for k, v := range j.o.Labels {
		attrs["label:"+k] = v
	}
	return attrs
}

// https://reproducible-builds.org/specs/source-date-epoch/
const epochArg = "SOURCE_DATE_EPOCH"

func (j *job) exporterAttrs() map[string]string {
	attrs := map[string]string{
		"name":              j.o.Repository,
		"push":              "true",
		"push-by-digest":    "true",
		"oci-mediatypes":    "true",
		"compression":       "gzip",
		"rewrite-timestamp": "true",
		"source-date-epoch": strconv.FormatInt(LayerTime.Unix(), 10),
		"store":             "false",
	}
	if j.o.Insecure(j.host) {
		attrs["registry.insecure"] = "true"
	}
	for k, v := range j.o.Annotations {
		attrs["annotation."+k] = v
		if len(j.o.Platforms) > 1 {
			attrs["annotation-index."+k] = v
		}
	}
	return attrs
}

// cache reads one entry of Options.Cache.
func (j *job) cache(entry string) (client.CacheOptionsEntry, error) {
	kind, ref, _ := strings.Cut(entry, "=")
	if kind != "registry" {
		return client.CacheOptionsEntry{}, release.Faultf(release.KindConfig, `write build.cache: [registry] or [registry=REF] in promote.yaml`,
			"unknown build cache %q", entry)
	}
	if ref == "" {
		ref = j.o.Repository + ":buildcache"
	}
	host, err := hostOf(ref)
	if err != nil {
		return client.CacheOptionsEntry{}, release.Faultf(release.KindConfig, "correct build.cache in promote.yaml", "build cache: %w", err)
	}
	attrs := map[string]string{"ref": ref}
	if j.o.Insecure(host) {
		attrs["registry.insecure"] = "true"
	}
	return client.CacheOptionsEntry{Type: "registry", Attrs: attrs}, nil
}

// withMode adds what only an export of a cache takes: all stages' layers, in
// the form that every OCI registry stores.
func withMode(attrs map[string]string) map[string]string {
	out := map[string]string{"mode": "max", "oci-mediatypes": "true", "image-manifest": "true"}
	for k, v := range attrs {
		out[k] = v
	}
	return out
}

// pushedDigest takes the digest from the answer and makes sure that it is of
// what was asked for: nothing wraps a single platform's manifest.
func pushedDigest(answer map[string]string, platforms int) (release.Digest, error) {
	digest, err := release.ParseDigest(answer[exptypes.ExporterImageDigestKey])
	if err != nil {
		return release.Digest{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(answer[exptypes.ExporterImageDescriptorKey])
	if err != nil {
		return release.Digest{}, fmt.Errorf("image descriptor: %w", err)
	}
	var descriptor struct {
		MediaType string         `json:"mediaType"`
		Digest    release.Digest `json:"digest"`
	}
	if err := json.Unmarshal(raw, &descriptor); err != nil {
		return release.Digest{}, fmt.Errorf("image descriptor: %w", err)
	}
	want := release.MediaTypeManifest
	if platforms > 1 {
		want = release.MediaTypeIndex
	}
	if descriptor.MediaType != want || descriptor.Digest != digest {
		return release.Digest{}, fmt.Errorf("pushed %s %s, want %s %s", descriptor.MediaType, descriptor.Digest, want, digest)
	}
	return digest, nil
}

// sortedPlatforms gives the platforms in a fixed order.
func (j *job) sortedPlatforms() []string { return slices.Sorted(slices.Values(j.o.Platforms)) }
