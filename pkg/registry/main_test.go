package registry_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs more tests at once than there are processors: most of them wait
// for a registry that is slow or silent on purpose.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
