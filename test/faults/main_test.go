package faults

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// long asks for the long forms: go test ./test/faults -args -long
var long = flag.Bool("long", false, "run the long forms of the tests")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		redistest.RemoveBuilt()
		os.Exit(code)
	}))
}

// scale is how much of something a test does: long in the long form, short
// otherwise, a fifth of that under the race detector.
func scale(short, longer int) int {
	switch {
	case *long:
		return longer
	case redistest.Race:
		return max(1, short/5)
	}
	return short
}
