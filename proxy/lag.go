package proxy

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// Replica lag is measured in time, not in bytes. At regular intervals keyway asks masters
// and replicas for their replication offsets (INFO replication). A master is asked at
// time t and reports an offset. A replica that has reached this offset has everything
// that was written before t:
//
//	master    t=1: 100   t=2: 180   t=3: 310
//	replica                              t=3: 200   is as fresh as t=2
//
// The data that a replica returns is thus never older than now-fresh.

const (
	never      = math.MinInt64 / 2
	lookMin    = 20 * time.Millisecond // bounds of the interval between two looks
	lookMax    = 100 * time.Millisecond
	maxOffsets = 128 // recorded for each master
)

// offset is a master's replication offset. The master had written at most this many
// bytes to its stream at the time when it was asked.
type offset struct {
	at     int64  // when the master was asked
	stream string // the replication ID: a promoted replica begins another stream
	bytes  int64
}

// following is the lag of a replica, and the offsets of a master.
type following struct {
	fresh int64 // the replica has everything that its master had executed by then
	// dials is that of the first connection when fresh became known. Another socket may
	// lead to another process.
	dials   uint64
	looking bool     // a look is unanswered
	rtt     int64    // the smoothed round-trip time of looks, 0 if unknown
	offsets []offset // of a master, by time
	near    *node    // of a master: the fastest node, itself or a replica
}

// lookEvery returns the interval between two looks. It is a small part of the permitted
// lag, since a look compares a replica with the master's offset at an earlier look.
func lookEvery(maxLag time.Duration) int64 {
	if maxLag == 0 {
		return int64(lookMax)
	}
	return int64(min(max(maxLag/5, lookMin), lookMax))
}

// tickReplicas looks at all replicas and their masters if the interval is over.
func (w *Worker) tickReplicas() {
	if w.o.Reads == FromMaster || w.now < w.nextLook {
		return
	}
	w.nextLook = w.now + lookEvery(w.o.MaxLag)
	w.oldest = w.now
	for _, m := range w.masters {
		if len(m.replicas) == 0 {
			continue
		}
		m.look()
		for _, r := range m.replicas {
			r.look()
			w.oldest = min(w.oldest, r.fresh)
		}
		m.near = m.nearest()
	}
}

// nearest returns the fastest node among a master and its replicas in step. It keeps the
// previous one unless another is faster by a fifth.
func (m *node) nearest() *node {
	best := m.near
	if best == nil || best != m && (best.master != m || !best.inStep()) {
		best = m
	}
	faster := func(n *node) bool { return n.rtt > 0 && n.rtt < best.rtt-best.rtt/5 }
	if best != m && faster(m) && m.conns[0].State() == pool.Ready {
		best = m
	}
	for _, r := range m.replicas {
		if r.inStep() && (faster(r) || best == m && m.conns[0].State() != pool.Ready) {
			best = r
		}
	}
	return best
}

// look asks the node for its replication offset, and measures the round-trip time.
func (n *node) look() {
	w, c := n.w, n.conns[0]
	c.Open(w.now)
	if n.looking || c.State() != pool.Ready {
		return
	}
	if n.dials != c.Stats.Dials {
		n.dials = c.Stats.Dials
		n.doubt()
	}
	n.looking = true
	asked := w.now
	w.ask(c, w.deadline(), func(reply []byte, ok bool) {
		n.looking = false
		text, isBulk := resp.Bulk(reply)
		if !ok || !isBulk {
			return
		}
		if rtt := max(w.now-asked, 1); n.rtt == 0 {
			n.rtt = rtt
		} else {
			n.rtt += (rtt - n.rtt) / 8
		}
		stream := info.Field(text, "master_replid")
		switch role := info.Field(text, "role"); {
		case n.master == nil && role == "master":
			if bytes, err := strconv.ParseInt(info.Field(text, "master_repl_offset"), 10, 64); err == nil {
				n.recordOffset(offset{asked, stream, bytes})
			}
		case n.master != nil && role == "slave" && info.Field(text, "master_link_status") == "up":
			// With the link down, the replica may be about to start again without any data.
			if bytes, err := strconv.ParseInt(info.Field(text, "slave_repl_offset"), 10, 64); err == nil {
				n.recordReached(stream, bytes)
			}
		}
	}, "INFO", "replication")
}

// recordOffset records a master's offset. When there are maxOffsets, it drops every other
// one, so that older offsets are further apart.
func (n *node) recordOffset(o offset) {
	if k := len(n.offsets); k > 0 && n.offsets[k-1].stream == o.stream && n.offsets[k-1].bytes == o.bytes {
		n.offsets[k-1].at = o.at
		return
	}
	if len(n.offsets) == maxOffsets {
		for i := range maxOffsets / 2 {
			n.offsets[i] = n.offsets[2*i+1]
		}
		n.offsets = n.offsets[:maxOffsets/2]
	}
	n.offsets = append(n.offsets, o)
}

// recordReached records the offset that a replica has reached.
func (n *node) recordReached(stream string, bytes int64) {
	for _, o := range slices.Backward(n.master.offsets) {
		if o.stream == stream && o.bytes <= bytes {
			n.fresh = max(n.fresh, o.at)
			return
		}
	}
}

// doubt stops reads from a replica until the next look at it: it may have restarted.
func (n *node) doubt() { n.fresh = never }

// inStep reports whether the replica's lag is known and within the limit.
func (n *node) inStep() bool {
	w := n.w
	if c := n.conns[0]; c.State() != pool.Ready || c.Stats.Dials != n.dials {
		return false
	}
	if w.o.MaxLag > 0 {
		return w.now-n.fresh <= int64(w.o.MaxLag)
	}
	return n.fresh != never
}

// readable reports whether the session may read from the replica. since is when the
// session last wrote what it reads, 0 for never.
func (n *node) readable(s *Session, since int64) bool {
	if !n.inStep() || since > 0 && n.fresh <= since {
		return false
	}
	c := n.conn(s)
	return c.Refusing() == "" && !c.Full()
}

// behind returns an upper bound of the replica's lag, the longest duration if unknown.
func (n *node) behind() time.Duration {
	if n.fresh == never {
		return math.MaxInt64
	}
	return time.Duration(n.w.now - n.fresh)
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
	n.following = following{fresh: never, looking: n.looking}
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
