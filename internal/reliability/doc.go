// Package reliability kills a promotion at every point and looks at what is
// left: the real program, a ledger on disk, a registry and an engine, with a
// proxy in front of both and a tracer under the program. What it found is the
// table in docs/reliability.md. It calls nothing of ours but the command line,
// and looks at the engine with docker's own client.
package reliability
