package test

import (
	"fmt"
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
	if n, f := reads(near), reads(far); n == 0 || f > n {
		t.Errorf("%d reads in the zone, and %d in another", n, f)
	}
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
