package topology

import "slices"

// Shard is a master and its replicas.
type Shard struct {
	Master   string // host:port
	Replicas []string
}

// Same reports whether both have the same master, and the same replicas in the same order.
func (s Shard) Same(o Shard) bool {
	return s.Master == o.Master && slices.Equal(s.Replicas, o.Replicas)
}
