package emulation

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// Cluster is an emulated cluster as one of its keyways describes it. It does not change.
type Cluster struct {
	members []member
	id      string // of this keyway
}

// member is one keyway as a node of the emulated cluster.
type member struct {
	host        string
	port        int64
	id          string
	first, last int // its slots
}

// New returns the cluster of the keyway with the address announce and of its peers. The
// addresses are those that clients use, host:port. Every keyway gets the same list of
// members.
func New(announce string, peers []string) *Cluster {
	addrs := slices.Sorted(slices.Values(append([]string{announce}, peers...)))
	c := &Cluster{id: nodeID(announce), members: make([]member, len(addrs))}
	for i, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.ParseInt(port, 10, 64)
		first, next := i*slots.Count/len(addrs), (i+1)*slots.Count/len(addrs)
		c.members[i] = member{host: host, port: n, id: nodeID(addr), first: first, last: next - 1}
	}
	return c
}

// nodeID derives a cluster node's ID from an address, so that it survives restarts.
func nodeID(addr string) string {
	sum := sha1.Sum([]byte(addr))
	return hex.EncodeToString(sum[:])
}

// ID returns the ID of this keyway, for CLUSTER MYID and MYSHARDID.
func (c *Cluster) ID() string { return c.id }

// HasMember reports whether id is that of a keyway in the cluster.
func (c *Cluster) HasMember(id []byte) bool {
	return slices.ContainsFunc(c.members, func(m member) bool { return m.id == string(id) })
}

// AppendSlots appends the reply to CLUSTER SLOTS.
func (c *Cluster) AppendSlots(b []byte) []byte {
	b = resp.AppendArray(b, len(c.members))
	for _, m := range c.members {
		b = resp.AppendArray(b, 3)
		b = resp.AppendInt(resp.AppendInt(b, int64(m.first)), int64(m.last))
		b = resp.AppendArray(b, 4)
		b = resp.AppendInt(resp.AppendBulkString(b, m.host), m.port)
		b = resp.AppendArray(resp.AppendBulkString(b, m.id), 0)
	}
	return b
}

// AppendShards appends the reply to CLUSTER SHARDS.
func (c *Cluster) AppendShards(b []byte, v resp.Version) []byte {
	b = resp.AppendArray(b, len(c.members))
	text := func(name, value string) { b = resp.AppendBulkString(resp.AppendBulkString(b, name), value) }
	for _, m := range c.members {
		b = resp.AppendArray(resp.AppendBulkString(v.AppendMap(b, 2), "slots"), 2)
		b = resp.AppendInt(resp.AppendInt(b, int64(m.first)), int64(m.last))
		b = v.AppendMap(resp.AppendArray(resp.AppendBulkString(b, "nodes"), 1), 7)
		text("id", m.id)
		b = resp.AppendInt(resp.AppendBulkString(b, "port"), m.port)
		text("ip", m.host)
		text("endpoint", m.host)
		text("role", "master")
		b = resp.AppendInt(resp.AppendBulkString(b, "replication-offset"), 0)
		text("health", "online")
	}
	return b
}

// Nodes returns the text of CLUSTER NODES.
func (c *Cluster) Nodes() (text []byte) {
	for i, m := range c.members {
		flags := "master"
		if m.id == c.id {
			flags = "myself,master"
		}
		text = fmt.Appendf(text, "%s %s:%d@%d %s - 0 0 %d connected %d-%d\n",
			m.id, m.host, m.port, m.port+10000, flags, i+1, m.first, m.last)
	}
	return text
}

// Info returns the text of CLUSTER INFO.
func (c *Cluster) Info() []byte {
	n := len(c.members)
	return fmt.Appendf(nil, "cluster_state:ok\r\ncluster_slots_assigned:%d\r\ncluster_slots_ok:%d\r\n"+
		"cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:%d\r\ncluster_size:%d\r\n"+
		"cluster_current_epoch:%d\r\ncluster_my_epoch:1\r\n", slots.Count, slots.Count, n, n, n)
}

// Help is the text of CLUSTER HELP: the subcommands that keyway answers.
var Help = []string{
	"COUNT-FAILURE-REPORTS <node-id>", "    Return number of failure reports for <node-id>.",
	"COUNTKEYSINSLOT <slot>", "    Return the number of keys in <slot>.",
	"GETKEYSINSLOT <slot> <count>", "    Return key names stored by current node in a slot.",
	"INFO", "    Return information about the cluster.",
	"KEYSLOT <key>", "    Return the hash slot for <key>.",
	"LINKS", "    Return information about all network links between this node and its peers.",
	"MYID", "    Return the node id.",
	"MYSHARDID", "    Return the node's shard id.",
	"NODES", "    Return cluster configuration seen by node.",
	"REPLICAS <node-id>", "    Return <node-id> replicas.",
	"SHARDS", "    Return information about slot range mappings and the nodes associated with them.",
	"SLOTS", "    Return information about slots range mappings.",
}
