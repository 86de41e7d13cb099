package faults

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// resharded is a Redis Cluster of three masters behind a keyway.
type resharded struct {
	*redistest.Cluster
	keyway *redistest.Process
	admin  string
}

func startResharded(t *testing.T) *resharded {
	t.Helper()
	r := &resharded{Cluster: redistest.NewCluster(t, 3, 0)}
	var yaml string
	r.admin, yaml = admin(t)
	r.keyway = redistest.ServeProcess(t, yaml+r.SeedsYAML())
	r.keyway.Answers()
	return r
}

// fill writes keys into slots.
func (r *resharded) fill(t *testing.T, slots []int, keys int) {
	t.Helper()
	c := redistest.Dial(t, r.keyway.Addr)
	defer c.Close()
	for _, slot := range slots {
		tag := keyOfSlot(uint16(slot))
		for i := range keys {
			c.Send("SET", fmt.Sprintf("{%s}filler:%d", tag, i), strings.Repeat("x", 200))
		}
		c.Flush()
		for range keys {
			if got, err := c.Receive(); err != nil || got.Kind == '-' {
				t.Fatal(got, err)
			}
		}
	}
}

// move brings slots with their keys to another node, with the commands that redis-cli --cluster reshard sends.
func (r *resharded) move(t *testing.T, slots []int, from, to int) {
	t.Helper()
	const keysAtATime = 20
	source, target := r.Nodes[from], r.Nodes[to]
	for _, n := range slots {
		slot := strconv.Itoa(n)
		target.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", r.IDs[from])
		source.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", r.IDs[to])
		for {
			keys := source.Do("CLUSTER", "GETKEYSINSLOT", slot, strconv.Itoa(keysAtATime)).Elems
			if len(keys) == 0 {
				break
			}
			args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(target.Port), "", "0", "10000", "KEYS"}
			for _, key := range keys {
				args = append(args, key.Text)
			}
			if got := source.Do(args...); got.Kind == '-' { // NOKEY is no error
				t.Fatal(got)
			}
		}
		target.Do("CLUSTER", "SETSLOT", slot, "NODE", r.IDs[to])
		source.Do("CLUSTER", "SETSLOT", slot, "NODE", r.IDs[to])
		for i, other := range r.Nodes {
			if i != from && i != to {
				other.Do("CLUSTER", "SETSLOT", slot, "NODE", r.IDs[to])
			}
		}
	}
}

// use starts clients of keys in slots.
func (r *resharded) use(t *testing.T, slots []int) (loads []*load) {
	t.Helper()
	for _, slot := range slots {
		loads = append(loads, (&load{
			addr: r.keyway.Addr, clients: 1, depth: 1, pause: 5 * time.Millisecond,
			prefix: "{" + keyOfSlot(uint16(slot)) + "}",
		}).start(t))
	}
	return loads
}

// TestOthersStayCalmDuringAReshard: while slots move to and fro between two nodes of a Redis Cluster, with their keys
// and with clients that use these keys, the clients of other slots notice hardly anything: those of a node that takes
// no part, and those of a node that sends and receives keys, which wait as long as clients of that node without keyway.
func TestOthersStayCalmDuringAReshard(t *testing.T) {
	redistest.OfAProcess(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	const keys = 600
	pair := [2]*resharded{startResharded(t), startResharded(t)}
	for i, part := range []struct {
		name    string
		between [2]int // nodes; those who are judged use the first node
		first   int    // of the slots that move, all of the first of these nodes
	}{
		{"of a node that takes no part", [2]int{1, 2}, 6000},
		{"of a node that sends and receives keys", [2]int{0, 1}, 1000},
	} {
		t.Run(part.name, func(t *testing.T) {
			var slots []int
			for n := range 4 {
				slots = append(slots, part.first+n)
			}
			var loads []*load // the same on both keyways
			for _, r := range pair {
				r.fill(t, slots, keys)
				loads = append(loads, r.use(t, slots)...)
			}
			before := metric(t, pair[0].admin, "keyway_node_redirects_total")
			nodes, keyways, between, moves := 0, 0, part.between, 0
			(&calm{
				name:    fmt.Sprint("of", i), // each has keys of its own
				replies: rareReplies, windows: rareWindows, tries: rareTries,
				node: func() *redistest.Node {
					nodes++
					return pair[nodes-1].Nodes[0]
				},
				yaml: func(string) string { return "" },
				serve: func(string) *redistest.Process {
					keyways++
					return pair[keyways-1].keyway
				},
				disturb: func(string) {
					pair[0].move(t, slots, between[0], between[1])
					slices.Reverse(between[:])
					moves += len(slots)
				},
			}).assert(t)
			for i, l := range loads {
				l.halt()
				if l.errors() != 0 {
					t.Errorf("clients of the slots that move saw errors: %v", &l.tally)
				}
				l.settle(t, pair[i/len(slots)].keyway.Addr)
			}
			followed := metric(t, pair[0].admin, "keyway_node_redirects_total") - before
			t.Logf("%d slots of %d keys have moved; keyway has followed %.0f redirects", moves, keys, followed)
			if followed == 0 {
				t.Error("keyway has followed no redirect: the test has not tested anything")
			}
		})
	}
}
