package build

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/promote-dev/promote/pkg/release"
)

// fault says what a failed build means for the person: which side it is on,
// where in the Dockerfile, and what to do.
func (j *job) fault(err error, t *tracker) *release.Fault {
	message := j.redact.text(clip(rootMessage(err)))
	f := &release.Fault{Kind: release.KindUnavailable, Op: "building", Subject: j.service, Err: errors.New(message)}
	f.File, f.Line = j.place(err)
	var vertex *solvererrdefs.VertexError
	stepFailed := errors.As(err, &vertex)
	lower := strings.ToLower(message)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.Hint = "give the build more time, or look at its last step's output"
	case grpcerrors.Code(err) == codes.Unavailable && !stepFailed:
		f.Hint = "the BuildKit daemon went away during the build; look at its log, then run it again"
	case strings.Contains(lower, "exit code:"):
		f.Err = withOutput(message, t.output())
		f.Hint = "the command on this line failed; correct it, or run it again if it needs the network"
	case missingFile.MatchString(lower):
		f.Kind = release.KindConfig
		f.Hint = "the build context has no such file, or .dockerignore leaves it out"
	case unauthorised.MatchString(lower):
		f.Hint = "log in to the registry (`docker login`) with an account that may read the base images and push to " + j.host
	case strings.Contains(lower, "failed to resolve source metadata"), strings.Contains(lower, "pull access denied"):
		f.Hint = "check that the image in this line exists and that the registry answers and lets you read; `promote pin --map` takes it from another registry"
	case strings.Contains(lower, "failed to push"), strings.Contains(lower, "exporting to image"):
		f.Hint = j.pushHint()
	case f.File != "" && !stepFailed:
		f.Kind = release.KindConfig
		f.Hint = "correct this instruction"
	default:
		f.Hint = "look at the build's output, and at the BuildKit daemon's log"
	}
	return f
}

var missingFile = regexp.MustCompile(`failed to (compute cache key|calculate checksum of ref).*not found`)

var unauthorised = regexp.MustCompile(`\b(401|403) |unauthorized|authentication required|missing username or secret|insufficient_scope`)

func (j *job) pushHint() string {
	hint := fmt.Sprintf("check that %s answers and lets you push", j.host)
	if loopback(j.host) && !strings.HasPrefix(j.o.Address, "unix://") && j.o.Address != "" {
		hint += "; a BuildKit elsewhere, or in a container, does not share this machine's loopback"
	}
	return hint
}

// place gives the line of the Dockerfile that an error is about.
func (j *job) place(err error) (file string, line int) {
	for _, source := range solvererrdefs.Sources(err) {
		for _, r := range source.Ranges {
			if r.Start != nil && r.Start.Line > 0 {
				return j.path, int(r.Start.Line)
			}
		}
	}
	return "", 0
}

func withOutput(message string, lines []string) error {
	if len(lines) == 0 {
		return errors.New(message)
	}
	return errors.New(message + "\n  | " + strings.Join(lines, "\n  | "))
}

// rootMessage drops what the layers of BuildKit put in front.
func rootMessage(err error) string {
	message := strings.TrimPrefix(err.Error(), "failed to solve: ")
	return strings.TrimPrefix(message, "rpc error: code = Unknown desc = ")
}

func clip(s string) string {
	const most = 4 << 10
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
