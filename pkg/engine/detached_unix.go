//go:build unix && !linux

package engine

import "syscall"

// detached puts a process into a group of its own, away from the terminal's Ctrl-C.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
