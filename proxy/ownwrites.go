package proxy

import (
	"hash/maphash"
	"math"

	"github.com/keyway-proxy/keyway/command"
)

// This file records what a client has written, and what it reads from replicas. A client
// therefore reads its own earlier writes, and no write that it sends after the read.

// ownWrites is a client's recent writes.
type ownWrites struct {
	keys map[uint64]*written // by the key's hash
	all  written             // writes that keys does not contain
	open []openWrite         // unanswered writes, in the order they were sent
	done int                 // how many at the front of open are answered
	// room is how many keys may be recorded before forget looks for those that all
	// replicas have.
	room  int
	spare []*written
}

func newOwnWrites() *ownWrites { return &ownWrites{keys: map[uint64]*written{}, room: minOwn} }

// written is the state of one key's writes.
type written struct {
	open int   // how many are unanswered
	at   int64 // when the last one was answered
}

type openWrite struct {
	to  *written
	seq uint64
}

const (
	underWay  = math.MaxInt64
	minOwn    = 64
	maxOwn    = 4096 // keys that are recorded one by one
	maxPerOne = 64   // keys of one command that are recorded one by one
)

func (wr *written) since() int64 {
	switch {
	case wr == nil:
		return 0
	case wr.open > 0:
		return underWay
	}
	return wr.at
}

func (w *Worker) hash(key []byte) uint64 { return maphash.Bytes(hashSeed, key) }

// wroteKey returns when the session last wrote the key: 0 if never, and underWay while the
// write may not have been executed.
func (s *Session) wroteKey(key uint64) int64 {
	o := s.own
	if o == nil {
		return 0
	}
	return max(o.keys[key].since(), o.all.since())
}

// lastWrote describes the command's read from a replica, with the time when the session
// last wrote any of its keys. w.keys has the keys, unless the command has a single one.
func (w *Worker) lastWrote(s *Session, cmd *command.Command, a command.Args) (read replicaRead) {
	if cmd.Single > 0 {
		key := w.hash(a.Arg(cmd.Single))
		return replicaRead{1, key, s.wroteKey(key)}
	}
	read.keys = int32(len(w.keys))
	for _, k := range w.keys {
		read.key = w.hash(a.Arg(k))
		read.since = max(read.since, s.wroteKey(read.key))
	}
	return read
}

// mayWrite records what a command of the session may write. It returns false if the
// command must wait, because a read of the same keys is in flight to a replica.
func (w *Worker) mayWrite(s *Session, cmd *command.Command, a command.Args) bool {
	exec := cmd.Is(command.Executes) && s.has(inMulti) && s.block.mayWrite()
	if !exec && !cmd.Has(command.Write) && (!cmd.Unproven() || cmd.Has(readOnly)) {
		return true
	}
	w.keys = w.keys[:0]
	if !exec {
		w.keys = cmd.Keys(a, w.keys)
	}
	all := len(w.keys) == 0 || len(w.keys) > maxPerOne
	if s.readsElsewhere() && s.readsAny(w, a, all) {
		s.set(held)
		return false
	}
	t := s.troubled()
	if t.own == nil {
		t.own = newOwnWrites()
	}
	if all {
		t.own.note(&t.own.all, s.seq)
		return true
	}
	for _, k := range w.keys {
		t.own.note(t.own.of(w.hash(a.Arg(k))), s.seq)
	}
	if len(t.own.keys) > t.own.room {
		t.own.forget(w.oldest, w.now)
	}
	return true
}

// readsAny reports whether a read of one of w.keys, or of any key if all is set, is in
// flight to a replica. Its caller has checked that the session reads from a replica.
func (s *Session) readsAny(w *Worker, a command.Args, all bool) bool {
	if all {
		return true
	}
	for _, k := range w.keys {
		hash := w.hash(a.Arg(k))
		for c := s.reading.ofKey(hash).first; c != nil; c = c.reads {
			if c.read.key == hash {
				return true
			}
		}
		group, _ := w.table.Place(a.Arg(k))
		for c := s.reading.ofGroup(group).first; c != nil; c = c.reads {
			if c.group == group {
				return true
			}
		}
	}
	return false
}

// of returns the entry for a key's writes, and creates it if there is none.
func (o *ownWrites) of(key uint64) *written {
	wr := o.keys[key]
	if wr == nil {
		if n := len(o.spare) - 1; n >= 0 {
			wr, o.spare = o.spare[n], o.spare[:n]
		} else {
			wr = new(written)
		}
		o.keys[key] = wr
	}
	return wr
}

func (o *ownWrites) note(to *written, seq uint64) {
	to.open++
	o.open = append(o.open, openWrite{to, seq})
}

// answered records that all commands in front of the head of the session's line have been
// answered.
func (s *Session) answered(now int64) {
	o, head := s.own, s.seq
	if s.line.head != nil {
		head = s.line.head.seq
	}
	for ; o.done < len(o.open) && o.open[o.done].seq < head; o.done++ {
		to := o.open[o.done].to
		to.open--
		to.at = now
	}
	if o.done == len(o.open) || o.done > maxOwn {
		o.open = o.open[:copy(o.open, o.open[o.done:])]
		o.done = 0
	}
}

// forget drops the keys whose writes every replica has by now. If that does not make room,
// it moves all answered keys into o.all.
func (o *ownWrites) forget(oldest, now int64) {
	for k, wr := range o.keys {
		if wr.open == 0 && wr.at < oldest {
			o.drop(k, wr)
		}
	}
	if len(o.keys) > maxOwn/2 {
		for k, wr := range o.keys {
			if wr.open == 0 {
				o.all.at = now
				o.drop(k, wr)
			}
		}
	}
	// A loop over a map takes time in proportion to its largest size ever, so it must be rare.
	o.room = max(2*len(o.keys), o.room/2, minOwn)
}

func (o *ownWrites) drop(key uint64, wr *written) {
	delete(o.keys, key)
	*wr = written{}
	o.spare = append(o.spare, wr)
}

// readings are a client's calls that read from replicas. In a pipeline of any length, a
// write quickly finds those that it must wait for.
type readings struct {
	n       int
	byKey   [64]chain // by the hash of the only key
	byGroup [16]chain // by the group of several keys
}

// chain is in the order in which the calls were sent, which is about the order of their ends.
type chain struct{ first, last *call }

func (r *readings) chain(c *call) *chain {
	if c.read.keys > 1 {
		return r.ofGroup(c.group)
	}
	return r.ofKey(c.read.key)
}

func (r *readings) ofKey(hash uint64) *chain { return &r.byKey[hash%uint64(len(r.byKey))] }
func (r *readings) ofGroup(group int32) *chain {
	return &r.byGroup[uint32(group)%uint32(len(r.byGroup))]
}

// readAt records that a call, whose group is set, reads from a replica.
func (s *Session) readAt(c *call, read replicaRead) {
	t := s.troubled()
	if t.reading == nil {
		t.reading = new(readings)
	}
	c.replica, c.read = true, read
	at := t.reading.chain(c)
	if at.first == nil {
		at.first = c
	} else {
		at.last.reads = c
	}
	at.last = c
	t.reading.n++
}

// leftReplica records that a call no longer reads from a replica.
func (s *Session) leftReplica(c *call) {
	at := s.reading.chain(c)
	if at.first == c {
		at.first = c.reads
	} else {
		before := at.first
		for before.reads != c {
			before = before.reads
		}
		if before.reads = c.reads; at.last == c {
			at.last = before
		}
	}
	c.replica, c.reads = false, nil
	s.reading.n--
}

// readsElsewhere reports whether any of the session's calls reads from a replica.
func (s *Session) readsElsewhere() bool { return s.reading != nil && s.reading.n > 0 }
