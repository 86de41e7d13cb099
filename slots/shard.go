package slots

import "slices"

// Shard is a master and the servers that follow it.
type Shard struct {
	Master   string // host:port
	Replicas []string
}

// Same tells whether both name the same servers, each in the same role. The order
// of replicas is part of it.
func (s Shard) Same(o Shard) bool {
	return s.Master == o.Master && slices.Equal(s.Replicas, o.Replicas)
}
