// Package registrytest tests what registry.Client promises: a contract suite
// that runs against any registry (Contract), and a proxy that misbehaves as a
// script says, in front of a real one (Proxy). Everything is served on loopback.
package registrytest
