package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestWaitDelaysNobodyElse: WAIT counts replicas for the client's own writes, until its
// timeout, and does not delay other clients.
func TestWaitDelaysNobodyElse(t *testing.T) {
	c := redistest.NewCluster(t, 3, 1)
	k := redistest.Serve(t, c.SeedsYAML()).Ready()
	client, other := k.Dial(), k.Dial()
	client.MustDo("SET", "w", "0")
	if n := client.MustDo("WAIT", "1", "5000").Int; n != 1 {
		t.Fatalf("WAIT with the replica in step: %d", n)
	}
	master := -1
	for i, n := range c.Nodes[:3] {
		if slices.Contains(n.Keys(), "w") {
			master = i
		}
	}
	replica := c.Nodes[master+3]
	replica.Freeze()
	defer replica.Thaw()
	client.MustDo("SET", "w", "1")
	began := time.Now()
	client.Send("WAIT", "1", "3000")
	client.Send("GET", "w")
	if err := client.Flush(); err != nil {
		t.Fatal(err)
	}
	// No other client waits for it.
	other.MustDo("SET", "w", "2")
	if elapsed := time.Since(began); elapsed > 2*time.Second {
		t.Errorf("another client waited %s behind WAIT", elapsed)
	}
	if r, err := client.Receive(); err != nil || r.Int != 0 {
		t.Errorf("WAIT with the replica frozen: %s, %v", r, err)
	}
	if elapsed := time.Since(began); elapsed < 2900*time.Millisecond {
		t.Errorf("WAIT came back after %s", elapsed)
	}
	if r, err := client.Receive(); err != nil || r.Text != "2" {
		t.Errorf("the command behind WAIT: %s, %v", r, err)
	}
	replica.Thaw()
	redistest.Eventually(t, 10*time.Second, "WAIT 1 answers 1 again", func() bool {
		return client.MustDo("WAIT", "1", "100").Int == 1
	})
}
