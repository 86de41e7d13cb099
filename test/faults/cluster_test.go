package faults

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// reshard moves this many slots between masters under load.
func reshard(t *testing.T, c *redistest.Cluster, from, to, n int) {
	t.Helper()
	out, err := exec.Command("redis-cli", "--cluster", "reshard", c.Nodes[from].Addr,
		"--cluster-from", c.IDs[from], "--cluster-to", c.IDs[to],
		"--cluster-slots", fmt.Sprint(n), "--cluster-yes", "--cluster-pipeline", "20").CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERR") {
		t.Fatalf("redis-cli --cluster reshard: %v\n%s", err, out[max(0, len(out)-500):])
	}
}

// swap has the first shard's replica take its master's place, or give it back.
func swap(c *redistest.Cluster) {
	replica := 3
	if c.Owner(0, 0) == 3 {
		replica = 0
	}
	c.Failover(replica)
}

// freeze stops a node for less than the two seconds after which the cluster declares it failed.
func freeze(n *redistest.Node) {
	n.Freeze()
	time.Sleep(1200 * time.Millisecond) // the fault itself
	n.Thaw()
}

// redirects counts what keyway has followed.
func redirects(k *redistest.Keyway) (moved, asked uint64) {
	for _, n := range k.Snapshot()[0].Nodes {
		moved, asked = moved+n.Moved, asked+n.Ask
	}
	return moved, asked
}

// noErrors requires that no client has seen an error, with one exception: a node refuses a
// command, and then executes the client's next one for the same slot. The first cannot be
// sent again without changing their order. before is how many such errors there were before.
func noErrors(t *testing.T, k *redistest.Keyway, l *load, before uint64) {
	t.Helper()
	if overtaken := k.Snapshot()[0].Overtaken - before; l.errors() > int64(overtaken) {
		t.Errorf("clients saw errors: %v; %d commands were overtaken", &l.tally, overtaken)
	}
}

// TestReshardingUnderLoad moves a third of the slots back and forth while
// clients write and read back: no error, nothing lost, no foreign reply, and
// every key keeps the order of its writes.
func TestReshardingUnderLoad(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	l := (&load{addr: k.Addr, clients: 20, keys: 30}).start(t)
	var moved, asked uint64
	// A slow load may miss the moment in which a slot is asked for.
	for i := 0; i < scale(1, 3) || asked == 0 && i < 6; i++ {
		from, to := i%2, 1-i%2
		reshard(t, c, from, to, 5460) // all but one: a master that has lost its last slot becomes a replica
		moved, asked = redirects(k)
	}
	l.halt()
	t.Logf("%d MOVED, %d ASK followed", moved, asked)
	if l.errors() != 0 {
		t.Errorf("clients saw errors: %v", &l.tally)
	}
	if moved == 0 || asked == 0 {
		t.Error("redirects of one kind were not met: the test has not tested anything")
	}
	l.settle(t, k.Addr)
	census(t, k.Addr, c.Nodes)
	health(t, k)
}

// TestFailoversUnderLoad kills masters that have a replica: errors only until the
// failover, nothing lost on the masters that stayed, no foreign reply, and
// keyway recovers by itself. Then masters change places with their replicas on
// request, which no client must notice.
func TestFailoversUnderLoad(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	var last [3]time.Time // when each shard had its last election
	for round := range scale(1, 10) {
		last[0] = killFirstMaster(t, c, k, round)
	}

	overtaken := k.Snapshot()[0].Overtaken
	l := (&load{addr: k.Addr, clients: 20, prefix: "manual:"}).start(t)
	for round := range scale(3, 20) {
		l.more(t, 5_000)
		s := (round + 1) % 3 // the first shard's last election was just now
		// A replica stands for election again after four node timeouts; asked
		// sooner, Redis pauses its master's clients until then (cluster.c,
		// auth_retry_time).
		time.Sleep(time.Until(last[s].Add(8500 * time.Millisecond)))
		master := c.Owner(0, s*5462)
		replica := (master + 3) % 6
		c.Failover(replica)
		last[s] = time.Now()
	}
	l.more(t, 5_000)
	l.halt()
	noErrors(t, k, l, overtaken)
	l.settle(t, k.Addr)
	health(t, k)
}

// killFirstMaster kills the first shard's master under load, and starts it again after the
// failover. It returns the time of the election.
func killFirstMaster(t *testing.T, c *redistest.Cluster, k *redistest.Keyway, round int) (promoted time.Time) {
	t.Helper()
	inFirstShard := func(key string) bool { return int(keySlot(key))*3/16384 == 0 }
	l := (&load{addr: k.Addr, clients: 20, prefix: fmt.Sprint(round, ":"), lossy: inFirstShard}).start(t)
	l.more(t, 20_000)
	if l.errors() != 0 {
		t.Fatalf("errors before anything went wrong: %v", &l.tally)
	}
	master := c.Owner(1, 0)
	replica := (master + 3) % 6
	began := time.Now()
	c.Nodes[master].Kill()
	l.phase.Store(1)
	redistest.Eventually(t, 30*time.Second, "the replica is promoted", func() bool {
		return c.Owner(replica, 0) == replica
	})
	promoted = time.Now()
	probe := k.Dial()
	key := keyOfSlot(0)
	redistest.Eventually(t, 10*time.Second, "keyway serves the dead master's slots again", func() bool {
		return probe.Do("SET", key, "x").Text == "OK"
	})
	t.Logf("round %d: promoted after %s, served again %s later", round, promoted.Sub(began), time.Since(promoted))
	redistest.Eventually(t, 10*time.Second, "every node is reachable", func() bool {
		return k.Snapshot()[0].Covered
	})
	errors := l.errors()
	l.more(t, 20_000)
	if n := l.errors(); n > errors+64 {
		t.Errorf("%d errors after the failover", n-errors)
	}
	l.halt()
	t.Logf("before: %v; from the death on: %v", &l.latency[0], &l.latency[1])
	l.settle(t, k.Addr)
	probe.Close()
	c.Nodes[master].Run()
	c.Settle()
	k.Ready()
	return promoted
}

// TestClusterDownForAMoment makes a master believe for a moment that the cluster is down, as
// in a failover when it learns of the old owner's loss before it learns of the new owner.
// Clients wait, and see no error.
func TestClusterDownForAMoment(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	l := (&load{addr: k.Addr, clients: 40}).start(t)
	for i := range scale(12, 200) {
		l.more(t, 2_000)
		c.Nodes[1].Do("CLUSTER", "DELSLOTS", "0")
		time.Sleep([]time.Duration{10, 50, 300}[i%3] * time.Millisecond) // the fault itself
		c.Nodes[1].Do("CLUSTER", "SETSLOT", "0", "NODE", c.IDs[0])
		c.Settle()
	}
	l.more(t, 2_000)
	l.halt()
	noErrors(t, k, l, 0)
	retried := uint64(0)
	for _, n := range k.Snapshot()[0].Nodes {
		retried += n.Retried
	}
	t.Logf("%d calls were put off", retried)
	if retried == 0 {
		t.Error("the cluster was never down: the test has not tested anything")
	}
	l.settle(t, k.Addr)
	health(t, k)
}

func keySlot(key string) uint16 { return slots.Of([]byte(key)) }

// keyOfSlot returns a key of that slot.
func keyOfSlot(slot uint16) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("s%d", i); keySlot(key) == slot {
			return key
		}
	}
}

// TestFrozenNodeFailsOnlyItsKeys stops a node for ten seconds: only requests to it fail, each
// within about the timeout, and no client gets its late replies.
func TestFrozenNodeFailsOnlyItsKeys(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]+"backend: {request_timeout: 1s}\n").Ready()
	l := (&load{addr: k.Addr, clients: 20, depth: 1, within: 3 * time.Second}).start(t)
	l.more(t, 20_000)
	nodes[0].Freeze()
	defer nodes[0].Thaw()
	l.phase.Store(1)
	frozen := time.Now()
	healthy, dead := k.Dial(), k.Dial()
	asked := 0
	for time.Since(frozen) < 10*time.Second {
		if r := healthy.Do("SET", keyOfSlot(9000), "x"); r.Kind == '-' {
			t.Errorf("a request to a node that runs failed: %s", r)
		}
		began := time.Now()
		r := dead.Do("GET", keyOfSlot(100))
		if d := time.Since(began); r.Kind != '-' || d > 3*time.Second {
			t.Errorf("a request to the frozen node: %s after %s", r, d)
		}
		asked++
		time.Sleep(20 * time.Millisecond) // paces a loop of ten seconds
	}
	nodes[0].Thaw()
	redistest.Eventually(t, 10*time.Second, "the node is served again", func() bool {
		return dead.Do("SET", keyOfSlot(100), "x").Text == "OK"
	})
	healthy.Close()
	dead.Close()
	l.more(t, 20_000)
	l.halt()
	t.Logf("%d requests to the frozen node; before: %v; since: %v", asked, &l.latency[0], &l.latency[1])
	l.settle(t, k.Addr)
	census(t, k.Addr, nodes)
	health(t, k)
}

// TestFrozenSeedDelaysNoTopology freezes the only seed, which is asked for the topology too,
// and has another master change places with its replica: the topology is
// learned from the other nodes without delay.
func TestFrozenSeedDelaysNoTopology(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	seed := c.Nodes[3] // a replica: the cluster goes on without it
	k := redistest.Serve(t, "layout: slots\nslots: {seeds: ["+seed.Addr+"]}\n").Ready()
	seed.Freeze()
	defer seed.Thaw()
	c.Nodes[1].Kill()
	redistest.Eventually(t, 30*time.Second, "the replica is promoted", func() bool { return c.Owner(4, 5462) == 4 })
	promoted := time.Now()
	probe := k.Dial()
	redistest.Eventually(t, 10*time.Second, "keyway serves the dead master's slots again", func() bool {
		return probe.Do("SET", keyOfSlot(8000), "x").Text == "OK"
	})
	t.Logf("served again %s after the promotion", time.Since(promoted).Round(time.Millisecond))
}
