//go:build !linux

package cli

// keepMemory does nothing where the kernel has no such switch.
func keepMemory() {}
