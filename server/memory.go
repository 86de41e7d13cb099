package server

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// giver gives memory back to the system after large requests. The runtime would
// do so too, over minutes: half a gigabyte is not to be held that long for one
// value that has passed.
type giver struct {
	garbage atomic.Int64
	busy    atomic.Bool
}

const (
	giveBackFrom = 8 << 20
	giveBackRest = time.Second
)

// let counts garbage, and has it collected and given back once there is enough
// of it. It may be called from any thread and does not wait.
func (g *giver) let(bytes int) {
	if g.garbage.Add(int64(bytes)) < giveBackFrom || g.busy.Swap(true) {
		return
	}
	time.AfterFunc(giveBackRest, func() {
		g.garbage.Store(0)
		g.busy.Store(false)
		debug.FreeOSMemory()
	})
}
