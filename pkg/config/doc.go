// Package config loads promote.yaml: every key typed, with its default, and all
// errors of a file at once, each with its line and column. It holds names and
// paths of keys, never a secret.
package config
