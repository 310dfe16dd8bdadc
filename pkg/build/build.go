package build

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/promote-dev/promote/pkg/release"
)

// LayerTime is the time of every file and of the configuration in the images
// that Image makes. BuildKit can only lower timestamps to a given time, never
// raise them, so a layer that comes from the cache of an earlier commit keeps
// that commit's times: with the commit's time as the limit, the same commit
// would give another digest on a machine with another past. One fixed time
// below all others gives the same bytes everywhere, and leaves layers that a
// commit did not touch unchanged. It is the first day that zip archives can
// express in every time zone. The commit's time stands in the label
// org.opencontainers.image.created.
var LayerTime = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

// Options says what to build, where, and as what.
type Options struct {
	// Address is a BuildKit daemon as BUILDKIT_HOST names it: unix://, tcp://,
	// docker-container://, podman-container://, ssh://. Empty tries
	// DefaultAddresses.
	Address string

	Context    string // absolute directory
	Dockerfile string // relative to Context, or absolute; "Dockerfile" if empty
	Target     string // stage; the last if empty
	Args       map[string]string
	// Platforms as "os/arch[/variant]". None is the daemon's own. One gives a
	// manifest, several an index.
	Platforms []string

	// Repository is pushed to by digest; no tag is written.
	Repository string
	Labels     map[string]string
	// Annotations of the manifest, and of the index if there is one.
	Annotations map[string]string

	// Source, Revision and Version describe what is built: a repository's URL,
	// the commit (40 hex digits), the release's version. They go into labels
	// and provenance.
	Source   string
	Revision string
	Version  string
	// Epoch is the commit's time. A Dockerfile that declares ARG
	// SOURCE_DATE_EPOCH gets it; see also LayerTime.
	Epoch time.Time
	// Builder identifies who builds, for provenance: the CI workflow's URI, for
	// example. Empty is DefaultBuilder.
	Builder string

	// Cache names caches outside of the daemon: "registry" is the tag
	// buildcache of Repository, "registry=REF" another one.
	Cache []string
	// NoCache executes every step.
	NoCache bool

	// Credentials gives the user and secret for a registry host; both empty is
	// anonymous. Docker Hub is "index.docker.io". An empty user with a secret
	// is an identity token. Nil is anonymous everywhere.
	Credentials func(ctx context.Context, host string) (user, secret string, err error)
	// Insecure reports hosts that may be spoken to without TLS. Nil allows
	// loopback only.
	Insecure func(host string) bool
}

// DefaultBuilder identifies builds that nobody gave another identity.
const DefaultBuilder = "https://github.com/promote-dev/promote/builder/local"

// Image builds one service and pushes it by digest. The digest is the one that
// BuildKit returned for the push, of a manifest for one platform and of an
// index for several; nothing is tagged. Cached is true when no step of the
// Dockerfile had to be executed. Progress goes to the context's event sink.
//
// A Dockerfile that does not parse is KindConfig with its line; a step that
// fails is KindUnavailable with the Dockerfile's line and the last lines of
// output; a daemon or registry that does not answer is KindUnavailable. When
// the context ends, the build is cancelled and the error is the context's.
func Image(ctx context.Context, service string, o Options) (release.Image, error) {
	j, err := newJob(service, o)
	if err != nil {
		return release.Image{}, err
	}
	builder, c, err := connect(ctx, o.Address)
	if err != nil {
		return release.Image{}, err
	}
	defer c.Close()
	if len(j.o.Platforms) == 0 {
		j.o.Platforms = builder.Platforms[:1]
	}
	built, err := j.solve(ctx, c)
	if err != nil {
		return release.Image{}, err
	}
	predicate, err := j.provenance(ctx, c, builder, built)
	if err != nil {
		return release.Image{}, err
	}
	return release.Image{
		Service: service, Repository: o.Repository, Digest: built.digest, Platforms: j.o.Platforms,
		Cached: built.cached, Provenance: predicate,
	}, nil
}

// job is one call of Image with its options checked and completed.
type job struct {
	service    string
	o          Options
	path       string // of the Dockerfile
	dockerfile *dockerfile
	host       string // registry
	redact     redactor
}

func newJob(service string, o Options) (*job, error) {
	j := &job{service: service, o: o, redact: newRedactor(o.Args)}
	if !filepath.IsAbs(o.Context) {
		return nil, fmt.Errorf("building %s: the context %q is not an absolute path", service, o.Context)
	}
	if o.Dockerfile == "" {
		o.Dockerfile = "Dockerfile"
	}
	j.path = path(o.Context, o.Dockerfile)
	var err error
	if j.dockerfile, err = readDockerfile(j.path); err != nil {
		return nil, err
	}
	stage, ok := j.dockerfile.target(o.Target)
	if !ok {
		return nil, j.dockerfile.noStage(o.Target)
	}
	if j.host, err = hostOf(o.Repository); err != nil {
		return nil, &release.Fault{Kind: release.KindConfig, Op: "building", Subject: service, Err: err, Hint: "correct registry in promote.yaml"}
	}
	if err := checkArgs(o.Args); err != nil {
		return nil, err
	}
	if j.o.Builder == "" {
		j.o.Builder = DefaultBuilder
	}
	if j.o.Insecure == nil {
		j.o.Insecure = loopback
	}
	if j.o.Platforms, err = normalPlatforms(o.Platforms); err != nil {
		return nil, err
	}
	j.describe(stage)
	return j, nil
}

// normalPlatforms gives each platform its usual name, once.
func normalPlatforms(given []string) ([]string, error) {
	var list []string
	for _, name := range given {
		p, err := platforms.Parse(name)
		if err != nil {
			return nil, release.Faultf(release.KindConfig, "write build.platforms as os/arch, for example linux/amd64", "platform %q: %w", name, err)
		}
		if normal := platforms.Format(platforms.Normalize(p)); !slices.Contains(list, normal) {
			list = append(list, normal)
		}
	}
	return list, nil
}

// checkArgs refuses arguments that would make BuildKit wrap the manifest, so
// that its digest depended on the time, or take a frontend from elsewhere.
func checkArgs(args map[string]string) error {
	for name := range args {
		if strings.HasPrefix(name, "BUILDKIT_ATTEST_") || name == "BUILDKIT_SYNTAX" || name == "BUILDKIT_MULTI_PLATFORM" {
			return release.Faultf(release.KindConfig, "remove the argument from the service's build section",
				"build argument %s would change what the digest stands for", name)
		}
	}
	return nil
}

// describe completes the labels that the OCI image specification defines.
// https://github.com/opencontainers/image-spec/blob/main/annotations.md
func (j *job) describe(stage int) {
	facts := map[string]string{"title": j.service, "source": j.o.Source, "revision": j.o.Revision, "version": j.o.Version}
	if !j.o.Epoch.IsZero() {
		facts["created"] = j.o.Epoch.UTC().Format(time.RFC3339)
	}
	if ref, _ := j.dockerfile.base(stage, j.o.Args); ref != "" {
		if base := splitWritten(ref); base.digest != "" {
			facts["base.digest"] = base.digest
			base.digest = ""
			facts["base.name"] = base.String()
		}
	}
	j.o.Labels = described(j.o.Labels, facts)
	j.o.Annotations = described(j.o.Annotations, facts)
}

// described adds facts that were not given.
func described(given, facts map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range facts {
		if v != "" {
			out["org.opencontainers.image."+k] = v
		}
	}
	for k, v := range given {
		out[k] = v
	}
	return out
}

// loopback reports whether a registry host is this machine.
func loopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// interrupted gives the context's end as the reason for a failure.
func (j *job) interrupted(ctx context.Context) error {
	return fmt.Errorf("building %s: %w", j.service, ctx.Err())
}
