package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// newLastingMigration is newMigration over nodes that keep their data when they are killed.
func newLastingMigration(t *testing.T, keys int) *migration {
	t.Helper()
	return migrationOf(t, keys, func() *redistest.Node {
		return redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	})
}

// TestMigrateOutlivesRestarts: each node is killed and started again while keys move. The
// command goes on by itself, and nothing is lost or twice.
func TestMigrateOutlivesRestarts(t *testing.T) {
	t.Parallel()
	m := newLastingMigration(t, 3000)
	p := m.underWay(t, "--rate", "300")
	for _, n := range m.nodes {
		n.Kill()
		time.Sleep(300 * time.Millisecond) // the command tries in vain
		n.Run()
		redistest.Eventually(t, 20*time.Second, "the command uses the node again", func() bool {
			return slices.ContainsFunc(connectionNames(n), func(name string) bool {
				return strings.HasPrefix(name, "keyway-move:migrate:")
			})
		})
	}
	ends(t, p, 0)
	printed(t, p.Stdout.String(), []string{"All 3000 keys are where"})
	once(t, m.newer, m.nodes, m.want, "0")
}

// TestMigrateOutlivesLostConnections: all connections to the nodes are closed again and
// again while keys move.
func TestMigrateOutlivesLostConnections(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 10_000)
	p := m.underWay(t, "--rate", "2000")
	killed := int64(0)
	redistest.Eventually(t, 20*time.Second, "many connections are closed", func() bool {
		for _, n := range m.nodes {
			killed += n.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Int
		}
		return killed >= 60
	})
	ends(t, p, 0)
	once(t, m.newer, m.nodes, m.want, "0")
}

// TestMigrateGivesUp: a node that does not come back ends the command, which says how long it
// has tried and what to do. Nothing is lost.
func TestMigrateGivesUp(t *testing.T) {
	t.Parallel()
	m := newLastingMigration(t, 5000)
	p := m.underWay(t, "--rate", "1000", "--retry", "500ms")
	gone := m.nodes[2]
	gone.Kill()
	ends(t, p, 1)
	printed(t, p.Stderr.String(), []string{
		"gave up after 500ms: node c (" + gone.Addr + ")", "start the node or repair the network",
	})
	gone.Run()
	p = m.underWay(t, "--rate", "1000", "--retry", "0")
	gone.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	ends(t, p, 1)
	printed(t, p.Stderr.String(), []string{"node c (" + gone.Addr + ")", "run the command again"})
	m.finish(t)
}

// TestMigrateNoticesANodeThatForgets: a node that is restarted without the keys that came
// to it ends the command, before more keys go there.
func TestMigrateNoticesANodeThatForgets(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 6000)
	p := m.underWay(t, "--rate", "1000")
	forgetful := m.nodes[2]
	redistest.Eventually(t, 20*time.Second, "more keys have come than can be on their way", func() bool {
		calls := 0
		count, _ := m.restores()
		fmt.Sscanf(count, "calls=%d,", &calls)
		return calls > 500
	})
	forgetful.Kill()
	forgetful.Run()
	ends(t, p, 1)
	printed(t, p.Stderr.String(), []string{
		"node c (" + forgetful.Addr + ")", "the node was restarted, and ",
		"of the last keys that had been moved to it are gone",
		`such as "key:`, "restore its newest AOF or RDB file",
	})
	if n := forgetful.Do("DBSIZE").Int; n != 0 {
		t.Errorf("%d keys went to it after that", n)
	}
}
