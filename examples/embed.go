// Package examples carries the agent stack inside the binary, so that
// `promote demo` needs no checkout.
package examples

import (
	"embed"
	"io/fs"
)

//go:embed all:agent
var files embed.FS

// Agent gives the agent stack's tree. Its directory demo holds what the demo
// breaks, each variant to be laid over a copy of the rest.
func Agent() fs.FS {
	tree, err := fs.Sub(files, "agent")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return tree
}
