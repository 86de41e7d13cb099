package router

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/hashring"
	"github.com/keyway-proxy/keyway/slots"
)

// Basis says how the shares of a Comparison were found.
type Basis string

const (
	// Exact shares are counted: each slot, or each value of the hash that both tables use.
	// The keys in use can be spread otherwise, as they can over the nodes.
	Exact Basis = "exact"
	// Untagged shares are exact for keys without a hash tag. The tables have the same
	// hash and other tags, so keys with a tag also move, in proportions of their own.
	Untagged Basis = "exact for keys without a hash tag"
	// Sampled shares are measured with random keys, because the tables hash keys
	// differently. Two hashes are not always independent: the last bits of fnv1_32 and
	// fnv1_64 are equal. So the shares cannot be computed from those of the nodes.
	Sampled Basis = "random keys"
	// Unmeasured means that there are no shares: a range does not say how many of its
	// keys exist. Only the keys on the nodes can tell.
	Unmeasured Basis = "unmeasured"
)

// sampledKeys is the number of random keys that Compare places, and sampledError the
// greatest error of a share that it then finds: 1.96 standard deviations of a half.
const (
	sampledKeys  = 1 << 20
	sampledError = 0.001
)

// Move is a share of the key space that another node owns in the new table.
type Move struct {
	From  string  `json:"from"` // the node's name in the old table
	To    string  `json:"to"`   // the node's name in the new table; empty: no node
	Share float64 `json:"share"`
}

// Comparison says what another table would change. Keys that have no node in the old
// table cannot move, and are left out.
type Comparison struct {
	// Moves reports whether any key may move. False is certain. True is certain as well
	// if Share is greater than 0.
	Moves bool `json:"moves"`
	// Share is the share of the key space that moves, in [0, 1].
	Share float64 `json:"share"`
	Basis Basis   `json:"basis"`
	// Error is the half width of the 95 % confidence interval of the shares; 0 for exact
	// shares.
	Error float64 `json:"error"`
	// Pairs are the moves by pair of nodes, the largest first. They are empty for
	// Unmeasured.
	Pairs []Move `json:"pairs"`
	// Rules are the ranges of keys that move, if both tables are range tables.
	Rules []RuleChange `json:"rules,omitempty"`
}

// Compare returns what would change if newer replaced older. A node is the same in both
// tables if it has the same address, whatever its name. Of the nodes whose addresses are
// in one table only, those with the same name are the same: its server was replaced. The
// table of a cluster has to be a fetched one, because an empty table places no key.
func Compare(older, newer *Table) Comparison {
	c := comparer{older: older, newer: newer, same: SameNodes(older, newer)}
	a, b := older.destinations(), newer.destinations()
	if len(a) == 1 && len(b) == 1 && !c.moves(a[0], b[0]) || len(a) == 1 && a[0] == None {
		return Comparison{Basis: Exact, Pairs: []Move{}}
	}
	switch x := older.Layout.(type) {
	case *slotLayout:
		if y, ok := newer.Layout.(*slotLayout); ok {
			return c.slots(x, y)
		}
	case *hashLayout:
		if y, ok := newer.Layout.(*hashLayout); ok && x.hash == y.hash {
			return c.points(x, y)
		}
	case *rangeLayout:
		if y, ok := newer.Layout.(*rangeLayout); ok {
			return c.ranges(x, y)
		}
	}
	if older.Shares() == nil || newer.Shares() == nil {
		return Comparison{Moves: true, Basis: Unmeasured, Pairs: []Move{}}
	}
	return c.sample()
}

// SameNodes returns, for nodes of the newer table, the nodes of the older that are the
// same. See Compare.
func SameNodes(older, newer *Table) map[NodeID]NodeID {
	same, taken := map[NodeID]NodeID{}, map[NodeID]bool{}
	for i, n := range newer.Nodes {
		for _, addr := range append([]string{n.Addr}, n.Aliases...) {
			if id, ok := older.ByAddr(addr); ok && addr != "" && !taken[id] {
				same[NodeID(i)], taken[id] = id, true
				break
			}
		}
	}
	for i, n := range newer.Nodes {
		if _, ok := same[NodeID(i)]; ok {
			continue
		}
		for j, o := range older.Nodes {
			if o.Name == n.Name && !taken[NodeID(j)] {
				same[NodeID(i)], taken[NodeID(j)] = NodeID(j), true
				break
			}
		}
	}
	return same
}

// destinations returns the nodes that keys are placed on, with None if some keys have no node.
func (t *Table) destinations() []NodeID {
	found := map[NodeID]bool{}
	switch l := t.Layout.(type) {
	case *slotLayout:
		for slot := range slots.Count {
			found[NodeID(l.m.Owner(uint16(slot)))] = true
		}
	case *rangeLayout:
		found[l.fallback] = true
		for _, r := range l.all() {
			found[r.Node] = true
		}
	default:
		for i, share := range t.Shares() {
			if share > 0 {
				found[NodeID(i)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// comparer compares two tables.
type comparer struct {
	older, newer *Table
	same         map[NodeID]NodeID // by the newer table's node
}

// moves reports whether a key of the older table's node a moves if the newer table
// places it on b.
func (c *comparer) moves(a, b NodeID) bool {
	if a == None {
		return false
	}
	id, ok := c.same[b]
	return b == None || !ok || id != a
}

// counted returns the comparison of counted keys, slots or values of a hash, by the
// nodes that own them.
func (c *comparer) counted(basis Basis, counts map[[2]NodeID]uint64, total uint64) Comparison {
	result := Comparison{Basis: basis, Pairs: []Move{}}
	moved := uint64(0)
	for pair, n := range counts {
		if !c.moves(pair[0], pair[1]) || n == 0 {
			continue
		}
		moved += n
		move := Move{From: c.older.Nodes[pair[0]].Name, Share: float64(n) / float64(total)}
		if pair[1] != None {
			move.To = c.newer.Nodes[pair[1]].Name
		}
		result.Pairs = append(result.Pairs, move)
	}
	slices.SortFunc(result.Pairs, func(a, b Move) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	result.Moves, result.Share = moved > 0, float64(moved)/float64(total)
	return result
}

func (c *comparer) slots(x, y *slotLayout) Comparison {
	counts := map[[2]NodeID]uint64{}
	for slot := range slots.Count {
		counts[[2]NodeID{NodeID(x.m.Owner(uint16(slot))), NodeID(y.m.Owner(uint16(slot)))}]++
	}
	return c.counted(Exact, counts, slots.Count)
}

// points compares two tables that have the same hash.
func (c *comparer) points(x, y *hashLayout) Comparison {
	total := hashring.Points(x.hash)
	counts := map[[2]NodeID]uint64{}
	for pair, n := range hashring.Overlap(x.Distribution, y.Distribution, total) {
		counts[[2]NodeID{NodeID(pair[0]), NodeID(pair[1])}] = n
	}
	if x.tag == y.tag {
		return c.counted(Exact, counts, total)
	}
	result := c.counted(Untagged, counts, total)
	result.Moves = true
	return result
}

// sample compares tables that hash keys differently.
func (c *comparer) sample() Comparison {
	counts := map[[2]NodeID]uint64{}
	source := rand.New(rand.NewPCG(3, 4)) // the same keys each time
	var key []byte
	for range sampledKeys {
		key = strconv.AppendUint(strconv.AppendUint(key[:0], source.Uint64(), 36), source.Uint64(), 36)
		_, a := c.older.Place(key)
		_, b := c.newer.Place(key)
		counts[[2]NodeID{a, b}]++
	}
	result := c.counted(Sampled, counts, sampledKeys)
	result.Moves = true // keys that are not among the random ones may move
	result.Error = sampledError
	return result
}
