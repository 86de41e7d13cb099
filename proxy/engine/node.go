package engine

import (
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/retry"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/shared"
)

// Node is a server that keyway sends commands to: a master or a replica.
type Node struct {
	Worker     *Worker
	name, Addr string
	greets
	isOutside bool    // see OutsideNode
	IsFormer  bool    // keys are moving, and only the older layout has it
	Master    *Node   // the master of a replica; nil for a master
	replicas  []*Node // the replicas of a master
	inZone    bool    // it is in keyway's zone
	following
	succession
	Ordinal     uint       // of this worker's nodes, also those that have left
	Shared      shared.Set // Options.Connections for each mode
	askedIfBusy bool       // see tickBusy
	exclusives
	group int32 // a group of keys that it owns, or owned last; -1: none

	movedCount, askCount, retryCount uint64 // numbers of MOVED, of ASK and of retries
	failed                           metrics.FailedCommands
	Retries                          retry.Node
	refusals                         refusal.Last
}

// greets says how connections to a node begin.
type greets struct {
	Sentinel bool // sentinels have reported the node as a master
	account  pool.Account
}

// key returns the node's key in Worker.byName.
func (n *Node) key() string { return keyOf(router.Node{Name: n.name, Addr: n.Addr}) }

// NewConn returns a new connection to the node. It is not dialed yet.
func (n *Node) NewConn() *pool.Conn {
	n.Worker.opening++
	c := n.Worker.Links.Conn(n.Addr, n)
	c.Account, c.Master, c.OfLayout = &n.account, n.Sentinel, true
	return c
}

// NewFeed returns a new feed of a node. It is not dialed yet.
func NewFeed(n *Node, to pool.Listener) *pool.Feed {
	n.Worker.opening++
	f := n.Worker.Links.Feed(n.Addr, n, to)
	f.Account, f.Master = &n.account, n.Sentinel
	return f
}

// useAccount makes the next greetings of a node's connections log in by the options, and reports
// whether that is another user or password. A replica's are those of its master.
func useAccount(n *Node) (changed bool) {
	name, before := n.name, n.account
	if n.Master != nil {
		name = n.Master.name
	}
	var isOwn bool
	if n.account, isOwn = n.Worker.Options.Backend.Accounts[name]; !isOwn {
		n.account = n.Worker.Options.Backend.Account
	}
	return n.account != before
}

// logInAgain sends the node's new password over its open connections, since some servers close those
// whose password has expired.
func logInAgain(n *Node) { sayOnAll(n, n.account.AppendAuth(nil)) }

// sayOnAll sends a command over the node's open connections, and ignores the replies. It leaves out
// what is lent to one client, and feeds, on which a node accepts few commands. It also leaves out
// connections of the nodes' own users, which must not become keyway's. Idle connections are closed.
func sayOnAll(n *Node, frame []byte) {
	conns := slices.Concat(n.Shared.Conns, n.Shared.Retired)
	for _, f := range n.Worker.Features {
		conns = append(conns, f.Conns(n)...)
	}
	for _, c := range conns {
		if c.User == nil && (c.State() == pool.Ready || c.State() == pool.Greeting) {
			n.Worker.say(c, frame)
		}
	}
	for _, c := range n.idle {
		n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
	}
	n.idle = nil
}

// retryRefused dials a node again at once, which may have refused the former greeting.
func retryRefused(n *Node) {
	retry := func(c *pool.Conn) {
		if c.State() == pool.Down {
			c.RetryNow(n.Worker.Now)
		}
	}
	for _, c := range n.Shared.Conns {
		retry(c)
	}
	for _, use := range n.InUse {
		retry(use.Conn)
	}
	for _, f := range n.Worker.Features {
		for _, c := range f.Conns(n) {
			retry(c)
		}
	}
}

// CountUnknown counts a command that the node may have executed, though no reply says so.
func (n *Node) CountUnknown() {
	n.Worker.Stats.UnknownOutcome++
	n.failed.UnknownOutcome++
}

// HasReplicas reports whether the table names replicas of the node.
func (n *Node) HasReplicas() bool { return len(n.replicas) > 0 }

// NoNode returns a node for a call that no node answers.
func NoNode(w *Worker) *Node { return &Node{Worker: w} }

// OutsideNode returns a node for a call that nodes outside the layout answer. Operators see
// the name.
func OutsideNode(w *Worker, name string) *Node { return &Node{Worker: w, name: name, isOutside: true} }

// IsOutside reports whether the node stands for nodes outside the layout.
func (n *Node) IsOutside() bool { return n.isOutside }

// Name returns the node's name; that of a cluster's node is its address.
func (n *Node) Name() string { return n.name }

// Label returns the name and address of the node for errors. The name of a cluster's node is
// its address. Some nodes have no address yet.
func (n *Node) Label() string {
	if n.name == n.Addr || n.Addr == "" {
		return n.name
	}
	return n.name + " (" + n.Addr + ")"
}

// Conn returns the connection for a session's commands to the node, outside the exclusive
// lane. It is always the same, since otherwise commands could overtake each other.
func (n *Node) Conn(s *Session) *pool.Conn {
	if len(n.Shared.Retired) > 0 {
		n.reinstate()
	}
	k := n.Worker.Options.Connections
	if s.DB == 0 && k == 1 && s.State&(RESP3|Tracks|NoTouch|OfNodes) == 0 {
		return n.Shared.Conns[0]
	}
	if s.lane() == trackedLane {
		return s.OwnConns.Conn(n)
	}
	m := s.Mode()
	at := s.Login.Find(n.Ordinal, &n.Shared, m, k)
	if at < 0 {
		at = len(n.Shared.Conns)
		n.connect(m)
	}
	return n.Shared.Conns[at+int(s.id%uint64(k))]
}

// reinstate goes back to retired connections in the places of those that the node has refused.
func (n *Node) reinstate() {
	if refused := n.Shared.Reinstate(n.Worker.Now); len(refused) > 0 {
		n.discard(refused)
		n.Worker.epoch++
	}
}

// discard makes the next tick close connections.
func (n *Node) discard(conns []*pool.Conn) {
	for _, c := range conns {
		n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
	}
}

// ReadyConn returns a connection for a question about the session that needs no state. It
// is the session's own if that is ready, else another shared one, or nil if none is ready.
func (n *Node) ReadyConn(s *Session) *pool.Conn {
	if c := QuestionConn(n, s); c.State() == pool.Ready {
		return c
	}
	for _, c := range n.Shared.Conns {
		if c.User == nil && c.State() == pool.Ready {
			return c
		}
	}
	return nil
}

// QuestionConn returns the connection for keyway's own questions about what the session has sent. It
// is that of the session's commands, unless its user is one of the nodes: their rules may not allow
// the question.
func QuestionConn(n *Node, s *Session) *pool.Conn {
	if s.Has(OfNodes) {
		return n.Shared.Conns[0]
	}
	return n.Conn(s)
}

// Mode returns the mode of the client's connections.
func (s *Session) Mode() pool.Mode {
	return pool.Mode{User: s.Login.Account(), DB: int(s.DB), RESP3: s.Has(RESP3), NoTouch: s.Has(NoTouch)}
}

// connect adds shared connections of a mode.
func (n *Node) connect(m pool.Mode) {
	for range n.Worker.Options.Connections {
		n.Shared.Conns = append(n.Shared.Conns, n.newShared(m))
	}
}

// newShared returns a new shared connection to the node.
func (n *Node) newShared(m pool.Mode) *pool.Conn {
	c := n.NewConn()
	c.Mode = m
	c.CheckEvery = n.Worker.Options.CheckEvery
	n.setScope(c)
	return c
}

// setScope makes a connection that is dialed later begin in the scope of the node's role, if
// that matters.
func (n *Node) setScope(c *pool.Conn) {
	if n.Worker.Reads.inUse && n.Worker.Table.Clustered() && !n.IsFormer {
		c.Prelude = n.scope
	}
}

// reshape applies the options that are about shared connections; before are the earlier
// ones.
func (rt *routing) reshape(before options.Worker) {
	w := rt.w
	for _, n := range rt.all() {
		if w.Options.Connections != before.Connections {
			n.Shared.Resize(before.Connections, w.Options.Connections, w.Now, n.newShared)
			w.epoch++ // clients with calls in flight may get another connection; see consume
		}
		if w.Options.Backend.Name != before.Backend.Name {
			n.rename()
		}
	}
}

// Disconnect removes the shared connections of the same mode as like, since the node does not
// support that mode.
func (n *Node) Disconnect(like *pool.Conn) { n.discard(n.Shared.Remove(like.Mode)) }

// NodeName returns the name of the node of a link. The name of a cluster's node is its
// address.
func NodeName(l *pool.Link) string {
	if n, ok := l.Owner.(*Node); ok {
		return n.name
	}
	return l.Addr
}

func (n *Node) snapshot(master bool) metrics.Node {
	s := metrics.Node{Name: n.name, Addr: n.Addr, Master: master, Up: n.Shared.IsUp(), Lag: n.lag.Lag(n.Worker.Now),
		Exclusive: n.exclusive, Moved: n.movedCount, Ask: n.askCount, Retried: n.retryCount, FailedCommands: n.failed}
	for _, f := range n.Worker.Features {
		s.Exclusive += len(f.Conns(n))
		f.CountConns(n, &s)
	}
	n.Shared.Count(&s)
	return s
}

const (
	// idleExclusive is how many idle exclusive connections to a node are always kept for reuse.
	idleExclusive = 4
	// maxIdleExclusive bounds those that are kept because as many were in use a short while ago. To dial a
	// connection costs much more than to use one, and a new one transfers a large value slowly.
	maxIdleExclusive = 256
)

// TooManyExclusive is the error for a client that needs a connection of its own and gets none.
const TooManyExclusive = "ERR keyway: too many clients hold a connection of their own to this node " +
	"(BLPOP, WATCH, WAIT...); raise backend.exclusive, or ulimit -n"

// exclusives are a node's exclusive connections.
type exclusives struct {
	idle      []*pool.Conn    // unused
	InUse     []ExclusiveConn // in use
	exclusive int             // the number of those in use
	peak      int             // the largest number of those in use since the last sweep
	lastPeak  int             // peak at the last sweep
}

// mayKeep reports whether one more idle connection is kept: if it could be in use soon, as far as the last
// second shows, and there are files left for clients.
func (e *exclusives) mayKeep(w *Worker) bool {
	n := len(e.idle)
	return n < idleExclusive || n < maxIdleExclusive && n+e.exclusive < max(e.peak, e.lastPeak) && HasRoom(w)
}

// sweep closes the idle connections that were not needed since the sweep before the last one. The last ones were
// used last.
func (e *exclusives) sweep(w *Worker) {
	e.lastPeak, e.peak = e.peak, e.exclusive
	if excess := len(e.idle) - max(idleExclusive, e.lastPeak-e.exclusive); excess > 0 {
		for _, c := range e.idle[:excess] {
			w.LinksToClose = append(w.LinksToClose, &c.Link)
		}
		e.idle = slices.Delete(e.idle, 0, excess)
	}
}

// ExclusiveConn is an exclusive connection and the client that uses it.
type ExclusiveConn struct {
	Conn     *pool.Conn
	Session  *Session
	Receiver alone // the receiver of the reply, if unblockWait looks for it
	Until    int64 // if the client leaves: when the connection is closed
	name     string
}

// HasRoom reports whether the process has files left for one more connection that it can do without.
func HasRoom(w *Worker) bool { return w.Options.HasRoom(w.opening) }

// HasRoom reports whether the limits allow one more connection to the node besides the
// shared ones: an exclusive or a retired one.
func (n *Node) HasRoom() bool {
	return n.exclusive+len(n.Shared.Retired) < n.Worker.Options.Exclusive && HasRoom(n.Worker)
}

// TakeExclusive returns a connection that only use.Session uses until Release.
func (n *Node) TakeExclusive(use ExclusiveConn) *pool.Conn {
	use.Conn = n.idleOrNew(use.Session)
	return n.lend(use)
}

// lend records who uses a connection, and counts it.
func (n *Node) lend(use ExclusiveConn) *pool.Conn {
	n.exclusive++
	n.peak = max(n.peak, n.exclusive)
	use.name = n.Worker.Options.Backend.Name
	n.InUse = append(n.InUse, use)
	return use.Conn
}

// idleOrNew returns an idle connection in the session's state, or else a new one. It closes
// idle connections that it finds lost.
func (n *Node) idleOrNew(s *Session) *pool.Conn {
	m := s.Mode()
	for i := len(n.idle) - 1; i >= 0; i-- {
		c := n.idle[i]
		switch {
		case c.State() != pool.Ready:
			c.Close(n.Worker.Now, "lost while idle")
		case c.Mode == m:
			n.idle = slices.Delete(n.idle, i, i+1)
			return c
		default:
			continue
		}
		n.idle = slices.Delete(n.idle, i, i+1)
	}
	c := n.NewConn()
	c.Mode = m
	return c
}

// TakeAsKeyway is TakeExclusive for a command of which keyway has asked whether the client's user may
// run it, and which needs other commands beside it on the connection. That is keyway's own.
func TakeAsKeyway(n *Node, use ExclusiveConn) *pool.Conn {
	if !use.Session.Has(OfNodes) {
		return n.TakeExclusive(use)
	}
	use.Conn = n.NewConn()
	use.Conn.RESP3 = use.Session.Has(RESP3)
	return n.lend(use)
}

// TakeForRunning returns a connection for a command about the script that is running, such
// as SCRIPT KILL. A node that is busy with a script answers neither SELECT nor ROLE, so the
// connection's greeting has neither. It does answer AUTH.
func (n *Node) TakeForRunning(use ExclusiveConn) *pool.Conn {
	c := n.NewConn()
	c.User, c.Master, c.OfLayout, c.RESP3 = use.Session.Login.Account(), false, false, use.Session.Has(RESP3)
	c.WhileBusy = true
	use.Conn = c
	return n.lend(use)
}

// Release ends the use of an exclusive connection. If well is true and the connection can
// be reused, it becomes idle; otherwise it is closed.
func (n *Node) Release(c *pool.Conn, well bool) {
	for i := range n.InUse {
		if n.InUse[i].Conn == c {
			well = well && n.InUse[i].name == n.Worker.Options.Backend.Name && n.Worker.logins.Has(c.User)
			n.InUse = append(n.InUse[:i], n.InUse[i+1:]...)
			n.exclusive--
			break
		}
	}
	if well && !c.WhileBusy && len(c.NextWrite()) == 0 && c.Master == n.Sentinel && n.mayKeep(n.Worker) &&
		c.State() == pool.Ready && c.InFlight() == 0 {
		n.idle = append(n.idle, c)
		return
	}
	n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
}

// close closes every connection to the node. The requests on them fail.
func (n *Node) close(now int64, reason string) {
	n.Worker.Scripts.Cache.Forget(n.Ordinal)
	n.Shared.Close(now, reason)
	for _, c := range n.idle {
		c.Close(now, reason)
	}
	for _, f := range n.Worker.Features {
		f.CloseNode(n, reason)
	}
	for _, use := range slices.Clone(n.InUse) { // a failing request removes its entry from n.InUse
		use.Conn.Close(now, reason)
	}
}

// HasDB reports whether the node is known to have the database: a connection has selected it.
func (n *Node) HasDB(s *Session, db int) bool {
	m := s.Mode()
	m.DB = db
	return n.Shared.HasSelected(m)
}

// rename gives the node's connections the name that the options have now. A connection that
// is lent to one client keeps its name, and is closed when it comes back. So does a feed: a
// node accepts no CLIENT SETNAME on it, and to dial again could lose messages.
func (n *Node) rename() {
	if !n.Worker.Links.Names(n.Addr) {
		return
	}
	sayOnAll(n, resp.AppendCommand(nil, "CLIENT", "SETNAME", n.Worker.Options.Backend.Name))
	for i, c := range n.Shared.Conns {
		if c.User != nil { // whose rules may not allow it
			n.replace(i, n.newShared(c.Mode))
		}
	}
}

// tickShared watches the shared connections. If a script has kept one silent, clients'
// later commands use a new one. The node answers them when the script ends, or with BUSY.
// It answers writes that are already behind the script when the script ends.
func (n *Node) tickShared() {
	n.tickBusy()
	for _, c := range n.Shared.Conns {
		if c.Tick(n.Worker.Now); c.IsStuck(n.Worker.Now, n.Worker.stuckAfter()) {
			n.replaceSlowConn(c)
		}
	}
	n.tickRetired()
}

// replaceSlowConn replaces a shared connection that a slow reply occupies. The old one stays
// until all its requests are answered. Clients that wait for any reply send nothing more until
// they have it, so no command overtakes one on the old connection.
func (n *Node) replaceSlowConn(conn *pool.Conn) {
	w, i := n.Worker, slices.Index(n.Shared.Conns, conn)
	if i < 0 || !n.HasRoom() || !n.Shared.MayReplace(w.Now) {
		return
	}
	fresh := n.newShared(conn.Mode)
	n.replace(i, fresh)
	fresh.Open(w.Now)
}

// replace puts a connection in the place of the i-th shared one, which stays until all its
// requests are answered. Clients that wait for any reply send nothing more until they have it.
func (n *Node) replace(i int, fresh *pool.Conn) {
	n.Shared.Replace(i, fresh)
	n.Worker.epoch++
}

// tickRetired closes the retired connections on which no reply is due. On the others, it
// sends the reads again that wait behind a reply that takes long to transfer.
func (n *Node) tickRetired() {
	n.discard(n.Shared.Tick(n.Worker.Now, rereadAfter, n.Worker.largeValues.rereadBehind))
}

// tickExclusive checks the deadlines on the node's exclusive connections, and closes those
// whose client has left too long ago.
func (w *Worker) tickExclusive(n *Node) {
	for i := len(n.InUse) - 1; i >= 0 && i < len(n.InUse); i-- {
		if use := &n.InUse[i]; use.Session.HasLeft() && w.Now >= use.Until {
			n.Release(use.Conn, false)
		} else {
			use.Conn.Tick(w.Now)
		}
	}
}

// owesReplies reports whether a reply is due on a connection to the node, or a client uses
// one alone.
func (n *Node) owesReplies() bool {
	due := func(c *pool.Conn) bool { return c.InFlight() > 0 }
	for _, f := range n.Worker.Features {
		if slices.ContainsFunc(f.Conns(n), due) {
			return true
		}
	}
	return n.exclusive > 0 || slices.ContainsFunc(n.Shared.Conns, due) || len(n.Shared.Retired) > 0
}

// Probe receives the reply to a command that the worker itself has sent. done gets the
// complete reply, or false if there is none.
type Probe struct {
	buf  []byte
	Done func(reply []byte, ok bool)
}

func (p *Probe) Reply(_ *pool.Conn, _ []byte, piece pool.Piece) {
	if p.buf = append(p.buf, piece.Bytes...); piece.Last {
		p.Done(p.buf, true)
	}
}

func (p *Probe) Failed(*pool.Conn, []byte, pool.Failure) { p.Done(nil, false) }

// Ask sends a command of the worker itself over a connection. It calls done once.
func (w *Worker) Ask(c *pool.Conn, deadline int64, done func(reply []byte, ok bool), args ...string) {
	c.Send(&Probe{Done: done}, resp.AppendCommand(nil, args...), w.Now, deadline)
}

// say sends a command and ignores the reply.
func (w *Worker) say(c *pool.Conn, frame []byte) {
	c.Send(&Probe{Done: func([]byte, bool) {}}, frame, w.Now, w.Deadline())
}

// asMaster calls send, and makes the node answer the commands that send sends without the
// keys that it has as a replica. Otherwise its replies would hide which node owns them.
func (n *Node) asMaster(c *pool.Conn, send func()) {
	scoped := c.Prelude != nil && n.Master != nil && slices.Contains(n.Shared.Conns, c)
	if scoped {
		n.Worker.say(c, readWriteFrame)
	}
	send()
	if scoped {
		n.Worker.say(c, readOnlyFrame)
	}
}

// InFlight returns how many requests the nodes have not answered.
func InFlight(w *Worker) (requests int) {
	for _, n := range w.all() {
		requests += n.Shared.InFlight()
		for _, c := range n.Shared.Retired {
			requests += c.InFlight()
		}
		for _, use := range n.InUse {
			requests += use.Conn.InFlight()
		}
		for _, f := range w.Features {
			for _, c := range f.Conns(n) {
				requests += c.InFlight()
			}
		}
	}
	return requests
}

const (
	// pingEvery is how long a connection that only listens may be silent. Then a PING checks it.
	pingEvery = int64(5 * time.Second)
	// pingsPerSecond is how many of these PINGs a node gets in a second from all keyways.
	pingsPerSecond = 200
)

// PingInterval returns how long a connection that only listens may be silent before it gets a PING. Many threads of
// many keyways ask less often, up to most, and not all at once when the last message reached all of them at once.
func PingInterval(w *Worker, most time.Duration) int64 {
	wait := min(max(pingEvery, int64(Lookers(w))*int64(time.Second)/pingsPerSecond), int64(most))
	if wait <= pingEvery {
		return wait
	}
	const parts = 1024
	part := (w.Options.Seed + uint64(w.Options.Index)*(parts/7)) % parts
	return wait + wait/4*int64(part)/parts
}
