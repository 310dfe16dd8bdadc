package wire

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/promote-dev/promote/internal/hook"
	"github.com/promote-dev/promote/internal/worker"
	"github.com/promote-dev/promote/pkg/config"
	"github.com/promote-dev/promote/pkg/pipeline"
)

// hooks runs the programs that a configuration names, with the environment that
// build, scan and smoke have: without keys and tokens.
type hooks struct{ config *config.Config }

func (h hooks) RunHook(ctx context.Context, r pipeline.HookRequest) error {
	path := map[string]string{pipeline.PreDeploy: h.config.Hooks.PreDeploy, pipeline.PostDeploy: h.config.Hooks.PostDeploy}[r.Hook]
	if path == "" {
		return nil
	}
	return hook.Program{
		Name: r.Hook, Path: path, Dir: h.config.Dir(),
		Environ: hook.Environ(worker.Environment(os.Environ(), nil), map[string]string{
			"PROMOTE_HOOK": r.Hook, "PROMOTE_PROJECT": r.Project, "PROMOTE_ENVIRONMENT": r.Environment, "PROMOTE_KIND": r.Kind,
			"PROMOTE_RELEASE": r.Release.String(), "PROMOTE_VERSION": r.Version, "PROMOTE_FROM": r.From.String(),
			"PROMOTE_TARGETS": strings.Join(r.Targets, " "), "PROMOTE_RECORD": strconv.FormatInt(r.Record, 10),
		}),
	}.Run(ctx)
}
