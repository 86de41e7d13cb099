package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestReloadMovesNodeUnderLoad gives a node another address, forth and back, while clients
// use it. Both addresses are the same server's, so no reply and no element may be missing.
func TestReloadMovesNodeUnderLoad(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	r := startReloadable(t, "threads: 2\n"+redistest.NodesYAML(nodes), "layout: ring\n")
	l := &load{t: t, addr: r.listen}
	l.run(30, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error {
			return expect(c, strconv.Itoa(i), "INCR", fmt.Sprintf("count:%d", id))
		})
	})
	l.run(10, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error {
			c.Send("MULTI")
			c.Send("INCR", fmt.Sprintf("{txn:%d}", id))
			return expectLast(c, fmt.Sprintf("[%d]", i), 2, "EXEC")
		})
	})
	l.queues()
	before := r.nodes
	_, port, _ := strings.Cut(nodes[0].Addr, ":")
	after := strings.Replace(before, nodes[0].Addr, "localhost:"+port, 1)
	for i := range 10 {
		if r.nodes = after; i%2 == 1 {
			r.nodes = before
		}
		if out := r.reload(r.text); !strings.Contains(out, "nodes[a].addr: ") {
			t.Fatal(out)
		}
		for now := l.commands.Load(); l.commands.Load() < now+300 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	l.stop.Store(true)
	l.clients.Wait()
}

// expectLast sends a command after others were sent, receives skip replies, and returns an
// error unless the last one is want.
func expectLast(c *redistest.Client, want string, skip int, args ...string) error {
	c.Send(args...)
	if err := c.Flush(); err != nil {
		return err
	}
	for range skip {
		if _, err := c.Receive(); err != nil {
			return err
		}
	}
	reply, err := c.Receive()
	if err == nil && reply.String() != want {
		err = fmt.Errorf("%v: got %s, want %s", args, reply, want)
	}
	return err
}

// TestReloadMovesNode gives a node the address of another server that has its keys. Clients
// find them there, a blocked client waits there, and no connection to the old server is left.
func TestReloadMovesNode(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	successor := redistest.Start(t)
	r := startReloadable(t, redistest.NodesYAML(nodes[:1]), "layout: ring\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "a", "old")
	successor.Do("SET", "a", "new")
	blocked := redistest.Dial(t, r.listen)
	blocked.Send("BLPOP", "list", "0")
	blocked.Flush()
	redistest.Eventually(t, 10*time.Second, "the client is blocked at the old server", func() bool {
		return strings.Contains(nodes[0].Do("INFO", "clients").Text, "blocked_clients:1")
	})
	r.nodes = redistest.NodesYAML([]*redistest.Node{successor})
	r.expect(r.reload(r.text),
		fmt.Sprintf("reloaded keyway.yml\n  nodes[a].addr: %s -> %s\n", nodes[0].Addr, successor.Addr))
	c.Expect("new", "GET", "a")
	redistest.Eventually(t, 10*time.Second, "the client is blocked at the new server", func() bool {
		return strings.Contains(successor.Do("INFO", "clients").Text, "blocked_clients:1")
	})
	successor.Do("RPUSH", "list", "element")
	if reply, err := blocked.Receive(); err != nil || reply.String() != "[list element]" {
		t.Errorf("the blocked client got %v %v", reply, err)
	}
	redistest.Eventually(t, 20*time.Second, "keyway has left the old server", func() bool {
		return !strings.Contains(nodes[0].Do("CLIENT", "LIST").Text, "keyway:")
	})
}

// TestReloadRefusesBadNodes: an address at which no node can serve is refused.
func TestReloadRefusesBadNodes(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	r := startReloadable(t, redistest.NodesYAML(nodes[:2]), "layout: ring\n")
	yaml := r.nodes
	free := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	r.nodes = strings.Replace(yaml, nodes[1].Addr, free, 1)
	if out := r.refused(); !strings.Contains(out, "keyway.yml:5:21: nodes[1].addr: node b cannot be reached: ") {
		t.Error(out)
	}
	nodes[2].Do("REPLICAOF", "127.0.0.1", "1")
	r.nodes = strings.Replace(yaml, nodes[1].Addr, nodes[2].Addr, 1)
	if out := r.refused(); !strings.HasSuffix(out, "node b is a replica, and cannot be written to; "+
		"name its master, or make it one (REPLICAOF NO ONE)\n") {
		t.Error(out)
	}
	// Two nodes that change places hide their keys from clients.
	r.nodes = strings.NewReplacer(nodes[0].Addr, nodes[1].Addr, nodes[1].Addr, nodes[0].Addr).Replace(yaml)
	out := withoutFigures(r.refused())
	if !strings.Contains(out, ": this would move N % of the keys (a: N %, b: N %)") {
		t.Error(out)
	}
	redistest.Dial(t, r.listen).Expect("OK", "SET", "a", "1")
}

// TestReloadSeeds: other nodes of the same cluster may be named, but no other cluster.
func TestReloadSeeds(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster, other := redistest.NewCluster(t, 3, 0), redistest.NewCluster(t, 3, 0)
	seeds := func(c *redistest.Cluster, i int) string {
		return fmt.Sprintf("slots: {seeds: [%s]}\n", c.Nodes[i].Addr)
	}
	r := startReloadable(t, seeds(cluster, 0), "")
	redistest.Eventually(t, 20*time.Second, "keyway serves", func() bool {
		return redistest.Ask(r.listen, "SET", "a", "1").Text == "OK"
	})
	r.nodes = seeds(cluster, 1)
	r.expect(r.reload(""), fmt.Sprintf("reloaded keyway.yml\n  slots.seeds: %s -> %s\n",
		cluster.Nodes[0].Addr, cluster.Nodes[1].Addr))
	redistest.Dial(t, r.listen).Expect("1", "GET", "a")
	r.nodes = seeds(other, 0)
	if out := r.refused(); !strings.HasSuffix(out, "slots.seeds: these seeds belong to another cluster, so clients "+
		"would not find their keys; name nodes of the cluster that keyway follows; to move the keys there, give the "+
		"cluster a name, as in slots: {cluster: new}; to accept losing sight of them: --allow-misplaced\n") {
		t.Error(out)
	}
}

// TestReloadSentinels: other sentinels of the same master may be named; keyway goes on with
// the master that it knows, and follows what the new ones say.
func TestReloadSentinels(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	w := redistest.NewWatched(t, "first")
	node := func(sentinels ...*redistest.Node) string {
		addrs := []string{}
		for _, s := range sentinels {
			addrs = append(addrs, s.Addr)
		}
		return fmt.Sprintf("nodes:\n  - {name: a, sentinel: {master: first, addrs: [%s]}}\n", strings.Join(addrs, ", "))
	}
	r := startReloadable(t, node(w.Sentinels[0]), "layout: ring\n")
	redistest.Eventually(t, 20*time.Second, "keyway serves", func() bool {
		return redistest.Ask(r.listen, "SET", "a", "1").Text == "OK"
	})
	r.nodes = node(w.Sentinels[1:]...)
	r.expect(r.reload(r.text), fmt.Sprintf("reloaded keyway.yml\n  nodes[a].sentinel.addrs: %s -> %s, %s\n",
		w.Sentinels[0].Addr, w.Sentinels[1].Addr, w.Sentinels[2].Addr))
	redistest.Dial(t, r.listen).Expect("1", "GET", "a")
	w.Sentinels[0].Kill()
	w.Sentinels[1].Do("SENTINEL", "FAILOVER", "first")
	redistest.Eventually(t, redistest.Deliberate, "keyway serves the new master", func() bool {
		return redistest.Ask(r.listen, "SET", "a", "2").Text == "OK" && w.Replicas[0].Do("GET", "a").Text == "2"
	})
}

// TestReloadNodesPassword rotates the nodes' password as an operator does: the nodes take both,
// then keyway's file has the new one, then the nodes take that alone.
func TestReloadNodesPassword(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	onNodes := func(password string, args ...string) {
		t.Helper()
		for _, n := range nodes {
			c := redistest.Dial(t, n.Addr)
			if password != "" {
				c.Expect("OK", "AUTH", password)
			}
			c.Expect("OK", append([]string{"ACL", "SETUSER", "default"}, args...)...)
		}
	}
	onNodes("", "resetpass", ">old")
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\nbackend: {password: old}\n")
	c := redistest.Dial(t, r.listen)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if err := expect(c, "OK", "SET", fmt.Sprint("key:", i%100), fmt.Sprint(i)); err != nil {
				failed <- err
				return
			}
		}
	}()
	onNodes("old", ">new")
	out := r.reload("layout: ring\nbackend: {password: new}\n")
	if !strings.Contains(out, "backend.password: changed (not shown)") {
		t.Error(out)
	}
	onNodes("new", "<old")
	close(stop)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes { // keyway has to log in anew
		admin := redistest.Dial(t, n.Addr)
		admin.Expect("OK", "AUTH", "new")
		admin.MustDo("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	}
	for i := range 100 {
		key := fmt.Sprint("key:", i)
		redistest.Eventually(t, 10*time.Second, "a write to "+key, func() bool {
			return redistest.Ask(r.listen, "SET", key, "1").Text == "OK"
		})
	}
}
