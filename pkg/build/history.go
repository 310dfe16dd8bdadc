package build

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/promote-dev/promote/pkg/release"
)

// maxPredicate bounds a provenance predicate that the daemon hands over.
const maxPredicate = 16 << 20

// raw is a provenance predicate as the daemon recorded it.
type raw struct {
	predicateType string
	body          []byte
}

// provenance reads what the daemon recorded about the build and completes it.
func (j *job) provenance(ctx context.Context, c *client.Client, d Daemon, s solved) ([]byte, error) {
	record, err := history(ctx, c, s.ref)
	if err != nil {
		return nil, j.noProvenance(ctx, err)
	}
	predicates, err := j.predicates(ctx, c, record)
	if err != nil {
		return nil, j.noProvenance(ctx, err)
	}
	out, err := j.complete(predicates, d)
	if err != nil {
		return nil, j.noProvenance(ctx, err)
	}
	return out, nil
}

func (j *job) noProvenance(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return j.interrupted(ctx)
	}
	return &release.Fault{Kind: release.KindUnavailable, Op: "reading provenance of", Subject: j.service, Err: err,
		Hint: "the daemon must keep its build history (buildkitd.toml: [history]); BuildKit 0.13 or newer"}
}

// history gets the daemon's record of a finished build.
func history(ctx context.Context, c *client.Client, ref string) (*controlapi.BuildHistoryRecord, error) {
	stream, err := c.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{Ref: ref, EarlyExit: true})
	if err != nil {
		return nil, err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("no record of build %s", ref)
		}
		if err != nil {
			return nil, err
		}
		if e.Type == controlapi.BuildHistoryEventType_COMPLETE && e.Record != nil && e.Record.Ref == ref {
			return e.Record, nil
		}
	}
}

// predicates reads the record's provenance, by platform.
func (j *job) predicates(ctx context.Context, c *client.Client, record *controlapi.BuildHistoryRecord) (map[string]raw, error) {
	results := map[string]*controlapi.BuildResultInfo{}
	if len(j.o.Platforms) == 1 {
		results[j.o.Platforms[0]] = record.Result
	} else {
		for platform, result := range record.Results {
			results[platform] = result
		}
	}
	out := map[string]raw{}
	for platform, result := range results {
		for _, a := range result.GetAttestations() {
			body, err := readBlob(ctx, c, a)
			if err != nil {
				return nil, err
			}
			out[platform] = raw{predicateType: a.Annotations["in-toto.io/predicate-type"], body: body}
		}
	}
	if len(out) != len(j.o.Platforms) {
		return nil, fmt.Errorf("the daemon recorded provenance for %d of %d platforms", len(out), len(j.o.Platforms))
	}
	return out, nil
}

// readBlob reads content of the daemon's and checks that it is what was named.
func readBlob(ctx context.Context, c *client.Client, d *controlapi.Descriptor) ([]byte, error) {
	want, err := release.ParseDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	if d.Size > maxPredicate {
		return nil, fmt.Errorf("provenance of %d bytes is larger than %d", d.Size, maxPredicate)
	}
	store := proxy.NewContentStore(c.ContentClient())
	body, err := content.ReadBlob(ctx, store, ocispecs.Descriptor{Digest: digest.Digest(want.String()), Size: d.Size})
	if err != nil {
		return nil, err
	}
	if got := release.DigestOf(body); got != want {
		return nil, fmt.Errorf("provenance is %s, its record says %s", got, want)
	}
	return body, nil
}
