package test

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestWaitAfterEachWrite: a client that writes to all nodes and waits after each write,
// as Redisson does for each lock, asks one node each time. A client that has not waited
// for a write does not get a count of replicas that cannot have it.
func TestWaitAfterEachWrite(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t, 3, 1)
	c := redistest.Serve(t, cluster.SeedsYAML()).Ready().Dial()
	const writes = 60
	for i := range writes {
		c.Expect("OK", "SET", fmt.Sprint("k", i), "v")
		c.Expect("1", "WAIT", "1", "5000")
	}
	asked := 0
	for _, n := range cluster.Nodes[:3] {
		m := regexp.MustCompile(`cmdstat_wait:calls=(\d+)`).FindStringSubmatch(n.Do("INFO", "commandstats").Text)
		if m != nil {
			calls, _ := strconv.Atoi(m[1])
			asked += calls
		}
	}
	if asked != writes {
		t.Errorf("%d WAITs became %d at the nodes", writes, asked)
	}
	key := ownedBy(cluster, 0)
	cluster.Nodes[3].Freeze()
	t.Cleanup(cluster.Nodes[3].Thaw)
	c.Expect("OK", "SET", key, "v")
	c.Expect("0", "WAIT", "1", "200")
	c.Expect("OK", "SET", ownedBy(cluster, 1), "v")
	c.Expect("0", "WAIT", "1", "200")
}

// ownedBy returns a key of the cluster's node.
func ownedBy(c *redistest.Cluster, node int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key", i); c.Owner(0, int(slots.Of([]byte(key)))) == node {
			return key
		}
	}
}
