package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// threeLockNodes starts three nodes that hold locks and vote, and one for everything else.
func threeLockNodes(t *testing.T) *lockNodes {
	n := &lockNodes{t: t, other: redistest.Start(t)}
	for range 3 {
		n.five = append(n.five, redistest.Start(t))
	}
	n.vote()
	return n
}

// addrs returns the addresses of the lock nodes, as a list of YAML has them.
func (n *lockNodes) addrs() string {
	var all []string
	for _, node := range n.five {
		all = append(all, node.Addr)
	}
	return strings.Join(all, ", ")
}

// yaml returns a configuration with the lock nodes. rule has more keys of the rule.
func (n *lockNodes) yaml(rule string) string {
	return redistest.Ring(n.other.Addr) + fmt.Sprintf(
		"locks:\n  patterns: [\"lock:*\"]\n  quorum:\n    - {match: \"lock:*\", nodes: [%s], %s}\n", n.addrs(), rule)
}

// TestQuorumLocksAreSeen: the table of locks has the locks that a majority of nodes holds, with
// their renewals and waiters, and the metrics count them.
func TestQuorumLocksAreSeen(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 2s")).Ready()
	holder, waiter := k.Dial(), k.Dial()
	holder.Expect("OK", "CLIENT", "SETNAME", "holder")
	holder.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "9000")
	waiter.Expect("(nil)", "SET", "lock:a", "t2", "NX", "PX", "9000")
	holder.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "10000")
	row := func(key string) map[string]redistest.Reply {
		found := map[string]redistest.Reply{}
		for _, row := range holder.MustDo("KEYWAY", "LOCKS", "MATCH", key).Elems {
			for i := 0; i+1 < len(row.Elems); i += 2 {
				found[row.Elems[i].Text] = row.Elems[i+1]
			}
		}
		return found
	}
	var r map[string]redistest.Reply
	redistest.Eventually(t, 10*time.Second, "the lock is listed with its renewal", func() bool {
		r = row("lock:a")
		return r["renewals"].Int == 1
	})
	if r["state"].Text != "held" || r["token"].Text != "t1" || r["node"].Text != "quorum" ||
		r["client-name"].Text != "holder" || r["kind"].Text != "string" || r["lease-left-ms"].Int > 10_000 ||
		len(r["alarms"].Elems) > 0 { // request_timeout does not matter to it, so the lease is not unsafe
		t.Errorf("%v", r)
	}
	holder.Expect("1", "EVAL", compareAndDelete, "1", "lock:a", "t1")
	redistest.Eventually(t, 10*time.Second, "the lock is free", func() bool {
		return row("lock:a")["state"].Text != "held"
	})
	if got := holder.MustDo("LATENCY", "HISTOGRAM", "set").String(); !strings.HasPrefix(got, "[set [calls 2 ") {
		t.Errorf("LATENCY HISTOGRAM set: %s", got)
	}
}

// TestSlowQuorumLock: a lock that waited for nodes that hang is in SLOWLOG, with the time that
// it took, and in the latency history.
func TestSlowQuorumLock(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, n.yaml("timeout: 300ms")+"slowlog: {slower_than: 250ms}\n").Ready()
	c := k.Dial()
	c.Expect("OK", "CLIENT", "SETNAME", "waiter")
	redistest.Eventually(t, 20*time.Second, "a lock is acquired", func() bool {
		return c.Do("SET", "lock:a", "t1", "NX", "PX", "30000").Text == "OK"
	})
	c.Expect("OK", "SLOWLOG", "RESET")
	n.five[0].Freeze()
	n.five[2].Freeze()
	if got := c.Do("SET", "lock:b", "t1", "NX", "PX", "30000").Text; !strings.HasPrefix(got, "CLUSTERDOWN keyway: ") {
		t.Errorf("with two of three nodes frozen: %s", got)
	}
	entries := c.MustDo("SLOWLOG", "GET").Elems
	if len(entries) != 1 || entries[0].Elems[2].Int < 300_000 || entries[0].Elems[5].Text != "waiter" ||
		entries[0].Elems[3].String() != "[SET lock:b t1 NX PX 30000]" {
		t.Errorf("SLOWLOG GET: %v", entries)
	}
	if latest := c.MustDo("LATENCY", "LATEST").Elems; len(latest) != 1 || latest[0].Elems[3].Int < 300 {
		t.Errorf("LATENCY LATEST: %v", latest)
	}
}
