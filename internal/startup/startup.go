// Package startup keeps the garbage collector still while the program's
// packages are initialised. They leave some 20 MB that are mostly there to stay,
// and collecting six times on the way took a fifth of what `promote version`
// takes. It imports nothing but the standard library, so that its turn comes
// before the libraries that have much to do.
package startup

import "runtime/debug"

var usual = debug.SetGCPercent(-1)

// Over lets the collector work as it does otherwise, or as GOGC says. It is for
// the beginning of main.
func Over() { debug.SetGCPercent(usual) }
