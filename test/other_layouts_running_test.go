package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// nodesNamed returns the nodes of a file, in this order.
func nodesNamed(addrs map[string]string, names ...string) string {
	yaml := "nodes:\n"
	for _, name := range names {
		yaml += fmt.Sprintf("  - {name: %s, addr: %q}\n", name, addrs[name])
	}
	return yaml
}

// TestOtherLayoutsUnderLoad replaces the layout and the list of nodes again and again while
// clients use them. All addresses are one server's, so no key is out of sight, and no reply,
// no element and no transaction may be missing or come twice.
func TestOtherLayoutsUnderLoad(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	_, port, _ := strings.Cut(redistest.Start(t).Addr, ":")
	addrs := map[string]string{"a": "127.0.0.1:" + port, "b": "localhost:" + port, "c": "LocalHost:" + port}
	r := startReloadable(t, "threads: 2\n"+nodesNamed(addrs, "a", "b", "c"), "layout: ring\n")
	l := &load{t: t, addr: r.listen}
	l.run(20, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error {
			return expect(c, strconv.Itoa(i), "INCR", fmt.Sprintf("count:%d", id))
		})
	})
	l.run(5, func(c *redistest.Client, id int) error { // pipelines
		return l.each(func(i int) error {
			key := fmt.Sprintf("pipe:%d", id)
			c.Send("SET", key, strconv.Itoa(i))
			c.Send("GET", fmt.Sprintf("other:%d", i%7))
			return expectLast(c, strconv.Itoa(i), 2, "GET", key)
		})
	})
	l.run(10, l.watchers)
	l.queues()
	layouts := []struct {
		nodes []string
		text  string
	}{
		{[]string{"c", "a"}, "layout: modulo\n"},
		{[]string{"b"}, "layout: slots\nslots: {static: {b: 0-16383}}\n"},
		{[]string{"b", "c", "a"}, "layout: slots\nslots: {static: {b: 0-99, a: 100-9999, c: 10000-16383}}\n"},
		{[]string{"a", "b"}, "layout: range\nrange: {rules: [{from: a, to: m, node: b}], default: a}\n"},
		{[]string{"a", "b", "c"}, "layout: ring\n"},
	}
	for i := range 2 * len(layouts) {
		next := layouts[i%len(layouts)]
		r.nodes = "threads: 2\n" + nodesNamed(addrs, next.nodes...)
		r.reload(next.text, "--allow-misplaced")
		for now := l.commands.Load(); l.commands.Load() < now+300 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	l.stop.Store(true)
	l.clients.Wait()
}

// watchers executes transactions. If EXEC returns null, since a watched key has another
// owner, nothing was executed.
func (l *load) watchers(c *redistest.Client, id int) error {
	key, done := fmt.Sprintf("{watched:%d}", id), 0
	return l.each(func(int) error {
		for _, step := range [][]string{
			{"OK", "WATCH", key}, {"OK", "MULTI"}, {"QUEUED", "INCR", key}, {"QUEUED", "INCR", key + "x"},
		} {
			if err := expect(c, step[0], step[1:]...); err != nil {
				return err
			}
		}
		reply, err := c.TryDo("EXEC")
		if err != nil || reply.Null {
			return err
		}
		if done++; reply.String() != fmt.Sprintf("[%d %d]", done, done) {
			return fmt.Errorf("EXEC: got %s, want %d twice", reply, done)
		}
		return nil
	})
}

// TestOtherLayoutsOfRealNodes: while clients use a ring of three nodes, it becomes a modulo of
// two of them, and the other way round. Keys are out of sight, but no client gets an error, and
// no message is lost while both layouts publish on the same nodes.
func TestOtherLayoutsOfRealNodes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	addrs := map[string]string{}
	for i, n := range redistest.Three(t) {
		addrs[string(rune('a'+i))] = n.Addr
	}
	r := startReloadable(t, "threads: 2\n"+nodesNamed(addrs, "a", "b", "c"), "layout: ring\n")
	l := &load{t: t, addr: r.listen}
	l.run(20, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error {
			for _, args := range [][]string{
				{"INCR", fmt.Sprint("count:", id)}, {"MGET", "x", "y", fmt.Sprint("z", i)}, {"DEL", "x", "y", "z"},
				{"EVAL", "return redis.call('incr', KEYS[1])", "1", fmt.Sprint("script:", id)},
			} {
				if reply, err := c.TryDo(args...); err != nil || reply.Kind == '-' {
					return fmt.Errorf("%v: %v %w", args, reply, err)
				}
			}
			return nil
		})
	})
	sub := redistest.Dial(t, r.listen)
	sub.Do("PSUBSCRIBE", "news:*")
	sent, pub := 0, redistest.Dial(t, r.listen)
	for i, next := range [][]string{
		{"ring", "c", "a", "b"}, {"modulo", "a", "b", "c"}, {"modulo", "b", "a"}, {"ring", "b", "a"},
		{"ring", "a", "b", "c"},
	} {
		r.nodes = "threads: 2\n" + nodesNamed(addrs, next[1:]...)
		r.reload("layout: "+next[0]+"\n", "--allow-misplaced")
		if len(next) == 4 && i > 1 {
			break // a new node's messages come once keyway has subscribed there
		}
		for range 50 {
			pub.Expect("1", "PUBLISH", fmt.Sprint("news:", sent), strconv.Itoa(sent))
			sent++
		}
	}
	got := map[string]bool{}
	for len(got) < sent {
		m, err := sub.Receive()
		if err != nil {
			t.Fatalf("%d of %d messages have come: %v", len(got), sent, err)
		}
		got[m.Elems[3].Text] = true
	}
	l.stop.Store(true)
	l.clients.Wait()
}

// TestReorderedAndRenamedNodes: a list of nodes in another order, a node with another name and
// one node fewer are taken at once if no key moves. Nodes that stay keep their connections.
func TestReorderedAndRenamedNodes(t *testing.T) {
	t.Parallel()
	three := redistest.Three(t)
	addrs := map[string]string{"a": three[0].Addr, "b": three[1].Addr, "c": three[2].Addr, "new": three[1].Addr}
	static := "slots: {static: {a: 0-8191, %s: 8192-16383}}\n"
	r := startReloadable(t, nodesNamed(addrs, "a", "b", "c"), "layout: slots\n"+fmt.Sprintf(static, "b"))
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "MSET", "a", "1", "b", "2")
	ids := func() (all []string) {
		for _, n := range three[:2] {
			for line := range strings.Lines(n.Do("CLIENT", "LIST").Text) {
				if strings.Contains(line, "name=keyway:") {
					all = append(all, strings.Fields(line)[0])
				}
			}
		}
		return all
	}
	before := fmt.Sprint(ids())
	for _, tc := range []struct{ nodes, text, want string }{
		{nodesNamed(addrs, "c", "b", "a"), fmt.Sprintf(static, "b"), "  nodes: a, b, c -> c, b, a\n"},
		{nodesNamed(addrs, "b", "a"), fmt.Sprintf(static, "b"), "  nodes: c, b, a -> b, a\n"},
		{nodesNamed(addrs, "new", "a"), fmt.Sprintf(static, "new"), "  nodes: b, a -> new, a\n" +
			"  slots.static.b: 8192-16383 -> (none)\n  slots.static.new: (none) -> 8192-16383\n"},
		{nodesNamed(addrs, "a", "new"), fmt.Sprintf(static, "new"), "  nodes: new, a -> a, new\n"},
	} {
		r.nodes = tc.nodes
		r.expect(r.reload("layout: slots\n"+tc.text), "reloaded keyway.yml\n"+tc.want)
		if got := c.Do("MGET", "a", "b").String(); got != "[1 2]" {
			t.Errorf("%sMGET: %s", tc.want, got)
		}
	}
	if now := fmt.Sprint(ids()); now != before {
		t.Errorf("connections were %s, and are %s", before, now)
	}
	redistest.Eventually(t, 20*time.Second, "keyway has left node c", func() bool {
		return !strings.Contains(three[2].Do("CLIENT", "LIST").Text, "name=keyway:")
	})
	metrics := get(t, "http://"+r.admin+"/metrics")
	if strings.Contains(metrics, `node="c"`) || strings.Contains(metrics, `node="b"`) ||
		!strings.Contains(metrics, `node="new"`) {
		t.Errorf("the metrics should name the nodes a and new:\n%s", metrics)
	}
}

// TestIntoAndOutOfAClusterByReload: with --allow-misplaced a running keyway follows a cluster
// instead of a ring, then another cluster, and then serves the ring again.
func TestIntoAndOutOfAClusterByReload(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	first, second := redistest.NewCluster(t, 3, 0), redistest.NewCluster(t, 3, 0)
	ring := nodesNamed(map[string]string{"a": node.Addr}, "a")
	seeds := func(c *redistest.Cluster) string { return fmt.Sprintf("slots: {seeds: [%s]}\n", c.Nodes[0].Addr) }
	r := startReloadable(t, ring, "layout: ring\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "where", "ring")
	for _, next := range []struct{ nodes, text, name string }{
		{seeds(first), "layout: slots\n", "first"}, {seeds(second), "layout: slots\n", "second"},
	} {
		r.nodes = next.nodes
		r.text = next.text
		r.write()
		if out, _ := r.command(); !strings.HasSuffix(out, "--allow-misplaced\n") {
			t.Error(out)
		}
		if reply := c.Do("GET", "where"); reply.Null {
			t.Errorf("%s: keyway serves by it without permission", next.name)
		}
		r.reload(next.text, "--allow-misplaced")
		if reply := c.Do("GET", "where"); !reply.Null {
			t.Errorf("%s: GET is answered with %s", next.name, reply)
		}
		c.Expect("OK", "SET", "where", next.name)
	}
	r.nodes = ring
	r.reload("layout: ring\n", "--allow-misplaced")
	c.Expect("ring", "GET", "where")
	for _, n := range append(first.Nodes, second.Nodes...) {
		redistest.Eventually(t, 20*time.Second, "keyway has left the clusters", func() bool {
			return !strings.Contains(n.Do("CLIENT", "LIST").Text, "name=keyway:")
		})
	}
}
