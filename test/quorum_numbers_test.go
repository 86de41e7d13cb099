package test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// behindCuts returns addresses of the nodes at which the connections to the first three end, once
// down is true, before the next reply.
func (n *lockNodes) behindCuts(t *testing.T, down *atomic.Bool) (addrs []string) {
	for i, node := range n.five {
		var f *redistest.Faults
		started := make(chan struct{})
		f = redistest.NewFaults(t, node.Addr, func(int) redistest.Plan {
			<-started
			if i >= 3 {
				return redistest.Plan{}
			}
			if down.Load() {
				return redistest.Plan{CutRequest: -1}
			}
			return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
				if down.Load() {
					f.CutAll()
				}
				return reply, 0
			}}
		})
		close(started)
		addrs = append(addrs, f.Addr)
	}
	return addrs
}

// TestQuorumRetryContinues: an attempt fails because the connections to a majority end after
// these nodes have set the lock. The same client can repeat it with the same token and
// acquires the lock. Another client with that token cannot.
func TestQuorumRetryContinues(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	var down atomic.Bool
	addrs := n.behindCuts(t, &down)
	k := n.serveAt(addrs, "timeout: 300ms, max_lease: 60s, fencing: true")
	c, other := k.Dial(), k.Dial()
	key, tries := "", 0
	redistest.Eventually(t, 30*time.Second, "an attempt fails after three nodes have set the lock", func() bool {
		tries++
		before := fmt.Sprint("lock:before", tries)
		c.Do("SET", before, "1", "NX", "PX", "60000")
		if n.holding(before, "1") < 5 {
			return false // keyway does not reach all nodes yet
		}
		key = fmt.Sprint("lock:", tries)
		down.Store(true)
		got := c.Do("SET", key, "1", "NX", "PX", "60000")
		redistest.Eventually(t, 20*time.Second, "keyway cannot undo the attempt", func() bool {
			got := c.Do("GET", key)
			return got.Kind == '-' && !strings.Contains(got.Text, "no answer within")
		})
		isSet := got.Kind == '-' && n.holding(key, "1", n.five[:3]...) == 3
		down.Store(false)
		return isSet
	})
	redistest.Eventually(t, 20*time.Second, "the other client is refused", func() bool {
		got := other.Do("SET", key, "1", "NX", "PX", "60000")
		if got.Text == "OK" {
			t.Fatal("another client with the same token acquires the lock")
		}
		return got.Null
	})
	c.Expect("OK", "SET", key, "1", "NX", "PX", "60000")
	first := fence(t, c, key)
	c.Expect("1", "EVAL", compareAndDelete, "1", key, "1")
	other.Expect("OK", "SET", key, "1", "NX", "PX", "60000")
	if second := fence(t, other, key); second <= first {
		t.Errorf("the number is %d after %d", second, first)
	}
}

// TestQuorumNumbersRise: the number of each holder is above that of the one before, also
// through another keyway and after all nodes have come back empty. Nodes forget a number some
// time after the lease.
func TestQuorumNumbersRise(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	const rule = "timeout: 1s, max_lease: 60s, fencing: true"
	ways := []*redistest.Client{n.serve(rule).Dial(), n.serve(rule).Dial()}
	last, holder := int64(0), 0
	next := func(c *redistest.Client) {
		t.Helper()
		holder++
		token := fmt.Sprint("t", holder)
		redistest.Eventually(t, 20*time.Second, "the next client acquires the lock", func() bool {
			return c.Do("SET", "lock:a", token, "NX", "PX", "30000").Text == "OK"
		})
		number := fence(t, c, "lock:a")
		if number <= last {
			t.Errorf("the number of holder %d is %d, after %d", holder, number, last)
		}
		last = number
	}
	release := func(c *redistest.Client) {
		t.Helper()
		c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", fmt.Sprint("t", holder))
	}
	for i := range 6 {
		next(ways[i%2])
		if i%3 == 0 {
			ways[i%2].Expect("1", "DEL", "lock:a")
		} else {
			release(ways[(i+1)%2])
		}
	}
	next(ways[0])
	hour := time.Hour.Milliseconds()
	redistest.Eventually(t, 10*time.Second, "a majority has the number until an hour after the lease", func() bool {
		have := 0
		for _, node := range n.five {
			if left := node.Do("PTTL", "keyway:lock:lock:a").Int; left > hour && left <= hour+30000 {
				have++
			}
		}
		return have >= 3
	})
	for _, node := range n.five {
		node.Kill()
		node.Run()
	}
	n.vote()
	next(ways[1])
}
