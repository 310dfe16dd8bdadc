package build

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/promote-dev/promote/pkg/release"
)

// The rules that Lint knows.
const (
	RuleUnpinnedBase  = "dockerfile/unpinned-base"
	RuleRootUser      = "dockerfile/root-user"
	RuleNoHealthcheck = "dockerfile/no-healthcheck"
	RuleSecret        = "dockerfile/secret"
)

// Lint judges a Dockerfile without building it: images that are not pinned to
// a digest, a stage that runs as root, no HEALTHCHECK, and secrets in ENV or
// ARG, which anyone who has the image can read. target is the stage to be
// built, the last for ""; file names the Dockerfile in the reasons, which come
// in order of their lines. A Dockerfile that does not parse, or has no such
// stage, is a KindConfig fault.
func Lint(file string, src []byte, target string) ([]release.Reason, error) {
	d, err := parseDockerfile(file, src)
	if err != nil {
		return nil, err
	}
	final, ok := d.target(target)
	if !ok {
		return nil, d.noStage(target)
	}
	l := linter{d: d}
	l.pins()
	l.user(final)
	l.health(final)
	l.secrets()
	slices.SortStableFunc(l.reasons, func(a, b release.Reason) int { return cmp.Compare(a.Line, b.Line) })
	return l.reasons, nil
}

func (d *dockerfile) noStage(target string) *release.Fault {
	var names []string
	for _, s := range d.stages {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return &release.Fault{Kind: release.KindConfig, Op: "choosing the stage to build", File: d.file,
		Err:  fmt.Errorf("no stage %q", target),
		Hint: "stages with a name: " + strings.Join(names, ", ")}
}

type linter struct {
	d       *dockerfile
	reasons []release.Reason
}

func (l *linter) add(rule string, line int, fix, format string, args ...any) {
	l.reasons = append(l.reasons, release.Reason{Rule: rule, File: l.d.file, Line: line,
		Message: fmt.Sprintf(format, args...), Fix: fix})
}

func (l *linter) pins() {
	for _, u := range l.d.uses() {
		digest := u.digest()
		if digest == "" {
			l.add(RuleUnpinnedBase, u.line, "run `promote pin`", "%s %s is not pinned to a digest", u.what, u.text)
		} else if _, err := release.ParseDigest(digest); err != nil && !hasVariable(digest) {
			l.add(RuleUnpinnedBase, u.line, "run `promote pin --update`", "%s %s: %v", u.what, u.text, err)
		}
	}
}

// chain lists a stage and the stages of this file that it comes from.
func (l *linter) chain(stage int) []instructions.Stage {
	var list []instructions.Stage
	env := l.d.environment(nil)
	for {
		s := l.d.stages[stage]
		list = append(list, s)
		name, _ := l.d.expand(s.BaseName, env)
		parent, ok := instructions.HasStage(l.d.stages[:stage], name)
		if !ok || name == "" {
			return list
		}
		stage = parent
	}
}

// last finds the last command of a kind that holds for a stage.
func last[T instructions.Command](chain []instructions.Stage) (T, bool) {
	for _, s := range chain {
		for i := len(s.Commands) - 1; i >= 0; i-- {
			if c, ok := s.Commands[i].(T); ok {
				return c, true
			}
		}
	}
	var none T
	return none, false
}

func (l *linter) user(final int) {
	const fix = "add `USER 65532:65532` (any non-zero id) at the end of the stage"
	c, ok := last[*instructions.UserCommand](l.chain(final))
	if !ok {
		l.add(RuleRootUser, firstLine(l.d.stages[final].Location), fix, "the stage sets no USER, so it runs as its base image's, usually root")
		return
	}
	user, _, _ := strings.Cut(c.User, ":")
	if user == "root" || user == "0" {
		l.add(RuleRootUser, firstLine(c.Location()), fix, "the image runs as root")
	}
}

func (l *linter) health(final int) {
	const fix = "add `HEALTHCHECK CMD …` that succeeds only when the service does its work"
	c, ok := last[*instructions.HealthCheckCommand](l.chain(final))
	switch {
	case !ok:
		l.add(RuleNoHealthcheck, firstLine(l.d.stages[final].Location), fix, "the stage has no HEALTHCHECK")
	case c.Health != nil && len(c.Health.Test) > 0 && c.Health.Test[0] == "NONE":
		l.add(RuleNoHealthcheck, firstLine(c.Location()), fix, "HEALTHCHECK NONE switches the health check off")
	}
}

func (l *linter) secrets() {
	const fix = "give it to the running service as a secret, or to the build by RUN --mount=type=secret"
	arg := func(c *instructions.ArgCommand) {
		for _, a := range c.Args {
			value := ""
			if a.Value != nil {
				value = *a.Value
			}
			// Without a default, too: what is passed stays readable in the image's history.
			if secretName(a.Key) || secretValue(value) {
				l.add(RuleSecret, firstLine(c.Location()), fix, "ARG %s looks like a secret; arguments stay readable in the image", a.Key)
			}
		}
	}
	for i := range l.d.args {
		arg(&l.d.args[i])
	}
	for _, s := range l.d.stages {
		for _, command := range s.Commands {
			switch c := command.(type) {
			case *instructions.ArgCommand:
				arg(c)
			case *instructions.EnvCommand:
				for _, e := range c.Env {
					if e.Value != "" && secretName(e.Key) || secretValue(e.Value) {
						l.add(RuleSecret, firstLine(c.Location()), fix, "ENV %s looks like a secret; the environment is part of the image", e.Key)
					}
				}
			}
		}
	}
}
