package proxy

import (
	"slices"

	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
)

// following is the lag of a replica, and the offsets of a master.
type following struct {
	lag     freshness.Node
	fastest *node // of a master: the fastest node, itself or a replica
}

// tick looks at all replicas and their masters if the interval is over.
func (rd *reads) tick() {
	w := rd.w
	if w.o.Reads == FromMaster || !rd.replicas.Begin(w.now) {
		return
	}
	for _, m := range w.masters {
		if len(m.replicas) == 0 {
			continue
		}
		m.look()
		for _, r := range m.replicas {
			r.look()
			rd.replicas.See(&r.lag)
		}
		m.fastest = m.nearest()
	}
}

// nearest returns the fastest node among a master and its replicas in step.
func (m *node) nearest() *node {
	current, nodes := 0, make([]freshness.Candidate, 0, 8)
	nodes = append(nodes, freshness.Candidate{Node: &m.lag, Usable: m.conns[0].State() == pool.Ready})
	for i, r := range m.replicas {
		nodes = append(nodes, freshness.Candidate{Node: &r.lag, Usable: r.inStep()})
		if r == m.fastest {
			current = i + 1
		}
	}
	if i := freshness.Nearest(nodes, current); i > 0 {
		return m.replicas[i-1]
	}
	return m
}

// look asks the node for its replication offset, and measures the round-trip time.
func (n *node) look() {
	w, c := n.w, n.conns[0]
	c.Open(w.now)
	if c.State() != pool.Ready || !n.lag.Ask(c.Stats.Dials) {
		return
	}
	asked := w.now
	w.ask(c, w.deadline(), func(reply []byte, ok bool) {
		if !ok {
			reply = nil
		}
		var master *freshness.Node
		if n.master != nil {
			master = &n.master.lag
		}
		n.lag.Record(reply, asked, w.now, master)
	}, "INFO", "replication")
}

// inStep reports whether the replica's lag is known and within the limit.
func (n *node) inStep() bool {
	c := n.conns[0]
	return c.State() == pool.Ready && n.w.reads.replicas.InStep(&n.lag, c.Stats.Dials, n.w.now)
}

// readable reports whether the session may read from the replica. since is when the
// session last wrote what it reads, 0 for never.
func (n *node) readable(s *Session, since int64) bool {
	if !n.inStep() || !n.lag.Has(since) {
		return false
	}
	c := n.conn(s)
	return c.ConnectError() == "" && !c.Full()
}

var (
	readOnlyFrame  = []byte("*1\r\n$8\r\nREADONLY\r\n")
	readWriteFrame = []byte("*1\r\n$9\r\nREADWRITE\r\n")
)

// scope returns the command that makes a connection to a cluster node serve, or not
// serve, reads of the keys that the node has as a replica (cluster specification,
// "Scaling reads using replica nodes").
func (n *node) scope() []byte {
	if n.master != nil {
		return readOnlyFrame
	}
	return readWriteFrame
}

// roleChanged forgets the node's lag or offsets, and sends its connections the new scope.
func (n *node) roleChanged() {
	n.lag.Reset()
	n.fastest = nil
	for _, c := range n.conns {
		if c.Prelude != nil && (c.State() == pool.Ready || c.State() == pool.Greeting) {
			n.w.say(c, n.scope())
		}
	}
}

// say sends a command and ignores the reply.
func (w *Worker) say(c *pool.Conn, frame []byte) {
	c.Send(&probe{done: func([]byte, bool) {}}, frame, w.now, w.deadline())
}

// asMaster calls send, and makes the node answer the commands that send sends without the
// keys that it has as a replica. Otherwise its replies would hide which node owns them.
func (n *node) asMaster(c *pool.Conn, send func()) {
	scoped := c.Prelude != nil && n.master != nil && slices.Contains(n.conns, c)
	if scoped {
		n.w.say(c, readWriteFrame)
	}
	send()
	if scoped {
		n.w.say(c, readOnlyFrame)
	}
}
