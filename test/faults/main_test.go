package faults

import (
	"flag"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// long asks for the long forms: go test ./test/faults -args -long
var long = flag.Bool("long", false, "run the long forms of the tests")

// settled gives go-redis, which looks once a second whether its pool was closed
// while a node could not be reached, the time to notice.
type settled struct{ *testing.M }

func (m settled) Run() int {
	code := m.M.Run()
	for deadline := time.Now().Add(3 * time.Second); goleak.Find() != nil && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	return code
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(settled{m}, goleak.Cleanup(func(code int) {
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
