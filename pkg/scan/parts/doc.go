// Package parts says what an image consists of, from a manifest whose bytes
// were verified, and bounds and verifies what its layers unpack to. It is apart
// from pkg/scan so that its tests need not link Trivy.
package parts
