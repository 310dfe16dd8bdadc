package release

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure a Fault is. It decides the exit code, in one
// place (internal/cli/exit.go).
type Kind string

// The kinds of failure; each is explained in docs/errors.md.
const (
	KindUsage       Kind = "usage"       // 2: a flag or argument is wrong
	KindConfig      Kind = "config"      // 2: promote.yaml, a compose file or a policy is wrong
	KindDenied      Kind = "denied"      // 3: a gate, a verification or a test says no
	KindUnavailable Kind = "unavailable" // 1: network, engine, registry or tool did not answer; try again
	KindIntegrity   Kind = "integrity"   // 1: the ledger contradicts itself or its checkpoint
	KindInternal    Kind = "internal"    // 1: a defect of ours
	KindFindings    Kind = "findings"    // 1: doctor found something
	KindRolledBack  Kind = "rolledBack"  // 4: the deploy failed and was undone
	KindBroken      Kind = "broken"      // 5: the deploy failed and was not undone
	KindHeld        Kind = "held"        // 6: another promotion holds the environment
	KindChanged     Kind = "changed"     // 7: drift, or a plan that is not empty
	KindInterrupted Kind = "interrupted" // 130: stopped by a signal
)

// Fault is an error with what a person needs at 3 a.m.: what was being done,
// to what, where it is written, and what to do now.
type Fault struct {
	Kind    Kind
	Op      string // gerund and object: "resolving reference"
	Subject string // what it was done to; may be empty
	Hint    string // what to do now; may be empty
	File    string // the user's file the cause stands in; may be empty
	Line    int    // 1-based; 0 is unknown
	Column  int    // 1-based; 0 is unknown
	Err     error  // the cause; may be nil
}

// Error gives "file:line:column: op subject: cause", leaving out what is unset.
func (f *Fault) Error() string {
	s := f.Op
	if f.Subject != "" {
		s += " " + f.Subject
	}
	if f.Err != nil {
		if s != "" {
			s += ": "
		}
		s += f.Err.Error()
	}
	if f.File != "" {
		s = position(f.File, f.Line, f.Column) + ": " + s
	}
	return s
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Err }

func position(file string, line, column int) string {
	switch {
	case line > 0 && column > 0:
		return fmt.Sprintf("%s:%d:%d", file, line, column)
	case line > 0:
		return fmt.Sprintf("%s:%d", file, line)
	}
	return file
}

// Faultf makes a Fault whose cause is a formatted message (with %w as in
// fmt.Errorf).
func Faultf(kind Kind, hint, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// Denied makes a KindDenied fault.
func Denied(hint, format string, args ...any) *Fault {
	return Faultf(KindDenied, hint, format, args...)
}

// Unavailable makes a KindUnavailable fault.
func Unavailable(hint, format string, args ...any) *Fault {
	return Faultf(KindUnavailable, hint, format, args...)
}

// Misuse makes a KindUsage fault.
func Misuse(hint, format string, args ...any) *Fault {
	return Faultf(KindUsage, hint, format, args...)
}

// KindOf gives the kind of the outermost Fault in err's chain. A cancelled
// context is KindInterrupted, a deadline KindUnavailable, an error without a
// kind KindInternal. KindOf(nil) is "".
func KindOf(err error) Kind {
	var fault *Fault
	switch {
	case err == nil:
		return ""
	case errors.As(err, &fault) && fault.Kind != "":
		return fault.Kind
	case errors.Is(err, context.Canceled):
		return KindInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return KindUnavailable
	}
	return KindInternal
}

// Errors is several faults of one input, all reported at once.
type Errors []*Fault

// Error gives one line a fault.
func (e Errors) Error() string {
	s := ""
	for i, f := range e {
		if i > 0 {
			s += "\n"
		}
		s += f.Error()
	}
	return s
}

// Unwrap gives the faults, so that errors.As finds the first.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, f := range e {
		list[i] = f
	}
	return list
}

// Or gives the collected faults as one error, or nil when there are none.
func (e Errors) Or() error {
	if len(e) == 0 {
		return nil
	}
	return e
}
