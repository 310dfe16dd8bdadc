// Command promote takes stateful AI agents that ship as containers from a
// commit to production, by the identical digest, on signed evidence.
package main

import (
	"os"

	"github.com/promote-dev/promote/internal/cli"
	"github.com/promote-dev/promote/internal/startup"
	"github.com/promote-dev/promote/internal/wire"
)

func main() {
	startup.Over()
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, wire.New()))
}
