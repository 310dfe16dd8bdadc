package engine

import "syscall"

// detached puts a process into a group of its own, away from the terminal's
// Ctrl-C, and lets it end with us even when we are killed.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
