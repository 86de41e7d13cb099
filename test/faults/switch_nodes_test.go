package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestSwitchBehindSentinels: nodes that sentinels watch fail over while keys move, one of the old
// layout and one of the new.
func TestSwitchBehindSentinels(t *testing.T) {
	t.Parallel()
	w := redistest.NewWatched(t, "east", "west", "north")
	nodes := w.NodesYAML() // a, b and c
	older := "layout: slots\nslots: {static: {a: 0-8191, b: 8192-16383}}\n" + nodes
	newer := "layout: slots\nslots: {static: {b: 0-8191, c: 8192-16383}}\n" + nodes
	k, k2 := redistest.ServeProcess(t, older), redistest.ServeProcess(t, older)
	fill(t, k.Addr, 20_000)
	all := func(string) bool { return true } // replicas lag
	l := (&load{addr: k.Addr, clients: 5, keys: 50, pause: 2 * time.Millisecond, lossy: all}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 5, keys: 50, pause: 2 * time.Millisecond, lossy: all, prefix: "b:"}).start(t)
	l.more(t, 1_000)
	c := beginSwitch(t, older, newer, "--rate", "1000").moves()
	l.more(t, 1_000)
	east, north := w.Announced(0, "east"), w.Announced(0, "north")
	w.Masters[0].Kill()
	w.Masters[2].Kill()
	<-east
	<-north
	c.goesThrough()
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
	filled(t, k.Addr, 20_000)
}

// TestSwitchWhileTheClusterChanges: slots of a cluster move, and masters of it are replaced, while
// keys move into it and out of it.
func TestSwitchWhileTheClusterChanges(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	apart := redistest.Three(t)
	ring, cluster := "layout: ring\nhash_tag: \"{}\"\n"+redistest.NodesYAML(apart), c.SeedsYAML()
	k, k2 := redistest.ServeProcess(t, ring), redistest.ServeProcess(t, ring)
	fill(t, k.Addr, 20_000)
	l := (&load{addr: k.Addr, clients: 5, keys: 50, pause: 2 * time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 5, keys: 50, prefix: "other:", pause: 2 * time.Millisecond}).start(t)
	l.more(t, 1_000)
	for i, way := range [][2]string{{ring, cluster}, {cluster, ring}} {
		s := beginSwitch(t, way[0], way[1], "--rate", "2500").moves()
		l.more(t, 1_000)
		owners := [2]int{c.Owner(0, 10_000), c.Owner(0, 12_000)}
		reshard(t, c, owners[i], owners[1-i], 1000)
		swap(c)
		s.goesThrough()
	}
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
	filled(t, k.Addr, 20_000)
	census(t, k.Addr, apart)
}

// TestSwitchBetweenClusters: keys move from one cluster to another and back under load. No client gets an
// error, and no lock has two holders.
func TestSwitchBetweenClusters(t *testing.T) {
	t.Parallel()
	east, west := redistest.NewCluster(t, 2, 0), redistest.NewCluster(t, 2, 0)
	from, to := east.SeedsYAML(), strings.Replace(west.SeedsYAML(), "seeds:", "cluster: west, seeds:", 1)
	k, k2 := redistest.ServeProcess(t, from), redistest.ServeProcess(t, from)
	l := (&load{addr: k.Addr, clients: 5, keys: 50, pause: 2 * time.Millisecond}).start(t)
	r := &lockRig{t: t, clients: newLockers(t, k2.Addr)}
	r.clients.run(t)
	for i, way := range [][2]string{{from, to}, {to, from}} {
		s := beginSwitch(t, way[0], way[1], "--rate", "150").moves()
		l.more(t, 1_000)
		r.clients.more(t)
		s.goesThrough()
		for _, n := range [][]*redistest.Node{east.Nodes, west.Nodes}[i] {
			if keys := n.Keys(); len(keys) > 0 {
				t.Errorf("%s still has %d keys, such as %s", n.Addr, len(keys), keys[0])
			}
		}
	}
	l.halt()
	r.clients.halt()
	r.judge(lockFault{name: "the keys move to another cluster and back"})
	l.settle(t, k2.Addr)
	if l.errors() > 0 {
		t.Error("clients got errors")
	}
}

// TestSwitchBetweenChangingClusters: masters of both clusters are replaced, and slots of both move, while keys move
// from one to the other and back.
func TestSwitchBetweenChangingClusters(t *testing.T) {
	if !*long {
		t.Skip("it takes a minute; pass -args -long to run it")
	}
	t.Parallel()
	east, west := redistest.NewCluster(t, 3, 1), redistest.NewCluster(t, 3, 1)
	from, to := east.SeedsYAML(), strings.Replace(west.SeedsYAML(), "seeds:", "cluster: west, seeds:", 1)
	k, k2 := redistest.ServeProcess(t, from), redistest.ServeProcess(t, from)
	fill(t, k.Addr, 20_000)
	l := (&load{addr: k.Addr, clients: 5, keys: 50, pause: 5 * time.Millisecond}).start(t)
	l2 := (&load{addr: k2.Addr, clients: 5, keys: 50, prefix: "other:", pause: 5 * time.Millisecond}).start(t)
	l.more(t, 500)
	for _, way := range [][2]string{{from, to}, {to, from}} {
		s := beginSwitch(t, way[0], way[1], "--rate", "1000").moves()
		for _, c := range []*redistest.Cluster{east, west} {
			l.more(t, 500)
			reshard(t, c, c.Owner(0, 10_000), c.Owner(0, 12_000), 500)
			swap(c)
		}
		s.goesThrough()
		for i, c := range []*redistest.Cluster{west, east} {
			for _, n := range c.Nodes {
				if left := cold(n); (way[0] == from) == (i == 1) && len(left) > 0 {
					t.Errorf("%s still has %d keys", n.Addr, len(left))
				}
			}
		}
	}
	l.halt()
	l2.halt()
	l.settle(t, k2.Addr)
	l2.settle(t, k.Addr)
	filled(t, k.Addr, 20_000)
	census(t, k.Addr, east.Nodes)
}
