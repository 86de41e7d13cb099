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
				name, count, _ := strings.Cut(field, "=")
				if name == "calls" || name == "rejected_calls" || name == "failed_calls" {
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
	var m, r []*redistest.Node
	ring := "layout: ring\nnodes:\n"
	for i := range 2 {
		m = append(m, redistest.Start(t, "--repl-diskless-sync-delay", "0"))
		r = append(r, redistest.Replica(t, m[i]))
		ring += fmt.Sprintf("  - {name: %c, addr: %s, replicas: [%s]}\n", 'a'+i, m[i].Addr, r[i].Addr)
	}
	w := redistest.NewWatched(t, "east", "west")
	return map[string]shards{
		"cluster":  {c.Nodes[:3], c.Nodes[3:], c.SeedsYAML()},
		"ring":     {m, r, ring},
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
				if !n.Master && n.Up && n.Lag < time.Second {
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
		before := count()
		var wg sync.WaitGroup
		for id := range 10 {
			c := k.Dial()
			wg.Go(func() { readAndWrite(t, c, rand.New(rand.NewPCG(uint64(id), 3))) })
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

// readAndWrite sends nine reads for one write, of 500 keys.
func readAndWrite(t *testing.T, c *redistest.Client, rng *rand.Rand) {
	defer c.Close()
	for range scale(2000, 20000) {
		args := []string{"GET", fmt.Sprint("k", rng.IntN(500))}
		if rng.IntN(10) == 0 {
			args = []string{"SET", args[1], strconv.Itoa(rng.IntN(1000))}
		}
		if r, err := c.TryDo(args...); err != nil || r.Kind == '-' || r.Null {
			t.Errorf("%q: %v %v", args, r, err)
			return
		}
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
		t.Logf("%s: %d reads at masters, %d at replicas, %d of these again at the master",
			reads, s.ReadsMaster, s.ReadsReplica, s.ReadsAgain)
		noErrors(t, k, l, 0)
		if reads == "prefer-replica" && (s.ReadsReplica < 1000 || s.ReadsAgain == 0) {
			t.Error("hardly anything was read from replicas: nothing was tested")
		}
		// A new client may get values of up to max_lag ago, so the masters are asked.
		l.settle(t, redistest.Serve(t, c.SeedsYAML()).Ready().Addr)
		health(t, k)
		k.Stop()
	}
}

// laggard is a master whose replica follows it over a link that can stand still.
type laggard struct {
	t               *testing.T
	master, replica *redistest.Node
	link            *redistest.Faults
	mended          atomic.Bool
	yaml            string
}

// newLaggard starts the nodes. The link stands still once 60 kB have passed it.
func newLaggard(t *testing.T) *laggard {
	t.Helper()
	l := &laggard{t: t, master: redistest.Start(t, "--repl-diskless-sync-delay", "0")}
	l.link = redistest.NewFaults(t, l.master.Addr, func(int) redistest.Plan {
		if l.mended.Load() {
			return redistest.Plan{}
		}
		return redistest.Plan{DeafReply: 60_000}
	})
	l.replica = redistest.Replica(t, l.master)
	l.replica.Do("REPLICAOF", "NO", "ONE")
	host, port, _ := strings.Cut(l.link.Addr, ":")
	l.replica.Do("REPLICAOF", host, port)
	redistest.Eventually(t, 20*time.Second, "the replica follows through the link", l.inStep)
	l.yaml = fmt.Sprintf("layout: ring\nnodes: [{name: a, addr: %s, replicas: [%s]}]\n",
		l.master.Addr, l.replica.Addr)
	return l
}

// inStep reports whether the replica believes that its link is up.
func (l *laggard) inStep() bool {
	return strings.Contains(l.replica.Do("INFO", "replication").Text, "master_link_status:up")
}

// serve starts a keyway that may read from the replica.
func (l *laggard) serve(yaml string) *redistest.Keyway {
	l.t.Helper()
	k := redistest.Serve(l.t, l.yaml+yaml)
	readsFrom(l.t, k, 1)
	return k
}

// stop makes the link stand still: the master has "new" for k, the replica "old".
func (l *laggard) stop(reader *redistest.Client) {
	l.t.Helper()
	l.master.Do("SET", "k", "old")
	redistest.Eventually(l.t, 10*time.Second, "the replica has the key", func() bool {
		return reader.MustDo("GET", "k").Text == "old"
	})
	l.master.Do("SET", "big", strings.Repeat("x", 100_000)) // stops the link
	l.master.Do("SET", "k", "new")
}

// TestLaggingReplicaIsNotRead: a replica whose link stands still, though it says that the link is up,
// is not read from once it lags more than allowed. It is read from again when the link is
// mended, and as long as it lags less.
func TestLaggingReplicaIsNotRead(t *testing.T) {
	t.Parallel()
	l := newLaggard(t)
	k := l.serve("reads: prefer-replica\nreplicas: {max_lag: 4s}\n")
	unbounded := l.serve("reads: replica\nreplicas: {max_lag: 0}\n")
	reader := k.Dial()
	l.stop(reader)
	reader.Expect("old", "GET", "k") // from the replica, within the bound
	l.master.Do("SET", "k", "newer")
	redistest.Eventually(t, 10*time.Second, "the replica is too far behind", func() bool {
		return reader.MustDo("GET", "k").Text == "newer"
	})
	if !l.inStep() {
		t.Fatal("the replica has noticed that its link is still: nothing was tested")
	}
	before := calls(l.replica, "get")
	for range 1000 {
		reader.Expect("newer", "GET", "k")
	}
	if n := calls(l.replica, "get") - before; n > 0 {
		t.Errorf("%d reads reached a replica that is behind", n)
	}
	unbounded.Dial().Expect("old", "GET", "k")
	metrics := httptest.NewRecorder()
	handler := operators.Handler(unbounded.Server, operators.Options{Version: "test"})
	handler.ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`keyway_reads_total{from="replica"} 1`,
		`keyway_reads_total{from="master"} 0`,
		`keyway_replica_lag_seconds{addr="` + l.replica.Addr + `",node="` + l.replica.Addr + `"} `,
	} {
		if !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	l.mended.Store(true)
	l.link.CutAll() // the replica makes a new one
	redistest.Eventually(t, 30*time.Second, "the replica is read from again", func() bool {
		reader.Expect("newer", "GET", "k")
		return calls(l.replica, "get") > before+1
	})
	// Without the master its replica is read from, up to the bound.
	redistest.Eventually(t, 30*time.Second, "the other keyway reads from it, too", func() bool {
		return unbounded.Dial().Do("GET", "k").Text == "newer"
	})
	l.master.Kill()
	unbounded.Dial().Expect("newer", "GET", "k")
	redistest.Eventually(t, 10*time.Second, "nothing is read that is too old", func() bool {
		return reader.Do("GET", "k").Kind == '-'
	})
}

// TestReadsThatOnlyTheMasterAnswers: of a replica that lags less than allowed, these reads get
// nothing: those after WATCH, in MULTI and in scripts, those of a client that has said
// READWRITE, and with opt_in those of one that has not said READONLY. A client reads its own
// writes.
func TestReadsThatOnlyTheMasterAnswers(t *testing.T) {
	t.Parallel()
	l := newLaggard(t)
	k := l.serve("reads: prefer-replica\nreplicas: {max_lag: 1h}\n")
	asked := l.serve("reads: prefer-replica\nreplicas: {max_lag: 0, opt_in: true}\n")
	c := k.Dial()
	l.stop(c)
	asked.Dial().Expect("new", "GET", "k") // it has not said READONLY
	opted := asked.Dial()
	opted.Expect("OK", "READONLY")
	opted.Expect("old", "GET", "k")
	c.Expect("old", "GET", "k")
	c.Expect("OK", "WATCH", "k")
	c.Expect("new", "GET", "k") // EXEC depends on it
	c.Expect("OK", "UNWATCH")
	c.Expect("old", "GET", "k")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "GET", "k")
	c.Expect("[new]", "EXEC")
	c.Expect("new", "EVAL", "return redis.call('GET', KEYS[1])", "1", "k")
	c.Expect("OK", "READWRITE")
	c.Expect("new", "GET", "k")
	c.Expect("OK", "SET", "k", "newer")
	c.Expect("OK", "READONLY")
	c.Expect("newer", "GET", "k") // its own
	if !l.inStep() {
		t.Fatal("the replica has noticed that its link is still: nothing was tested")
	}
}

// TestLoadingReplicaIsNotRead: a replica that loads its data set is not read from until it has.
func TestLoadingReplicaIsNotRead(t *testing.T) {
	t.Parallel()
	l := newLaggard(t)
	l.mended.Store(true)
	l.link.CutAll()
	k := l.serve("reads: prefer-replica\nreplicas: {max_lag: 4s}\n")
	unbounded := l.serve("reads: replica\nreplicas: {max_lag: 0}\n")
	l.master.Do("SET", "k", "v")
	reader := k.Dial()
	redistest.Eventually(t, 10*time.Second, "the replica has the key", func() bool {
		return unbounded.Dial().Do("GET", "k").Text == "v"
	})
	for i := range 1500 { // a second and a half of loading
		l.master.Do("SET", fmt.Sprint("load", i), "x")
	}
	l.replica.Do("CONFIG", "SET", "key-load-delay", "1000", "loading-process-events-interval-bytes", "1024")
	l.master.Do("DEBUG", "CHANGE-REPL-ID") // the replica has to begin anew
	l.master.Do("CLIENT", "KILL", "TYPE", "replica")
	loading := func() bool { return strings.Contains(l.replica.Do("INFO", "persistence").Text, "loading:1") }
	redistest.Eventually(t, 20*time.Second, "the replica loads", loading)
	before := calls(l.replica, "get")
	n := 0
	for ; loading(); n++ {
		reader.Expect("v", "GET", "k")
	}
	if got := calls(l.replica, "get") - before; got > 1 || n < 5 { // one at most, which it refused
		t.Errorf("%d of %d reads reached a replica that was loading", got, n)
	}
	r := unbounded.Dial().Do("GET", "k")
	if r.Text != "v" && !strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: node a") {
		t.Errorf("%s", r)
	}
	redistest.Eventually(t, 30*time.Second, "the replica is read from again", func() bool {
		reader.Expect("v", "GET", "k")
		return calls(l.replica, "get") > before
	})
}
