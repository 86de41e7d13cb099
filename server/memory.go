package server

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// giver returns memory to the system after large requests. The runtime would need
// minutes for that; keyway should not keep 500 MB so long after one large value.
type giver struct {
	garbage atomic.Int64
	busy    atomic.Bool
}

const (
	giveBackFrom = 8 << 20
	giveBackRest = time.Second
)

// add counts garbage. Once there is enough, it schedules a garbage collection that
// returns the memory to the system. It may be called from any thread and does not block.
func (g *giver) add(bytes int) {
	if g.garbage.Add(int64(bytes)) < giveBackFrom || g.busy.Swap(true) {
		return
	}
	time.AfterFunc(giveBackRest, func() {
		g.garbage.Store(0)
		g.busy.Store(false)
		debug.FreeOSMemory()
	})
}
