package reliability

import "syscall"

// TraceOptions say what to do at which of the counted calls.
type TraceOptions struct {
	At    int           // the call, from 1; 0 is none, or with Fail all of them
	After bool          // kill when the call has returned, not before it is made
	Call  string        // count only these, as Seen names them; empty: all
	Fail  syscall.Errno // let the call fail with this instead
	Seen  string        // a file that gets the calls, a line each
}
