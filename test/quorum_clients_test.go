package test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestQuorumLockOfClientThatLeaves: a client that leaves while it acquires a lock acquires it all the
// same, as with one Redis. Others get the lock when its lease has ended.
func TestQuorumLockOfClientThatLeaves(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 5s")).Ready()
	other := k.Dial()
	votes(t, other)
	began := time.Now()
	conn, err := net.Dial("tcp", k.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "SET lock:a t NX PX 3000\r\n"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	redistest.Eventually(t, 3*time.Second, "all nodes have the lock", func() bool {
		return n.holding("lock:a", "t") == 3
	})
	redistest.Eventually(t, 20*time.Second, "the lease has ended", func() bool {
		isFree := other.Do("SET", "lock:a", "t2", "NX", "PX", "30000").Text == "OK"
		if isFree && time.Since(began) < 3*time.Second {
			t.Fatalf("another client has the lock %s after the first", time.Since(began))
		}
		return isFree
	})
}

// TestContendedLocksLeaveNothing: clients of two keyways, each nearer to other nodes, contend for locks. They
// leave none on any node, however many nodes each of them had got.
func TestContendedLocksLeaveNothing(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	const ms = time.Millisecond
	var wg sync.WaitGroup
	for _, away := range [][5]time.Duration{{0, ms, 2 * ms, 3 * ms, 3 * ms}, {3 * ms, 3 * ms, 2 * ms, ms, 0}} {
		_, addrs := n.link(away)
		k := n.serveAt(addrs, "timeout: 5s, max_lease: 60s, fencing: true")
		votes(t, k.Dial())
		for id := range 8 {
			c := k.Dial()
			wg.Go(func() {
				defer c.Close()
				for i := range 200 {
					key, token := fmt.Sprint("lock:", i%3), fmt.Sprint(k.Addr, id, i)
					if c.MustDo("SET", key, token, "NX", "PX", "60000").Text != "OK" {
						continue
					}
					if r := c.MustDo("EVAL", compareAndDelete, "1", key, token); r.Int != 1 {
						t.Errorf("the release of %s: %s", key, r)
					}
				}
			})
		}
	}
	wg.Wait()
	redistest.Eventually(t, 5*time.Second, "no node has a lock", func() bool {
		for _, node := range n.five {
			if node.Do("EXISTS", "lock:0", "lock:1", "lock:2").Int > 0 {
				return false
			}
		}
		return true
	})
}

// TestLockNodesNeedAUserForScripts: check --connect finds lock nodes whose user may not run what keyway
// sends. A user with the documented rights can do all of it.
func TestLockNodesNeedAUserForScripts(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rights := strings.Fields("on >p ~* -@all +eval +evalsha +script|load +get +set +del +exists +pttl +pexpire +hget " +
		"+hset +hdel +info +time +ping")
	for _, node := range n.five {
		node.Do(append([]string{"ACL", "SETUSER", "locker"}, rights...)...)
	}
	yaml := n.yaml("timeout: 5s, fencing: true, username: locker, password: p")
	if out, ok := check(t, yaml, "--connect"); !ok {
		t.Errorf("with the documented rights: %s", out)
	}
	c := redistest.Serve(t, yaml).Ready().Dial()
	votes(t, c)
	c.Expect("OK", "SET", "lock:a", "t", "NX", "PX", "30000")
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t", "40000")
	c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t")
	n.five[2].Do("ACL", "SETUSER", "locker", "-evalsha")
	out, ok := check(t, yaml, "--connect")
	if ok || lines(out, n.five[2].Addr, "refuses keyway: EVALSHA: NOPERM") != 1 {
		t.Errorf("a user who may not run EVALSHA: %s", out)
	}
}

// TestQuorumLocksAndUsers: users have the locks that their rules permit, and no others. A refused
// command reaches no node.
func TestQuorumLocksAndUsers(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 5s, fencing: true")+`users:
  - {name: locker, acl: "on >p ~lock:app:* +set +get +eval"}
  - {name: reader, acl: "on >p %R~lock:* +@all"}
`).Ready()
	locker, reader := k.Dial(), k.Dial()
	locker.Expect("OK", "AUTH", "locker", "p")
	reader.Expect("OK", "AUTH", "reader", "p")
	const noKey = "-NOPERM this user has no permissions to access one of the keys used as arguments"
	redistest.Eventually(t, 20*time.Second, "a lock is acquired", func() bool {
		return locker.Do("SET", "lock:app:1", "t", "NX", "PX", "60000").Text == "OK"
	})
	locker.Expect(noKey, "SET", "lock:other", "t", "NX", "PX", "60000")
	locker.Expect(noKey, "EVAL", compareAndDelete, "1", "lock:other", "t")
	locker.Expect("-NOPERM this user has no permissions to run the 'pttl' command", "PTTL", "lock:app:1")
	number := fence(t, locker, "lock:app:1")
	reader.Expect("t", "GET", "lock:app:1")
	if got := fence(t, reader, "lock:app:1"); got != number {
		t.Errorf("the number is %d, and %d for another user", number, got)
	}
	reader.Expect(noKey, "SET", "lock:app:2", "t", "NX", "PX", "60000")
	reader.Expect(noKey, "EVAL", compareAndDelete, "1", "lock:app:1", "t")
	reader.Expect(noKey, "DEL", "lock:app:1")
	locker.Expect("1", "EVAL", compareAndDelete, "1", "lock:app:1", "t")
	for _, node := range n.five {
		if node.Do("EXISTS", "lock:other", "lock:app:2").Int != 0 {
			t.Errorf("%s has %q", node.Addr, node.Keys())
		}
	}
}
