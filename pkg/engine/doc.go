// Package engine says what a Docker host runs and does the few things to it
// that deploying and smoke need, over unix://, tcp:// or ssh://. It is the only
// home of the Engine client. What it makes carries Docker Compose's labels, so
// that docker compose ps, logs and exec work on the host.
//
// It follows the Docker Engine API (https://docs.docker.com/reference/api/engine/),
// versions 1.40 and up; the version is negotiated with each engine.
//
// Errors are *release.Fault: an engine that does not answer is KindUnavailable
// with a hint; an object that does not exist has release.ErrNotFound in its
// chain; a cancelled context stays a cancelled context.
package engine
