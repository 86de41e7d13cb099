package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/retry"
	"github.com/keyway-proxy/keyway/router"
)

// Node is a server that keyway sends commands to: a master or a replica.
type Node struct {
	Worker     *Worker
	name, Addr string
	greets
	isOutside bool    // see OutsideNode
	Master    *Node   // the master of a replica; nil for a master
	replicas  []*Node // the replicas of a master
	following
	succession
	Ordinal uint // of this worker's nodes, also those that have left
	// Conns are the shared connections: Options.Connections for RESP2 and database 0, then
	// as many for each other state (database, protocol, NO-TOUCH) that clients use.
	Conns       []*pool.Conn
	retired     retiredConns
	askedIfBusy bool // see tickBusy
	exclusives
	group int32 // a group of keys that it owns, or owned last; -1: none

	movedCount, askCount, retryCount uint64 // numbers of MOVED, of ASK and of retries
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
	c := n.Worker.Links.Conn(n.Addr, n)
	c.Account, c.Master = &n.account, n.Sentinel
	return c
}

// NewFeed returns a new feed of a node. It is not dialed yet.
func NewFeed(n *Node, to pool.Listener) *pool.Feed {
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
	conns := slices.Concat(n.Conns, n.retired.conns)
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
	for _, c := range n.Conns {
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

// isUp reports whether a shared connection to the node is ready. Connections that were
// retired because of a slow reply count too.
func (n *Node) isUp() bool {
	ready := func(c *pool.Conn) bool { return c.State() == pool.Ready }
	return slices.ContainsFunc(n.Conns, ready) || slices.ContainsFunc(n.retired.conns, ready)
}

// inFlight returns how many requests are unanswered on the shared connections.
func (n *Node) inFlight() (requests int) {
	for _, c := range n.Conns {
		requests += c.InFlight()
	}
	return requests
}

// wasUp reports whether a shared connection to a node was ready and has ended.
func wasUp(n *Node) bool {
	return slices.ContainsFunc(n.Conns, func(c *pool.Conn) bool { return c.Stats.Losses > 0 })
}

// Conn returns the connection for a session's commands to the node, outside the exclusive
// lane. It is always the same, since otherwise commands could overtake each other.
func (n *Node) Conn(s *Session) *pool.Conn {
	if len(n.retired.conns) > 0 {
		n.retired.reinstate(n)
	}
	k := n.Worker.Options.Connections
	if s.DB == 0 && k == 1 && s.State&(RESP3|Tracks|NoTouch|OfNodes) == 0 {
		return n.Conns[0]
	}
	if s.lane() == trackedLane {
		return s.OwnConns.Conn(n)
	}
	if at := s.Login.find(n, s); at >= 0 {
		return n.Conns[at+int(s.id%uint64(k))]
	}
	n.connect(s)
	return n.Conn(s)
}

// ReadyConn returns a connection for a question about the session that needs no state. It
// is the session's own if that is ready, else another shared one, or nil if none is ready.
func (n *Node) ReadyConn(s *Session) *pool.Conn {
	if c := QuestionConn(n, s); c.State() == pool.Ready {
		return c
	}
	for _, c := range n.Conns {
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
		return n.Conns[0]
	}
	return n.Conn(s)
}

// fits reports whether a connection has the client's state: the same database, protocol,
// CLIENT NO-TOUCH and user of the nodes.
func (s *Session) fits(c *pool.Conn) bool {
	return c.User == accountOf(s) && c.DB == int(s.DB) && c.RESP3 == s.Has(RESP3) && c.NoTouch == s.Has(NoTouch)
}

// CopyStateTo gives a new connection the client's state.
func (s *Session) CopyStateTo(c *pool.Conn) {
	c.User, c.DB, c.RESP3, c.NoTouch = accountOf(s), int(s.DB), s.Has(RESP3), s.Has(NoTouch)
}

// connect adds shared connections for clients in the session's state.
func (n *Node) connect(s *Session) {
	for range n.Worker.Options.Connections {
		n.Conns = append(n.Conns, n.newShared(s.CopyStateTo))
	}
}

// newShared returns a new shared connection to the node. shape sets the state that its clients
// have in common.
func (n *Node) newShared(shape func(*pool.Conn)) *pool.Conn {
	c := n.NewConn()
	shape(c)
	c.CheckEvery = n.Worker.Options.CheckEvery
	n.setScope(c)
	return c
}

// setScope makes a connection that is dialed later begin in the scope of the node's role, if
// that matters.
func (n *Node) setScope(c *pool.Conn) {
	if n.Worker.Reads.inUse && n.Worker.Table.Clustered() {
		c.Prelude = n.scope
	}
}

// reshape applies the options that are about shared connections; before are the earlier
// ones.
func (rt *routing) reshape(before Options) {
	w := rt.w
	nodes := slices.Clone(rt.Nodes)
	for _, n := range rt.leaving {
		nodes = append(nodes, n.Node)
	}
	for _, n := range nodes {
		if w.Options.Connections != before.Connections {
			n.resize(before.Connections)
		}
		if w.Options.Backend.Name != before.Backend.Name {
			n.rename()
		}
	}
}

// resize changes the number of shared connections for each state from was to that of the
// options. Surplus ones are closed when they have answered everything.
func (n *Node) resize(was int) {
	is, all := n.Worker.Options.Connections, n.Conns
	n.Conns = nil
	for i := 0; i < len(all); i += was {
		first := all[i]
		for k := range max(was, is) {
			switch {
			case k >= is:
				n.retired.add(all[i+k], first)
			case k < was:
				n.Conns = append(n.Conns, all[i+k])
			default:
				c := n.newShared(func(c *pool.Conn) { copyState(c, first) })
				if first.State() != pool.Idle {
					c.Open(n.Worker.Now)
				}
				n.Conns = append(n.Conns, c)
			}
		}
	}
	n.Worker.epoch++ // clients with calls in flight may get another connection; see consume
}

// Disconnect removes the shared connections in the same state as like, since the node does not
// support that state. It makes a new list, because a caller may be iterating over the old one.
func (n *Node) Disconnect(like *pool.Conn) {
	var kept []*pool.Conn
	for _, c := range n.Conns {
		if inSameState(c, like) {
			n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
		} else {
			kept = append(kept, c)
		}
	}
	n.Conns = kept
}

// NodeName returns the name of the node of a link. The name of a cluster's node is its
// address.
func NodeName(l *pool.Link) string {
	if n, ok := l.Owner.(*Node); ok {
		return n.name
	}
	return l.Addr
}

func (n *Node) snapshot(master bool) metrics.Node {
	s := metrics.Node{Name: n.name, Addr: n.Addr, Master: master, Up: n.isUp(), Lag: n.lag.Lag(n.Worker.Now),
		Exclusive: n.exclusive, Moved: n.movedCount, Ask: n.askCount, Retried: n.retryCount}
	if state := n.Conns[0].State(); state != pool.Ready {
		s.State = state.String()
	}
	for _, f := range n.Worker.Features {
		s.Exclusive += len(f.Conns(n))
	}
	for _, c := range n.Conns {
		if r := c.Reason(); r != "" && c.User == nil {
			s.Reason = r
		}
		s.InFlight += c.InFlight()
		s.InFlightBytes += c.InFlightBytes()
		s.AddConnection(&c.Stats)
	}
	for _, c := range n.retired.conns {
		s.InFlight += c.InFlight()
		s.InFlightBytes += c.InFlightBytes()
	}
	return s
}

// idleExclusive is how many idle exclusive connections to a node are kept for reuse.
const idleExclusive = 4

// TooManyExclusive is the error for a client that needs a connection of its own and gets none.
const TooManyExclusive = "ERR keyway: too many clients hold a connection of their own to this node " +
	"(BLPOP, WATCH, WAIT...); raise backend.exclusive, or ulimit -n"

// exclusives are a node's exclusive connections.
type exclusives struct {
	idle      []*pool.Conn    // unused
	InUse     []ExclusiveConn // in use
	exclusive int             // the number of those in use
}

// ExclusiveConn is an exclusive connection and the client that uses it.
type ExclusiveConn struct {
	Conn     *pool.Conn
	Session  *Session
	Receiver alone // the receiver of the reply, if unblockWait looks for it
	Until    int64 // if the client leaves: when the connection is closed
	name     string
}

// HasRoom reports whether the limits allow one more connection to the node besides the
// shared ones: an exclusive or a retired one.
func (n *Node) HasRoom() bool {
	return n.exclusive+len(n.retired.conns) < n.Worker.Options.Exclusive && n.Worker.Options.HasRoom()
}

// TakeExclusive returns a connection that only use.Session uses until Release.
func (n *Node) TakeExclusive(use ExclusiveConn) *pool.Conn {
	use.Conn = n.idleOrNew(use.Session)
	return n.lend(use)
}

// lend records who uses a connection, and counts it.
func (n *Node) lend(use ExclusiveConn) *pool.Conn {
	n.exclusive++
	use.name = n.Worker.Options.Backend.Name
	n.InUse = append(n.InUse, use)
	return use.Conn
}

// idleOrNew returns an idle connection in the session's state, or else a new one. It closes
// idle connections that it finds lost.
func (n *Node) idleOrNew(s *Session) *pool.Conn {
	for i := len(n.idle) - 1; i >= 0; i-- {
		c := n.idle[i]
		switch {
		case c.State() != pool.Ready:
			c.Close(n.Worker.Now, "lost while idle")
		case s.fits(c):
			n.idle = slices.Delete(n.idle, i, i+1)
			return c
		default:
			continue
		}
		n.idle = slices.Delete(n.idle, i, i+1)
	}
	c := n.NewConn()
	s.CopyStateTo(c)
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
	c.User, c.Master, c.RESP3 = accountOf(use.Session), false, use.Session.Has(RESP3)
	use.Conn = c
	return n.lend(use)
}

// Release ends the use of an exclusive connection. If well is true and the connection can
// be reused, it becomes idle; otherwise it is closed.
func (n *Node) Release(c *pool.Conn, well bool) {
	for i := range n.InUse {
		if n.InUse[i].Conn == c {
			well = well && n.InUse[i].name == n.Worker.Options.Backend.Name && n.Worker.isKnown(c.User)
			n.InUse = append(n.InUse[:i], n.InUse[i+1:]...)
			n.exclusive--
			break
		}
	}
	if well && len(c.NextWrite()) == 0 && c.Master == n.Sentinel && len(n.idle) < idleExclusive &&
		c.State() == pool.Ready && c.InFlight() == 0 {
		n.idle = append(n.idle, c)
		return
	}
	n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
}

// close closes every connection to the node. The requests on them fail.
func (n *Node) close(now int64, reason string) {
	n.Worker.Scripts.Cache.Forget(n.Ordinal)
	for _, c := range n.Conns {
		c.Close(now, reason)
	}
	for _, c := range n.retired.conns {
		c.Close(now, reason)
	}
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

// HasDB reports whether the node is known to have the database: one of its connections
// has selected it.
func (n *Node) HasDB(s *Session, db int) bool {
	for _, c := range n.Conns {
		if c.User == accountOf(s) && c.DB == db && c.RESP3 == s.Has(RESP3) && c.State() == pool.Ready {
			return true
		}
	}
	return false
}

// rename gives the node's connections the name that the options have now. A connection that
// is lent to one client keeps its name, and is closed when it comes back. So does a feed: a
// node accepts no CLIENT SETNAME on it, and to dial again could lose messages.
func (n *Node) rename() {
	if !n.Worker.Links.Names(n.Addr) {
		return
	}
	sayOnAll(n, resp.AppendCommand(nil, "CLIENT", "SETNAME", n.Worker.Options.Backend.Name))
	for i, c := range n.Conns {
		if c.User != nil { // whose rules may not allow it
			n.replace(i, n.newShared(func(fresh *pool.Conn) { copyState(fresh, c) }))
		}
	}
}

// Login is an account of the nodes with which clients of the worker have logged in. These clients share
// connections, and nobody else uses them.
type Login struct {
	pool.Account
	user        *acl.User // of these clients: it only has a name, since the nodes know the rules
	clients     int
	unusedSince int64         // when the last client left
	places      map[*Node]int // where in a node's Conns the last client has found its connections
	// Permitted has, by the IDs of commands without arguments, until when the answer of a node holds
	// that the user may run them.
	Permitted map[int]int64
}

// loginKey tells accounts of the nodes apart.
type loginKey struct{ username, password string }

const (
	// maxLogins bounds the accounts of the nodes that one worker knows.
	maxLogins = 1000
	// unusedLogin is how long the connections of an account stay without clients.
	unusedLogin = int64(time.Minute)
)

// accountOf returns the client's account at the nodes, nil for keyway's own.
func accountOf(s *Session) *pool.Account {
	if s.Login == nil {
		return nil
	}
	return &s.Login.Account
}

// LogIn makes a client the user of the nodes that a node has accepted with this password. None of its
// calls may be in flight. It returns false if there are too many accounts.
func LogIn(w *Worker, s *Session, username, password string) bool {
	l := w.login(username, password)
	if l == nil {
		return false
	}
	if s.Login != l {
		logOut(s)
		l.clients++
		s.Login, s.User = l, l.user
		RenewConns(w, s)
	}
	s.Set(OfNodes | Authed)
	return true
}

// login returns the only Login of an account, or nil if there are too many.
func (rt *routing) login(username, password string) *Login {
	key := loginKey{username, password}
	if l := rt.logins[key]; l != nil {
		return l
	}
	if len(rt.logins) >= maxLogins {
		rt.closeLogins(func(l *Login) bool { return l.clients == 0 })
	}
	switch {
	case len(rt.logins) >= maxLogins:
		return nil
	case rt.logins == nil:
		rt.logins = map[loginKey]*Login{}
	}
	l := &Login{
		Account: pool.Account{Username: username, Password: password}, user: acl.Nobody(username),
		places: map[*Node]int{}, Permitted: map[int]int64{},
	}
	rt.logins[key] = l
	return l
}

// logOut ends LogIn.
func logOut(s *Session) {
	s.Login.leave(s.Worker.Now)
	s.Login = nil
	s.Clear(OfNodes)
}

// leave counts a client less. A session that has left keeps its Login, so that nothing that it has sent
// can get to a connection of others.
func (l *Login) leave(now int64) {
	if l == nil {
		return
	}
	if l.clients--; l.clients == 0 {
		l.unusedSince = now
	}
}

// find returns the index of the first of the session's connections among the node's, or -1. With many
// users there are many connections, so it looks first where it has found them before.
func (l *Login) find(n *Node, s *Session) int {
	k := n.Worker.Options.Connections
	if l != nil {
		if at := l.places[n]; at < len(n.Conns) && at%k == 0 && s.fits(n.Conns[at]) {
			return at
		}
	}
	for i := 0; i < len(n.Conns); i += k {
		if s.fits(n.Conns[i]) {
			if l != nil {
				l.places[n] = i
			}
			return i
		}
	}
	return -1
}

// isKnown reports whether clients may still use connections of the account.
func (rt *routing) isKnown(a *pool.Account) bool {
	if a == nil {
		return true
	}
	l := rt.logins[loginKey{a.Username, a.Password}]
	return l != nil && &l.Account == a
}

// closeUnusedLogins closes the connections of accounts that have had no client for some time, and those
// whose user a node refuses: the next command tries again, and nothing else should.
func (rt *routing) closeUnusedLogins() {
	if len(rt.logins) == 0 {
		return
	}
	for _, n := range rt.Nodes {
		for _, c := range n.Conns {
			if strings.HasPrefix(c.ConnectError(), pool.RefusesUser) {
				n.Disconnect(c)
			}
		}
	}
	for _, l := range rt.logins {
		if len(l.places) > 2*len(rt.Nodes) {
			clear(l.places) // most of these nodes have left
		}
	}
	rt.closeLogins(func(l *Login) bool {
		return l.clients == 0 && rt.w.Now-l.unusedSince >= unusedLogin
	})
}

// closeLogins forgets accounts, and closes their connections once all is answered.
func (rt *routing) closeLogins(which func(*Login) bool) {
	gone := map[*pool.Account]bool{}
	for key, l := range rt.logins {
		if which(l) {
			gone[&l.Account] = true
			delete(rt.logins, key)
		}
	}
	if len(gone) == 0 {
		return
	}
	for _, n := range rt.Nodes {
		closeConnsOf(n, gone)
	}
	for _, n := range rt.leaving {
		closeConnsOf(n.Node, gone)
	}
}

// closeConnsOf closes the connections to a node that are not lent.
func closeConnsOf(n *Node, accounts map[*pool.Account]bool) {
	var kept []*pool.Conn
	for _, c := range n.Conns {
		if accounts[c.User] {
			n.retired.add(c, n.Conns[0])
		} else {
			kept = append(kept, c)
		}
	}
	n.Conns = kept
	n.idle = slices.DeleteFunc(n.idle, func(c *pool.Conn) bool {
		if accounts[c.User] {
			n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
		}
		return accounts[c.User]
	})
}
