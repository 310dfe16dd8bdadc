//go:build !engine

package pipeline_test

// Seconds each: not among the fast tests.
const sampleOfGit = 0
