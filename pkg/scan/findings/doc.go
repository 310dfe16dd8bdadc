// Package findings decides about what a scanner found, without the scanner:
// which distributions and ecosystems a database knows, whether it is fresh,
// what an ignore file suppresses, and what counts as passed. It is apart from
// pkg/scan so that its tests need not link Trivy.
package findings
