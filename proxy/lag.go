package proxy

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// How far replicas are behind is told in time, not in bytes: every so often master
// and replicas are asked how far the stream of writes has come (INFO replication).
// A replica that is at least where its master was when it was asked at time t has
// all that was written before t:
//
//	master    t=1: 100   t=2: 180   t=3: 310
//	replica                              t=3: 200   is as fresh as t=2
//
// An answer of the replica is thus never older than now-fresh.

const (
	never      = math.MinInt64 / 2
	lookMin    = 20 * time.Millisecond // between two looks
	lookMax    = 100 * time.Millisecond
	maxOffsets = 128 // of a master's that are kept
)

// offset is how far a master's stream of writes had come, at least, at a time.
type offset struct {
	at     int64
	stream string // whose: a promoted replica begins another
	bytes  int64
}

// following is what is known of a replica, and of a master's own pace.
type following struct {
	fresh   int64    // the replica has all that its master had executed by then
	dials   uint64   // of the first connection when that became known: behind another socket may be another process
	looking bool     // an answer is awaited
	rtt     int64    // of the looks, smoothed; 0: not known
	offsets []offset // of a master, by time
	near    *node    // of a master: it or the replica that answers fastest
}

// lookEvery is the time between two looks: a small part of what replicas may be
// behind, for a look can only tell how it was at the one before.
func lookEvery(maxLag time.Duration) int64 {
	if maxLag == 0 {
		return int64(lookMax)
	}
	return int64(min(max(maxLag/5, lookMin), lookMax))
}

// tickReplicas looks at all replicas and their masters when it is time to.
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

// nearest is who answers fastest of a master and its replicas in step. Who it was
// so far stays so unless another one is faster by a fifth.
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
		text, told := resp.Bulk(reply)
		if !ok || !told {
			return
		}
		if took := max(w.now-asked, 1); n.rtt == 0 {
			n.rtt = took
		} else {
			n.rtt += (took - n.rtt) / 8
		}
		stream := infoField(text, "master_replid")
		switch role := infoField(text, "role"); {
		case n.master == nil && role == "master":
			if bytes, err := strconv.ParseInt(infoField(text, "master_repl_offset"), 10, 64); err == nil {
				n.passed(offset{asked, stream, bytes})
			}
		case n.master != nil && role == "slave" && infoField(text, "master_link_status") == "up": // else it may be about to begin anew, with nothing
			if bytes, err := strconv.ParseInt(infoField(text, "slave_repl_offset"), 10, 64); err == nil {
				n.reached(stream, bytes)
			}
		}
	}, "INFO", "replication")
}

// passed notes how far a master has come. When there are many notes every other
// one goes: what is long ago is known less exactly.
func (n *node) passed(o offset) {
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

// reached notes how far a replica has come.
func (n *node) reached(stream string, bytes int64) {
	for _, o := range slices.Backward(n.master.offsets) {
		if o.stream == stream && o.bytes <= bytes {
			n.fresh = max(n.fresh, o.at)
			return
		}
	}
}

// doubt has a replica not be read from before it is known anew how far it is: it
// may have been restarted.
func (n *node) doubt() { n.fresh = never }

// inStep tells whether the replica is no further behind than it may be.
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

// readable tells whether a session may read from the replica what it has itself
// last written at since, 0 for never.
func (n *node) readable(s *Session, since int64) bool {
	if !n.inStep() || since > 0 && n.fresh <= since {
		return false
	}
	c := n.conn(s)
	return c.Refusing() == "" && !c.Full()
}

// behind is how long ago the replica was surely in step, the longest time if that
// is not known.
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

// scope is the command that has a connection to a cluster's node serve reads of the
// keys that it has as a replica, or not (cluster specification, "Scaling reads
// using replica nodes").
func (n *node) scope() []byte {
	if n.master != nil {
		return readOnlyFrame
	}
	return readWriteFrame
}

// roleChanged tells the node's connections so.
func (n *node) roleChanged() {
	n.following = following{fresh: never, looking: n.looking}
	for _, c := range n.conns {
		if c.Prelude != nil && (c.State() == pool.Ready || c.State() == pool.Greeting) {
			n.w.say(c, n.scope())
		}
	}
}

// say sends a command whose reply does not matter.
func (w *Worker) say(c *pool.Conn, frame []byte) {
	c.Send(&probe{done: func([]byte, bool) {}}, frame, w.now, w.deadline())
}

// asMaster has the node answer what send sends as one that serves nothing that it
// has as a replica: where keys are is not to be hidden by its reads.
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
