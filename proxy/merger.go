package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
)

// merger gathers the replies of a request that has several calls.
type merger struct {
	calls       []*call
	replies     [][]byte
	perArgument []int32  // inKeyOrder: the shard of each key; scriptsExist: 1 for each script that keyway has
	unread      [][]byte // what MergeByKey has not read of replies

	unknown bool   // the node may have executed a call that has no reply
	channel []byte // of PUBLISH
	// uncounted is how many subscribers of channel its node did not count when the
	// message was sent.
	uncounted int64
	perKey    *lua.PerKey // for inUnitOrder
	about     any         // a feature's own data, for its ending
	then      func()      // called when all calls but the last have ended; it ends the last
	after     func()      // set by the ending: it appends the rest of the reply to the line

	kept int // its bytes in Worker.mergerBytes while it is unused
}

// mergers are the mergers that are not in use.
type mergers struct {
	w      *Worker
	unused []*merger
	bytes  int // their memory
}

func (ms *mergers) get(calls int) *merger {
	var m *merger
	if n := len(ms.unused); n > 0 {
		m = ms.unused[n-1]
		ms.unused = ms.unused[:n-1]
		ms.bytes -= m.kept
	} else {
		m = new(merger)
	}
	for len(m.calls) < calls {
		m.calls = append(m.calls, new(call))
		m.replies = append(m.replies, nil)
	}
	m.replies = m.replies[:calls]
	return m
}

func (ms *mergers) put(m *merger) {
	w := ms.w
	for i, p := range m.replies {
		if m.replies[i] = p[:0]; cap(p) > bigFrame {
			w.buffers.Drop(cap(p))
			m.replies[i] = nil
		}
		*m.calls[i] = call{}
	}
	m.perArgument, m.unknown, m.perKey, m.about = m.perArgument[:0], false, nil, nil
	m.then, m.after = nil, nil
	m.channel = w.buffers.Scratch(m.channel)
	m.kept = m.memory()
	if len(ms.unused) >= 64 || ms.bytes+m.kept > maxMergers {
		w.buffers.Drop(m.kept)
		return
	}
	ms.bytes += m.kept
	m.replies = m.replies[:len(m.calls)]
	ms.unused = append(ms.unused, m)
}

// call resets the i-th of the request's calls and returns it.
func (m *merger) call(r *request, i int) *call {
	c := m.calls[i]
	*c = call{req: r, index: int32(i)}
	return c
}

func (m *merger) add(i int, b []byte) { m.replies[i] = append(m.replies[i], b...) }

func (m *merger) size() (n int) {
	for _, p := range m.replies {
		n += len(p)
	}
	return n
}

// conclude makes one reply out of the replies to a request's calls and delivers it. failed reports
// whether the reply is an error. after, if it is not nil, appends the rest of the reply to
// the line.
func (r *request) conclude() (failed bool, after func()) {
	w := r.sess.w
	r.sess.parked -= r.merge.size()
	dst := r.end(w, w.scratch[:0], r)
	failed = len(dst) > 0 && dst[0] == '-'
	r.deliver(dst)
	w.scratch = w.buffers.Scratch(dst)
	return failed, r.merge.after
}

// merged is the ending that merges the replies by the command's policy.
func merged(w *Worker, dst []byte, r *request) []byte {
	if bad := r.merge.failedPartly(r.cmd); bad != nil {
		return resp.AppendError(dst, errtext.InPart(r.cmd, bad))
	}
	return r.cmd.Merge(dst, r.merge.replies, w.set.Rand.Uint64())
}

// inKeyOrder is the ending that puts the replies' elements in the order of the keys.
func inKeyOrder(_ *Worker, dst []byte, r *request) []byte {
	m := r.merge
	m.unread = append(m.unread[:0], m.replies...)
	dst = command.MergeByKey(dst, m.unread, m.perArgument)
	clear(m.unread)
	return dst
}

// failedPartly returns the error of one call if a command that writes has failed in some calls,
// but not, or not certainly, in all. In that case no call's error is true of the whole
// command.
func (m *merger) failedPartly(cmd *command.Command) (bad []byte) {
	if cmd.Has(readOnly) || cmd.AnySuffices() || cmd.Is(command.OnlyTells) {
		return nil
	}
	done := m.unknown
	for _, p := range m.replies {
		if len(p) == 0 || p[0] != '-' {
			done = true
		} else if bad == nil {
			bad = p
		}
	}
	if !done {
		return nil
	}
	return bad
}

// splitter assigns a command's keys to the groups they live in.
type splitter struct {
	units   []lua.Unit // of a script that treats each key alone
	stamp   uint32
	stamps  []uint32 // by group: stamp, if the group occurs in this command
	index   []int32  // by group: its index in groups
	groups  []shard
	next    []int32 // by key: the next key of the same shard
	shardOf []int32 // by key: the index of its shard in groups
}

// shard is the keys of a split command that live in one group.
type shard struct {
	group       int32
	node        *node // nil if no node owns the slot
	first, last int32
	n           int
	read        freshness.Read // set if node is a replica
}

// splitByKey sends one shard of a command to each group that its keys live in. If all keys
// live in one group, it sends the command unchanged.
func splitByKey(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	stride := cmd.Stride
	keys := (a.Len() - 1 - cmd.Tail) / stride
	if keys < 1 || (a.Len()-1-cmd.Tail)%stride != 0 {
		return s.answerError(cmd, errtext.Arity(cmd))
	}
	if key, group := dealOut(w, a, keys, stride); key > 0 {
		w.keys = append(w.keys[:0], key)
		return unowned(w, s, cmd, a, group)
	}
	if mayReadElsewhere(s, cmd) {
		if m := w.reads.spread(s, a, stride); m != nil {
			return s.answerError(cmd, errtext.NoReplica(m.label()))
		}
	}
	for _, p := range w.split.groups {
		if p.node != nil && p.node.conn(s).Full() {
			return s.stall()
		}
	}
	if len(w.split.groups) == 1 {
		sendWhole(w, s, cmd, a)
	} else {
		sendShards(w, s, cmd, a, keys)
	}
	return true
}

// dealOut assigns the keys of a split command to the groups they live in. If no node owns
// or will own one of them, it returns the position of that key and its group. Otherwise it
// returns 0.
func dealOut(w *Worker, a command.Args, keys, stride int) (key int, group int32) {
	sp := &w.split
	sp.begin(keys)
	for k := range keys {
		switch group, id := w.table.Place(a.Arg(1 + k*stride)); {
		case id >= 0:
			sp.add(group, w.nodes[id], int32(k))
		case w.table.Slotted() && len(w.nodes) > 0:
			sp.add(group, nil, int32(k)) // this shard waits for an owner
		default:
			return 1 + k*stride, group
		}
	}
	return 0, 0
}

// sendWhole sends a command whose keys all live in one group.
func sendWhole(w *Worker, s *Session, cmd *command.Command, a command.Args) {
	r := s.newRequest(cmd)
	p := &w.split.groups[0]
	r.call.group = p.group
	if p.node == nil {
		await(w, s, &r.call, a.Frame())
		return
	}
	if p.node.master != nil {
		readAt(s, &r.call, p.read)
	}
	r.call.sendFrame(p.node, a)
}

// sendShards sends one shard of a command to each group that its keys live in.
func sendShards(w *Worker, s *Session, cmd *command.Command, a command.Args, keys int) {
	sp := &w.split
	r := s.newRequest(cmd)
	r.end = merged
	r.unfinished = len(sp.groups)
	r.merge = w.mergers.get(len(sp.groups))
	if cmd.Response == command.ResponseDefault {
		r.end = inKeyOrder
		for k := range keys {
			r.merge.perArgument = append(r.merge.perArgument, sp.shardOf[k])
		}
	}
	for i := range sp.groups {
		p := &sp.groups[i]
		c := r.merge.call(r, i)
		c.group = p.group
		w.frame = cmd.AppendPart(w.frame[:0], a, p.first, sp.next, p.n)
		if p.node == nil {
			await(w, s, c, w.frame)
			continue
		}
		if p.node.master != nil {
			readAt(s, c, p.read)
		}
		c.send(p.node, w.frame)
	}
	w.frame = w.buffers.Scratch(w.frame)
}

func (sp *splitter) begin(keys int) {
	if sp.stamp++; sp.stamp == 0 { // the counter has wrapped: old stamps must not look new
		clear(sp.stamps)
		sp.stamp = 1
	}
	sp.groups = sp.groups[:0]
	if cap(sp.next) < keys {
		sp.next = make([]int32, keys)
		sp.shardOf = make([]int32, keys)
	}
	sp.next, sp.shardOf = sp.next[:keys], sp.shardOf[:keys]
}

func (sp *splitter) add(group int32, n *node, key int32) {
	for int(group) >= len(sp.stamps) {
		sp.stamps = append(sp.stamps, make([]uint32, 1024)...)
		sp.index = append(sp.index, make([]int32, 1024)...)
	}
	if sp.stamps[group] != sp.stamp {
		sp.stamps[group] = sp.stamp
		sp.index[group] = int32(len(sp.groups))
		sp.groups = append(sp.groups, shard{group: group, node: n, first: key, last: key, n: 1})
		sp.shardOf[key] = sp.index[group]
		return
	}
	p := &sp.groups[sp.index[group]]
	sp.next[p.last] = key
	p.last = key
	p.n++
	sp.shardOf[key] = sp.index[group]
}
