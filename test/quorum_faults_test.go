package test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestQuorumLocksOutliveTwoNodes: with any two of five nodes killed, frozen, cut off or
// partitioned, locks are acquired, renewed and released as before. With three, an acquisition
// fails in time, says why, and leaves nothing behind.
func TestQuorumLocksOutliveTwoNodes(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*redistest.Node, *redistest.Faults, *redistest.Link){
		"killed":      func(n *redistest.Node, _ *redistest.Faults, _ *redistest.Link) { n.Kill() },
		"frozen":      func(n *redistest.Node, _ *redistest.Faults, _ *redistest.Link) { n.Freeze() },
		"cut off":     func(_ *redistest.Node, f *redistest.Faults, _ *redistest.Link) { f.Close() },
		"partitioned": func(_ *redistest.Node, _ *redistest.Faults, l *redistest.Link) { l.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startLockNodes(t)
			n.vote()
			var ways []*redistest.Faults
			links, addrs := n.link([5]time.Duration{})
			for i := range addrs {
				f := redistest.NewFaults(t, addrs[i], func(int) redistest.Plan { return redistest.Plan{} })
				ways, addrs[i] = append(ways, f), f.Addr
			}
			c := n.serveAt(addrs, "timeout: 1s, max_lease: 60s").Dial()
			c.Expect("OK", "SET", "lock:held", "h", "NX", "PX", "60000")
			lose(n.five[1], ways[1], links[1])
			lose(n.five[3], ways[3], links[3])
			c.Expect("h", "GET", "lock:held")
			c.Expect("(nil)", "SET", "lock:held", "other", "NX", "PX", "30000")
			for range 3 {
				c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "30000")
				c.Expect("(nil)", "SET", "lock:a", "t2", "NX", "PX", "30000")
				c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "40000")
				c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t1")
			}
			c.Expect("1", "EVAL", compareAndDelete, "1", "lock:held", "h")

			lose(n.five[0], ways[0], links[0])
			began := time.Now()
			got := c.Do("SET", "lock:b", "t1", "NX", "PX", "30000").Text
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the refusal took %s", took)
			}
			if !strings.HasPrefix(got, "CLUSTERDOWN keyway: 2 of 5 lock nodes take part, and 3 must agree (") ||
				!strings.HasSuffix(got, "; the lock was not acquired") || !strings.Contains(got, addrs[0]+": ") {
				t.Errorf("with three nodes lost: %s", got)
			}
			redistest.Eventually(t, 5*time.Second, "the other nodes are free again", func() bool {
				return n.holding("lock:b", "t1", n.five[2], n.five[4]) == 0
			})
		})
	}
}

// TestQuorumNodesThatRestartWait: nodes that come back without their locks do not vote before
// every lease that they may have granted has ended. So nobody else gets a held lock.
func TestQuorumNodesThatRestartWait(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	c := n.serve("timeout: 1s, max_lease: 3s").Dial()
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "3000")
	for _, node := range n.five[:3] {
		node.Kill()
		node.Run()
	}
	redistest.Eventually(t, 10*time.Second, "keyway reaches the nodes again", func() bool {
		got := c.Do("SET", "lock:a", "t2", "NX", "PX", "3000").Text
		if !strings.HasPrefix(got, "CLUSTERDOWN keyway: ") {
			t.Fatalf("another client acquires a held lock: %s", got)
		}
		return strings.Count(got, "it is new or has restarted, and votes in ") == 3
	})
	redistest.Eventually(t, 20*time.Second, "the nodes vote again", func() bool {
		return c.Do("SET", "lock:a", "t2", "NX", "PX", "3000").Text == "OK"
	})
}

// TestQuorumLockSurvivesOneRestartAfterAnother: a lock that is renewed is set again on nodes
// that came back without it, once they vote. So it outlives the restart of all nodes.
func TestQuorumLockSurvivesOneRestartAfterAnother(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	c := n.serve("timeout: 500ms, max_lease: 1500ms").Dial()
	locks := []string{"lock:a", "lock:b"}
	for _, lock := range locks {
		c.Expect("OK", "SET", lock, "t1", "NX", "PX", "1500")
	}
	for _, node := range n.five { // as a Redlock library would have set it
		node.Do("DEL", "keyway:lock:lock:b")
	}
	for _, node := range n.five {
		node.Kill()
		node.Run()
		redistest.Eventually(t, 20*time.Second, "the node has the locks again", func() bool {
			for _, lock := range locks {
				c.Expect("1", "EVAL", compareAndExpire, "1", lock, "t1", "1500")
			}
			return n.holding("lock:a", "t1", node) == 1 && n.holding("lock:b", "t1", node) == 1
		})
	}
	for _, lock := range locks {
		c.Expect("(nil)", "SET", lock, "t2", "NX", "PX", "1500")
		c.Expect("(nil)", "SET", lock, "t1", "NX", "PX", "1500") // another client's, with the same token
		c.Expect("1", "EVAL", compareAndDelete, "1", lock, "t1")
	}
}

// TestQuorumLocksOutliveKeyway: the nodes have the locks, so another keyway, or the same one
// after a restart, knows them.
func TestQuorumLocksOutliveKeyway(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	k := n.serve("timeout: 2s, max_lease: 60s, fencing: true")
	c := k.Dial()
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "60000")
	number := fence(t, c, "lock:a")
	k.Stop()
	c = n.serve("timeout: 2s, max_lease: 60s, fencing: true").Dial()
	c.Expect("(nil)", "SET", "lock:a", "t2", "NX", "PX", "60000")
	if again := fence(t, c, "lock:a"); again != number {
		t.Errorf("the number has changed from %d to %d", number, again)
	}
	c.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t1")
	c.Expect("OK", "SET", "lock:a", "t2", "NX", "PX", "60000")
	if later := fence(t, c, "lock:a"); later <= number {
		t.Errorf("the next holder's number is %d, after %d", later, number)
	}
}

// TestQuorumLocksExclude: while nodes die, freeze and come back, at most one client of two
// keyways has the lock.
func TestQuorumLocksExclude(t *testing.T) {
	t.Parallel()
	n := startLockNodes(t)
	n.vote()
	const rule = "timeout: 300ms, max_lease: 60s, fencing: true"
	ways := []*redistest.Keyway{n.serve(rule), n.serve(rule)}
	release := redis.NewScript(compareAndDelete)
	var inside atomic.Int32
	var acquired [2]atomic.Int32 // before and after the nodes are lost
	var phase atomic.Int32
	ctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := redis.NewClient(&redis.Options{Addr: ways[i%2].Addr, MaxRetries: -1})
			defer c.Close()
			for seq := 0; ctx.Err() == nil; seq++ {
				token := redistest.Identify("lock:x", i, seq, 0)
				if ok, _ := c.SetNX(ctx, "lock:x", token, 60*time.Second).Result(); !ok {
					time.Sleep(time.Duration(1+i) * time.Millisecond) // clients that compete in step split the nodes
					continue
				}
				if inside.Add(1) != 1 {
					t.Errorf("two clients have the lock")
				}
				acquired[phase.Load()].Add(1)
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				release.Run(ctx, c, []string{"lock:x"}, token)
			}
		})
	}
	enough := func() bool { return acquired[phase.Load()].Load() >= 20 || t.Failed() }
	redistest.Eventually(t, 30*time.Second, "the clients acquire the lock", enough)
	n.five[1].Kill()
	n.five[3].Freeze()
	phase.Store(1)
	redistest.Eventually(t, 30*time.Second, "the clients acquire the lock from three nodes", enough)
	stop()
	wg.Wait()
}

// TestReloadQuorumRules: a reload adds a rule and takes it back, while clients stay connected.
// The new nodes begin to wait at once, so locks that clients have on the nodes of the layout end
// first.
func TestReloadQuorumRules(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := startLockNodes(t)
	r := startReloadable(t, redistest.NodesYAML([]*redistest.Node{n.other}), "layout: ring\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "lock:a", "old", "NX", "PX", "1000")
	var addrs []string
	for _, node := range n.five {
		addrs = append(addrs, node.Addr)
	}
	rule := "locks: {quorum: [{match: \"lock:*\", timeout: 400ms, max_lease: 1s, nodes: [" +
		strings.Join(addrs, ", ") + "]}]}\n"
	if out := r.reload(r.text + rule); !strings.Contains(out, "locks.quorum[0].match: (none) -> lock:*") {
		t.Errorf("the reload says %s", out)
	}
	redistest.Eventually(t, 20*time.Second, "the new nodes vote", func() bool {
		reply := c.Do("SET", "lock:a", "new", "NX", "PX", "1000")
		if reply.Text == "OK" && n.other.Do("GET", "lock:a").Text == "old" {
			t.Error("the lock is acquired although a client has it on the node of the layout")
		}
		return reply.Text == "OK"
	})
	r.reload(strings.ReplaceAll(r.text, rule, ""), "--allow-misplaced")
	c.Expect("OK", "SET", "lock:b", "plain")
	if got := n.other.Do("GET", "lock:b").Text; got != "plain" {
		t.Errorf("without the rule, the node of the layout has %q", got)
	}
}
