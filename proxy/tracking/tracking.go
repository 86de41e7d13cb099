package tracking

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// With CLIENT TRACKING, nodes tell a client which keys have changed, so that it can cache
// values. A node remembers the reads of each connection, so such a client has its own
// connection to each node, for all its commands:
//
//	client  <--- GET a ------  its own connection  ------ node
//	        <--- >invalidate a -------------------------- (another changes a)
//
// keyway passes on a node's push messages in their place between the replies. When such a
// connection ends, or keys move to another node, the client's whole cache becomes invalid.
//
// In RESP2, a node cannot send messages between replies. It sends them to an invalidation
// feed, a RESP3 connection that all tracking RESP2 clients of a worker share. So a client
// may get invalidations of keys that another client has read, which does no harm.
//
// When a client changes its options, keyway sends them to the nodes over the same
// connections, because the nodes still know what was read there.

// trackers are the clients of a worker that use CLIENT TRACKING.
type trackers struct {
	engine.Inactive
	w                 *engine.Worker
	sessions          []*engine.Session
	invalidationFeeds map[*engine.Node]*pool.Conn // for invalidations of RESP2 clients
	layoutEpoch       uint64                      // the worker's, when Layout was last called
	// pushedTo are the redirect targets, by id, that already have the current push of a feed.
	pushedTo map[uint64]bool
}

func newTrackers(w *engine.Worker) *trackers {
	of := &trackers{w: w, invalidationFeeds: map[*engine.Node]*pool.Conn{}, pushedTo: map[uint64]bool{}}
	w.Trackers = of
	return of
}

// trackings contains the state of each client that tracks.
var trackings = engine.NewPerClient[tracking]()

// tracking is the tracking state of a client.
type tracking struct {
	w     *engine.Worker
	sess  *engine.Session
	conns map[*engine.Node]*pool.Conn // the client's own connections

	trackingOptions
	broken bool // the redirect target is gone
	choice engine.Caching
	begun  bool // the client has the reply to CLIENT TRACKING ON
	forget bool // its whole cache becomes invalid once its commands in flight are answered
}

// trackingOptions are the options of CLIENT TRACKING ON.
type trackingOptions struct {
	bcast, optin, optout, noloop bool
	prefixes                     [][]byte
	redirect                     uint64 // the id of the client that gets the invalidations instead; 0: none
}

// invalidations is the channel on which a RESP2 client gets invalidations (tracking.c).
const invalidations = "__redis__:invalidate"

// everyKey reports whether one of the prefixes is empty, and so matches all keys.
func everyKey(prefixes [][]byte) bool {
	return slices.ContainsFunc(prefixes, func(p []byte) bool { return len(p) == 0 })
}

// maxTrackPing is how long a connection that carries invalidations may be silent before it gets a PING, if keyways are
// many, and a quarter more.
const maxTrackPing = 10 * time.Second

// Caching returns the setting of CLIENT CACHING for the command that is being dispatched.
func (t *tracking) Caching() engine.Caching { return t.choice }

// Caches reports whether the client may cache a key that the command being dispatched reads, until
// it hears of a change.
func (t *tracking) Caches(key []byte) bool {
	switch {
	case !t.Active():
		return false
	case t.bcast:
		begins := func(prefix []byte) bool { return bytes.HasPrefix(key, prefix) }
		return len(t.prefixes) == 0 || slices.ContainsFunc(t.prefixes, begins)
	case t.optin:
		return t.choice == engine.CachingYes
	}
	return t.choice != engine.CachingNo
}

// Active reports whether nodes have to track anything. For a RESP2 client without REDIRECT,
// Redis has no connection for the invalidations.
func (t *tracking) Active() bool { return t.sess.Has(engine.RESP3) || t.redirect != 0 }

// Conn returns the client's own connection to a node, and makes it if necessary.
func (t *tracking) Conn(n *engine.Node) *pool.Conn {
	c := t.conns[n]
	if c == nil {
		s := t.sess
		c = n.NewConn()
		c.Mode = s.Mode()
		c.CheckEvery = t.w.Options.CheckEvery
		c.Prelude = func() []byte { return t.prelude(n) }
		c.Pushes, c.Extra = t, "CLIENT TRACKING"
		if !s.Has(engine.RESP3) {
			engine.FeatureOf[*trackers](t.w).openInvalidationFeed(n)
		}
		t.conns[n] = c
	}
	return c
}

// prelude returns the CLIENT TRACKING ON for a new connection to the node, or nil if the
// node's invalidation feed is not ready yet.
func (t *tracking) prelude(n *engine.Node) []byte { return t.frame(n, t.prefixes) }

// frame returns a CLIENT TRACKING ON with these prefixes for a node, or nil if the client
// needs the node's invalidation feed and that is not ready yet.
func (t *tracking) frame(n *engine.Node, prefixes [][]byte) []byte {
	args := []string{"CLIENT", "TRACKING", "ON"}
	if !t.sess.Has(engine.RESP3) {
		feed := engine.FeatureOf[*trackers](t.w).invalidationFeeds[n]
		if feed == nil || feed.State() != pool.Ready {
			return nil
		}
		args = append(args, "REDIRECT", strconv.FormatInt(feed.ClientID, 10))
	}
	for i, on := range []bool{t.bcast, t.optin, t.optout, t.noloop} {
		if on {
			args = append(args, []string{"BCAST", "OPTIN", "OPTOUT", "NOLOOP"}[i])
		}
	}
	if !everyKey(prefixes) { // without any prefix, a node tracks all keys
		for _, p := range prefixes {
			args = append(args, "PREFIX", string(p))
		}
	}
	return resp.AppendCommand(nil, args...)
}

// Pushed handles a node's push message: it passes on invalidations.
func (t *tracking) Pushed(_ *pool.Conn, message []byte) {
	_, rest, ok := resp.Elements(message)
	if !ok {
		return
	}
	what, keys, _ := resp.Split(rest)
	if name, _ := resp.Bulk(what); string(name) == "invalidate" {
		t.sendInvalidation(keys)
	}
}

// Ready is called when a connection is ready. In BCAST mode, the client may have read keys
// over its other connections before that, and got no invalidations of them from this node.
func (t *tracking) Ready(*pool.Conn) {
	if t.bcast {
		t.ForgetAll()
	}
}

// Lost is called when a connection has ended. The node no longer tracks what was read over it.
func (t *tracking) Lost(*pool.Conn) { t.ForgetAll() }

// ForgetAll tells the client that its whole cache is invalid.
func (t *tracking) ForgetAll() {
	if t.Active() {
		t.sendInvalidation([]byte("_\r\n"))
	}
}

// sendInvalidation sends an invalidation to the client, or to its redirect target. keys is
// encoded in RESP3: an array of keys, or null for all keys.
func (t *tracking) sendInvalidation(keys []byte) {
	if !t.begun {
		return
	}
	if t.redirect == 0 {
		invalidate(t.w, t.sess, keys)
		return
	}
	keys = bytes.Clone(keys)
	if target := t.w.ByID[t.redirect]; target != nil {
		invalidate(t.w, target, keys)
		return
	}
	id, from, index := t.redirect, t.sess.ID(), t.w.Options.Index
	if int((id-1)%uint64(t.w.Options.Workers)) == index || t.w.Options.Workers == 1 {
		t.breakRedirect()
		return
	}
	t.w.Siblings.Tell(func(o *engine.Worker) {
		if int((id-1)%uint64(o.Options.Workers)) != o.Options.Index {
			return
		}
		if target := o.ByID[id]; target != nil {
			invalidate(o, target, keys)
			return
		}
		o.Siblings.Tell(func(back *engine.Worker) {
			s := engine.Find(back, from)
			if s == nil || back.Options.Index != index {
				return
			}
			if t := trackings.Get(s); t != nil && t.redirect == id {
				t.breakRedirect()
			}
		})
	})
}

// breakRedirect records that the redirect target is gone, and tells a RESP3 client so.
func (t *tracking) breakRedirect() {
	if !t.broken && t.sess.Has(engine.RESP3) {
		b := resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "tracking-redir-broken")
		t.sess.Push(resp.AppendInt(b, int64(t.redirect)))
	}
	t.broken = true
}

// invalidate sends an invalidation to a client. A RESP2 client gets it only if it is
// subscribed to the channel for invalidations. A client whose user has a prefix gets only the
// user's own keys.
func invalidate(w *engine.Worker, s *engine.Session, keys []byte) {
	if s.User.Prefix != nil {
		var ok bool
		if keys, ok = s.User.Prefix.Invalidated(keys); !ok {
			return // keys of others
		}
	}
	if s.Has(engine.RESP3) {
		s.Push(append(resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "invalidate"), keys...))
		return
	}
	if s.Topics == nil || !s.Topics.HasChannel(invalidations) {
		return
	}
	b := resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 3), "message"), invalidations)
	if resp.IsNull(keys) {
		keys = resp.AppendNull(nil) // the null bulk string, not the null array (tracking.c, sendTrackingMessage)
	}
	s.Push(append(b, keys...))
}

// invalidationFeed receives a node's invalidations for RESP2 clients that track.
type invalidationFeed struct{ *trackers }

// Pushed sends an invalidation to each redirect target once, even if several clients name
// the same target.
func (f invalidationFeed) Pushed(c *pool.Conn, message []byte) {
	n, pushed := c.Owner.(*engine.Node), f.pushedTo
	clear(pushed)
	for _, s := range f.sessions {
		if t := trackings.Get(s); !s.Has(engine.RESP3) && t.begun && t.conns[n] != nil && !pushed[t.redirect] {
			pushed[t.redirect] = true
			t.Pushed(c, message)
		}
	}
}

// Ready resumes the greeting of connections that waited for the feed's client id.
func (f invalidationFeed) Ready(c *pool.Conn) {
	for _, s := range f.sessions {
		if own := trackings.Get(s).conns[c.Owner.(*engine.Node)]; own != nil && !s.Has(engine.RESP3) {
			own.ResumeGreeting()
		}
	}
}

// Lost ends the connections that redirect to this feed: the next one has another client id.
func (f invalidationFeed) Lost(c *pool.Conn) {
	n := c.Owner.(*engine.Node)
	for _, s := range f.sessions {
		if own := trackings.Get(s).conns[n]; own != nil && !s.Has(engine.RESP3) {
			own.Fail(f.w.Now, "the connection for invalidations ended")
		}
	}
}

// openInvalidationFeed returns the node's invalidation feed, and opens it if there is none.
func (of *trackers) openInvalidationFeed(n *engine.Node) *pool.Conn {
	c := of.invalidationFeeds[n]
	if c == nil {
		c = n.NewConn()
		c.RESP3, c.Pushes, c.Extra = true, invalidationFeed{of}, "CLIENT TRACKING"
		c.Open(of.w.Now)
		of.invalidationFeeds[n] = c
	}
	return c
}

// track starts a session's tracking.
func track(w *engine.Worker, s *engine.Session, t *tracking) {
	trackings.Set(s, t)
	s.OwnConns = t
	s.Set(engine.Tracks)
	of := engine.FeatureOf[*trackers](w)
	of.sessions = append(of.sessions, s)
}

// Leave ends a session's tracking, and closes the invalidation feeds if no other client needs them.
func (of *trackers) Leave(s *engine.Session) {
	if !s.Has(engine.Tracks) {
		return
	}
	trackings.Get(s).close()
	s.Clear(engine.Tracks)
	trackings.Set(s, nil)
	s.OwnConns = nil
	of.sessions = slices.DeleteFunc(of.sessions, func(o *engine.Session) bool { return o == s })
	if slices.ContainsFunc(of.sessions, func(o *engine.Session) bool { return !o.Has(engine.RESP3) }) {
		return
	}
	for n := range of.invalidationFeeds {
		of.closeEar(n)
	}
}

// CloseNode closes the connections to a node that has left.
func (of *trackers) CloseNode(n *engine.Node, reason string) {
	of.closeEar(n)
	for _, s := range of.sessions {
		t := trackings.Get(s)
		if c := t.conns[n]; c != nil {
			delete(t.conns, n)
			c.Close(of.w.Now, reason)
		}
	}
}

// Conns returns the clients' own connections to a node.
func (of *trackers) Conns(n *engine.Node) (all []*pool.Conn) {
	for _, s := range of.sessions {
		if c := trackings.Get(s).conns[n]; c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (of *trackers) closeEar(n *engine.Node) {
	if c := of.invalidationFeeds[n]; c != nil {
		c.Pushes = noMore{}
		of.w.LinksToClose = append(of.w.LinksToClose, &c.Link)
		delete(of.invalidationFeeds, n)
	}
}

// noMore drops the push messages of a connection that is about to be closed.
type noMore struct{}

func (noMore) Pushed(*pool.Conn, []byte) {}
func (noMore) Ready(*pool.Conn)          {}
func (noMore) Lost(*pool.Conn)           {}

// close discards all connections.
func (t *tracking) close() {
	for n, c := range t.conns {
		t.discard(n, c)
	}
}

// discard removes the connection to a node, and schedules it for closing.
func (t *tracking) discard(n *engine.Node, c *pool.Conn) {
	c.Pushes = noMore{}
	t.w.LinksToClose = append(t.w.LinksToClose, &c.Link)
	delete(t.conns, n)
}

// StateChanged replaces the connections of a client that tracks.
func (of *trackers) StateChanged(s *engine.Session) {
	if s.Has(engine.Tracks) {
		trackings.Get(s).close()
		trackings.Get(s).openAll()
	}
}

// openAll connects to every master if the client is in BCAST mode, in which it gets
// invalidations also of keys that it has not read.
func (t *tracking) openAll() {
	if t.bcast && t.Active() {
		for _, n := range t.w.Masters {
			t.Conn(n).Open(t.w.Now)
		}
	}
}

// Layout makes the clients forget what they have cached if keys may have other owners. If the
// layout was replaced, former owners may still answer reads of keys of which they will not
// report later changes. So the clients then forget once more when these are answered.
func (of *trackers) Layout(moved bool) {
	if !moved {
		return
	}
	for _, s := range of.sessions {
		if !s.Has(engine.RESP3) && trackings.Get(s).Active() {
			for _, n := range of.w.Masters {
				of.openInvalidationFeed(n)
			}
		}
		t := trackings.Get(s)
		for n, c := range t.conns {
			if of.w.IsLeaving(n) {
				c.Pushes = noMore{}
			}
		}
		t.ForgetAll()
		t.openAll()
		t.forget = t.forget || s.Inflight > 0 && of.w.LayoutEpoch != of.layoutEpoch
	}
	of.layoutEpoch = of.w.LayoutEpoch
}

// Due returns the next tick while a client's own connection is busy, and one not much later
// otherwise, to notice a connection that has become silent.
func (of *trackers) Due() int64 {
	if len(of.sessions) == 0 {
		return math.MaxInt64
	}
	for _, s := range of.sessions {
		for _, c := range trackings.Get(s).conns {
			if c.Busy() {
				return of.w.Now + engine.Tick
			}
		}
	}
	return of.w.Now + 10*engine.Tick
}

// Tick checks the timeouts of the clients' own connections and of the invalidation feeds, and sends
// a PING over those that are silent.
func (of *trackers) Tick() {
	w := of.w
	mayBeSilent := engine.PingInterval(w, maxTrackPing)
	watch := func(c *pool.Conn) {
		c.Tick(w.Now)
		if c.State() == pool.Ready && c.InFlight() == 0 && w.Now-c.LastReceived() >= mayBeSilent {
			w.Ask(c, w.Deadline(), func([]byte, bool) {}, "PING")
		}
	}
	if len(of.sessions) == 0 {
		return
	}
	for _, s := range of.sessions {
		t := trackings.Get(s)
		if t.forget && s.Inflight == 0 {
			t.forget = false
			t.ForgetAll()
		}
		for _, c := range t.conns {
			watch(c)
		}
	}
	for _, n := range w.Nodes {
		if c := of.invalidationFeeds[n]; c != nil {
			watch(c)
		}
	}
}

// beginTracking handles CLIENT TRACKING ON. It answers when the nodes have accepted the
// options.
func beginTracking(w *engine.Worker, s *engine.Session, cmd *command.Command, o trackingOptions) bool {
	t := trackings.Get(s)
	again, wasActive := t != nil, t != nil && t.Active()
	added := o.prefixes
	if again {
		o.prefixes = slices.Clip(t.prefixes)
		if !everyKey(o.prefixes) { // otherwise the client tracks all keys already
			o.prefixes = append(o.prefixes, added...)
		}
	} else {
		t = &tracking{w: w, sess: s, conns: map[*engine.Node]*pool.Conn{}}
		track(w, s, t)
	}
	t.trackingOptions, t.broken = o, false
	if !t.Active() {
		t.close()
		t.begun = true
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	}
	s.Set(engine.Blocked)
	done := func(refusal string) {
		if s.HasLeft() {
			return
		}
		s.Clear(engine.Blocked)
		if refusal != "" {
			engine.FeatureOf[*trackers](w).Leave(s)
			s.AnswerError(cmd, refusal)
		} else {
			s.Answer(cmd, resp.AppendOK(nil))
			if t.begun = true; again && !wasActive {
				t.ForgetAll() // no node tracked the reads until now
			}
		}
		s.Wake()
	}
	if wasActive {
		t.change(added, done)
	} else {
		t.begin(done)
	}
	return true
}

// begin opens the connections that tracking needs from the start, and then calls done with a
// node's refusal, or with "".
func (t *tracking) begin(done func(refusal string)) {
	w, s := t.w, t.sess
	begin := func(string) {
		if s.HasLeft() {
			return
		}
		t.openAll()
		if len(t.conns) == 0 {
			w.AnyMaster(s)
		}
		reach(w, slices.Collect(maps.Values(t.conns)), done)
	}
	if s.Has(engine.RESP3) {
		begin("")
		return
	}
	var feeds []*pool.Conn
	for _, n := range w.Masters {
		feeds = append(feeds, engine.FeatureOf[*trackers](w).openInvalidationFeed(n))
	}
	reach(w, feeds, begin) // CLIENT TRACKING contains the client id of the feed
}

// change sends new options to the nodes over the existing connections, and then calls done
// with a node's refusal, or with "". added are the new prefixes.
func (t *tracking) change(added [][]byte, done func(refusal string)) {
	left, refusal := 1, ""
	one := func(reply []byte, _ bool) {
		if text, isErr := resp.ErrorText(reply); isErr {
			refusal = string(text)
		}
		if left--; left == 0 {
			done(refusal)
		}
	}
	for n, c := range t.conns {
		frame := t.frame(n, added)
		switch {
		case c.State() == pool.Ready && frame != nil:
			left++
			c.Send(&engine.Probe{Done: one}, frame, t.w.Now, t.w.Deadline())
		case c.State() != pool.Idle: // its greeting may have sent the old options
			t.discard(n, c)
		}
	}
	t.openAll()
	one(nil, true)
}

// reach connects, and calls done when each connection is ready or has failed. refusal is the
// error with which a node refused the connection's greeting, or "".
func reach(w *engine.Worker, conns []*pool.Conn, done func(refusal string)) {
	left, refusal := len(conns), ""
	if left == 0 {
		done("")
		return
	}
	for _, c := range conns {
		w.Ask(c, w.Deadline(), func(_ []byte, ok bool) {
			if why, refused := strings.CutPrefix(c.Reason(), "the node refuses: "); !ok && refused {
				refusal = why
			}
			if left--; left == 0 {
				done(refusal)
			}
		}, "PING")
	}
}
