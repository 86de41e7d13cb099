package proxy

import (
	"hash/maphash"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/resp"
)

// Reads from replicas keep two guarantees:
//
//   - A client reads its own writes: reads of a key that the client has written go to the
//     master, until the replica surely has the write (see package freshness).
//   - A read does not see a write that the same client has sent after it: the
//     write waits for the read.
//
// A client reads from the same replica of a master as long as possible, so that its view of
// other clients' writes seldom goes back in time. Transactions, watched keys, scripts and
// clients that track use masters only.

// reads chooses the nodes that serve commands which only read.
type reads struct {
	w        *Worker
	replicas freshness.Replicas
}

// Reads says which nodes serve commands that only read.
type Reads uint8

const (
	FromMaster    Reads = iota
	PreferReplica       // a replica, or the master if no replica can be read
	FromReplica         // a replica, or an error if no replica can be read
	FromNearest         // the master or a replica, whichever answers fastest
)

// mayReadElsewhere reports whether a replica may serve the session's command.
func mayReadElsewhere(s *Session, cmd *command.Command) bool {
	return s.has(readsReplicas) && cmd.Has(readOnly) && !cmd.Unproven() && !cmd.Has(command.Blocking) &&
		!cmd.Is(command.MastersOnly) && s.block == nil && !s.has(tracks)
}

// reader returns the node that serves a read of keys whose master is m: a replica, or m
// itself, or nil if no node may serve it. since is the time of the client's last write to
// the keys.
func (rd *reads) reader(s *Session, m *node, since int64) *node {
	w := rd.w
	if w.o.Reads == FromNearest {
		if n := m.fastest; n != nil && n.master == m && n.readable(s, since) {
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
func (rd *reads) readerOf(s *Session, m *node, since int64) *node {
	n := rd.reader(s, m, since)
	if n == m {
		rd.w.stats.ReadsMaster++
	} else if n != nil {
		rd.w.stats.ReadsReplica++
	}
	return n
}

// spread chooses the node that serves each group of a split command. If no node may
// serve a group, spreadReads returns the master of that group, otherwise nil.
func (rd *reads) spread(s *Session, a command.Args, stride int) *node {
	sp := &rd.w.split
	for i := range sp.groups {
		p := &sp.groups[i]
		if p.node == nil {
			continue
		}
		for n, k := p.n, p.first; n > 0; n, k = n-1, sp.next[k] {
			p.read.Key = hashKey(a.Arg(1 + int(k)*stride))
			p.read.Since = max(p.read.Since, s.writes.Since(p.read.Key))
		}
		p.read.Keys = int32(p.n)
		m := p.node
		if p.node = rd.readerOf(s, m, p.read.Since); p.node == nil {
			return m
		}
	}
	return nil
}

// lastWrote describes the command's read from a replica, with the time when the session
// last wrote any of its keys. w.keys has the keys, unless the command has a single one.
func (rd *reads) lastWrote(s *Session, cmd *command.Command, a command.Args) (read freshness.Read) {
	if cmd.Single > 0 {
		key := hashKey(a.Arg(cmd.Single))
		return freshness.Read{Keys: 1, Key: key, Since: s.writes.Since(key)}
	}
	read.Keys = int32(len(rd.w.keys))
	for _, k := range rd.w.keys {
		read.Key = hashKey(a.Arg(k))
		read.Since = max(read.Since, s.writes.Since(read.Key))
	}
	return read
}

// maxPerOne is how many keys of one command are recorded as written one by one.
const maxPerOne = 64

// mayWrite records what a command of the session may write. It returns false if the
// command must wait, because a read of the same keys is in flight to a replica.
func (rd *reads) mayWrite(s *Session, cmd *command.Command, a command.Args) bool {
	w := rd.w
	exec := cmd.Is(command.Executes) && s.has(inMulti) && s.block.mayWrite()
	if !exec && !cmd.Has(command.Write) && (!cmd.Unproven() || cmd.Has(readOnly)) {
		return true
	}
	w.keys = w.keys[:0]
	if !exec {
		w.keys = cmd.Keys(a, w.keys)
	}
	all := len(w.keys) == 0 || len(w.keys) > maxPerOne
	if s.reading.Any() && (all || rd.readsAny(s, a)) {
		s.set(draining)
		return false
	}
	t := s.allocRareState()
	if t.writes == nil {
		t.writes = freshness.NewWrites()
	}
	if all {
		t.writes.RecordAll(s.seq)
		return true
	}
	for _, k := range w.keys {
		t.writes.Record(hashKey(a.Arg(k)), s.seq)
	}
	t.writes.Trim(rd.replicas.Oldest(), w.now)
	return true
}

// readsAny reports whether a read of one of w.keys is in flight to a replica.
func (rd *reads) readsAny(s *Session, a command.Args) bool {
	return slices.ContainsFunc(rd.w.keys, func(k int) bool {
		group, _ := rd.w.table.Place(a.Arg(k))
		return s.reading.Has(hashKey(a.Arg(k)), group)
	})
}

// readAt records that a call, whose group is set, reads from a replica.
func readAt(s *Session, c *call, read freshness.Read) {
	t := s.allocRareState()
	if t.reading == nil {
		t.reading = new(freshness.Reads)
	}
	c.replica, c.read = true, read
	c.read.Group = c.group
	t.reading.Add(&c.read)
}

// leftReplica records that a call no longer reads from a replica.
func leftReplica(s *Session, c *call) {
	s.reading.Remove(&c.read)
	c.replica = false
}

// hashKey returns the hash by which a key's reads and writes are recorded.
func hashKey(key []byte) uint64 { return maphash.Bytes(hashSeed, key) }

// readAgain sends a read again that a replica did not serve: to the master, or to another
// replica if keyway may read from replicas only. A doubtful read always goes to the master.
// readAgain returns false if there is no such node, or if the call has used up its redirects.
func (c *call) readAgain(frame []byte, doubtful bool) bool {
	w := c.worker()
	s := c.req.sess
	m := w.ownerOf(c.group)
	if m == nil || c.hops >= maxHops {
		return false
	}
	n := m
	if w.o.Reads == FromReplica && !doubtful {
		if n = w.reads.reader(s, m, c.read.Since); n == nil {
			return false
		}
	}
	c.forgetReceived()
	c.hops++
	w.stats.ReadsAgain++
	if n == m {
		leftReplica(s, c)
	}
	c.resend(frame, n, false)
	return true
}

func readsFromReplicas(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	w.reads.allow(s)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

func readsFromMasters(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.reading.Any() {
		s.set(draining) // otherwise a later write would not wait for the reads at replicas
		return false
	}
	s.clear(readsReplicas)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

// allow lets replicas serve the session's reads from now on. The session's
// earlier writes were not recorded by key, so all keys count as written now.
func (rd *reads) allow(s *Session) {
	s.set(readsReplicas)
	if s.seq == 0 {
		return
	}
	t := s.allocRareState()
	t.writes = freshness.NewWrites()
	t.writes.RecordAll(s.seq)
}
