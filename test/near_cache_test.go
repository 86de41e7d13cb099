package test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// near is a near_cache with a lease that plays no part in tests of invalidations.
const near = "near_cache: {enabled: true, one_in: 20, lease: 10s}\n"

// nearFigures returns what all threads have counted.
func nearFigures(k *redistest.Keyway) metrics.NearCounters {
	return metrics.Sum(k.Snapshot()).NearCounters
}

// makeHot has the clients read a key until keyway answers for each of them.
func makeHot(t *testing.T, k *redistest.Keyway, key string, clients ...*redistest.Client) {
	t.Helper()
	for _, c := range clients {
		redistest.Eventually(t, 60*time.Second, "keyway answers for the nodes", func() bool {
			before := nearFigures(k).NearHits
			for range 200 {
				c.Send("GET", key)
			}
			c.Flush()
			for range 200 {
				if _, err := c.Receive(); err != nil {
					t.Fatal(err)
				}
			}
			return nearFigures(k).NearHits >= before+200
		})
	}
}

// becomes waits until the reply to GET is want. Until then it must be old, if that is not empty.
func becomes(t *testing.T, c *redistest.Client, key, old, want string) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, key+" becomes "+want, func() bool {
		got := c.MustDo("GET", key).String()
		if got != want && old != "" && got != old {
			t.Fatalf("GET %s: %s, want %s or %s", key, got, old, want)
		}
		return got == want
	})
}

// onThreads returns a client of each of two threads.
func onThreads(t *testing.T, k *redistest.Keyway) (clients []*redistest.Client) {
	t.Helper()
	found := map[int64]bool{}
	redistest.Eventually(t, 20*time.Second, "there are clients of two threads", func() bool {
		c := k.Dial()
		if of := c.MustDo("CLIENT", "ID").Int % 2; !found[of] {
			found[of] = true
			clients = append(clients, c)
		}
		return len(clients) == 2
	})
	return clients
}

// TestNearCacheHearsOfChanges: whoever changes a hot key, and how, the clients of all threads get the new value
// without the value having to get old.
func TestNearCacheHearsOfChanges(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, other *redistest.Keyway, nodes []*redistest.Node) {
		yaml := redistest.Layouts(nodes)[strings.TrimPrefix(t.Name(), "TestNearCacheHearsOfChanges/")]
		if yaml == "" { // a cluster
			yaml = (&redistest.Cluster{Nodes: nodes}).SeedsYAML()
		}
		k := redistest.Serve(t, "threads: 2\n"+near+yaml).Ready()
		key := apart(t, k, nodes)[0]
		readers := onThreads(t, k)
		at := redistest.Dial(t, nodes[0].Addr)
		elsewhere := other.Dial()
		for n, write := range []struct {
			by   *redistest.Client
			args []string
			want string
		}{
			{readers[0], []string{"SET", key, "1"}, "1"},
			{elsewhere, []string{"SET", key, "2"}, "2"},
			{at, []string{"GETEX", key, "PX", "1"}, "(nil)"},
			{at, []string{"MSET", key, "3"}, "3"},
			{at, []string{"EVAL", "return redis.call('SET', '" + key + "', '4')", "1", key}, "4"},
			{elsewhere, []string{"DEL", key}, "(nil)"},
			{at, []string{"PEXPIRE", key, "1"}, "(nil)"},
			{at, []string{"SET", key, "6"}, "6"},
			{at, []string{"FLUSHALL"}, "(nil)"},
		} {
			for i, c := range readers {
				old := fmt.Sprint("v", n, "-", i)
				elsewhere.MustDo("SET", key, old)
				becomes(t, c, key, "", old)
				makeHot(t, k, key, c)
				before := nearFigures(k).NearInvalidated
				write.by.MustDo(write.args...)
				becomes(t, c, key, old, write.want)
				if nearFigures(k).NearInvalidated == before {
					t.Errorf("%s: nothing was invalidated", write.args)
				}
			}
		}
	})
}

// TestNearCacheRises: each client sees a counter that all increment, in several ways, rise only, and never below
// what it has made of it.
func TestNearCacheRises(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, _ *redistest.Keyway, nodes []*redistest.Node) {
		yaml := redistest.Layouts(nodes)[strings.TrimPrefix(t.Name(), "TestNearCacheRises/")]
		if yaml == "" {
			yaml = (&redistest.Cluster{Nodes: nodes}).SeedsYAML()
		}
		k := redistest.Serve(t, "threads: 2\n"+near+yaml).Ready()
		key := apart(t, k, nodes)[0]
		k.Dial().MustDo("SET", key, "0")
		makeHot(t, k, key, onThreads(t, k)...)
		before, ends := nearFigures(k), atomic.Bool{}
		var readers, writer sync.WaitGroup
		writer.Go(func() {
			at := redistest.Dial(t, nodes[0].Addr)
			for !ends.Load() {
				at.MustDo("INCR", key)
				time.Sleep(20 * time.Millisecond) // so that values are of use
			}
		})
		for id := range 8 {
			readers.Go(func() { rises(t, k, key, id) })
		}
		readers.Wait()
		ends.Store(true)
		writer.Wait()
		after := nearFigures(k)
		t.Logf("%d hits, %d misses, %d fills", after.NearHits-before.NearHits, after.NearMisses-before.NearMisses,
			after.NearFills-before.NearFills)
		if after.NearHits-before.NearHits < 1000 {
			t.Error("keyway has hardly answered for the nodes")
		}
	})
}

// rises increments and reads a counter, alone and in pipelines, and checks that it rises.
func rises(t *testing.T, k *redistest.Keyway, key string, id int) {
	c, last := k.Dial(), int64(0)
	saw := func(what string, r redistest.Reply) {
		for len(r.Elems) > 0 {
			r = r.Elems[len(r.Elems)-1]
		}
		n, err := strconv.ParseInt(r.String(), 10, 64)
		if err != nil || n < last {
			t.Errorf("client %d, %s: %s after %d", id, what, r, last)
		}
		last = max(last, n)
	}
	rounds := 40
	if redistest.Race {
		rounds = 12
	}
	for round := range rounds {
		var sent []string
		send := func(args ...string) {
			c.Send(args...)
			sent = append(sent, args[0])
		}
		switch (round + id) % 6 {
		case 0:
			send("INCR", key)
		case 1:
			send("EVAL", "return redis.call('INCR', KEYS[1])", "1", key)
		case 2:
			c.MustDo("MULTI")
			c.MustDo("INCR", key)
			saw("EXEC", c.MustDo("EXEC"))
		case 3:
			send("MGET", key)
		case 4:
			send("GETRANGE", key, "0", "-1")
		}
		for range 1 + (round%3)*10 {
			send("GET", key)
		}
		c.Flush()
		for _, what := range sent {
			r, err := c.Receive()
			if err != nil {
				t.Error(err)
				return
			}
			saw(what, r)
		}
		for range 250 {
			saw("GET alone", c.MustDo("GET", key))
		}
	}
}

// TestNearCacheOfASilentNode: of a node that is cut off, or frozen, keyway uses no value for longer than the lease.
func TestNearCacheOfASilentNode(t *testing.T) {
	t.Parallel()
	const lease = 200 * time.Millisecond
	for name, isCut := range map[string]bool{"cut off": true, "frozen": false} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t)
			link := redistest.NewLink(t, node.Addr, 0)
			k := redistest.Serve(t, "near_cache: {enabled: true, lease: 200ms}\nbackend: {request_timeout: 1s}\n"+
				redistest.Ring(link.Addr)).Ready()
			c := k.Dial()
			c.MustDo("SET", "hot", "old")
			makeHot(t, k, "hot", c)
			if isCut {
				link.Cut()
				redistest.Dial(t, node.Addr).MustDo("SET", "hot", "new")
			} else {
				node.Freeze()
				defer node.Thaw()
			}
			at, hits := time.Now(), 0
			for {
				sent := time.Now()
				r := c.Do("GET", "hot")
				if r.String() == "old" && sent.Sub(at) >= lease {
					t.Fatalf("keyway answers %v after the node has become silent", sent.Sub(at))
				}
				if r.String() != "old" {
					break
				}
				hits++
			}
			t.Logf("%d more hits", hits)
			if isCut {
				link.Heal()
				redistest.Eventually(t, 20*time.Second, "the new value comes", func() bool {
					r := c.Do("GET", "hot")
					if r.String() == "old" {
						t.Fatal("the older value is back")
					}
					return r.String() == "new"
				})
				makeHot(t, k, "hot", c)
			}
		})
	}
}

// TestNearCacheWithoutItsConnection: a value ends with the connection over which it was read. A node that can
// remember few keys makes keyway forget.
func TestNearCacheWithoutItsConnection(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, near+redistest.Ring(node.Addr)).Ready()
	c, at := k.Dial(), redistest.Dial(t, node.Addr)
	at.MustDo("SET", "hot", "1")
	for n := range 20 {
		makeHot(t, k, "hot", c)
		killed := 0
		for line := range strings.Lines(at.MustDo("CLIENT", "LIST").Text) {
			if id := strings.Fields(line)[0]; strings.Contains(line, " flags=t ") {
				killed += int(at.MustDo("CLIENT", "KILL", "ID", strings.TrimPrefix(id, "id=")).Int)
			}
		}
		if killed != 1 {
			t.Fatalf("keyway had %d connections for near_cache", killed)
		}
		want := fmt.Sprint("new", n)
		at.MustDo("SET", "hot", want)
		becomes(t, c, "hot", "", want)
	}
	makeHot(t, k, "hot", c)
	at.MustDo("CONFIG", "SET", "tracking-table-max-keys", "1")
	reader := redistest.Dial(t, node.Addr)
	reader.MustDo("HELLO", "3")
	reader.MustDo("CLIENT", "TRACKING", "ON")
	before := nearFigures(k).NearInvalidated
	redistest.Eventually(t, 20*time.Second, "the node forgets that keyway has read the key", func() bool {
		for i := range 50 {
			at.MustDo("SET", fmt.Sprint("key", i), "1")
			reader.Send("GET", fmt.Sprint("key", i))
		}
		reader.Flush()
		return nearFigures(k).NearInvalidated > before
	})
	at.MustDo("SET", "hot", "last")
	becomes(t, c, "hot", "", "last")
}

// TestNearCacheWhereSlotsMove: when a replica takes over, or a slot moves, no client gets a value that a later
// write through keyway has replaced.
func TestNearCacheWhereSlotsMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t, 2, 1, "--cluster-node-timeout", "15000")
	k := redistest.Serve(t, "threads: 2\n"+near+cluster.SeedsYAML()).Ready()
	writer, readers := k.Dial(), onThreads(t, k)
	write := func(value string) {
		t.Helper()
		writer.Expect("OK", "SET", "hot", value)
		for _, c := range readers {
			becomes(t, c, "hot", "", value)
		}
	}
	write("1")
	makeHot(t, k, "hot", readers...)
	slot := int(cluster.Nodes[0].Do("CLUSTER", "KEYSLOT", "hot").Int)
	owner := cluster.Owner(0, slot)
	cluster.Failover(owner + 2)
	write("2")
	makeHot(t, k, "hot", readers...)
	write("3")

	from, to := cluster.Nodes[owner+2], cluster.Nodes[1-owner]
	id := func(n *redistest.Node) string { return n.Do("CLUSTER", "MYID").Text }
	host, port, _ := strings.Cut(to.Addr, ":")
	makeHot(t, k, "hot", readers...)
	to.Do("CLUSTER", "SETSLOT", strconv.Itoa(slot), "IMPORTING", id(from))
	from.Do("CLUSTER", "SETSLOT", strconv.Itoa(slot), "MIGRATING", id(to))
	write("4")
	makeHot(t, k, "hot", readers...)
	from.Do("MIGRATE", host, port, "hot", "0", "5000")
	write("5")
	to.Do("CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", id(to))
	from.Do("CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", id(to))
	write("6")
	makeHot(t, k, "hot", readers...)
	write("7")
}

// TestNearCacheAndUsers: keyway answers by the rules of the client's user, in its database, and under its names.
func TestNearCacheAndUsers(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, near+redistest.Ring(node.Addr)+`users:
  - {name: default, acl: "on nopass ~* &* +@all"}
  - {name: other, acl: "on >p ~other* +@all"}
  - {name: own, acl: "on >p ~* +@all", prefix: "own:"}
`).Ready()
	c, other, own := k.Dial(), k.Dial(), k.Dial()
	other.MustDo("AUTH", "other", "p")
	own.MustDo("AUTH", "own", "p")
	c.MustDo("MSET", "hot", "v", "own:hot", "w")
	makeHot(t, k, "hot", c)
	if r := other.Do("GET", "hot"); !strings.HasPrefix(r.String(), "-NOPERM") {
		t.Errorf("a user without the right to read it gets %s", r)
	}
	makeHot(t, k, "hot", own)
	own.Expect("w", "GET", "hot")
	c.Expect("v", "GET", "hot")
	c.Expect("OK", "SELECT", "1")
	c.Expect("(nil)", "GET", "hot")
	c.Expect("OK", "SELECT", "0")
	c.MustDo("HELLO", "3")
	c.Expect("v", "GET", "hot")
}
