//go:build !(linux && amd64)

package reliability

import "errors"

// Trace is there for Linux on amd64 only.
func Trace(TraceOptions, []string) (int, error) {
	return 0, errors.New("calls are traced on Linux on amd64 only")
}
