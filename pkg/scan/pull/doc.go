// Package pull guards what a scanner reads from a registry: it hashes every
// manifest and blob itself, bounds bytes and silence, keeps credentials with
// the registry they are for, and reads manifests strictly. It is apart from
// pkg/scan so that its tests need not link Trivy.
package pull
