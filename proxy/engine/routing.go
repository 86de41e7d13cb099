package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/dryrun"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/logins"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/scan"
	"github.com/keyway-proxy/keyway/slots"
)

// routing is the routing table, and the nodes that it names.
type routing struct {
	w       *Worker
	Links   *pool.Set
	Table   *router.Table
	private *router.Table // the same as table, if this worker has a copy of its own; otherwise nil
	moved   bool          // some key's owner has changed in this turn
	epoch   uint64        // grows whenever a key's owner changes
	// LayoutEpoch is the epoch that began when the layout was last replaced. What was placed
	// in an earlier epoch has to be placed again before it goes to a node.
	LayoutEpoch uint64
	Former      freshness.Nodes // nodes of former layouts that have no successor
	Nodes       []*Node         // in the order of table.Nodes
	Masters     []*Node
	byName      map[string]*Node // by node.key
	ordinal     uint             // of the next new node
	Walk        scan.Masters     // of SCAN
	looks       looks
	leaving     []leaving
	logins      logins.Set // the accounts at the nodes that clients have or have had

	// Next places keys by a layout that is not in force, to count what it would refuse. nil:
	// there is none. Commands with one key in a fixed place never look at it.
	Next *dryrun.Router
}

// SetTable replaces the routing table. Nodes that are in both tables keep their connections.
func (w *Worker) SetTable(t *router.Table) {
	changed := w.Table == nil || !sameOwners(w.Table, t)
	if changed {
		w.epoch++ // clients with calls in flight wait for their replies first; see consume
	}
	w.Table, w.private = t, nil
	for _, n := range w.setNodes(nil) {
		n.close(w.Now, leftTopology)
	}
	w.ownersChanged(changed || w.moved)
}

// moveSlot records the new owner of a slot. A failover moves thousands of slots in one turn,
// so EndTurn handles the consequences once, in ownersChanged.
func (rt *routing) moveSlot(slot int32, id router.NodeID) {
	if rt.private == nil {
		rt.private = rt.Table.Private()
		rt.Table = rt.private
	}
	rt.epoch++
	rt.moved = true
	if rt.Table.Move(slot, id) {
		rt.setNodes(nil)
	}
}

// ownersChanged handles a new table. changed says that some key has another owner.
func (rt *routing) ownersChanged(changed bool) {
	w := rt.w
	rt.moved = false
	for _, f := range w.Features {
		f.Layout(changed)
	}
	for _, s := range w.retries.sessions {
		if len(s.Retry) > 0 {
			s.retryAt = min(s.retryAt, w.Now) // the calls may have waited for this table
		}
	}
}

// setNodes gives the worker the nodes of the table. It keeps those that it has already,
// creates the others, and returns those that the table lacks. renamed are nodes that have
// another name in the table, by their key there.
func (rt *routing) setNodes(renamed map[string]*Node) (gone []*Node) {
	w := rt.w
	t := rt.Table
	stay, before := map[string]*Node{}, rt.Nodes
	were := rt.Masters
	rt.Nodes, rt.Masters = make([]*Node, len(t.Nodes)), nil
	for i, tn := range t.Nodes {
		key := keyOf(tn)
		n := rt.byName[key]
		if n == nil {
			n = renamed[key]
		}
		if n == nil || n.Sentinel != tn.Sentinel { // connections to a sentinel's master ask for its role
			n = &Node{
				Worker: w, name: tn.Name, Addr: tn.Addr, greets: greets{Sentinel: tn.Sentinel},
				Ordinal: rt.ordinal, group: -1, following: following{lag: freshness.NewNode()},
				IsFormer: t.IsFormer(router.NodeID(i)),
			}
			rt.ordinal++
			n.connect(pool.Mode{})
		}
		n.name, n.IsFormer = tn.Name, t.IsFormer(router.NodeID(i))
		stay[key] = n
		rt.Nodes[i] = n
		if tn.Master {
			rt.Masters = append(rt.Masters, n)
			for _, c := range n.Shared.Conns[:w.Options.Connections] {
				if slices.Contains(were, n) {
					c.Open(w.Now)
				} else {
					c.RetryNow(w.Now) // a node that has become a master is alive again
				}
			}
		}
	}
	rt.setReplicas()
	for _, n := range rt.Nodes {
		useAccount(n)
	}
	rt.recordGroups()
	rt.byName = stay
	addrs := make([]string, len(rt.Masters))
	for i, n := range rt.Masters {
		addrs[i] = n.Addr
	}
	rt.Walk = scan.Of(addrs)
	return slices.DeleteFunc(slices.Clone(before), func(n *Node) bool { return stay[n.key()] == n })
}

// keyOf returns the key in Worker.byName of a table's node.
func keyOf(n router.Node) string { return n.Name + " " + n.Addr }

// setReplicas sets the master and the replicas of each node, from the table.
func (rt *routing) setReplicas() {
	were := make([]bool, len(rt.Nodes))
	for i, n := range rt.Nodes {
		were[i] = n.Master != nil
		if len(n.replicas) > 0 {
			n.followedAt, rt.looks.followedAt = rt.w.Now, rt.w.Now
		}
		n.Master, n.replicas = nil, nil
	}
	for i, tn := range rt.Table.Nodes {
		for _, id := range tn.Replicas {
			if r := rt.Nodes[id]; !rt.Table.Nodes[id].Master {
				r.Master = rt.Nodes[i]
				rt.Nodes[i].replicas = append(rt.Nodes[i].replicas, r)
			}
		}
	}
	rt.w.Reads.setZones()
	for i, n := range rt.Nodes {
		if (n.Master != nil) != were[i] {
			n.roleChanged()
		}
	}
}

// sameOwners reports whether every key has the same owner in both tables, which have the same
// layout. So without slots, the ordered list of masters determines the owners.
func sameOwners(a, b *router.Table) bool {
	if !b.Slotted() {
		return slices.EqualFunc(owners(a), owners(b), sameAddr)
	}
	for s := range int32(slots.Count) {
		i, j := a.SlotOwner(s), b.SlotOwner(s)
		if (i == router.None) != (j == router.None) || i != router.None && a.Nodes[i].Addr != b.Nodes[j].Addr {
			return false
		}
	}
	return true
}

func owners(t *router.Table) []router.Node {
	return slices.DeleteFunc(slices.Clone(t.Nodes), func(n router.Node) bool { return !n.Master })
}

func sameAddr(a, b router.Node) bool { return a.Addr == b.Addr }

// AnyMaster returns a master and the client's connection to it. It prefers masters that can
// be reached, and the same master for a client as long as that one can be.
func (rt *routing) AnyMaster(s *Session) (*Node, *pool.Conn) {
	var n *Node
	var c *pool.Conn
	masters := len(rt.Masters)
	for masters > 1 && rt.Masters[masters-1].IsFormer { // these are the last ones
		masters--
	}
	for i := range masters {
		n = rt.Masters[(int(s.id)+i)%masters]
		c = n.Conn(s)
		if c.ConnectError() == "" {
			break
		}
	}
	return n, c
}

// target returns the node for the next attempt of a call, nil if there is none at the
// moment. A call of a command for all masters goes to its own node as long as that is a
// master. Then it goes to the successor: the owner of a group of keys that was the node's.
func (rt *routing) target(c *Call) *Node {
	switch {
	case c.Group >= 0:
		return rt.OwnerOf(c.Group)
	case c.Request.Command.Handling == command.AnyMaster:
		n, _ := rt.AnyMaster(c.Request.Session)
		return n
	case slices.Contains(rt.Masters, c.Node):
		return c.Node
	}
	return rt.OwnerOf(c.Node.group)
}

// recordGroups records, for each master, one group of keys that it owns.
func (rt *routing) recordGroups() {
	for i, n := range rt.Nodes {
		if !rt.Table.Slotted() {
			n.group = int32(i)
		}
	}
	for slot := int32(slots.Count - 1); slot >= 0 && rt.Table.Slotted(); slot-- {
		if id := rt.Table.SlotOwner(slot); id != router.None {
			rt.Nodes[id].group = slot
		}
	}
}

// mayFailOver reports whether another node may soon serve the call's keys.
func (rt *routing) mayFailOver(c *Call, reason string) bool {
	if rt.w.retries.failover <= 0 || c.replica || !c.isRepeatable() || !rt.Table.Changes() {
		return false
	}
	if strings.HasPrefix(reason, "BUSY ") {
		return false
	}
	if refusal, ok := strings.CutPrefix(reason, "the node refuses: "); ok &&
		!strings.HasPrefix(refusal, "LOADING ") && !strings.HasPrefix(refusal, "MASTERDOWN ") {
		return false // such as a wrong password or database: other nodes would refuse it too
	}
	if rt.private != nil {
		return true // redirects have changed the table: each master's replicas are not known yet
	}
	owner := rt.target(c)
	if owner == nil {
		return rt.MayGetOwner()
	}
	if !owner.Sentinel && !rt.Table.Clustered() {
		return false
	}
	return len(owner.replicas) > 0 || isRecent(rt.w, owner.followedAt) || rt.looks.awaits(owner)
}

// succession is what decides whether a lost master may get a successor.
type succession struct {
	followedAt int64  // when the table last changed while it had replicas; 0: never
	lostAt     int64  // when a command first found that the master cannot be reached
	losses     uint64 // losses of its first connection until lostAt
}

// looks are the times of the worker's requests for a look at the topology.
type looks struct {
	followedAt int64 // when the table last changed while any node had replicas
	askedAt    int64 // the last request
	doneAt     int64 // the last request that was granted: a later look has ended
}

// awaits reports whether no look at the topology has begun and ended since a master was
// lost, and asks for one. A replica that was attached shortly before may not be known yet.
func (l *looks) awaits(n *Node) bool {
	if losses := n.Shared.Conns[0].Stats.Losses; n.lostAt == 0 || n.losses != losses {
		n.lostAt, n.losses = n.Worker.Now, losses
	}
	if l.askedAt < n.lostAt {
		l.askedAt, n.Worker.Ready.Look = n.Worker.Now, n.Worker.Now
	}
	return l.doneAt < n.lostAt
}

// Looked tells the worker that a look at the topology has ended, with or without success.
// It began after Ready.Look asked for it, at time asked. If it has found another table,
// SetTable has been called before.
func (w *Worker) Looked(asked int64) { w.looks.doneAt = max(w.looks.doneAt, asked) }

// MayGetOwner reports whether slots that have no owner may soon have one.
func (rt *routing) MayGetOwner() bool {
	return rt.Table.Orphaned() || isRecent(rt.w, rt.looks.followedAt)
}

// isRecent reports whether a master had replicas so recently that one of them may be about
// to take its place. During a failover, nodes disagree about which replica follows which
// master.
func isRecent(w *Worker, followedAt int64) bool {
	return followedAt > 0 && w.Now-followedAt < w.retries.failover
}

// OwnerOf returns the node that owns a group of keys now, nil if there is none.
func (rt *routing) OwnerOf(group int32) *Node {
	id := router.NodeID(group) // without slots, a group is a node
	if rt.Table.Slotted() && group >= 0 {
		id = rt.Table.SlotOwner(group)
	}
	if id < 0 {
		return nil
	}
	return rt.Nodes[id]
}

// UnownedError returns the error for keys that no node owns if waiting for an owner is
// useless, and "" otherwise.
func (rt *routing) UnownedError(cmd *command.Command, a command.Args) string {
	if !rt.Table.Slotted() {
		key := cmd.Single
		if key == 0 {
			key = rt.w.Keys[0]
		}
		return errtext.NoRule(a.Arg(key))
	}
	if len(rt.Nodes) == 0 {
		rt.w.Ready.Refresh = true
		return errtext.NoMasters
	}
	return ""
}

// crossing returns the error for two keys that do not live together.
func (rt *routing) crossing(a command.Args, k1 int, n1 router.NodeID, k2 int, n2 router.NodeID) string {
	if rt.Table.Slotted() {
		return errtext.CrossSlot
	}
	if slot := slots.Of(a.Arg(k1)); rt.w.Options.Cluster != nil && slot == slots.Of(a.Arg(k2)) {
		return errtext.OneSlot(slot, rt.Table.Name,
			string(a.Arg(k1)), rt.nodeName(n1), string(a.Arg(k2)), rt.nodeName(n2))
	}
	return errtext.CrossNode(string(a.Arg(k1)), rt.nodeName(n1), string(a.Arg(k2)), rt.nodeName(n2))
}

func (rt *routing) nodeName(id router.NodeID) string {
	if id == router.None {
		return "(none)"
	}
	return rt.Nodes[id].name
}

// covered reports whether every slot has an owner.
func (rt *routing) covered() bool {
	covered := 1.0
	if rt.Table.Slotted() {
		covered = 0
		for _, share := range rt.Table.Shares() {
			covered += share
		}
	}
	return covered > 0.99999
}

// ReplaceLayout is SetTable for a table of another configuration, which may place keys by
// another layout, over other nodes, in another order. Call it within a turn.
//
// A node that both tables have keeps its connections, also if it has another name now.
// Replies to what was sent before come from where it was sent. Calls that are sent again,
// blocked clients, transactions and subscriptions are placed anew. Nodes that the new table
// lacks finish what is under way, but not for longer than the request timeout.
func ReplaceLayout(w *Worker, t *router.Table) {
	older := w.Table
	w.epoch++ // clients with calls in flight wait for their replies first; see consume
	w.LayoutEpoch = w.epoch
	w.Table, w.private = t, nil
	for _, n := range w.Nodes {
		n.group = -1 // the groups of the older table mean nothing now
	}
	var renamed map[string]*Node
	if older.Clustered() == t.Clustered() {
		renamed = w.renamed()
	} else {
		w.byName = nil // connections to a cluster's nodes are greeted otherwise
	}
	for _, n := range w.setNodes(renamed) {
		w.part(n)
	}
	w.placeWaiting()
	w.ownersChanged(true)
	w.renewLinks()
}

// renewLinks ends the connections to nodes whose epoch was an earlier one when they were greeted.
// What has been sent over them, or waits for them, was placed by another layout.
func (rt *routing) renewLinks() {
	w := rt.w
	renew := func(c *pool.Conn) {
		if c.OfLayout && c.Epoch < w.Options.Backend.MinEpoch {
			pool.Renew(&c.Link, w.Now, "the keys of its node move by another layout now")
		}
	}
	for _, n := range rt.all() {
		conns := slices.Concat(n.Shared.Conns, n.Shared.Retired, n.idle)
		for _, use := range n.InUse {
			conns = append(conns, use.Conn)
		}
		for _, f := range w.Features {
			conns = append(conns, f.Conns(n)...)
		}
		for _, c := range conns {
			renew(c)
		}
	}
}

// all returns the nodes of the table and those that are leaving.
func (rt *routing) all() []*Node {
	nodes := slices.Clone(rt.Nodes)
	for _, n := range rt.leaving {
		nodes = append(nodes, n.Node)
	}
	return nodes
}

// renamed returns the nodes that have another name in the table than the worker knows, by
// their key in the table.
func (rt *routing) renamed() map[string]*Node {
	found, stay := map[string]*Node{}, map[string]bool{}
	for _, tn := range rt.Table.Nodes {
		stay[keyOf(tn)] = true
	}
	for _, tn := range rt.Table.Nodes {
		at := slices.IndexFunc(rt.Nodes, func(n *Node) bool {
			return tn.Addr != "" && n.Addr == tn.Addr && !stay[n.key()]
		})
		if at >= 0 && rt.byName[keyOf(tn)] == nil {
			found[keyOf(tn)] = rt.Nodes[at]
		}
	}
	return found
}

// TryLayout makes a worker count, from now on, the commands that another layout would refuse
// because their keys do not live together there. nil ends that.
func TryLayout(w *Worker, t *router.Table) {
	if w.Next = nil; t != nil {
		w.Next = dryrun.New(t, w.Stats.Answered())
	}
}

// Tried returns what the worker has counted since TryLayout.
func Tried(w *Worker) dryrun.Findings {
	if w.Next == nil {
		return dryrun.Findings{}
	}
	return w.Next.Findings(w.Stats.Answered())
}

// tryNext tries a command by the next layout. w.Keys has its keys, which live together now.
func (rt *routing) tryNext(cmd *command.Command, a command.Args) {
	w := rt.w
	if cmd.Is(command.RunsCode) && len(w.Keys) > 1 {
		if cmd.Is(command.TakesScript) {
			w.Scripts.Learn(a.Arg(1)) // otherwise the first call would not be known to be split
		}
		if how, _ := w.Scripts.Cache.PerKey(cmd, a); how != nil {
			rt.Next.TryUnits(cmd, a, w.Keys, how.Placed())
			return
		}
	}
	rt.Next.Try(cmd, a, w.Keys)
}

// countNext counts a command that was tried by the next layout, and has begun. It returns
// true.
func (rt *routing) countNext(s *Session) bool {
	if rt.Next.Count(rt.w.Wall, s.peer, s.About.Name) {
		rt.w.Stats.NextCrossSlot++
	}
	return true
}

// TryNext tries a command that begins now by the next layout, if there is one. w.Keys has its
// keys, which live together now.
func TryNext(w *Worker, s *Session, cmd *command.Command, a command.Args) {
	if w.Next != nil {
		w.tryNext(cmd, a)
		w.countNext(s)
	}
}

// TryNextTransaction is like TryNext for an EXEC that begins now. keys are those of its
// transaction.
func TryNextTransaction(w *Worker, s *Session, cmd *command.Command, a command.Args, keys *dryrun.Keys) {
	if w.Next != nil {
		w.Next.TryTransaction(cmd, a, keys)
		w.countNext(s)
	}
}

// leaving is a node that gets no new calls. Replies to earlier ones are still due.
type leaving struct {
	*Node
	since int64
	until int64 // then the connections are closed, whatever is due
}

// minLeaving is how long a node leaves at least. Until then other threads may still send it
// messages for subscribers of this one.
const minLeaving = int64(100 * time.Millisecond)

const leftTopology = "the node has left the topology"

// IsLeaving reports whether the node gets no new calls.
func (rt *routing) IsLeaving(n *Node) bool {
	return slices.ContainsFunc(rt.leaving, func(l leaving) bool { return l.Node == n })
}

// part ends the use of a node that the layout no longer has. Commands for all masters that
// it cannot execute any more go to the node that now has its name, if there is one.
func (rt *routing) part(n *Node) {
	successor := slices.IndexFunc(rt.Nodes, func(o *Node) bool { return o.name == n.name })
	if successor >= 0 {
		n.group = rt.Nodes[successor].group
	} else {
		rt.Former.Add(n.Ordinal)
	}
	now := rt.w.Now
	rt.leaving = append(rt.leaving, leaving{n, now, now + int64(rt.w.Options.Backend.RequestTimeout)})
}

// tickLeaving closes the connections of leaving nodes on which nothing is due any more.
func (rt *routing) tickLeaving() {
	w := rt.w
	rt.leaving = slices.DeleteFunc(rt.leaving, func(n leaving) bool {
		n.tickShared()
		w.tickExclusive(n.Node)
		if w.Now < n.since+minLeaving || w.Now < n.until && n.owesReplies() {
			return false
		}
		n.close(w.Now, leftTopology)
		return true
	})
}

// placeWaiting places the calls anew that wait to be sent again.
func (rt *routing) placeWaiting() {
	for _, s := range rt.w.retries.sessions {
		s.Retry = slices.DeleteFunc(s.Retry, func(c *Call) bool { return !rt.PlaceAgain(c, c.frame) })
	}
}

// isStale reports whether the call's keys were placed by an earlier layout.
func (rt *routing) isStale(c *Call) bool {
	s := c.Request.Session
	return c.Group >= 0 && s != nil && s.epoch < rt.LayoutEpoch && c.placedIn < rt.LayoutEpoch
}

// PlaceAgain places the keys of a call by the present layout, if that has replaced the one
// by which they were placed. frame is the call's command. If its keys cannot be on one node,
// PlaceAgain settles the call, which was not executed, and returns false.
func (rt *routing) PlaceAgain(c *Call, frame []byte) bool {
	problem := rt.regroup(c, frame)
	if problem == "" {
		return true
	}
	w := rt.w
	if c.Request.Command.Handling == command.Split { // sent anew, it would be one call for each node
		problem = errtext.NotExecuted(c.Node.Label(), "the layout was replaced, and its keys are on several nodes now")
	}
	w.Stats.NotExecuted++
	c.Settle(resp.AppendError(w.Scratch[:0], problem))
	return false
}

// regroup places the keys of a call as PlaceAgain does. problem is the error for the client
// if they cannot be on one node.
func (rt *routing) regroup(c *Call, frame []byte) (problem string) {
	if !rt.isStale(c) {
		return ""
	}
	w := rt.w
	c.asking = false // the slot that was moving belonged to another layout
	group := int32(-1)
	w.Learned.eachFrame(c, frame, func(cmd *command.Command, a command.Args) {
		if cmd == nil || problem != "" {
			return
		}
		g, text := w.groupOf(cmd, a)
		if problem = text; g >= 0 && group >= 0 && g != group {
			problem = errtext.CrossSlot
		}
		group = max(g, group)
	})
	if problem == "" && group < 0 {
		group, _ = w.Scripts.KeylessPlace() // only scripts have a group without keys
	}
	if problem == "" {
		changeGroup(c.Request.Session, c, group)
		c.placedIn = rt.LayoutEpoch
	}
	return problem
}

// IsDisplaced reports whether the layout was replaced since the call was sent, and its keys
// have another owner than the node that it was sent to.
func (rt *routing) IsDisplaced(c *Call, frame []byte) bool {
	return rt.isStale(c) && (rt.regroup(c, frame) != "" || rt.OwnerOf(c.Group) != c.Node)
}

// groupOf returns the group of a command's keys, -1 if it has none, or the error for the
// client if it has no group.
func (rt *routing) groupOf(cmd *command.Command, a command.Args) (group int32, problem string) {
	w := rt.w
	keys := w.Keys
	defer func() { w.Keys = keys }()
	w.Keys = nil
	if cmd.Is(command.Sharded) {
		group, _ = rt.Table.Place(a.Arg(1))
		return group, ""
	}
	group, id, crossing := w.Place(cmd, a)
	if crossing == "" && len(w.Keys) > 0 && id == router.None && !rt.Table.Slotted() {
		crossing = errtext.NoRule(a.Arg(w.Keys[0]))
	}
	return group, crossing
}
