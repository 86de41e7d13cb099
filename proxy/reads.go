package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Reads from replicas keep two guarantees:
//
//   - A client reads its own writes: reads of a key that the client has written go to the
//     master, until the replica surely has the write (see lag.go).
//   - A read does not see a write that the same client has sent after it: the
//     write waits for the read.
//
// A client reads from the same replica of a master as long as possible, so that its view of
// other clients' writes seldom goes back in time. Transactions, watched keys, scripts and
// clients that track use masters only.

// Reads says which nodes serve commands that only read.
type Reads uint8

const (
	FromMaster    Reads = iota
	PreferReplica       // a replica, or the master if no replica can be read
	FromReplica         // a replica, or an error if no replica can be read
	FromNearest         // the master or a replica, whichever answers fastest
)

// mayReadElsewhere reports whether a replica may serve the session's command.
func (s *Session) mayReadElsewhere(cmd *command.Command) bool {
	return s.has(readsReplicas) && cmd.Has(readOnly) && !cmd.Unproven() && !cmd.Has(command.Blocking) &&
		!cmd.Is(command.MastersOnly) && s.block == nil && !s.has(tracks)
}

// reader returns the node that serves a read of keys whose master is m: a replica, or m
// itself, or nil if no node may serve it. since is the time of the client's last write to
// the keys.
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

// readerOf is like reader, and also counts the read as one from a master or a replica.
func (w *Worker) readerOf(s *Session, m *node, since int64) *node {
	n := w.reader(s, m, since)
	if n == m {
		w.stats.ReadsMaster++
	} else if n != nil {
		w.stats.ReadsReplica++
	}
	return n
}

// spreadReads chooses the node that serves each group of a split command. If no node may
// serve a group, spreadReads returns the master of that group, otherwise nil.
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

// replicaRead describes a read that a replica serves.
type replicaRead struct {
	keys  int32  // number of keys
	key   uint64 // the hash of the only key
	since int64  // when the client last wrote one of the keys, 0 if never
}

// unanswered are a replica's error codes that say nothing about the key.
var unanswered = map[string]bool{
	"LOADING": true, "MASTERDOWN": true, "CLUSTERDOWN": true, "MOVED": true, "ASK": true, "TRYAGAIN": true,
}

// doubtful reports whether keys of the call may be missing from a cluster's replica only
// because their slot is migrating. Keys that have migrated are missing from the replica too,
// and only the master knows their new node.
func (c *call) doubtful(reply []byte) bool {
	if c.read.keys > 1 {
		return lacks(reply, c.read.keys)
	}
	return nothing(reply)
}

// nothing reports whether a reply may be that to a command whose key does not exist.
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

// lacks reports whether a reply to MGET or EXISTS shows that one of the keys does not exist.
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

// reread sends a read again that a replica did not serve: to the master, or to another
// replica if keyway may read from replicas only. A doubtful read always goes to the master.
// reread returns false if there is no such node, or if the call has used up its redirects.
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
		s.set(held) // otherwise a later write would not wait for the reads at replicas
		return false
	}
	s.clear(readsReplicas)
	return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
}

// letReadElsewhere lets replicas serve the session's reads from now on. The session's
// earlier writes were not recorded by key, so all keys count as written now.
func (w *Worker) letReadElsewhere(s *Session) {
	s.set(readsReplicas)
	if s.seq == 0 {
		return
	}
	t := s.troubled()
	t.own = newOwnWrites()
	t.own.note(&t.own.all, s.seq)
}
