// Package build makes images and keeps what they are made from fixed. It is
// the only home of BuildKit.
//
// Image builds one service through a BuildKit daemon, pushes it by digest and
// gives its digest and its SLSA provenance. Pin writes or verifies
// name:tag@sha256:… in Dockerfiles and Compose files. Lint judges a Dockerfile
// without building it.
//
// # Same commit, same digest
//
// The digest that a build gives depends on the context's contents, the
// Dockerfile, the arguments and labels, the base images' digests and the
// BuildKit version, and on nothing else: not on who built it, when, or on what
// happened to be in the cache. Owners and permission bits of context files are
// normalised to what git records, and every timestamp inside the image is
// LayerTime (see there).
package build
