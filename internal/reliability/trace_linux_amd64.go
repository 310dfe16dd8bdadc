package reliability

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// Trace runs a program under ptrace and counts the calls that make things
// durable, over all its threads; strace's own counters are one for each thread,
// which is of no use for a program whose threads share the work. At the chosen
// call the program is killed, or the call fails without being made. What was
// seen goes to a file, a line each. The result is the program's exit code, 137
// where it was killed.
func Trace(o TraceOptions, argv []string) (int, error) {
	runtime.LockOSThread() // ptrace knows threads, not goroutines
	defer runtime.UnlockOSThread()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	seen, err := os.Create(o.Seen)
	if err != nil {
		return 0, err
	}
	defer seen.Close()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ(), Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return 0, err
	}
	t := &tracer{TraceOptions: o, pid: process.Pid, seen: seen, threads: map[int]*thread{process.Pid: {known: true}}}
	return t.run()
}

type tracer struct {
	TraceOptions
	pid     int
	seen    *os.File
	threads map[int]*thread
	count   int
}

type thread struct {
	known  bool   // its first stop, which every new one has, is over
	call   string // the counted call that it is in
	number int
	failed bool // the call was not made
}

const waitAll = 0x40000000 // __WALL

func (t *tracer) run() (int, error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &status, waitAll, nil); err != nil {
		return 0, err
	}
	// Threads are followed, children are not: they are other programs.
	if err := syscall.PtraceSetOptions(t.pid, syscall.PTRACE_O_TRACECLONE|syscall.PTRACE_O_TRACESYSGOOD|0x00100000 /* EXITKILL */); err != nil {
		return 0, err
	}
	if err := syscall.PtraceSyscall(t.pid, 0); err != nil {
		return 0, err
	}
	for {
		tid, err := syscall.Wait4(-1, &status, waitAll, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		switch {
		case tid == t.pid && status.Exited():
			return status.ExitStatus(), nil
		case tid == t.pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited() || status.Signaled():
			delete(t.threads, tid)
			continue
		}
		// A thread that a kill takes away in between has nothing to go on with.
		if err := syscall.PtraceSyscall(tid, t.stopped(tid, status)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return 0, err
		}
	}
}

// stopped looks at what a thread stopped for and gives the signal to hand on.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) int {
	th := t.threads[tid]
	if th == nil {
		th = &thread{}
		t.threads[tid] = th
	}
	switch signal := status.StopSignal(); {
	case signal == syscall.SIGTRAP|0x80:
		t.call(tid, th)
		return 0
	case signal == syscall.SIGTRAP:
		return 0
	case signal == syscall.SIGSTOP && !th.known:
		th.known = true
		return 0
	default:
		return int(signal)
	}
}

// What PTRACE_GET_SYSCALL_INFO gives.
type syscallInfo struct {
	Op     uint8
	_      [3]uint8
	Arch   uint32
	IP, SP uint64
	Number uint64
	Args   [6]uint64
	_      uint64
}

const (
	getSyscallInfo = 0x420e
	infoEntry      = 1
	infoExit       = 2
)

var counted = map[uint64]string{
	syscall.SYS_FSYNC: "fsync", syscall.SYS_FDATASYNC: "fdatasync",
	syscall.SYS_RENAME: "rename", syscall.SYS_RENAMEAT: "rename", 316: "rename",
}

func (t *tracer) call(tid int, th *thread) {
	var info syscallInfo
	if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, getSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 {
		return
	}
	switch info.Op {
	case infoEntry:
		if name, ok := counted[info.Number]; ok {
			t.enter(tid, th, name, info)
		}
	case infoExit:
		if th.call != "" {
			t.leave(tid, th)
		}
	}
}

func (t *tracer) enter(tid int, th *thread, name string, info syscallInfo) {
	th.call, th.number, th.failed = name+" "+t.object(tid, name, info), 0, false
	fmt.Fprintln(t.seen, th.call)
	if t.Call != "" && t.Call != th.call {
		return
	}
	t.count++
	th.number = t.count
	if t.At != t.count && (t.Fail == 0 || t.At != 0) {
		return
	}
	switch {
	case t.Fail != 0:
		var regs syscall.PtraceRegs
		if syscall.PtraceGetRegs(tid, &regs) == nil {
			regs.Orig_rax = ^uint64(0) // no such call
			th.failed = syscall.PtraceSetRegs(tid, &regs) == nil
		}
	case !t.After:
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
	}
}

func (t *tracer) leave(tid int, th *thread) {
	if th.failed {
		var regs syscall.PtraceRegs
		if syscall.PtraceGetRegs(tid, &regs) == nil {
			regs.Rax = uint64(-int64(t.Fail))
			_ = syscall.PtraceSetRegs(tid, &regs)
		}
	}
	if th.number != 0 && th.number == t.At && t.After && t.Fail == 0 {
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
	}
	th.call = ""
}

// object names the file that a call is about, without what differs from run to
// run.
func (t *tracer) object(tid int, name string, info syscallInfo) string {
	path := ""
	switch {
	case name != "rename":
		path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, info.Args[0]))
	case info.Number == syscall.SYS_RENAME:
		path = readString(tid, info.Args[1])
	default:
		path = readString(tid, info.Args[3])
	}
	base := filepath.Base(path)
	switch parent := filepath.Base(filepath.Dir(path)); {
	case parent == "heartbeats":
		return "heartbeats/…"
	case len(base) > 24:
		return parent + "/…"
	case base == "":
		return "?"
	default:
		if _, err := strconv.Atoi(base); err == nil {
			return parent + "/…"
		}
		return base
	}
}

func readString(tid int, address uint64) string {
	var buffer [512]byte
	n, _ := syscall.PtracePeekData(tid, uintptr(address), buffer[:])
	text, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return string(text)
}
