package registry_test

import (
	"flag"
	"os"
	"testing"
)

// child is what a process of its own does for a test, if there is any such test.
var child func()

const childOf = "REGISTRY_TEST_CHILD"

// TestMain runs more tests at once than there are processors: most of them wait
// for a registry that is slow or silent on purpose. A fuzzer does not wait.
func TestMain(m *testing.M) {
	if child != nil && os.Getenv(childOf) != "" {
		child()
		return
	}
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" {
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
