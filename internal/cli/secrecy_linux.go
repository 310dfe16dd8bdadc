package cli

import "golang.org/x/sys/unix"

// keepMemory lets nobody else read this process's memory, which will hold a
// passphrase, a key, tokens: no core dump is written of it, whatever
// core_pattern says, and no other process of the same user can trace it or read
// its environment. Only the limit passes on to its children, which may raise it.
// Where the kernel forbids that the process does its work all the same.
func keepMemory() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil {
		limit.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit)
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
