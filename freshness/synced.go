package freshness

// Nodes is a set of nodes, by numbers that the caller chooses. It has a bit for each of the first 63, and many.
type Nodes uint64

// many says that the set has a node beyond the first 63: assume all of them.
const many Nodes = 1 << 63

// bit returns the bit of a node.
func bit(n uint) Nodes { return 1 << min(n, 63) }

// Add adds a node.
func (s *Nodes) Add(n uint) { *s |= bit(n) }

// Has reports whether the set contains a node.
func (s *Nodes) Has(n uint) bool { return *s&(bit(n)|many) != 0 }

// Remove removes a node. It has no effect on a node beyond the first 63.
func (s *Nodes) Remove(n uint) { *s &^= bit(n) &^ many }

// Keep removes all nodes that are not in of. It reports whether there was any, not counting
// nodes beyond the first 63.
func (s *Nodes) Keep(of Nodes) (removed bool) {
	before := *s
	*s &= of | many
	return *s != before
}

// Drop removes all nodes that are in of. It reports whether there was any. Of nodes beyond the
// first 63 it removes none, and assumes that there was one.
func (s *Nodes) Drop(of Nodes) (removed bool) {
	removed = *s&of != 0
	*s &^= of &^ many
	return removed
}

func (s *Nodes) addAll(of Nodes) { *s |= of }

func (s *Nodes) hasAll(of Nodes) bool { return *s&many != 0 || of&^*s == 0 }

// Synced is the result of earlier WAITs: replicas have all of the client's writes to some
// nodes. The client has not written to these nodes since. The zero value has no nodes.
type Synced struct {
	nodes    Nodes
	replicas int64 // how many replicas of each of the nodes have the writes, at least
}

// Reopen decides whether a WAIT for this number of replicas has to ask again about writes that
// earlier WAITs have confirmed. If so, it moves the nodes back to wrote, the nodes with
// unconfirmed writes. If not, WAIT asks only about the later writes: a client that sends WAIT
// after each write asks one node, however many it has written to.
func (s *Synced) Reopen(wrote *Nodes, replicas int64) {
	if s.nodes == 0 {
		return
	}
	if replicas > s.replicas || *wrote == 0 || wrote.hasAll(s.nodes) {
		wrote.addAll(s.nodes)
		*s = Synced{}
	}
}

// Count handles a node's reply to WAIT: this number of replicas has the client's writes to it.
// If that is as many as the client asked for, the node moves from wrote to s. Count returns how
// many replicas have all of the client's writes, as far as known.
func (s *Synced) Count(wrote *Nodes, node uint, replicas, asked int64) int64 {
	if s.nodes != 0 {
		replicas = min(replicas, s.replicas)
	}
	if replicas < asked {
		return replicas
	}
	s.replicas = replicas
	s.nodes.Add(node)
	wrote.Remove(node)
	return replicas
}
