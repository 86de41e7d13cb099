package test

import (
	"context"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLockWaiters: clients on several threads wait for locks: they try again and again, or block on
// a list. The list of locks counts them, and no longer once they have stopped.
func TestLockWaiters(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Ring(nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)+
		"threads: 3\nlocks: {patterns: ['lock:*']}\n").Ready()
	holder := k.Dial()
	holder.Expect("OK", "SET", "lock:{a}", "id", "NX", "EX", "60")
	holder.Expect("OK", "SET", "lock:{b}", "id", "NX", "EX", "60")
	begin := func(c *redistest.Client, list string) {
		c.Send("BLPOP", list, "60")
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	var blocked []*redistest.Client
	for range 4 {
		c := k.Dial()
		if r := c.MustDo("SET", "lock:{a}", "other", "NX", "EX", "60"); !r.Null {
			t.Fatal(r)
		}
		begin(c, "lock-signal:{a}")
		blocked = append(blocked, c)
	}
	begin(k.Dial(), "lock-signal:{c}")
	poller := k.Dial()
	rows := func() (a, b locks.Row) {
		all, err := k.Server.Locks(context.Background(), locks.Query{Count: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			switch r.Key {
			case "lock:{a}":
				a = r
			case "lock:{b}":
				b = r
			}
		}
		return a, b
	}
	redistest.Eventually(t, 10*time.Second, "waiters in the list", func() bool {
		poller.MustDo("SET", "lock:{b}", "third", "NX", "EX", "60")
		a, b := rows()
		return a.Blocked == 4 && a.Pollers == 0 && b.Blocked == 0 && b.Pollers == 1
	})
	holder.MustDo("RPUSH", "lock-signal:{a}", "1", "1", "1", "1")
	for _, c := range blocked {
		if _, err := c.Receive(); err != nil {
			t.Error(err)
		}
	}
	redistest.Eventually(t, 10*time.Second, "nobody waits", func() bool {
		a, b := rows()
		return a.Blocked == 0 && b.Pollers == 0
	})
}
