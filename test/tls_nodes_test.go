package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// nodeTLS returns the section backend of a keyway that trusts the authority.
func nodeTLS(ca *redistest.Authority) string {
	return fmt.Sprintf("backend: {tls: {ca: %q}}\n", ca.File)
}

// usesTLS checks that all connections of keyways to a node arrive at its TLS port, and that there
// are some.
func usesTLS(t *testing.T, n *redistest.Node) {
	t.Helper()
	keyways := 0
	for line := range strings.Lines(n.Do("CLIENT", "LIST").Text) {
		if strings.Contains(line, "name=keyway:") {
			keyways++
			if !strings.Contains(line, "laddr="+n.TLSAddr+" ") {
				t.Errorf("a connection without TLS: %s", line)
			}
		}
	}
	if keyways == 0 {
		t.Errorf("%s has no connections of keyway", n.Addr)
	}
}

// exercises uses each kind of connection to nodes: shared ones, those of one client, feeds, and
// those for large values and for databases.
func exercises(t *testing.T, k *redistest.Keyway) {
	t.Helper()
	c := k.Dial()
	for i := range 200 {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), strconv.Itoa(i))
	}
	for i := range 200 {
		c.Expect(strconv.Itoa(i), "GET", fmt.Sprint("key:", i))
	}
	big := strings.Repeat("0123456789abcdef", 200_000) // 3.2 MB
	c.Expect("OK", "SET", "big", big)
	c.Expect(big, "GET", "big")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "INCR", "{m}n")
	c.Expect("QUEUED", "INCR", "{m}n")
	if got := c.MustDo("EXEC").String(); !strings.Contains(got, "2") {
		t.Errorf("EXEC: %s", got)
	}
	blocked, listening := k.Dial(), k.Dial()
	blocked.Send("BLPOP", "{m}list", "20")
	if err := blocked.Flush(); err != nil {
		t.Fatal(err)
	}
	listening.MustDo("SUBSCRIBE", "news")
	redistest.Eventually(t, 10*time.Second, "a subscriber is counted", func() bool {
		return c.Do("PUBLISH", "news", "hello").Int == 1
	})
	c.Expect("1", "RPUSH", "{m}list", "element")
	if r, err := blocked.Receive(); err != nil || len(r.Elems) != 2 || r.Elems[1].Text != "element" {
		t.Errorf("BLPOP: %v, %v", r, err)
	}
	if err := redistest.Pipelines(k.Addr, 1, 300); err != nil {
		t.Error(err)
	}
}

// TestTLSToNodes: with backend.tls, all connections to nodes speak TLS, in each layout, with
// epoll and without.
func TestTLSToNodes(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	options := ca.NodeOptions()
	nodes := []*redistest.Node{
		redistest.Start(t, options...), redistest.Start(t, options...), redistest.Start(t, options...),
	}
	for layout, yaml := range redistest.Layouts(redistest.OverTLS(t, nodes)) {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streams %v", layout, streams), func(t *testing.T) {
				for _, n := range nodes {
					n.Do("FLUSHALL")
				}
				k := redistest.ServeWith(t, yaml+nodeTLS(ca), server.Options{Streams: streams}).Ready()
				exercises(t, k)
				keys := 0
				for _, n := range nodes {
					keys += len(n.Keys())
					usesTLS(t, n)
				}
				if keys < 200 {
					t.Errorf("the nodes have %d keys", keys)
				}
				k.Stop()
			})
		}
	}
}

// TestTLSToCluster: keyway uses the ports that a cluster announces for TLS, and follows redirects
// and failovers to them.
func TestTLSToCluster(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	cluster := redistest.NewCluster(t, 3, 1, ca.NodeOptions()...)
	seed := cluster.Nodes[0].TLSAddr
	k := redistest.Serve(t, fmt.Sprintf("layout: slots\nslots: {seeds: [%q]}\nreads: prefer-replica\n", seed)+
		nodeTLS(ca)).Ready()
	exercises(t, k)
	for _, n := range cluster.Nodes[:3] {
		usesTLS(t, n)
	}
	c := k.Dial()
	slot := strconv.FormatInt(cluster.Nodes[0].Do("CLUSTER", "KEYSLOT", "moving").Int, 10)
	c.Expect("OK", "SET", "moving", "1")
	n, _ := strconv.Atoi(slot)
	from := cluster.Owner(0, n)
	to := (from + 1) % 3
	cluster.Nodes[to].Do("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.IDs[from])
	cluster.Nodes[from].Do("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.IDs[to])
	c.Expect("2", "INCR", "moving")
	c.Expect("1", "INCR", "{moving}absent") // ASK
	cluster.Nodes[from].Do("MIGRATE", "127.0.0.1", strconv.Itoa(cluster.Nodes[to].TLSPort), "", "0", "5000",
		"KEYS", "moving")
	for _, i := range []int{to, from} {
		cluster.Nodes[i].Do("CLUSTER", "SETSLOT", slot, "NODE", cluster.IDs[to])
	}
	c.Expect("3", "INCR", "moving")
	cluster.Failover(3)
	redistest.Eventually(t, 20*time.Second, "keyway writes to the new master", func() bool {
		for i := range 100 {
			if c.Do("SET", fmt.Sprint("after:", i), "x").Text != "OK" {
				return false
			}
		}
		return true
	})
	usesTLS(t, cluster.Nodes[3])
	for _, s := range k.Snapshot()[0].Nodes {
		known := false
		for _, n := range cluster.Nodes {
			known = known || s.Addr == n.TLSAddr
		}
		if !known {
			t.Errorf("keyway knows a node at %s", s.Addr)
		}
	}
}

// TestTLSToSentinels: keyway asks sentinels over TLS, and follows a failover.
func TestTLSToSentinels(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	w := redistest.NewWatchedTLS(t, ca, "one")
	var addrs []string
	for _, s := range w.Sentinels {
		addrs = append(addrs, s.TLSAddr)
	}
	k := redistest.Serve(t, fmt.Sprintf("layout: ring\nnodes: [{name: a, sentinel: {master: one, addrs: [%s]}}]\n",
		strings.Join(addrs, ", "))+nodeTLS(ca)).Ready()
	exercises(t, k)
	usesTLS(t, w.Masters[0])
	w.Masters[0].Kill()
	c := k.Dial()
	redistest.Eventually(t, redistest.Deliberate, "keyway writes to the new master", func() bool {
		return c.Do("SET", "after", "x").Text == "OK"
	})
	usesTLS(t, w.Replicas[0])
}
