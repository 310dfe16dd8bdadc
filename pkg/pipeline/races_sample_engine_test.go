//go:build engine

package pipeline_test

const sampleOfGit = 2
