package test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestFlipStopsKeyways: keyways whose layout is no longer in force execute no command of a client from
// the flip of a node on, not even one that was stopped meanwhile and wakes up. Their subscribers
// hear what is published all the time.
func TestFlipStopsKeyways(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	ring := redistest.Ring(a.Addr, b.Addr)
	awake, frozen := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	var served, refused atomic.Int64
	for _, addr := range []string{awake.Addr, frozen.Addr} {
		for range 4 {
			go func() {
				c, err := redistest.TryDial(addr)
				for err == nil {
					for i := range 100 {
						c.Send("INCR", fmt.Sprint("n", i))
					}
					err = c.Flush()
					for i := 0; i < 100 && err == nil; i++ {
						var r redistest.Reply
						if r, err = c.Receive(); r.Kind == ':' {
							served.Add(1)
						} else if addr == frozen.Addr {
							refused.Add(1)
						}
					}
				}
			}()
		}
	}
	listener := redistest.Dial(t, awake.Addr)
	listener.MustDo("SUBSCRIBE", "channel")
	redistest.Eventually(t, 20*time.Second, "clients are served", func() bool { return served.Load() > 5000 })
	frozen.Freeze()
	to := decided(t, a, 1)
	nodes := []*switching.Node{nodeOf(a), nodeOf(b)}
	fence := func(*switching.Node) switching.Fence { return switching.Fence{} }
	if err := switching.FlipAll(within(t, 20*time.Second), nodes, to, fence); err != nil {
		t.Fatal(err)
	}
	counters := func() (all []string) {
		for _, n := range []*redistest.Node{a, b} {
			for i := range 100 {
				all = append(all, n.Do("GET", fmt.Sprint("n", i)).String())
			}
		}
		return all
	}
	before := counters()
	frozen.Thaw()
	a.Do("PUBLISH", "channel", "x")
	b.Do("PUBLISH", "channel", "x")
	if r, err := listener.Receive(); err != nil || !strings.Contains(r.String(), "message channel x") {
		t.Errorf("a subscriber hears %s, %v", r, err)
	}
	redistest.Eventually(t, 60*time.Second, "the keyway that was stopped answers", func() bool {
		return refused.Load() > 1000
	})
	if after := counters(); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("keyways of the older epoch write:\nbefore %s\nafter  %s", before, after)
	}
}
