package topology

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/slots"
)

// view is one node's view of its cluster.
type view struct {
	from  string
	m     *slots.Map
	ok    bool  // cluster_state:ok
	epoch int64 // cluster_current_epoch
}

// better reports whether v is more credible than o: the node sees a working cluster, or a
// later epoch (a side without majority cannot raise it), or more slots with owners.
func (v *view) better(o *view) bool {
	if o == nil {
		return true
	}
	if v.ok != o.ok {
		return v.ok
	}
	if v.epoch != o.epoch {
		return v.epoch > o.epoch
	}
	return v.m.Covered() > o.m.Covered()
}

// member is one node and its slots.
type member struct {
	node   slots.Node
	ranges []slots.Range
}

// build returns the map of members. It sorts them, so that maps of the same cluster are
// the same.
func build(members []member) (*slots.Map, error) {
	slices.SortFunc(members, func(a, b member) int {
		return strings.Compare(a.node.ID+a.node.Addr, b.node.ID+b.node.Addr)
	})
	members = slices.CompactFunc(members, func(a, b member) bool { return a.node.Addr == b.node.Addr })
	nodes := make([]slots.Node, len(members))
	owned := make([][]slots.Range, len(members))
	for i, m := range members {
		nodes[i], owned[i] = m.node, m.ranges
	}
	return slots.NewMap(nodes, owned)
}

// address returns the address that a node announces. An empty or unknown ("?") host stands
// for the host of the node that was asked (cluster specification, CLUSTER SLOTS).
func address(host string, port int64, from string) string {
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(from)
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// fromShards returns the map in a reply to CLUSTER SHARDS of the node at from. With TLS, nodes
// have the addresses that they announce for TLS.
func fromShards(shards []redis.ClusterShard, from string, withTLS bool) (*slots.Map, error) {
	var members []member
	for _, sh := range shards {
		first, master := len(members), ""
		var ranges []slots.Range
		for _, r := range sh.Slots {
			ranges = append(ranges, slots.Range{First: uint16(r.Start), Last: uint16(r.End)})
		}
		for _, n := range sh.Nodes {
			if n.Health == "fail" && n.Role != "master" {
				continue
			}
			port, other := n.Port, n.TLSPort
			if withTLS && n.TLSPort != 0 {
				port, other = n.TLSPort, n.Port
			}
			if port == 0 {
				continue // the node accepts TLS only
			}
			host := n.Endpoint
			m := member{node: slots.Node{ID: n.ID, Addr: address(host, port, from)}}
			for _, alias := range []string{n.IP, n.Hostname} {
				if a := address(alias, port, from); alias != "" && a != m.node.Addr {
					m.node.Aliases = append(m.node.Aliases, a)
				}
			}
			if other != 0 {
				m.node.Aliases = append(m.node.Aliases, address(host, other, from))
			}
			m.node.Replica = n.Role != "master"
			if n.Role == "master" && len(ranges) > 0 && n.Health != "fail" {
				m.node.Master, m.ranges = true, ranges
				master = m.node.Addr
			}
			members = append(members, m)
		}
		for i := first; i < len(members); i++ {
			if !members[i].node.Master {
				members[i].node.Of = master
			}
		}
	}
	return build(members)
}

func fromSlots(list []redis.ClusterSlot, from string) (*slots.Map, error) {
	byAddr := map[string]*member{}
	for _, cs := range list {
		master := ""
		for i, n := range cs.Nodes {
			host, port, err := net.SplitHostPort(n.Addr)
			if err != nil {
				continue
			}
			num, _ := strconv.ParseInt(port, 10, 64)
			addr := address(host, num, from)
			m := byAddr[addr]
			if m == nil {
				m = &member{node: slots.Node{ID: n.ID, Addr: addr}}
				for _, alias := range n.NetworkingMetadata {
					m.node.Aliases = append(m.node.Aliases, address(alias, num, from))
				}
				byAddr[addr] = m
			}
			if i == 0 {
				master = addr
				m.node.Master, m.node.Of = true, ""
				m.ranges = append(m.ranges, slots.Range{First: uint16(cs.Start), Last: uint16(cs.End)})
			} else if !m.node.Master {
				m.node.Of = master
			}
		}
	}
	var members []member
	for _, m := range byAddr {
		members = append(members, *m)
	}
	return build(members)
}
