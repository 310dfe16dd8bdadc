package reliability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The project's files. Both services only wait; what differs between versions
// is a file in the image. The volume begins with one of them: an empty one
// would not be let through a second time. The store has the volume and is stopped
// before its new container is made; the worker shares nothing and is replaced
// while it runs.
const (
	// leaving is the store's hook: it writes a line into the volume.
	leaving = `
    pre_stop: [{command: [sh, -c, 'echo "$$(cat /srv/version) stops" >>/data/journal']}]`
	// gate is a hook that refuses a deployment where a trial wants it undone.
	gate = `
hooks: {pre-deploy: hooks/gate}`
	gateProgram = "#!/bin/sh\ntest ! -e ../refuse\n"
	// keeping has what the volume holds kept before a deployment.
	keeping = `
    snapshots: {volumes: [state], encryptTo: keys/backup.pub, keep: KEEP}`
	configuration = `name: NAME
registry: ADDRESS/app
compose: {files: [compose.yaml]}
scan:
  database: {repository: ADDRESS/trivy-db}
  waive:
    - {distribution: debian 12, statement: "the database of this trial has no advisories for Debian", expires: 2099-12-31}
sign: {key: ../keys/promote.key}
smoke:
  timeout: 5m
  memory: {duration: 0s}GATE
environments:
  staging:
    files: [compose.staging.yml]
    targets: [{name: local}]
  production:
    after: staging
    files: [compose.production.yml]
    registry: ADDRESS/production/app
    targets: [{name: local}]KEEPING
  first:
    after: staging
    files: [compose.first.yml]
    registry: ADDRESS/first/app
    targets: [{name: local}]KEEPING
ledger:
  lease: 2s
  file: {path: .promote/ledger, shared: true}
`
	composition = `name: NAME
x-hardened: &hardened
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  restart: unless-stopped
  stop_grace_period: 5s
  mem_limit: 64m
  memswap_limit: 64m
  pids_limit: 64
  cpus: 0.5
services:
  store:
    <<: *hardened
    build: {context: ., args: {ROLE: store}}
    volumes: [{type: volume, source: state, target: /data}]LEAVING
  worker:
    <<: *hardened
    build: {context: ., args: {ROLE: worker}}
    depends_on: {store: {condition: service_healthy}}
volumes:
  state: {}
`
	// Nothing happens to staging. It is asked seldom how it is, which leaves the
	// machine to the trials.
	staging = `name: NAME-staging
services:
  store: {healthcheck: {interval: 30s}}
  worker: {healthcheck: {interval: 30s}}
`
	dockerfile = `FROM ADDRESS/base/python:bookworm
ARG ROLE
ENV ROLE=${ROLE}
COPY version /srv/version
COPY --chown=10001:10001 version /data/first
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1s --timeout=30s --retries=5 CMD ["test", "-s", "/srv/version"]
ENTRYPOINT ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"]
`
)

func (w *World) setUp(ctx context.Context) error {
	optional := strings.NewReplacer("LEAVING", "", "GATE", "", "KEEPING", "")
	if w.o.State {
		optional = strings.NewReplacer("LEAVING", leaving, "GATE", gate, "KEEPING", strings.ReplaceAll(keeping, "KEEP", strconv.Itoa(keep)))
		hooks := filepath.Join(w.tree, "hooks")
		if err := errors.Join(w.makeKeys(), os.MkdirAll(hooks, 0o755), os.WriteFile(filepath.Join(hooks, "gate"), []byte(gateProgram), 0o755)); err != nil {
			return err
		}
	}
	fill := strings.NewReplacer("NAME", w.state.Name, "ADDRESS", w.address())
	for name, text := range map[string]string{
		"promote.yaml": optional.Replace(configuration), "compose.yaml": optional.Replace(composition), "Dockerfile": dockerfile,
		"compose.staging.yml": staging, "compose.production.yml": "name: NAME-production\n",
		"compose.first.yml": "name: NAME-first\n",
		".gitignore":        ".promote/\n",
	} {
		if err := os.WriteFile(filepath.Join(w.tree, name), []byte(fill.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"db", "build", w.address() + "/trivy-db"}, {"keys", "generate", "../keys/promote.key"}, {"pin"}} {
		if err := w.must(ctx, nil, args...); err != nil {
			return err
		}
	}
	if err := w.git(ctx, "init", "-q", "-b", "main"); err != nil {
		return err
	}
	list := versions
	if w.o.Brief {
		list = versions[1:]
	}
	for _, version := range list {
		fmt.Fprintf(w.o.Log, "%s: releasing %s\n", w.state.Name, version)
		if err := os.WriteFile(filepath.Join(w.tree, "version"), []byte(version+"\n"), 0o644); err != nil {
			return err
		}
		for _, args := range [][]string{{"add", "-A"}, {"commit", "-q", "-m", version}, {"tag", "-a", "-m", version, version}} {
			if err := w.git(ctx, args...); err != nil {
				return err
			}
		}
		if err := w.must(ctx, nil, "to", "staging"); err != nil {
			return err
		}
		learn := w.learn
		if w.o.Brief {
			learn = func(ctx context.Context, version string) error { return w.learnImages(ctx, "staging", version) }
		}
		if err := learn(ctx, version); err != nil {
			return err
		}
	}
	w.state.Ready, w.state.Form = true, w.o.form()
	return w.save()
}

// learn promotes a version undisturbed and remembers what then runs.
func (w *World) learn(ctx context.Context, version string) error {
	var result struct {
		Images []struct{ Repository, Digest string }
	}
	if err := w.must(ctx, &result, w.way(production, version)...); err != nil {
		return err
	}
	w.running = version
	w.state.References[version] = nil
	for _, i := range result.Images {
		w.state.References[version] = append(w.state.References[version], i.Repository+"@"+i.Digest)
	}
	if err := w.learnImages(ctx, production, version); err != nil {
		return err
	}
	return w.whole(ctx, production, version)
}

// learnImages remembers which images an environment runs.
func (w *World) learnImages(ctx context.Context, env, version string) error {
	list, err := w.containers(ctx, env)
	images := map[string]string{}
	for _, c := range list {
		images[c.Service] = c.Image
	}
	w.state.Images[version] = images
	return err
}

func (w *World) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", w.tree, "-c", "user.name=trial", "-c", "user.email=trial@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %q: %w: %s", args, err, out)
	}
	return nil
}
