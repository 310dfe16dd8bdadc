// Package wire builds the adapters and hands them to the command line. It is
// the only place that knows them all, and holds nothing but the fitting.
package wire

import (
	"runtime"
	"runtime/debug"

	"github.com/promote-dev/promote/internal/cli"
)

// version is set by the linker.
var version = "devel"

// New gives the command line everything it needs of the world.
func New() cli.Wiring {
	return cli.Wiring{
		Pipeline:     openPipeline,
		Workers:      workers(),
		Copy:         copyImages,
		Pin:          pin,
		Keys:         keys,
		SignTrust:    signTrust,
		VerifyBundle: verifyBundle,
		Audit:        audit,
		ExportLedger: exportLedger,
		ImportLedger: importLedger,
		Compactor:    openCompactor,
		Doctor:       doctor,
		Clean:        clean,
		Demo:         runDemo,
		Registry:     serveRegistry,
		Database:     buildDatabase,
		Version:      thisVersion(),
	}
}

func thisVersion() cli.VersionResult {
	v := cli.VersionResult{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Scanner: hasScanner}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}
