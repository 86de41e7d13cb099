package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestFailuresAreCountedAtTheNode: each command that keyway fails because a node is frozen or dead counts at that node,
// in the metrics and in its row.
func TestFailuresAreCountedAtTheNode(t *testing.T) {
	t.Parallel()
	nodes, adminAddr := redistest.Three(t), freeAddr(t)
	k := redistest.ServeProcess(t, "threads: 1\nadmin: "+adminAddr+
		"\nbackend: {request_timeout: 500ms, hold: 0s}\n"+redistest.Layouts(nodes)["ring"])
	keys := keyOfEach(t, k.Addr, nodes)
	nodes[1].Freeze()
	nodes[2].Kill()
	c := redistest.Dial(t, k.Addr)
	failed := [3]map[string]int{{}, {}, {}}
	ask := func() { // a pipeline
		for _, key := range keys {
			c.Send("GET", key)
			c.Send("SET", key, "y")
		}
		c.Flush()
		for i := range 2 * len(keys) {
			reply, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch text := reply.String(); {
			case strings.Contains(text, "was not executed"):
				failed[i/2]["not_executed"]++
			case strings.Contains(text, "been executed"):
				failed[i/2]["unknown"]++
			}
		}
	}
	redistest.Eventually(t, 20*time.Second, "commands fail in both ways at the frozen node", func() bool {
		ask()
		return failed[1]["not_executed"] > 0 && failed[1]["unknown"] > 0 && failed[2]["not_executed"] > 0
	})
	metrics := get(t, "http://"+adminAddr+"/metrics")
	for i, name := range []string{"a", "b", "c"} {
		for _, class := range []string{"not_executed", "unknown"} {
			series := fmt.Sprintf("keyway_node_failed_commands_total{addr=%q,class=%q,node=%q}",
				nodes[i].Addr, class, name)
			if got := metricOf(t, metrics, series); got != float64(failed[i][class]) {
				t.Errorf("node %s: %v commands are %s, clients have %d", name, got, class, failed[i][class])
			}
		}
	}
	redistest.Eventually(t, 20*time.Second, "the rows of both nodes have errors, the other's has none", func() bool {
		ask()
		rows := stateAt(t, adminAddr).Nodes
		return rows[0].Errors == 0 && rows[1].Errors > 0 && rows[2].Errors > 0
	})
}
