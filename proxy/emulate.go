package proxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// For clients that speak only to a Redis Cluster, keyway can emulate one. Each keyway
// appears as a master; several side by side share the slots among them. Every keyway
// serves every key, so none ever redirects.

// Emulation describes the emulated cluster.
type Emulation struct {
	Announce string   // this keyway's address for clients, host:port
	Peers    []string // the other keyways' addresses for clients
}

// member is one keyway as a node of the emulated cluster.
type member struct {
	host        string
	port        int64
	id          string
	first, last int // its slots
}

// members returns all keyways, this one included. Every keyway returns the same list.
func (e *Emulation) members() []member {
	addrs := slices.Sorted(slices.Values(append([]string{e.Announce}, e.Peers...)))
	all := make([]member, len(addrs))
	for i, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.ParseInt(port, 10, 64)
		first, next := i*slots.Count/len(addrs), (i+1)*slots.Count/len(addrs)
		all[i] = member{host: host, port: n, id: nodeID(addr), first: first, last: next - 1}
	}
	return all
}

// nodeID derives a cluster node's ID from an address, so that it survives restarts.
func nodeID(addr string) string {
	sum := sha1.Sum([]byte(addr))
	return hex.EncodeToString(sum[:])
}

// yes answers OK.
func yes(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

func clusterSlots(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	members := w.o.Cluster.members()
	b := resp.AppendArray(w.scratch[:0], len(members))
	for _, m := range members {
		b = resp.AppendArray(b, 3)
		b = resp.AppendInt(resp.AppendInt(b, int64(m.first)), int64(m.last))
		b = resp.AppendArray(b, 4)
		b = resp.AppendInt(resp.AppendBulkString(b, m.host), m.port)
		b = resp.AppendArray(resp.AppendBulkString(b, m.id), 0)
	}
	return w.reply(s, cmd, b)
}

func clusterShards(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	members := w.o.Cluster.members()
	b := resp.AppendArray(w.scratch[:0], len(members))
	text := func(name, value string) { b = resp.AppendBulkString(resp.AppendBulkString(b, name), value) }
	for _, m := range members {
		b = resp.AppendArray(resp.AppendBulkString(s.appendMap(b, 2), "slots"), 2)
		b = resp.AppendInt(resp.AppendInt(b, int64(m.first)), int64(m.last))
		b = s.appendMap(resp.AppendArray(resp.AppendBulkString(b, "nodes"), 1), 7)
		text("id", m.id)
		b = resp.AppendInt(resp.AppendBulkString(b, "port"), m.port)
		text("ip", m.host)
		text("endpoint", m.host)
		text("role", "master")
		b = resp.AppendInt(resp.AppendBulkString(b, "replication-offset"), 0)
		text("health", "online")
	}
	return w.reply(s, cmd, b)
}

func clusterNodes(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	var text []byte
	for i, m := range w.o.Cluster.members() {
		flags := "master"
		if m.id == nodeID(w.o.Cluster.Announce) {
			flags = "myself,master"
		}
		text = fmt.Appendf(text, "%s %s:%d@%d %s - 0 0 %d connected %d-%d\n",
			m.id, m.host, m.port, m.port+10000, flags, i+1, m.first, m.last)
	}
	return w.reply(s, cmd, s.appendText(w.scratch[:0], text))
}

func clusterInfo(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	n := len(w.o.Cluster.Peers) + 1
	text := fmt.Appendf(nil, "cluster_state:ok\r\ncluster_slots_assigned:%d\r\ncluster_slots_ok:%d\r\n"+
		"cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:%d\r\ncluster_size:%d\r\n"+
		"cluster_current_epoch:%d\r\ncluster_my_epoch:1\r\n", slots.Count, slots.Count, n, n, n)
	return w.reply(s, cmd, s.appendText(w.scratch[:0], text))
}

func clusterMyID(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.reply(s, cmd, resp.AppendBulkString(w.scratch[:0], nodeID(w.o.Cluster.Announce)))
}

func clusterKeySlot(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	return w.reply(s, cmd, resp.AppendInt(w.scratch[:0], int64(slots.Of(a.Arg(2)))))
}

// clusterReplicas answers CLUSTER REPLICAS with an empty list: a keyway has no replicas.
func clusterReplicas(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !w.o.Cluster.hasMember(a.Arg(2)) {
		return w.answerError(s, cmd, errUnknownNode(a.Arg(2)))
	}
	return noneOfThem(w, s, cmd, a)
}

// clusterFailureReports answers CLUSTER COUNT-FAILURE-REPORTS with 0: keyways do not watch
// each other.
func clusterFailureReports(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if !w.o.Cluster.hasMember(a.Arg(2)) {
		return w.answerError(s, cmd, errUnknownNode(a.Arg(2)))
	}
	return w.reply(s, cmd, resp.AppendInt(w.scratch[:0], 0))
}

// hasMember reports whether id is that of a keyway in the emulated cluster.
func (e *Emulation) hasMember(id []byte) bool {
	return slices.ContainsFunc(e.members(), func(m member) bool { return m.id == string(id) })
}

// noneOfThem answers with an empty list.
func noneOfThem(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.reply(s, cmd, resp.AppendArray(w.scratch[:0], 0))
}

// clusterHelp answers CLUSTER HELP with the subcommands that an emulated cluster supports.
func clusterHelp(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.help(s, cmd, "CLUSTER",
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
		"SLOTS", "    Return information about slots range mappings.")
}

// mode returns the server mode that HELLO shows.
func (w *Worker) mode() string {
	if w.o.Cluster != nil {
		return "cluster"
	}
	return "standalone"
}
