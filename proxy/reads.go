package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Reads that go to replicas. Two things hold all the same:
//
//   - A client reads its own writes: a key that it has written goes to the master
//     until the replica is sure to have the write (see lag.go).
//   - A read does not see a write that the same client has sent after it: the
//     write waits for the read.
//
// A client reads from one replica of a master as long as that can be read, so that
// what it sees of others' writes seldom goes back in time. Transactions, watched keys, scripts and clients that track are the masters'.

// Reads says where commands that only read go.
type Reads uint8

const (
	FromMaster    Reads = iota
	PreferReplica       // the master where no replica can be read
	FromReplica         // an error where none can
	FromNearest         // whichever answers fastest
)

// mayReadElsewhere tells whether a replica may serve the session's command.
func (s *Session) mayReadElsewhere(cmd *command.Command) bool {
	return s.has(readsReplicas) && cmd.Has(readOnly) && !cmd.Unproven() && !cmd.Has(command.Blocking) && !cmd.Is(command.MastersOnly) &&
		s.txn == nil && !s.has(tracks)
}

// reader is the node that a read goes to instead of m, the keys' master, or m
// itself; nil if it may go to none.
func (w *Worker) reader(s *Session, m *node, since int64) *node {
	if w.o.Reads == FromNearest {
		if n := m.near; n != nil && n.master == m && n.readable(s, since) {
			return n
		}
		return m
	}
	first := int(s.id / uint64(w.o.Workers))
	for i := range m.replicas {
		if r := m.replicas[(first+i)%len(m.replicas)]; r.readable(s, since) {
			return r
		}
	}
	if w.o.Reads == FromReplica && since == 0 {
		return nil
	}
	return m
}

// readerOf is reader for the only keys of a command, and counts what it is.
func (w *Worker) readerOf(s *Session, m *node, since int64) *node {
	n := w.reader(s, m, since)
	if n == m {
		w.stats.ReadsMaster++
	} else if n != nil {
		w.stats.ReadsReplica++
	}
	return n
}

// spreadReads chooses the node that each part of a split command reads from. It
// returns the master of one that may be read from nobody.
func (w *Worker) spreadReads(s *Session, a command.Args, stride int) *node {
	sp := &w.split
	for i := range sp.groups {
		p := &sp.groups[i]
		if p.node == nil {
			continue
		}
		for n, k := p.n, p.first; n > 0; n, k = n-1, sp.next[k] {
			p.read.key = w.hash(a.Arg(1 + int(k)*stride))
			p.read.since = max(p.read.since, s.wroteKey(p.read.key))
		}
		p.read.keys = int32(p.n)
		m := p.node
		if p.node = w.readerOf(s, m, p.read.since); p.node == nil {
			return m
		}
	}
	return nil
}

// replicaRead is what is read from a replica.
type replicaRead struct {
	keys  int32
	key   uint64 // the hash of the only one
	since int64  // when the client last wrote any of them, 0 if never
}

// unanswered are error codes of a replica that say nothing of the key.
var unanswered = map[string]bool{"LOADING": true, "MASTERDOWN": true, "CLUSTERDOWN": true, "MOVED": true, "ASK": true, "TRYAGAIN": true}

// doubtful tells whether a cluster's replica may lack what it was asked for since
// the slot is moving: keys that have gone are gone there too, and only the master
// knows where they are.
func (c *call) doubtful(reply []byte) bool {
	if c.read.keys > 1 {
		return lacks(reply, c.read.keys)
	}
	return nothing(reply)
}

// nothing tells whether a reply might be that to a command whose key is not there.
func nothing(reply []byte) bool {
	switch reply[0] {
	case '-', '_':
		return true
	case ':':
		n, _ := resp.Int(reply)
		return n <= 0
	case '+':
		return string(reply) == "+none\r\n"
	case '$':
		b, ok := resp.Bulk(reply)
		return !ok || len(b) == 0
	case ',', '#', '(', '=':
		return false
	}
	n, rest, _ := resp.Elements(reply)
	for range n {
		one, next, ok := resp.Split(rest)
		if !ok || !nothing(one) {
			return false
		}
		rest = next
	}
	return true
}

// lacks tells whether a reply to MGET or EXISTS shows that one of the keys is not
// there.
func lacks(reply []byte, keys int32) bool {
	if n, ok := resp.Int(reply); ok {
		return n < int64(keys)
	}
	n, rest, _ := resp.Elements(reply)
	for range n {
		one, next, _ := resp.Split(rest)
		if _, there := resp.Bulk(one); !there {
			return true
		}
		rest = next
	}
	return n == 0
}

// reread sends a read that a replica did not answer to the master, or, where only
// replicas are to be read, to another one; a doubtful one to the master always. It
// tells false when there is none.
func (w *Worker) reread(c *call, frame []byte, doubtful bool) bool {
	s := c.req.sess
	m := w.ownerOf(c.group)
	if m == nil || c.hops >= maxHops {
		return false
	}
	n := m
	if w.o.Reads == FromReplica && !doubtful {
		if n = w.reader(s, m, c.read.since); n == nil {
			return false
		}
	}
	w.forgetPart(c)
	c.hops++
	w.stats.ReadsAgain++
	if n == m {
		s.leftReplica(c)
	}
	w.resend(c, frame, n, false)
	return true
}

func readsFromReplicas(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	w.letReadElsewhere(s)
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

func readsFromMasters(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.readsElsewhere() {
		s.set(held) // a write that follows would not wait for it
		return false
	}
	s.clear(readsReplicas)
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

// letReadElsewhere has a session read from replicas from now on. What it has
// written until now is not known by keys.
func (w *Worker) letReadElsewhere(s *Session) {
	s.set(readsReplicas)
	if s.seq == 0 {
		return
	}
	t := s.troubled()
	t.own = newOwnWrites()
	t.own.note(&t.own.all, s.seq)
}
