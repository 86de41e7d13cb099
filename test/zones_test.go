package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/keyway-proxy/keyway/test/redistest"
)

// TestReadsStayInTheZone: of two replicas, the one in keyway's zone serves all reads. When it is gone, the other one
// does.
func TestReadsStayInTheZone(t *testing.T) {
	t.Parallel()
	master := Start(t)
	near, far := Replica(t, master), Replica(t, master)
	k := Serve(t, fmt.Sprintf("layout: ring\nreads: prefer-replica\n"+
		"nodes: [{name: a, addr: %q, replicas: [%q, %q]}]\nreplicas: {zone: near, zones: {near: [%q], far: [%q]}}\n",
		master.Addr, near.Addr, far.Addr, near.Addr, far.Addr)).Ready()
	master.Do("SET", "k", "v")
	reads := func(n *Node) int { return number(n.Do("INFO", "commandstats").Text, "cmdstat_get:calls=") }
	read := func(clients int) {
		t.Helper()
		for range clients { // they would begin at different replicas
			c := Dial(t, k.Addr)
			c.Expect("v", "GET", "k")
			c.Close()
		}
	}
	serves := func(n *Node) {
		t.Helper()
		Eventually(t, time.Minute, "the replica serves reads", func() bool {
			before := reads(n)
			read(4)
			return reads(n) == before+4
		})
	}
	serves(near)
	before := reads(far)
	read(40)
	if n := reads(far) - before; n != 0 {
		t.Errorf("%d reads of 40 in another zone", n)
	}
	counted := func() (in, out uint64) {
		for _, s := range k.Snapshot() {
			in, out = in+s.ReadsInZone, out+s.ReadsOutOfZone
		}
		return in, out
	}
	if in, _ := counted(); in < 44 {
		t.Errorf("%d reads counted in the zone", in)
	}
	near.Kill()
	serves(far)
	if _, out := counted(); out < 4 {
		t.Errorf("%d reads counted out of the zone", out)
	}
}

// TestNodesSayTheirZones: nodes that no pattern of replicas.zones fits are asked for their availability-zone.
// What the configuration says wins.
func TestNodesSayTheirZones(t *testing.T) {
	t.Parallel()
	start := func(zone string, more ...string) *Node {
		return Valkey.Start(t, append(more, "--availability-zone", zone)...)
	}
	master := start("far")
	of := []string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", master.Port)}
	near, named := start("near", of...), start("near", of...)
	adminAddr := freeAddr(t)
	k := ServeProcess(t, fmt.Sprintf("layout: ring\nreads: prefer-replica\nadmin: %s\n"+
		"nodes: [{name: a, addr: %q, replicas: [%q, %q]}]\nreplicas: {zone: near, zones: {far: [%q]}}\n",
		adminAddr, master.Addr, near.Addr, named.Addr, named.Addr))
	master.Do("SET", "k", "v")
	zones := func() (all string) {
		for _, n := range []*Node{master, near, named} {
			for _, known := range stateAt(t, adminAddr).Nodes {
				if known.Addr == n.Addr && (n == master || known.Lag != nil) { // so that both replicas might serve
					all += known.Zone + " "
				}
			}
		}
		return all
	}
	Eventually(t, time.Minute, "the zones are known", func() bool { return zones() == "far near far " })
	reads := func(n *Node) int { return number(n.Do("INFO", "commandstats").Text, "cmdstat_get:calls=") }
	Eventually(t, 20*time.Second, "the replica in the zone serves reads", func() bool {
		before := reads(near)
		for range 20 {
			c := Dial(t, k.Addr)
			c.Expect("v", "GET", "k")
			c.Close()
		}
		return reads(near) == before+20
	})
	if out := outputOf(t, "top", "--once", "--admin", adminAddr); !strings.Contains(out, "ZONE") ||
		!strings.Contains(out, "near") {
		t.Errorf("keyway top: %s", out)
	}
	if page := get(t, "http://"+adminAddr+"/"); !strings.Contains(page, ", zone near") {
		t.Error("the page does not show the zones")
	}
}
