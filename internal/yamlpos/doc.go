// Package yamlpos reads YAML and keeps where everything stands, for
// promote.yaml, Compose files and pins. It is the only home of the YAML
// library.
//
// Parse turns bounded bytes into a tree whose every node knows its file, line
// and column. Decode fills Go values from a tree strictly and reports all
// errors at once. Lookup finds a node by its path. Span and Splice replace a
// scalar's text in place and leave every other byte of the file as it was.
package yamlpos
