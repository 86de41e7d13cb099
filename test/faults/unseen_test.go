package faults

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// A replica may be attached shortly before its master dies, so that keyway has not seen it
// yet. The first command then finds the master dead. keyway looks at the cluster again
// before it decides that no failover can come, so the command waits for the new master.
func TestFailoverToAReplicaThatKeywayHasNotSeen(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1)
	c.Nodes[3].Do("CLUSTER", "REPLICATE", c.IDs[1])
	c.Settle()
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {hold: 30s}\n").Ready()
	client := k.Dial()
	client.MustDo("SET", "b", "1") // a slot of the first node
	c.Nodes[3].Do("CLUSTER", "REPLICATE", c.IDs[0])
	c.Settle()
	c.Nodes[0].Kill()
	began := time.Now()
	for _, args := range [][]string{{"GET", "b"}, {"SET", "b", "2"}, {"GET", "b"}} {
		client.Send(args...)
	}
	if err := client.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1", "OK", "2"} {
		got, err := client.Receive()
		if err != nil || got.Text != want {
			t.Errorf("after %s: got %v, %v; want %s", time.Since(began), got, err, want)
		}
	}
	client.Close()
	health(t, k)
}
