package engine

import (
	"bytes"
	"slices"
	"unsafe"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/scan"
	"github.com/keyway-proxy/keyway/transfer"
)

// splitting is what commands for several nodes need.
type splitting struct {
	split   splitter
	Mergers mergers
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
	node        *Node // nil if no node owns the slot
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
		return s.AnswerError(cmd, errtext.Arity(cmd))
	}
	if key, group := dealOut(w, a, keys, stride); key > 0 {
		w.Keys = append(w.Keys[:0], key)
		return HandleUnowned(w, s, cmd, a, group)
	}
	if mayReadElsewhere(s, cmd) {
		if m := w.Reads.spread(s, a, stride); m != nil {
			return s.AnswerError(cmd, errtext.NoReplica(m.Label()))
		}
	}
	for _, p := range w.split.groups {
		if p.node != nil && p.node.Conn(s).Full() {
			return s.Stall()
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
		switch group, id := w.Table.Place(a.Arg(1 + k*stride)); {
		case id >= 0:
			sp.add(group, w.Nodes[id], int32(k))
		case w.Table.Slotted() && len(w.Nodes) > 0:
			sp.add(group, nil, int32(k)) // this shard waits for an owner
		default:
			return 1 + k*stride, group
		}
	}
	return 0, 0
}

// sendWhole sends a command whose keys all live in one group.
func sendWhole(w *Worker, s *Session, cmd *command.Command, a command.Args) {
	r := s.NewRequest(cmd)
	p := &w.split.groups[0]
	r.Call.Group = p.group
	r.Witness(cmd, a, p.node)
	if p.node == nil {
		AwaitOwner(w, s, &r.Call, a.Frame())
		return
	}
	if p.node.Master != nil {
		readAt(s, &r.Call, p.read)
	}
	r.Call.sendFrame(p.node, a)
}

// sendShards sends one shard of a command to each group that its keys live in.
func sendShards(w *Worker, s *Session, cmd *command.Command, a command.Args, keys int) {
	sp := &w.split
	r := s.NewRequest(cmd)
	r.Witness(cmd, a, nil)
	r.End = Merged
	r.Unfinished = len(sp.groups)
	r.Merge = w.Mergers.Get(len(sp.groups))
	if cmd.Response == command.ResponseDefault {
		r.End = inKeyOrder
		for k := range keys {
			r.Merge.PerArgument = append(r.Merge.PerArgument, sp.shardOf[k])
		}
	}
	for i := range sp.groups {
		p := &sp.groups[i]
		c := r.Merge.Call(r, i)
		c.Group = p.group
		w.Frame = cmd.AppendPart(w.Frame[:0], a, p.first, sp.next, p.n)
		if p.node == nil {
			AwaitOwner(w, s, c, w.Frame)
			continue
		}
		if p.node.Master != nil {
			readAt(s, c, p.read)
		}
		c.SendTo(p.node, w.Frame)
	}
	w.Frame = w.Buffers.Scratch(w.Frame)
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

func (sp *splitter) add(group int32, n *Node, key int32) {
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

// moves reports whether a key of a shard is moving.
func (sp *splitter) moves(w *Worker, a command.Args, p *shard, stride int) bool {
	for n, k := p.n, p.first; n > 0; n, k = n-1, sp.next[k] {
		if isMoving(w, a.Arg(1+int(k)*stride)) {
			return true
		}
	}
	return false
}

// maxUnits bounds the calls that one per-key script becomes: as many as a command over
// all slots may have.
const maxUnits = 1 << 14

// splitScript handles a command whose keys belong to different nodes or slots. This is an
// error (crossing), unless the command is a script that treats each key alone. Such a
// script becomes one call for each unit of keys. Units of the same node are not combined,
// so that in a migrating slot no key has to wait for another.
func splitScript(w *Worker, s *Session, cmd *command.Command, a command.Args, crossing string) bool {
	switch {
	case cmd.Is(command.TakesScript):
		w.Scripts.Record(cmd, a)
	case !cmd.Is(command.TakesSHA):
		return s.AnswerError(cmd, crossing)
	}
	how, known := w.Scripts.Cache.PerKey(cmd, a)
	switch {
	case !known && cmd.Is(command.TakesSHA):
		return askForScript(w, s, cmd, a)
	case how == nil:
		if w.Witness != nil {
			w.Witness.Crossed(cmd, a)
		}
		return s.AnswerError(cmd, crossing)
	}
	units, ok := how.Units(a, w.split.units[:0])
	if w.split.units = units; !ok {
		return s.AnswerError(cmd, errtext.PerKeyArgs)
	}
	if len(units) > maxUnits {
		return s.AnswerError(cmd, errtext.PerKeyUnits)
	}
	if crossing := placeUnits(w, a, units, how.Placed()); crossing != "" {
		return s.AnswerError(cmd, crossing)
	}
	for i := range w.split.groups {
		if n := w.split.groups[i].node; n != nil && n.Conn(s).Full() {
			return s.Stall()
		}
	}
	TryNext(w, s, cmd, a)
	sendUnits(w, s, cmd, a, units, how)
	return true
}

// placeUnits makes each unit a group of its own, for the node of its first size keys. It
// returns the error to answer with if these keys belong to different groups or to no node.
func placeUnits(w *Worker, a command.Args, units []lua.Unit, size int) (failed string) {
	sp := &w.split
	sp.groups = sp.groups[:0]
	for i := range units {
		first := units[i].Key
		group, id := w.Table.Place(a.Arg(first))
		for k := first + 1; k < first+size; k++ {
			if g, owner := w.Table.Place(a.Arg(k)); g != group {
				return w.crossing(a, first, id, k, owner)
			}
		}
		p := shard{group: group}
		switch {
		case id != router.None:
			p.node = w.Nodes[id]
		case !w.Table.Slotted():
			return errtext.NoRule(a.Arg(first))
		case len(w.Nodes) == 0:
			w.Ready.Refresh = true
			return errtext.NoMasters
		}
		sp.groups = append(sp.groups, p)
	}
	return ""
}

// inUnitOrder is the ending of a per-key script.
func inUnitOrder(_ *Worker, dst []byte, r *Request) []byte {
	if bad := r.Merge.failedPartly(r.Command); bad != nil {
		return resp.AppendError(dst, errtext.InPart(r.Command, bad))
	}
	return r.Merge.perKey.Merge(dst, r.Merge.Replies)
}

// sendUnits starts the calls of a per-key script.
func sendUnits(w *Worker,
	s *Session, cmd *command.Command, a command.Args, units []lua.Unit, how *lua.PerKey,
) {
	r := s.NewRequest(cmd)
	r.Witness(cmd, a, nil)
	r.End, r.Unfinished, r.Merge = inUnitOrder, len(units), w.Mergers.Get(len(units))
	r.Merge.perKey = how
	for i := range units {
		p := &w.split.groups[i]
		c := r.Merge.Call(r, i)
		c.Group = p.group
		name, script := cmd.Upper(), a.Arg(1)
		if p.node != nil && !s.Has(OfNodes) {
			if eval, text := w.Scripts.Cache.Eval(cmd, p.node.Ordinal, script); text != nil {
				name, script, c.sentAsEval = eval, text, true
			}
		}
		w.Frame = units[i].Append(w.Frame[:0], name, script, a)
		if p.node == nil {
			AwaitOwner(w, s, c, w.Frame)
			continue
		}
		c.SendTo(p.node, w.Frame)
	}
	w.Frame = w.Buffers.Scratch(w.Frame)
}

// askForScript handles an EVALSHA whose keys belong to different nodes or slots, and whose
// script this worker does not know. Without the text, the worker cannot decide whether to
// split the script, so it asks its siblings. If no sibling knows the script either, the
// client gets NOSCRIPT and has to send the text, as with one Redis.
func askForScript(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if w.Options.Workers < 2 || len(a.Arg(1)) != 40 {
		return s.AnswerError(cmd, errtext.NoScript)
	}
	s.Set(Blocked)
	sha := string(bytes.ToLower(a.Arg(1)))
	w.Scripts.find(sha, func() {
		if s.HasLeft() {
			return
		}
		s.Clear(Blocked)
		if w.Scripts.Cache.Text([]byte(sha)) == nil {
			w.Inputs.dropFirst(s)
			s.AnswerError(cmd, errtext.NoScript)
			if s.Has(Tracks) {
				s.OwnConns.AfterCommand(s)
			}
		}
		s.Wake()
	})
	return false
}

// Merger gathers the replies of a request that has several calls.
type Merger struct {
	Calls       []*Call
	Replies     [][]byte
	PerArgument []int32  // inKeyOrder: the shard of each key; scriptsExist: 1 for each script that keyway has
	unread      [][]byte // what MergeByKey has not read of Replies

	unknown bool   // the node may have executed a call that has no reply
	Channel []byte // of PUBLISH
	// Uncounted is how many subscribers of Channel its node did not count when the
	// message was sent.
	Uncounted int64
	perKey    *lua.PerKey // for inUnitOrder
	About     any         // a feature's own data, for its ending
	then      func()      // called when all calls but the last have ended; it ends the last
	After     func()      // set by the ending: it appends the rest of the reply to the line
	sweep     *sweep      // of a command that must meet each key

	kept int // its share of mergers.bytes while it is unused
}

// mergers are the mergers that are not in use.
type mergers struct {
	w      *Worker
	unused []*Merger
	bytes  int // their memory
}

// Get returns a merger for so many calls. It goes back when its request is freed.
func (ms *mergers) Get(calls int) *Merger {
	var m *Merger
	if n := len(ms.unused); n > 0 {
		m = ms.unused[n-1]
		ms.unused = ms.unused[:n-1]
		ms.bytes -= m.kept
	} else {
		m = new(Merger)
	}
	m.extend(calls)
	return m
}

// extend makes room for more calls, without changing those that there are.
func (m *Merger) extend(calls int) {
	m.Replies = m.Replies[:len(m.Calls)]
	for len(m.Calls) < calls {
		m.Calls = append(m.Calls, new(Call))
		m.Replies = append(m.Replies, nil)
	}
	m.Replies = m.Replies[:calls]
}

func (ms *mergers) put(m *Merger) {
	w := ms.w
	for i, p := range m.Replies {
		if m.Replies[i] = p[:0]; cap(p) > bigFrame {
			w.Buffers.Drop(cap(p))
			m.Replies[i] = nil
		}
		*m.Calls[i] = Call{}
	}
	m.PerArgument, m.unknown, m.perKey, m.About = m.PerArgument[:0], false, nil, nil
	m.then, m.After, m.sweep = nil, nil, nil
	m.Channel = w.Buffers.Scratch(m.Channel)
	m.kept = m.memory()
	if len(ms.unused) >= 64 || ms.bytes+m.kept > maxMergers {
		w.Buffers.Drop(m.kept)
		return
	}
	ms.bytes += m.kept
	m.Replies = m.Replies[:len(m.Calls)]
	ms.unused = append(ms.unused, m)
}

// Call resets the i-th of the request's calls and returns it.
func (m *Merger) Call(r *Request, i int) *Call {
	c := m.Calls[i]
	*c = Call{Request: r, index: int32(i)}
	return c
}

func (m *Merger) add(i int, b []byte) { m.Replies[i] = append(m.Replies[i], b...) }

func (m *Merger) size() (n int) {
	for _, p := range m.Replies {
		n += len(p)
	}
	return n
}

// sweep sends a command to all masters that must meet each key, wherever it is. While keys move, it
// does so twice. A key moves once in an epoch of the layout: if the first round has missed it, it
// moved during that round, and the second round finds it at its new place. What FLUSHALL means for
// a key whose value is on its way at the moment, says package transfer.
type sweep struct {
	frame   []byte
	epoch   uint64 // the LayoutEpoch in which the rounds count
	rounds  int    // begun in that epoch
	isAgain bool   // this is not the first round
}

// beginSweep begins the first round.
func beginSweep(w *Worker, r *Request, frame []byte) {
	r.End, r.Unfinished, r.Merge = swept, 0, w.Mergers.Get(0)
	r.Merge.sweep = &sweep{frame: bytes.Clone(frame), epoch: w.LayoutEpoch}
	r.Merge.sweep.round(w, r)
}

// round begins a round.
func (sw *sweep) round(w *Worker, r *Request) {
	sw.rounds++
	m, first, masters := r.Merge, len(r.Merge.Replies), w.Masters
	m.extend(first + len(masters))
	r.Unfinished += len(masters)
	for i, n := range masters {
		c := m.Call(r, first+i)
		c.Group = -1
		c.SendTo(n, sw.frame)
	}
}

// goesOn begins another round at the end of one, if that is necessary. If the layout was replaced meanwhile, it
// takes as many rounds as at the beginning: keys may have begun to move, or ceased to, or have moved in between.
func (sw *sweep) goesOn(w *Worker, r *Request) bool {
	if sw.epoch != w.LayoutEpoch {
		sw.epoch, sw.rounds = w.LayoutEpoch, 0
	}
	isError := func(p []byte) bool { return len(p) > 0 && p[0] == '-' }
	if hasMet := sw.rounds >= 1+oneIf(w.Table.IsMoving()); hasMet || len(w.Masters) == 0 ||
		slices.ContainsFunc(r.Merge.Replies, isError) {
		return false
	}
	sw.isAgain = true
	sw.round(w, r)
	return true
}

// swept is the ending of a command that must meet each key.
func swept(w *Worker, dst []byte, r *Request) []byte {
	if m := r.Merge; r.Command.Has(readOnly) {
		for i, p := range m.Replies { // a mover that was killed leaves guards, also when no key moves any more
			m.Replies[i] = transfer.WithoutGuards(p)
		}
		if m.sweep.isAgain {
			if union, ok := scan.Union(dst, m.Replies); ok {
				return union
			}
		}
	}
	return Merged(w, dst, r)
}

// mergeReplies makes one reply out of the replies to a request's calls and delivers it. failed reports
// whether the reply is an error. after, if it is not nil, appends the rest of the reply to
// the line.
func (r *Request) mergeReplies() (failed bool, after func()) {
	w := r.Session.Worker
	r.Session.Parked -= r.Merge.size()
	dst := r.End(w, w.Scratch[:0], r)
	failed = len(dst) > 0 && dst[0] == '-'
	r.showWitness(dst)
	r.deliver(dst)
	w.Scratch = w.Buffers.Scratch(dst)
	return failed, r.Merge.After
}

// Merged is the ending that merges the replies by the command's policy.
func Merged(w *Worker, dst []byte, r *Request) []byte {
	if bad := r.Merge.failedPartly(r.Command); bad != nil {
		return resp.AppendError(dst, errtext.InPart(r.Command, bad))
	}
	return r.Command.Merge(dst, r.Merge.Replies, w.Links.Rand.Uint64())
}

// inKeyOrder is the ending that puts the replies' elements in the order of the keys.
func inKeyOrder(_ *Worker, dst []byte, r *Request) []byte {
	m := r.Merge
	m.unread = append(m.unread[:0], m.Replies...)
	dst = command.MergeByKey(dst, m.unread, m.PerArgument)
	clear(m.unread)
	return dst
}

// failedPartly returns the error of one call if a command that writes has failed in some calls,
// but not, or not certainly, in all. In that case no call's error is true of the whole
// command.
func (m *Merger) failedPartly(cmd *command.Command) (bad []byte) {
	if cmd.Has(readOnly) || cmd.AnySuffices() || cmd.Is(command.OnlyTells) {
		return nil
	}
	done := m.unknown
	for _, p := range m.Replies {
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

// memory returns the number of bytes that an unused merger takes.
func (m *Merger) memory() int {
	n := len(m.Calls)*int(unsafe.Sizeof(Call{})+2*unsafe.Sizeof(m.Replies)) + cap(m.Channel) + 4*cap(m.PerArgument)
	for _, p := range m.Replies[:cap(m.Replies)] {
		n += cap(p)
	}
	return n
}
