package engine

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
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
	Replicas freshness.Replicas
	inUse    bool              // replicas may serve reads of some clients
	begunAt  int64             // when a reload has begun reads from replicas
	zones    map[string]string // as nodes say them, by address; other threads read it, too
}

// settling is how long after a reload has begun reads from replicas masters serve them
// too: until then it may not be known how far the replicas lag.
const settling = int64(2 * time.Second)

// aim says what the client's commands act on.
type aim struct {
	DB    uint16        // the selected database
	reads options.Reads // which nodes serve commands that only read, with the state ReadsReplicas
}

// mayReadElsewhere reports whether a replica may serve the session's command, unless keys of it
// are moving.
func mayReadElsewhere(s *Session, cmd *command.Command) bool {
	return s.Has(ReadsReplicas) && cmd.Has(readOnly) && !cmd.Unproven() && !cmd.Has(command.Blocking) &&
		!cmd.Is(command.MastersOnly) && s.Block == nil && !s.Has(Tracks)
}

// isMoving reports whether a key may have come to its owner only now, or not yet. Then a replica
// may not have it.
func isMoving(w *Worker, key []byte) bool {
	return w.Table.IsMoving() && w.Table.From(key) != router.None
}

// movesAny reports whether one of the command's keys is moving. w.Keys has the keys, unless the
// command has a single one. at says where that is, if it is known.
func movesAny(w *Worker, cmd *command.Command, a command.Args, at Placement) bool {
	switch {
	case at.IsKnown:
		return at.IsMoving
	case cmd.Single > 0:
		return isMoving(w, a.Arg(cmd.Single))
	}
	return slices.ContainsFunc(w.Keys, func(k int) bool { return isMoving(w, a.Arg(k)) })
}

// reader returns the node that serves a read of keys whose master is m: a replica, or m
// itself, or nil if no node may serve it. since is the time of the client's last write to
// the keys.
func (rd *reads) reader(s *Session, m *Node, since int64) *Node {
	w := rd.w
	if s.reads == options.FromNearest {
		if n := m.fastest; n != nil && n.Master == m && n.readable(s, since) {
			return n
		}
		return m
	}
	first := int(s.id / uint64(w.Options.Workers))
	if w.Options.Zone != "" {
		if n := rd.readerInZone(s, m, since, first); n != nil {
			return n
		}
	}
	for i := range m.replicas {
		if r := m.replicas[(first+i)%len(m.replicas)]; r.readable(s, since) {
			return r
		}
	}
	if s.reads == options.FromReplica && since == 0 && (rd.begunAt == 0 || w.Now-rd.begunAt > settling) {
		return nil
	}
	return m
}

// readerInZone returns the node in keyway's zone that serves a read: a replica, or else the master m if it is there and
// may serve reads. It returns nil if there is none.
func (rd *reads) readerInZone(s *Session, m *Node, since int64, first int) *Node {
	for i := range m.replicas {
		if r := m.replicas[(first+i)%len(m.replicas)]; r.inZone && r.readable(s, since) {
			return r
		}
	}
	if m.inZone && s.reads == options.PreferReplica && m.Shared.IsUp() {
		return m
	}
	return nil
}

// setZones finds out which nodes are in keyway's zone.
func (rd *reads) setZones() {
	zone, of := rd.w.Options.Zone, rd.w.Options.ZoneOf
	for _, n := range rd.w.Nodes {
		n.inZone = zone != "" && zone == cmp.Or(of(n.Addr), rd.zones[n.Addr])
	}
}

// LearnZones tells a worker which zones nodes say that they are in, by their addresses. Those that the configuration
// knows win.
func LearnZones(w *Worker, zones map[string]string) {
	w.Reads.zones = zones
	w.Reads.setZones()
}

// readerOf is like reader, and also counts the read as one from a master or a replica.
func (rd *reads) readerOf(s *Session, m *Node, since int64) *Node {
	n := rd.reader(s, m, since)
	if n == m {
		rd.w.Stats.ReadsMaster++
	} else if n != nil {
		rd.w.Stats.ReadsReplica++
	}
	if n != nil && rd.w.Options.Zone != "" {
		if n.inZone {
			rd.w.Stats.ReadsInZone++
		} else {
			rd.w.Stats.ReadsOutOfZone++
		}
	}
	return n
}

// spread chooses the node that serves each group of a split command. If no node may
// serve a group, spread returns the master of that group, otherwise nil.
func (rd *reads) spread(s *Session, a command.Args, stride int) *Node {
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
		if rd.w.Table.IsMoving() && sp.moves(rd.w, a, p, stride) {
			rd.w.Stats.ReadsMaster++
			continue
		}
		if p.node = rd.readerOf(s, m, p.read.Since); p.node == nil {
			return m
		}
	}
	return nil
}

// lastWrote describes the command's read from a replica, with the time when the session
// last wrote any of its keys. w.Keys has the keys, unless the command has a single one.
func (rd *reads) lastWrote(s *Session, cmd *command.Command, a command.Args) (read freshness.Read) {
	if cmd.Single > 0 {
		key := hashKey(a.Arg(cmd.Single))
		return freshness.Read{Keys: 1, Key: key, Since: s.writes.Since(key)}
	}
	read.Keys = int32(len(rd.w.Keys))
	for _, k := range rd.w.Keys {
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
	exec := cmd.Is(command.Executes) && s.Has(InMulti) && s.Block.MayWrite()
	if !exec && !cmd.Has(command.Write) && (!cmd.Unproven() || cmd.Has(readOnly)) {
		return true
	}
	w.Keys = w.Keys[:0]
	if !exec {
		w.Keys = cmd.Keys(a, w.Keys)
	}
	all := len(w.Keys) == 0 || len(w.Keys) > maxPerOne
	if s.AtReplicas.Any() && (all || rd.readsAny(s, a)) {
		s.Set(Draining)
		return false
	}
	t := s.AllocRareState()
	if t.writes == nil {
		t.writes = freshness.NewWrites()
	}
	if all {
		t.writes.RecordAll(s.seq)
		return true
	}
	for _, k := range w.Keys {
		t.writes.Record(hashKey(a.Arg(k)), s.seq)
	}
	t.writes.Trim(rd.Replicas.Oldest(), w.Now)
	return true
}

// readsAny reports whether a read of one of w.Keys is in flight to a replica.
func (rd *reads) readsAny(s *Session, a command.Args) bool {
	return slices.ContainsFunc(rd.w.Keys, func(k int) bool {
		group, _ := rd.w.Table.Place(a.Arg(k))
		return s.AtReplicas.Has(hashKey(a.Arg(k)), group)
	})
}

// readAt records that a call, whose group is set, reads from a replica.
func readAt(s *Session, c *Call, read freshness.Read) {
	t := s.AllocRareState()
	if t.AtReplicas == nil {
		t.AtReplicas = new(freshness.Reads)
	}
	c.replica, c.read = true, read
	c.read.Group = c.Group
	t.AtReplicas.Add(&c.read)
}

// leftReplica records that a call no longer reads from a replica.
func leftReplica(s *Session, c *Call) {
	s.AtReplicas.Remove(&c.read)
	c.replica = false
}

// hashKey returns the hash by which a key's reads and writes are recorded.
func hashKey(key []byte) uint64 { return maphash.Bytes(HashSeed, key) }

// readAgain sends a read again that a replica did not serve: to the master, or to another
// replica if keyway may read from replicas only. A doubtful read always goes to the master.
// readAgain returns false if there is no such node, or if the call has used up its redirects.
func (c *Call) readAgain(frame []byte, doubtful bool) bool {
	w := c.Worker()
	s := c.Request.Session
	if w.isStale(c) {
		if c.forgetReceived(); !w.PlaceAgain(c, frame) {
			return true // it is settled
		}
	}
	m := w.OwnerOf(c.Group)
	if m == nil || c.hops >= maxHops {
		return false
	}
	n := m
	if s.reads == options.FromReplica && !doubtful && !w.Table.IsMoving() {
		if n = w.Reads.reader(s, m, c.read.Since); n == nil {
			return false
		}
	}
	c.forgetReceived()
	c.hops++
	w.Stats.ReadsAgain++
	if n == m {
		leftReplica(s, c)
	}
	c.resend(frame, n, false)
	return true
}

// Decide lets replicas serve the session's reads from now on, or no longer, as the options for its
// user and the client's last READONLY or READWRITE say.
func (rd *reads) Decide(s *Session) {
	o := &rd.w.Options
	s.reads = o.ReadsOf(s.User.Name)
	switch may := s.reads != options.FromMaster && (s.Has(OptedIn) || !o.ReadsOptIn && !s.Has(OptedOut)); {
	case may && !s.Has(ReadsReplicas):
		rd.allow(s)
	case !may && s.Has(ReadsReplicas):
		s.Clear(ReadsReplicas)
		if s.AtReplicas.Any() {
			s.epoch = rd.w.epoch - 1 // a later write waits for these reads; see consume
		}
	}
}

// allow lets replicas serve the session's reads. The session's earlier writes were not
// recorded by key, so all keys count as written now.
func (rd *reads) allow(s *Session) {
	s.Set(ReadsReplicas)
	if s.seq == 0 {
		return
	}
	t := s.AllocRareState()
	t.writes = freshness.NewWrites()
	t.writes.RecordAll(s.seq)
}

// configure applies the options that are about reads.
func (rd *reads) configure() {
	w, were := rd.w, rd.inUse
	rd.Replicas.SetMaxLag(w.Options.MaxLag)
	rd.setZones()
	rd.inUse = w.Options.UsesReplicas()
	switch {
	case !were && rd.inUse:
		rd.begunAt = w.Now
		for _, n := range w.Nodes {
			rd.begin(n)
		}
	case were && !rd.inUse:
		for _, n := range w.Nodes {
			rd.end(n)
		}
	}
	for _, s := range w.Sessions {
		rd.Decide(s)
	}
}

// begin prepares a node for reads that do not all go to masters.
func (rd *reads) begin(n *Node) {
	n.lag.Reset() // what was known may be out of date
	n.fastest = nil
	for _, c := range n.Shared.Conns {
		n.setScope(c)
		if c.Prelude != nil && n.Master != nil && (c.State() == pool.Ready || c.State() == pool.Greeting) {
			n.Worker.say(c, n.scope())
		}
	}
}

// end ends the use of a node as a replica. Its connections close when the reads on them are
// answered.
func (rd *reads) end(n *Node) {
	n.fastest = nil
	if n.Master == nil {
		for _, c := range n.Shared.Conns {
			c.Prelude = nil // they are in the scope of a master
		}
		return
	}
	for i, c := range n.Shared.Conns {
		n.replace(i, n.newShared(c.Mode))
	}
}

// following is the lag of a replica, and the offsets of a master.
type following struct {
	lag     freshness.Node
	fastest *Node // of a master: the fastest node, itself or a replica
}

// tick looks at all replicas and their masters if the interval is over.
func (rd *reads) tick() {
	w := rd.w
	rd.Replicas.SetLookers(Lookers(w))
	if !rd.inUse || !rd.Replicas.Begin(w.Now) {
		return
	}
	for _, m := range w.Masters {
		if len(m.replicas) == 0 {
			continue
		}
		m.look()
		for _, r := range m.replicas {
			r.look()
			rd.Replicas.See(&r.lag)
		}
		m.fastest = m.nearest()
	}
}

// nearest returns the fastest node among a master and its replicas in step.
func (m *Node) nearest() *Node {
	current, nodes := 0, make([]freshness.Candidate, 0, 8)
	nodes = append(nodes, freshness.Candidate{Node: &m.lag, Usable: m.Shared.Conns[0].State() == pool.Ready})
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
func (n *Node) look() {
	w, c := n.Worker, n.Shared.Conns[0]
	c.Open(w.Now)
	if c.State() != pool.Ready || !n.lag.Ask(c.Stats.Dials) {
		return
	}
	asked := w.Now
	w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
		if !ok {
			reply = nil
		}
		var master *freshness.Node
		if n.Master != nil {
			master = &n.Master.lag
		}
		n.lag.Record(reply, asked, w.Now, master)
	}, "INFO", "replication")
}

// inStep reports whether the replica's lag is known and within the limit.
func (n *Node) inStep() bool {
	c := n.Shared.Conns[0]
	return c.State() == pool.Ready && n.Worker.Reads.Replicas.InStep(&n.lag, c.Stats.Dials, n.Worker.Now)
}

// readable reports whether the session may read from the replica. since is when the
// session last wrote what it reads, 0 for never.
func (n *Node) readable(s *Session, since int64) bool {
	if !n.inStep() || !n.lag.Has(since) {
		return false
	}
	c := n.Conn(s)
	return c.ConnectError() == "" && !c.Full()
}

var (
	readOnlyFrame  = []byte("*1\r\n$8\r\nREADONLY\r\n")
	readWriteFrame = []byte("*1\r\n$9\r\nREADWRITE\r\n")
)

// scope returns the command that makes a connection to a cluster node serve, or not
// serve, reads of the keys that the node has as a replica (cluster specification,
// "Scaling reads using replica nodes").
func (n *Node) scope() []byte {
	if n.Master != nil {
		return readOnlyFrame
	}
	return readWriteFrame
}

// roleChanged forgets the node's lag or offsets, and sends its connections the new scope.
func (n *Node) roleChanged() {
	n.lag.Reset()
	n.fastest = nil
	for _, c := range n.Shared.Conns {
		if c.Prelude != nil && (c.State() == pool.Ready || c.State() == pool.Greeting) {
			n.Worker.say(c, n.scope())
		}
	}
}
