package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// exchange is a change of the layout in which two nodes exchange all their keys.
type exchange struct {
	t            testing.TB
	nodes        []*redistest.Node
	older, newer string
}

// newExchange begins the change: the nodes say that it is under way.
func newExchange(t testing.TB) *exchange {
	x := &exchange{t: t, nodes: []*redistest.Node{redistest.Start(t), redistest.Start(t)}}
	const layout = "layout: slots\nslots: {static: {%s: 0-8191, %s: 8192-16383}}\n"
	nodes := redistest.NodesYAML(x.nodes)
	x.older, x.newer = fmt.Sprintf(layout, "a", "b")+nodes, fmt.Sprintf(layout, "b", "a")+nodes
	putInForce(t, 1, x.older, x.newer, x.nodes...)
	return x
}

// keyway starts a keyway whose file has the older layout.
func (x *exchange) keyway() *redistest.Process { return redistest.ServeProcess(x.t, x.older) }

// former returns the node on which a key is before the change, and owner the other one.
func (x *exchange) former(key string) *redistest.Node { return x.nodes[slots.Of([]byte(key))/8192] }
func (x *exchange) owner(key string) *redistest.Node  { return x.nodes[1-slots.Of([]byte(key))/8192] }

// put writes keys to their former nodes.
func (x *exchange) put(prefix string, count int) (keys []string) {
	conns := map[*redistest.Node]*redistest.Client{}
	for _, n := range x.nodes {
		conns[n] = redistest.Dial(x.t, n.Addr)
		defer conns[n].Close()
	}
	for i := range count {
		key := fmt.Sprint(prefix, i)
		conns[x.former(key)].Expect("OK", "SET", key, "value of "+key)
		keys = append(keys, key)
	}
	return keys
}

// touch makes a keyway bring keys, by reading them.
func touch(c *redistest.Client, keys []string) {
	for _, key := range keys {
		c.Send("GET", key)
	}
	c.Flush()
	for _, key := range keys {
		if r, err := c.Receive(); err != nil || r.Text != "value of "+key {
			panic(fmt.Sprintf("GET %s: %v %v", key, r, err))
		}
	}
}

// TestScanWhileKeysMove: a walk of SCAN finds each key that is there throughout, however many
// another keyway brings to their new nodes meanwhile.
func TestScanWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	x := newExchange(t)
	c, other := redistest.Dial(t, x.keyway().Addr), redistest.Dial(t, x.keyway().Addr)
	const count = 3000
	for round := range 4 {
		prefix := fmt.Sprintf("r%d:", round)
		keys := x.put(prefix, count)
		slices.SortFunc(keys, func(a, b string) int { // those of node b move first, behind the walk's back
			return int(slots.Of([]byte(b))) - int(slots.Of([]byte(a)))
		})
		found, cursor, pages := map[string]bool{}, "0", 0
		for pages == 0 || cursor != "0" {
			r := c.MustDo("SCAN", cursor, "MATCH", prefix+"*", "COUNT", "200", "TYPE", "string")
			cursor = r.Elems[0].Text
			for _, e := range r.Elems[1].Elems {
				found[e.Text] = true
			}
			if pages++; pages > 1000 {
				t.Fatal("the walk does not end")
			}
			n := min(len(keys), 97)
			touch(other, keys[:n])
			keys = keys[n:]
		}
		if len(found) != count || len(keys) > 0 {
			t.Errorf("%d of %d keys in %d pages; %d have not moved", len(found), count, pages, len(keys))
		}
	}
}

// TestKeysWhileKeysMove: KEYS returns each key once, while another keyway brings them to their new
// nodes, and so do the commands on slots where keyway emulates a cluster.
func TestKeysWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	x := newExchange(t)
	keyways := redistest.EmulatingProcesses(t, 2, x.older)
	c, other := redistest.Dial(t, keyways[0].Addr), redistest.Dial(t, keyways[1].Addr)
	keys := append(x.put("k:", 1500), x.put("{same}", 100)...)
	var clients sync.WaitGroup
	var isOver atomic.Bool
	clients.Go(func() {
		defer isOver.Store(true)
		for part := range slices.Chunk(keys, 8) {
			touch(other, part)
		}
	})
	slot := fmt.Sprint(slots.Of([]byte("{same}")))
	for last := false; !last && !t.Failed(); {
		last = isOver.Load()
		found := map[string]int{}
		for _, e := range c.MustDo("KEYS", "*").Elems {
			found[e.Text]++
		}
		if len(found) != len(keys) || slices.Max(slices.Collect(maps.Values(found))) != 1 {
			t.Errorf("KEYS finds %d of %d keys", len(found), len(keys))
		}
		c.Expect("100", "CLUSTER", "COUNTKEYSINSLOT", slot)
		if n := len(c.MustDo("CLUSTER", "GETKEYSINSLOT", slot, "1000").Elems); n != 100 {
			t.Errorf("GETKEYSINSLOT finds %d keys", n)
		}
	}
	clients.Wait()
}

// bringAll reads keys by keyways, which bring them, until all are read or the function that it returns is called.
func bringAll(t *testing.T, keys []string, by ...*redistest.Process) (halt func()) {
	var stop atomic.Bool
	var clients sync.WaitGroup
	for i, of := range slices.Collect(slices.Chunk(keys, len(keys)/6)) {
		mine := redistest.Dial(t, by[i%len(by)].Addr)
		clients.Go(func() {
			for part := range slices.Chunk(of, 7) {
				if stop.Load() {
					break
				}
				for _, key := range part {
					mine.Send("GET", key)
				}
				mine.Flush()
				for range part {
					if r, err := mine.Receive(); err != nil || r.Kind == '-' {
						t.Errorf("GET: %v %v", r, err)
					}
				}
			}
		})
	}
	return func() {
		stop.Store(true)
		clients.Wait()
	}
}

// TestFlushWhileKeysMove: what was there before FLUSHALL does not come back after its reply, although
// other keyways are bringing keys at that moment.
func TestFlushWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	x := newExchange(t)
	c, movers := redistest.Dial(t, x.keyway().Addr), []*redistest.Process{x.keyway(), x.keyway()}
	for round := range 12 {
		keys := x.put(fmt.Sprintf("r%d:", round), 600)
		readers := bringAll(t, keys, movers[0], movers[1])
		redistest.Eventually(t, 20*time.Second, "some keys have moved", func() bool {
			at := map[bool]int{}
			for i, n := range x.nodes {
				for _, key := range n.Keys() {
					at[x.former(key) == x.nodes[i]]++
				}
			}
			return at[false] > 20
		})
		flush := [][]string{{"FLUSHALL"}, {"FLUSHALL", "ASYNC"}, {"FLUSHDB"}, {"FLUSHDB", "SYNC"}}[round%4]
		c.Expect("OK", flush...)
		readers()
		for _, n := range x.nodes {
			if left := n.Keys(); len(left) > 0 {
				t.Errorf("%s: %d keys are at %s: %q", flush, len(left), n.Addr, left[:min(len(left), 3)])
			}
		}
	}
}

// TestFlushWhileKeysMoveBetweenClusters: the same from one cluster to another with FLUSHALL, and back with FLUSHDB.
func TestFlushWhileKeysMoveBetweenClusters(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	east, west := redistest.NewCluster(t, 2, 0), redistest.NewCluster(t, 2, 0)
	from, to := east.SeedsYAML(), strings.Replace(west.SeedsYAML(), "seeds:", "cluster: west, seeds:", 1)
	k, other := redistest.ServeProcess(t, from), redistest.ServeProcess(t, from)
	c := redistest.Dial(t, k.Addr)
	for i, way := range [][2]string{{from, to}, {to, from}} {
		flush := []string{"FLUSHALL", "FLUSHDB"}[i]
		var keys []string
		for n := range 3000 {
			keys = append(keys, fmt.Sprint(flush, n))
			c.Send("SET", keys[n], "x")
		}
		c.Flush()
		for range keys {
			if r, err := c.Receive(); err != nil || r.Text != "OK" {
				t.Fatalf("SET: %s %v", r, err)
			}
		}
		if out, status := keyway(t, "switch", "--rate", "100", "--latency", "0", way[0], way[1]); status != 0 {
			t.Fatalf("keyway switch: %d %s", status, out)
		}
		readers := bringAll(t, keys, k, other)
		redistest.Eventually(t, 20*time.Second, "some keys have moved", func() bool {
			return len([]*redistest.Cluster{west, east}[i].Nodes[0].Keys()) > 50
		})
		c.Expect("OK", flush)
		readers()
		c.Expect("OK", "SET", "later", flush)
		for _, n := range slices.Concat(east.Nodes, west.Nodes) {
			for _, key := range n.Keys() {
				if key != "later" {
					t.Errorf("%s: %s is at %s", flush, key, n.Addr)
				}
			}
		}
		redistest.Eventually(t, 30*time.Second, "the change is done", func() bool {
			return hasRecord([]*redistest.Cluster{west, east}[i].Nodes[0], fmt.Sprintf("keyway_%d_done", i+1))
		})
		redistest.Dial(t, other.Addr).Expect(flush, "GET", "later")
		c.Expect("1", "DBSIZE")
		c.Expect("1", "DEL", "later")
	}
}

// TestSortWhileKeysMove: SORT gets the values of the keys that its patterns name, wherever they are.
func TestSortWhileKeysMove(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	for name, tag := range map[string]string{"alone": "{x}", "in a transaction": "{y}"} {
		n := x.former(tag)
		n.Do("RPUSH", tag+"list", "1", "2", "3")
		for i, weight := range []string{"30", "10", "20"} {
			n.Do("SET", fmt.Sprint(tag, "weight:", i+1), weight)
			n.Do("HSET", fmt.Sprint(tag, "hash:", i+1), "f", fmt.Sprint("value", i+1))
		}
		c := redistest.Dial(t, x.keyway().Addr)
		sorting := []string{"SORT", tag + "list", "BY", tag + "weight:*", "GET", tag + "hash:*->f", "GET", "#",
			"STORE", tag + "sorted"}
		if name == "alone" {
			c.Expect("6", sorting...)
		} else {
			c.Expect("OK", "MULTI")
			c.Expect("QUEUED", sorting...)
			c.MustDo("EXEC")
		}
		c.Expect("[value2 2 value3 3 value1 1]", "LRANGE", tag+"sorted", "0", "-1")
		if left := n.Do("EXISTS", tag+"list", tag+"weight:1", tag+"hash:3").Int; left != 0 {
			t.Errorf("%s: %d keys are still at their former node", name, left)
		}
	}
	c := redistest.Dial(t, x.keyway().Addr)
	c.Expect("-WRONGTYPE Operation against a key holding the wrong kind of value",
		"SORT", "{x}weight:1", "BY", "{x}weight:*")
	many := []string{"RPUSH", "{x}many"}
	for i := range 10_001 {
		many = append(many, fmt.Sprint(i))
	}
	c.Expect("10001", many...)
	r := c.Do("SORT", "{x}many", "BY", "{x}weight:*", "LIMIT", "0", "1")
	if !strings.HasPrefix(r.Text, "TRYAGAIN keyway: ") {
		t.Errorf("SORT of 10,001 elements: %s", r)
	}
	c.Expect("[0]", "SORT", "{x}many", "LIMIT", "0", "1") // takes nothing from other keys
}

// TestDatabasesWhileKeysMove: MOVE and COPY find the key of the other database at its former node,
// and SWAPDB is refused.
func TestDatabasesWhileKeysMove(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	for _, key := range []string{"moved", "copied", "free"} {
		c := redistest.Dial(t, x.former(key).Addr)
		c.Expect("OK", "SET", key, "in 0")
		if key != "free" {
			c.Expect("OK", "SELECT", "5")
			c.Expect("OK", "SET", key, "in 5")
		}
	}
	c := redistest.Dial(t, x.keyway().Addr)
	c.Expect("0", "MOVE", "moved", "5")
	c.Expect("0", "COPY", "copied", "copied", "DB", "5")
	c.Expect("1", "COPY", "copied", "copied", "DB", "5", "REPLACE")
	c.Expect("1", "MOVE", "free", "5")
	c.Expect("OK", "SELECT", "5")
	for key, want := range map[string]string{"moved": "in 5", "copied": "in 0", "free": "in 0"} {
		c.Expect(want, "GET", key)
	}
	for _, n := range x.nodes {
		for _, key := range n.Keys() {
			if x.owner(key) != n {
				t.Errorf("%s is at %s", key, n.Addr)
			}
		}
	}
	if r := c.Do("SWAPDB", "0", "5"); !strings.HasPrefix(r.Text, "TRYAGAIN keyway: ") {
		t.Errorf("SWAPDB: %s", r)
	}
	c.Expect("OK", "MULTI")
	if r := c.Do("SWAPDB", "0", "5"); !strings.HasPrefix(r.Text, "TRYAGAIN keyway: ") {
		t.Errorf("SWAPDB between MULTI and EXEC: %s", r)
	}
	if r := c.Do("EXEC"); !strings.HasPrefix(r.Text, "EXECABORT ") {
		t.Errorf("EXEC: %s", r)
	}
}

// TestReplicasWhileKeysMove: a replica serves the keys that stay where they are, and masters those
// that move: the replica may not have them yet.
func TestReplicasWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	a, b := redistest.Start(t), redistest.Start(t)
	replica := redistest.Replica(t, b)
	nodes := fmt.Sprintf("nodes:\n  - {name: a, addr: %s}\n  - {name: b, addr: %s, replicas: [%s]}\nreads: replica\n",
		a.Addr, b.Addr, replica.Addr)
	const layout = "layout: slots\nslots: {static: {a: 0-%d, b: %d-16383}}\n"
	older, newer := fmt.Sprintf(layout, 8191, 8192)+nodes, fmt.Sprintf(layout, 4095, 4096)+nodes
	stays, moves := "", ""
	for i := 0; stays == "" || moves == ""; i++ {
		switch key := fmt.Sprint("key:", i); slots.Of([]byte(key)) / 4096 {
		case 1:
			moves = key
		case 2:
			stays = key
		}
	}
	putInForce(t, 1, older, newer, a, b)
	a.Do("SET", moves, "master")
	b.Do("SET", stays, "master")
	redistest.Eventually(t, 20*time.Second, "the replica has the key", func() bool {
		return replica.Do("GET", stays).Text == "master"
	})
	replica.Do("CONFIG", "SET", "slave-read-only", "no")
	replica.Do("SET", stays, "replica")
	replica.Do("SET", moves, "replica")
	c := redistest.Dial(t, redistest.ServeProcess(t, older).Addr)
	redistest.Eventually(t, 20*time.Second, "the replica serves reads", func() bool {
		return c.Do("GET", stays).Text == "replica"
	})
	c.Expect("master", "GET", moves)
	replica.Do("SET", moves, "replica")
	c.Expect("master", "GET", moves) // it has come, but perhaps not to the replica
	c.Expect("[master replica]", "MGET", moves, stays)
	c.Expect("2", "EXISTS", moves, stays)
}
