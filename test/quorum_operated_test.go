package test

import (
	"fmt"
	"os"
	"slices"
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

// reloadable starts a keyway over the lock nodes. rule has more keys of the rule.
func (n *lockNodes) reloadable(rule string) *reloadable {
	n.t.Helper()
	text := strings.TrimPrefix(n.yaml(rule), redistest.Ring(n.other.Addr))
	return startReloadable(n.t, redistest.NodesYAML([]*redistest.Node{n.other}), "layout: ring\n"+text)
}

// TestQuorumNodesHaveAnAccountOfTheirOwn: keyway logs in to lock nodes by the rule's password,
// not by that of backend. When the file has a new one, held locks stay held.
func TestQuorumNodesHaveAnAccountOfTheirOwn(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := threeLockNodes(t)
	for _, node := range n.five {
		node.Do("ACL", "SETUSER", "locker", "on", "allkeys", "+@all", ">first")
	}
	n.other.Do("CONFIG", "SET", "requirepass", "of-the-layout")
	file := redistest.WriteFile(t, "password", "first\n")
	r := n.reloadable("timeout: 2s, username: locker, password_file: " + file)
	c := redistest.Dial(t, r.listen)
	redistest.Eventually(t, 10*time.Second, "the node of the layout refuses", func() bool {
		return strings.Contains(c.Do("GET", "other").Text, "NOAUTH")
	})
	r.reload(r.text + "backend: {password: of-the-layout}\n")
	redistest.Eventually(t, 10*time.Second, "the node of the layout accepts", func() bool {
		return c.Do("GET", "other").Text == "" && c.Do("GET", "other").Kind != '-'
	})
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "60000")
	redistest.Eventually(t, 10*time.Second, "all nodes have the lock", func() bool {
		return n.holding("lock:a", "t1") == 3
	})

	for _, node := range n.five {
		node.Do("ACL", "SETUSER", "locker", "resetpass", ">second")
		node.Do("CLIENT", "KILL", "USER", "locker")
	}
	redistest.Eventually(t, 10*time.Second, "the nodes refuse the old password", func() bool {
		return strings.Count(c.Do("GET", "lock:a").Text, "WRONGPASS") == 3
	})
	if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "the nodes accept the new password", func() bool {
		return c.Do("GET", "lock:a").Text == "t1"
	})
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "50000")
	r.reload(strings.Replace(r.text, "password_file: "+file, "password: third", 1))
	for _, node := range n.five { // what is open stays open
		node.Do("ACL", "SETUSER", "locker", ">third")
	}
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "50000")
	if log := r.stderr.String(); strings.Contains(log, "third") || strings.Contains(log, "second") {
		t.Errorf("the log has a password: %s", log)
	}
}

// TestReloadReplacesLockNodesOneByOne: a reload replaces a minority of the nodes of a rule, and a
// held lock stays held. It refuses to replace more before the new node votes, and to remove the
// rule.
func TestReloadReplacesLockNodesOneByOne(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := threeLockNodes(t)
	r := n.reloadable("timeout: 2s, max_lease: 20s")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "20000")
	redistest.Eventually(t, 10*time.Second, "all nodes have the lock", func() bool {
		return n.holding("lock:a", "t1") == 3
	})
	replace := func(text string, i int) (out string, ok bool) {
		fresh := redistest.Start(t)
		r.text = strings.Replace(text, n.five[i].Addr, fresh.Addr, 1)
		r.write()
		if out, ok = r.command(); ok {
			n.five[i] = fresh
		}
		return out, ok
	}
	if out, ok := replace(r.text, 0); !ok || !strings.Contains(out, "locks.quorum[0].nodes: ") {
		t.Fatalf("one node of three: %s", out)
	}
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "20000")
	c.Expect("(nil)", "SET", "lock:a", "t2", "NX", "PX", "20000")
	redistest.Eventually(t, 10*time.Second, "the new node waits", func() bool {
		return n.five[0].Do("EXISTS", "keyway:wait").Int == 1
	})
	text := r.text
	if out, ok := replace(text, 1); ok || !strings.Contains(out, "of the 3 nodes, only 1 stay and vote, and 2 must: "+
		"clients would lose the locks that they hold; replace fewer at once, and wait for max_lease in between") {
		t.Errorf("another node at once: %s", out)
	}
	r.text = text[:strings.Index(text, "locks:")]
	r.write()
	if out, ok := r.command(); ok || !strings.Contains(out, `there is no rule "lock:*" any more`) {
		t.Errorf("without the rule: %s", out)
	}
	c.Expect("t1", "GET", "lock:a")
	n.five[0].Do("DEL", "keyway:wait")
	redistest.Eventually(t, 10*time.Second, "a renewal sets the lock on the new node", func() bool {
		c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "20000")
		return n.holding("lock:a", "t1") == 3
	})
	if out, ok := replace(text, 1); !ok {
		t.Errorf("once the new node votes: %s", out)
	}
	c.Expect("1", "EVAL", compareAndExpire, "1", "lock:a", "t1", "20000")
}

// TestLockNodesAreWatched: the metrics and /readyz say which lock nodes vote, why others do not,
// and how many can still fail; a node that returns votes again. The log says each change once.
func TestLockNodesAreWatched(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	n := threeLockNodes(t)
	r := n.reloadable("timeout: 2s, max_lease: 60s")
	c := redistest.Dial(t, r.listen)
	shows := func(lines ...string) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, strings.Join(lines, ", "), func() bool {
			if c.Do("SET", "lock:a", "t", "NX", "PX", "1000").Kind == 0 {
				return false
			}
			all := get(t, "http://"+r.admin+"/metrics") + get(t, "http://"+r.admin+"/readyz")
			return !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(all, line) })
		})
	}
	logs := func(line string) {
		t.Helper()
		count := func() int { return strings.Count(r.stderr.String(), line) }
		redistest.Eventually(t, 20*time.Second, line, func() bool { return count() > 0 })
		if count() != 1 {
			t.Errorf("not once: %s\n%s", line, r.stderr.String())
		}
	}
	one, two := n.five[1].Addr, n.five[2].Addr
	shows(`keyway_quorum_spare_nodes{match="lock:*"} 1`, `keyway_quorum_node_votes{addr="`+one+`"} 1`)
	n.five[1].Freeze()
	shows(`keyway_quorum_spare_nodes{match="lock:*"} 0`, `keyway_quorum_node_votes{addr="`+one+`"} 0`,
		"lock node "+one+" does not vote: no answer within ")
	logs(`level=WARN msg="locks have a majority but no spare node: if one more fails, ` +
		`none can be acquired or renewed" rule=lock:* votes="2 of 3" must_vote=2 ` +
		`absent="` + one + `: no answer within `)
	n.five[2].Kill()
	shows(`keyway_quorum_spare_nodes{match="lock:*"} -1`, `keyway_quorum_node_votes{addr="`+two+`"} 0`,
		"lock node "+two+" does not vote: ", "locks of lock:* cannot be acquired: too few lock nodes vote")
	logs(`level=WARN msg="locks have no majority: none can be acquired or renewed until more lock nodes vote" ` +
		`rule=lock:* votes="1 of 3" must_vote=2 absent="` + one + `: `)
	n.five[2].Run()
	shows("lock node " + two + " does not vote: it is new or has restarted, and votes in ")
	logs(`level=WARN msg="a lock node does not vote yet" addr=` + two +
		` reason="it is new or has restarted" votes_in=`)
	n.five[1].Thaw()
	n.vote()
	shows(`keyway_quorum_spare_nodes{match="lock:*"} 1`)
	logs(`level=INFO msg="a lock node votes now" addr=` + two)
	logs(`level=INFO msg="locks have a majority and a spare node" rule=lock:* votes="3 of 3" must_vote=2`)
	metrics := get(t, "http://"+r.admin+"/metrics")
	if strings.Contains(metrics, `keyway_quorum_node_missed_total{addr="`+one+`"} 0`) ||
		strings.Contains(metrics, `keyway_quorum_node_duration_seconds_count{addr="`+one+`"} 0`) {
		t.Errorf("nothing was counted for the node that was frozen")
	}
}

// TestQuorumReadsAreNotCached: a client that caches what it reads would not hear of a lock's
// change, so its reads are refused, unless it does not cache this key.
func TestQuorumReadsAreNotCached(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	c := redistest.Serve(t, n.yaml("timeout: 2s")).Ready().Dial()
	c.Do("HELLO", "3")
	c.Expect("OK", "SET", "lock:a", "t1", "NX", "PX", "60000")
	for _, x := range []struct{ tracking, reply string }{
		{"ON", "a majority of nodes sends no invalidations; read the lock over a connection without CLIENT TRACKING"},
		{"ON BCAST", "a majority of nodes sends no invalidations"},
		{"ON BCAST PREFIX lock:", "a majority of nodes sends no invalidations"},
		{"ON BCAST PREFIX other:", "t1"},
		{"ON OPTIN", "t1"},
	} {
		c.Expect("OK", strings.Fields("CLIENT TRACKING "+x.tracking)...)
		if got := c.Do("GET", "lock:a").Text; !strings.Contains(got, x.reply) {
			t.Errorf("with CLIENT TRACKING %s: %s", x.tracking, got)
		}
		c.Expect("(nil)", "SET", "lock:a", "t2", "NX", "PX", "60000") // which reads nothing
		c.Expect("OK", "CLIENT", "TRACKING", "OFF")
	}
	c.Expect("OK", "CLIENT", "TRACKING", "ON", "OPTIN")
	c.Expect("OK", "CLIENT", "CACHING", "YES")
	if got := c.Do("GET", "lock:a").Text; !strings.Contains(got, "sends no invalidations") {
		t.Errorf("after CLIENT CACHING YES: %s", got)
	}
}
