package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLittleGarbageIsReturnedSeldom: the memory of a little garbage goes back to the system after some seconds. Where
// that takes long, it happens so seldom that it takes half a percent of the time at most.
func TestLittleGarbageIsReturnedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g giver
		after := func(d time.Duration) (isReturned bool) {
			time.Sleep(d)
			synctest.Wait()
			return g.garbage.Load() == 0
		}
		g.add(giveLittleFrom - 1)
		if after(time.Hour) {
			t.Error("hardly any garbage is returned at once")
		}
		g.add(1)
		if after(giveLittleRest - 1) {
			t.Error("little garbage is returned at once")
		}
		if !after(1) {
			t.Error("little garbage is not returned")
		}
		g.took.Store(int64(time.Second))
		g.add(giveLittleFrom)
		if after(giveLittleShare*time.Second - 1) {
			t.Error("little garbage is returned soon though that takes a second")
		}
		if !after(1) {
			t.Error("little garbage is not returned where that takes a second")
		}
		g.took.Store(int64(time.Second))
		g.add(giveBackFrom)
		if !after(giveBackRest) {
			t.Error("much garbage is not returned")
		}
	})
}
