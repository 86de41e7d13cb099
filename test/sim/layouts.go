package sim

import (
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// layouts replaces keyway's layout at random moments. All nodes of such a run have the same
// keys, as if they were addresses of one server. So whatever the layout is, each command has
// one right outcome, and the order of each client's commands can be seen in the lists.
type layouts struct {
	world  *world
	table  *router.Table
	chance int // of another layout, in 10,000 a step
}

// newLayouts gives all nodes the same keys.
func newLayouts(w *world) *layouts {
	for _, n := range w.nodes[1:] {
		n.redis.SetData(w.nodes[0].redis.Data())
	}
	w.chaos.move, w.chaos.failover = 0, 0
	l := &layouts{world: w, chance: 5 + w.rng.IntN(100)}
	l.table = l.random()
	return l
}

// mayReplace gives the worker another layout.
func (l *layouts) mayReplace() {
	if w := l.world; w.chance(l.chance) {
		l.table = l.random()
		w.logf("another layout: %s over %d nodes", l.table.Name, len(l.table.Nodes))
		for _, worker := range w.workers {
			proxy.ReplaceLayout(worker, l.table)
		}
	}
}

// random returns a table of some of the nodes, in any order and perhaps with other names.
func (l *layouts) random() *router.Table {
	rng := l.world.rng
	order := rng.Perm(len(l.world.nodes))[:1+rng.IntN(4)]
	prefix := string(rune('a' + rng.IntN(2)))
	nodes := make([]router.Node, len(order))
	slotted := make([]slots.Node, len(order))
	owned := make([][]slots.Range, len(order))
	hashed := router.Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: slices.Repeat([]int{1}, len(order))}
	for i, at := range order {
		addr := l.world.nodes[at].addr
		nodes[i] = router.Node{Name: fmt.Sprint(prefix, at), Addr: addr, Master: true}
		slotted[i] = slots.Node{Addr: addr, Master: true}
	}
	for g := range groups {
		owner := rng.IntN(len(order))
		owned[owner] = append(owned[owner], slots.Range{
			First: uint16(g * slots.Count / groups), Last: uint16((g+1)*slots.Count/groups - 1),
		})
	}
	var table *router.Table
	var err error
	switch rng.IntN(4) {
	case 0:
		table, err = router.NewRing(nodes, hashed)
	case 1:
		table, err = router.NewModulo(nodes, hashed)
	case 2:
		table, err = router.NewStaticSlots(nodes, owned)
	default:
		var m *slots.Map
		m, err = slots.NewMap(slotted, owned)
		table = router.NewSlots(m)
	}
	if err != nil {
		panic(err)
	}
	return table
}
