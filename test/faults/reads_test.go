package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	operators "github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// calls is how often a node was sent a command, refused ones included.
func calls(n *redistest.Node, command string) (total int) {
	for line := range strings.Lines(n.Do("INFO", "commandstats").Text) {
		if f, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			for _, field := range strings.Split("calls="+strings.TrimSpace(f), ",") {
				if name, count, _ := strings.Cut(field, "="); name == "calls" || name == "rejected_calls" || name == "failed_calls" {
					c, _ := strconv.Atoi(count)
					total += c
				}
			}
		}
	}
	return total
}

// shards are masters, and the replicas that keyway may read from.
type shards struct {
	masters, replicas []*redistest.Node
	yaml              string
}

func readLayouts(t *testing.T) map[string]shards {
	c := redistest.NewCluster(t, 3, 1)
	m := []*redistest.Node{redistest.Start(t, "--repl-diskless-sync-delay", "0"), redistest.Start(t, "--repl-diskless-sync-delay", "0")}
	r := []*redistest.Node{redistest.Replica(t, m[0]), redistest.Replica(t, m[1])}
	w := redistest.NewWatched(t, "east", "west")
	return map[string]shards{
		"cluster":  {c.Nodes[:3], c.Nodes[3:], c.SeedsYAML()},
		"ring":     {m, r, fmt.Sprintf("layout: ring\nnodes: [{name: a, addr: %s, replicas: [%s]}, {name: b, addr: %s, replicas: [%s]}]\n", m[0].Addr, r[0].Addr, m[1].Addr, r[1].Addr)},
		"sentinel": {w.Masters, w.Replicas, "layout: modulo\n" + w.NodesYAML()},
	}
}

// readsFrom waits until keyway may read from every replica.
func readsFrom(t *testing.T, k *redistest.Keyway, replicas int) {
	t.Helper()
	k.Ready()
	redistest.Eventually(t, 20*time.Second, "every replica is in step", func() bool {
		for _, s := range k.Snapshot() {
			in := 0
			for _, n := range s.Nodes {
				if !n.Master && n.Up && n.Behind < time.Second {
					in++
				}
			}
			if in < replicas {
				return false
			}
		}
		return true
	})
}

// TestReplicaReads counts on the nodes where reads go, of clients that read what
// others write.
func TestReplicaReads(t *testing.T) {
	t.Parallel()
	for name, sh := range readLayouts(t) {
		k := redistest.Serve(t, sh.yaml+"reads: prefer-replica\nthreads: 2\n")
		readsFrom(t, k, len(sh.replicas))
		seed := k.Dial()
		for i := range 500 {
			seed.MustDo("SET", fmt.Sprint("k", i), "0")
		}
		var before [2]int
		count := func() (at [2]int) {
			for i, nodes := range [2][]*redistest.Node{sh.masters, sh.replicas} {
				for _, n := range nodes {
					at[i] += calls(n, "get")
				}
			}
			return at
		}
		redistest.Eventually(t, 10*time.Second, "the replicas have all keys", func() bool {
			keys := 0
			for _, n := range sh.replicas {
				keys += int(n.Do("DBSIZE").Int)
			}
			return keys == 500
		})
		before = count()
		var wg sync.WaitGroup
		for id := range 10 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(id), 3))
				c, err := redistest.TryDial(k.Addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for range scale(2000, 20000) {
					key := fmt.Sprint("k", rng.IntN(500))
					if rng.IntN(10) == 0 {
						c.Send("SET", key, strconv.Itoa(rng.IntN(1000)))
					} else {
						c.Send("GET", key)
					}
					if err := c.Flush(); err != nil {
						t.Error(err)
						return
					}
					if r, err := c.Receive(); err != nil || r.Kind == '-' || r.Null {
						t.Errorf("%s: %v %v", name, r, err)
						return
					}
				}
			})
		}
		wg.Wait()
		after := count()
		masters, replicas := after[0]-before[0], after[1]-before[1]
		t.Logf("%s: %d reads at masters, %d at replicas", name, masters, replicas)
		if replicas < 9*masters {
			t.Errorf("%s: only %d of %d reads reached replicas", name, replicas, masters+replicas)
		}
		k.Stop()
	}
}

// TestReplicaReadsUnderFaults: whatever happens to replicas and slots, a client
// reads what it has written itself, and sees no error.
func TestReplicaReadsUnderFaults(t *testing.T) {
	t.Parallel()
	for _, reads := range []string{"prefer-replica", "nearest"}[:scale(1, 2)] {
		c := redistest.NewCluster(t, 3, 1)
		k := redistest.Serve(t, c.SeedsYAML()+"reads: "+reads+"\nreplicas: {max_lag: 1s}\n")
		readsFrom(t, k, 3)
		l := (&load{addr: k.Addr, clients: 20, keys: 300, pause: 5 * time.Millisecond}).start(t)
		for range scale(1, 5) {
			l.more(t, 10_000)
			reshard(t, c, 1, 2, 300)
			l.more(t, 10_000)
			swap(c)
			l.more(t, 10_000)
			freeze(c.Nodes[4])
			l.more(t, 10_000)
			c.Nodes[5].Kill()
			l.more(t, 10_000)
			c.Nodes[5].Run()
			c.Settle()
		}
		l.more(t, 10_000)
		l.halt()
		s := k.Snapshot()[0]
		t.Logf("%s: %d reads at masters, %d at replicas, %d of these again at the master", reads, s.ReadsMaster, s.ReadsReplica, s.ReadsAgain)
		noErrors(t, k, l, 0)
		if reads == "prefer-replica" && (s.ReadsReplica < 1000 || s.ReadsAgain == 0) {
			t.Error("hardly anything was read from replicas: nothing was tested")
		}
		l.settle(t, k.Addr)
		health(t, k)
		k.Stop()
	}
}

// TestReplicaBehind: a replica whose link stands still, though it says that it is
// up, and one that loads its data set, are not read from. Until then it can be
// seen who reads where.
func TestReplicaBehind(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	var mended atomic.Bool
	link := redistest.NewFaults(t, master.Addr, func(int) redistest.Plan {
		if mended.Load() {
			return redistest.Plan{}
		}
		return redistest.Plan{DeafReply: 60_000}
	})
	replica := redistest.Replica(t, master)
	replica.Do("REPLICAOF", "NO", "ONE")
	host, port, _ := strings.Cut(link.Addr, ":")
	replica.Do("REPLICAOF", host, port)
	inStep := func() bool {
		return strings.Contains(replica.Do("INFO", "replication").Text, "master_link_status:up")
	}
	redistest.Eventually(t, 20*time.Second, "the replica follows through the link", inStep)
	yaml := fmt.Sprintf("layout: ring\nnodes: [{name: a, addr: %s, replicas: [%s]}]\n", master.Addr, replica.Addr)
	k := redistest.Serve(t, yaml+"reads: prefer-replica\nreplicas: {max_lag: 4s}\n")
	patient := redistest.Serve(t, yaml+"reads: replica\nreplicas: {max_lag: 0}\n")
	readsFrom(t, k, 1)
	readsFrom(t, patient, 1)
	asked := redistest.Serve(t, yaml+"reads: prefer-replica\nreplicas: {max_lag: 0, opt_in: true}\n")
	readsFrom(t, asked, 1)
	master.Do("SET", "k", "old")
	reader := k.Dial()
	redistest.Eventually(t, 10*time.Second, "the replica has the key", func() bool { return reader.MustDo("GET", "k").Text == "old" })
	master.Do("SET", "big", strings.Repeat("x", 100_000)) // stops the link
	master.Do("SET", "k", "new")
	reader.Expect("old", "GET", "k")       // from the replica, within the bound
	asked.Dial().Expect("new", "GET", "k") // it has not said READONLY
	opted := asked.Dial()
	opted.Expect("OK", "READONLY")
	opted.Expect("old", "GET", "k")
	watching := k.Dial()
	watching.Expect("old", "GET", "k")
	watching.Expect("OK", "WATCH", "k")
	watching.Expect("new", "GET", "k") // what EXEC goes by
	watching.Expect("OK", "UNWATCH")
	watching.Expect("old", "GET", "k")
	watching.Expect("OK", "MULTI")
	watching.Expect("QUEUED", "GET", "k")
	watching.Expect("[new]", "EXEC")
	watching.Expect("new", "EVAL", "return redis.call('GET', KEYS[1])", "1", "k")
	watching.Expect("OK", "READWRITE")
	watching.Expect("new", "GET", "k")
	watching.Expect("OK", "SET", "k", "newer")
	watching.Expect("OK", "READONLY")
	watching.Expect("newer", "GET", "k") // its own

	redistest.Eventually(t, 10*time.Second, "the replica is too far behind", func() bool { return reader.MustDo("GET", "k").Text == "newer" })
	if !inStep() {
		t.Fatal("the replica has noticed that its link is still: nothing was tested")
	}
	before := calls(replica, "get")
	for range 1000 {
		reader.Expect("newer", "GET", "k")
	}
	if n := calls(replica, "get") - before; n > 0 {
		t.Errorf("%d reads reached a replica that is behind", n)
	}
	patient.Dial().Expect("old", "GET", "k") // as it was asked for
	metrics := httptest.NewRecorder()
	operators.Handler(patient.Server, operators.Options{Version: "test"}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`keyway_reads_total{from="replica"} 1`, `keyway_reads_total{from="master"} 0`, `keyway_replica_behind_seconds{addr="` + replica.Addr + `",node="` + replica.Addr + `"} `} {
		if !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}

	mended.Store(true)
	link.CutAll() // the replica makes a new one
	redistest.Eventually(t, 30*time.Second, "the replica is read from again", func() bool {
		reader.Expect("newer", "GET", "k")
		return calls(replica, "get") > before+1
	})

	// A replica that has to begin anew loads for a second and a half.
	for i := range 1500 {
		master.Do("SET", fmt.Sprint("load", i), "x")
	}
	replica.Do("CONFIG", "SET", "key-load-delay", "1000", "loading-process-events-interval-bytes", "1024")
	master.Do("DEBUG", "CHANGE-REPL-ID")
	master.Do("CLIENT", "KILL", "TYPE", "replica")
	redistest.Eventually(t, 20*time.Second, "the replica loads", func() bool { return strings.Contains(replica.Do("INFO", "persistence").Text, "loading:1") })
	before = calls(replica, "get")
	n := 0
	for ; strings.Contains(replica.Do("INFO", "persistence").Text, "loading:1"); n++ {
		reader.Expect("newer", "GET", "k")
	}
	if got := calls(replica, "get") - before; got > 1 || n < 5 { // one at most, which it refused
		t.Errorf("%d of %d reads reached a replica that was loading", got, n)
	}
	if r := patient.Dial().Do("GET", "k"); r.Text != "newer" && !strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: node a") {
		t.Errorf("%s", r)
	}
	redistest.Eventually(t, 30*time.Second, "the replica is read from again", func() bool {
		reader.Expect("newer", "GET", "k")
		return calls(replica, "get") > before
	})
	// Without the master its replica is read from, up to the bound.
	redistest.Eventually(t, 30*time.Second, "the other keyway reads from it, too", func() bool {
		return patient.Dial().Do("GET", "k").Text == "newer"
	})
	master.Kill()
	patient.Dial().Expect("newer", "GET", "k")
	redistest.Eventually(t, 10*time.Second, "nothing is read that is too old", func() bool { return reader.Do("GET", "k").Kind == '-' })
}
