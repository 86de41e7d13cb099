package freshness

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/info"
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

	// looksPerSecond is how many looks a node gets in a second from all threads of all keyways, if their
	// permitted lag allows that: less than one percent of its processor.
	looksPerSecond = 100
	// maxHurried is how many looks follow each other at the shortest interval, however many threads look, when
	// nothing is known of a replica.
	maxHurried = 20
)

// Replicas says when to look at the replicas, and which of them may be read.
type Replicas struct {
	maxLag time.Duration
	next   int64 // time of the next look
	oldest int64 // freshness of the replica with the largest lag, at the last look

	lookers   int   // threads of all keyways that look at the same nodes
	isUnknown bool  // nothing was known of a replica at the last look
	hurried   int   // looks in a row at which that was so
	begun     int64 // time of the last look
}

// NewReplicas returns a Replicas that permits reads up to this lag; 0: any known lag.
func NewReplicas(maxLag time.Duration) Replicas { return Replicas{maxLag: maxLag} }

// SetMaxLag changes the permitted lag; 0: any known lag.
func (r *Replicas) SetMaxLag(lag time.Duration) { r.maxLag = lag }

// Next returns the time of the next look.
func (r *Replicas) Next() int64 { return r.next }

// Begin reports whether it is time to look at all masters and replicas. If so, it begins the
// look, and the caller passes each replica to See.
func (r *Replicas) Begin(now int64) bool {
	if now < r.next {
		return false
	}
	if r.hurried++; !r.isUnknown {
		r.hurried = 0
	}
	r.begun, r.next, r.oldest, r.isUnknown = now, now+r.every(), now, false
	return true
}

// SetLookers says how many threads of all keyways look at the same nodes.
func (r *Replicas) SetLookers(n int) { r.lookers = n }

// every returns the interval between two looks. It is a small part of the permitted lag,
// since a look compares a replica with the master's offset at an earlier look. If many look at the same
// nodes, it is longer, but at most half of the permitted lag.
func (r *Replicas) every() int64 {
	least, most := r.least(), time.Duration(math.MaxInt64)
	if r.maxLag > 0 {
		most = max(r.maxLag/2, least)
	}
	return int64(min(max(least, time.Duration(r.lookers)*time.Second/looksPerSecond), most))
}

// least returns the interval between two looks of few.
func (r *Replicas) least() time.Duration {
	if r.maxLag == 0 {
		return lookMax
	}
	return min(max(r.maxLag/5, lookMin), lookMax)
}

// See records the freshness of a replica.
func (r *Replicas) See(replica *Node) {
	r.oldest = min(r.oldest, replica.fresh)
	if replica.fresh == never {
		r.isUnknown = true
		if r.hurried < maxHurried {
			r.next = min(r.next, r.begun+int64(r.least()))
		}
	}
}

// Oldest returns a time whose writes all replicas have, as far as known at the last look.
func (r *Replicas) Oldest() int64 { return r.oldest }

// InStep reports whether the replica's lag is known and permitted. dials is as in Ask.
func (r *Replicas) InStep(replica *Node, dials uint64, now int64) bool {
	if dials != replica.dials {
		return false
	}
	if r.maxLag > 0 {
		return now-replica.fresh <= int64(r.maxLag)
	}
	return replica.fresh != never
}

// Node is the lag of a replica, or the offsets of a master.
type Node struct {
	fresh   int64 // the replica has everything that its master had executed by then
	dials   uint64
	looking bool     // a look is unanswered
	rtt     int64    // the smoothed round-trip time of looks, 0 if unknown
	offsets []offset // of a master, by time
}

// offset is a master's replication offset. The master had written at most this many
// bytes to its stream at the time when it was asked.
type offset struct {
	at     int64  // when the master was asked
	stream string // the replication ID: a promoted replica begins another stream
	bytes  int64
}

// NewNode returns a node of which nothing is known.
func NewNode() Node { return Node{fresh: never} }

// Reset forgets what is known of the node, since it has another role now.
func (n *Node) Reset() { *n = Node{fresh: never, looking: n.looking} }

// Ask records that the node is asked for INFO replication; see Record. dials is how often the
// connection has been dialed: another socket may lead to another process. Ask returns false if
// the last question is unanswered.
func (n *Node) Ask(dials uint64) bool {
	if n.looking {
		return false
	}
	if n.dials != dials {
		n.dials = dials
		n.Doubt()
	}
	n.looking = true
	return true
}

// Record records the node's reply to the question of this time, nil if there is none. master
// is the node's master, nil if the node is a master.
func (n *Node) Record(reply []byte, asked, now int64, master *Node) {
	n.looking = false
	text, ok := resp.Bulk(reply)
	if !ok {
		return
	}
	if rtt := max(now-asked, 1); n.rtt == 0 {
		n.rtt = rtt
	} else {
		n.rtt += (rtt - n.rtt) / 8
	}
	stream := info.Field(text, "master_replid")
	switch role := info.Field(text, "role"); {
	case master == nil && role == "master":
		if bytes, err := strconv.ParseInt(info.Field(text, "master_repl_offset"), 10, 64); err == nil {
			n.recordOffset(offset{asked, stream, bytes})
		}
	case master != nil && role == "slave" && info.Field(text, "master_link_status") == "up":
		// With the link down, the replica may be about to start again without any data.
		if bytes, err := strconv.ParseInt(info.Field(text, "slave_repl_offset"), 10, 64); err == nil {
			n.recordReached(master, stream, bytes)
		}
	}
}

// recordOffset records a master's offset. When there are maxOffsets, it drops every other
// one, so that older offsets are further apart.
func (n *Node) recordOffset(o offset) {
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
func (n *Node) recordReached(master *Node, stream string, bytes int64) {
	for _, o := range slices.Backward(master.offsets) {
		if o.stream == stream && o.bytes <= bytes {
			n.fresh = max(n.fresh, o.at)
			return
		}
	}
}

// Doubt stops reads from a replica until the next look at it: it may have restarted.
func (n *Node) Doubt() { n.fresh = never }

// Has reports whether the replica has surely applied all writes that were answered at the time
// since, or before. If since is 0, there are none.
func (n *Node) Has(since int64) bool { return since <= 0 || n.fresh > since }

// Lag returns an upper bound of the replica's lag, the longest duration if unknown.
func (n *Node) Lag(now int64) time.Duration {
	if n.fresh == never {
		return math.MaxInt64
	}
	return time.Duration(now - n.fresh)
}

// Candidate is a node that may serve reads, if it is usable.
type Candidate struct {
	Node   *Node
	Usable bool
}

// Nearest returns the index of the node that answers fastest, among a master, which is the
// first candidate, and its replicas. It keeps the current one unless another is faster by a
// fifth. If none is usable, it returns the master.
func Nearest(nodes []Candidate, current int) int {
	best := current
	if !nodes[best].Usable {
		best = 0
	}
	for i, n := range nodes {
		limit := nodes[best].Node.rtt
		isFaster := n.Node.rtt > 0 && n.Node.rtt < limit-limit/5
		if n.Usable && (isFaster || !nodes[best].Usable) {
			best = i
		}
	}
	return best
}
