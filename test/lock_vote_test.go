package test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestLocksVote: keyway locks vote ends the wait of a lock node, unless the node lacks a lock that
// another has.
func TestLocksVote(t *testing.T) {
	t.Parallel()
	n := &lockNodes{t: t, other: redistest.Start(t)}
	for range 3 {
		n.five = append(n.five, redistest.Start(t))
	}
	file := redistest.WriteFile(t, "keyway.yml", "listen: 127.0.0.1:0\n"+n.yaml("max_lease: 60s"))
	vote := func(want string, wantOK bool, args ...string) {
		t.Helper()
		args = append([]string{"locks", "vote", "-c", file}, args...)
		b, err := exec.Command(redistest.Build(t), args...).CombinedOutput()
		if out := string(b); !strings.Contains(out, want) || (err == nil) != wantOK {
			t.Errorf("%s: %s", args, out)
		}
	}
	one, two, three := n.five[0], n.five[1], n.five[2]
	c := redistest.Serve(t, n.yaml("max_lease: 60s, timeout: 2s")).Ready().Dial()
	got := c.Do("SET", "lock:a", "t", "NX", "PX", "60000").Text
	if !strings.Contains(got, "it is new or has restarted") {
		t.Fatalf("on new nodes: %s", got)
	}
	vote("vote needs the addresses of lock nodes", false)
	vote("127.0.0.1:1 is no node of locks.quorum", false, "127.0.0.1:1")
	vote("3 of 3 nodes of the rule with lock node "+one.Addr+" are new, have restarted or do not", false, one.Addr)
	vote("lock node "+three.Addr+" votes now\n", true, "--force", one.Addr, two.Addr, three.Addr)
	vote("lock node "+one.Addr+" votes already\n", true, one.Addr)
	c.Expect("OK", "SET", "lock:a", "t", "NX", "PX", "60000")

	one.Kill()
	vote("lock node "+one.Addr+" cannot be reached: connection refused; start it", false, one.Addr)
	one.Run()
	redistest.Eventually(t, 20*time.Second, "the node waits", func() bool {
		return one.Do("EXISTS", "keyway:wait").Int == 1
	})
	vote("lock node "+one.Addr+" lacks a lock that ", false, one.Addr)
	vote(`, "lock:a": it may have forgotten it, and another client could acquire it; it votes in `, false, one.Addr)
	if one.Do("EXISTS", "keyway:wait").Int == 0 {
		t.Error("the node does not wait any more")
	}
	// As from a snapshot that is older than the last acquisition, or the last renewal.
	stale := "lock node " + one.Addr + ` has the lock "lock:a" with another token than `
	one.Do("SET", "lock:a", "before", "PX", "100000")
	vote(stale, false, one.Addr)
	one.Do("SET", "lock:a", "t", "PX", "10000")
	vote(stale, false, one.Addr)
	one.Do("DEL", "lock:a")
	two.Freeze()
	three.Do("DEL", "lock:a")
	vote("2 of 3 nodes of the rule with lock node "+one.Addr+" are new", false, one.Addr)
	two.Thaw()
	c.Do("EVAL", compareAndDelete, "1", "lock:a", "t")
	redistest.Eventually(t, 20*time.Second, "the lock is free", func() bool {
		return two.Do("EXISTS", "lock:a").Int == 0
	})
	vote("lock node "+one.Addr+" votes now\n", true, one.Addr)
}
