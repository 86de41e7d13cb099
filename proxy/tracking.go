package proxy

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
	inactive
	w                 *Worker
	sessions          []*Session
	invalidationFeeds map[*node]*pool.Conn // for invalidations of RESP2 clients
	pushedTo          map[uint64]bool      // redirect targets, by id, that already have the current push of a feed
}

func newTrackers(w *Worker) *trackers {
	return &trackers{w: w, invalidationFeeds: map[*node]*pool.Conn{}, pushedTo: map[uint64]bool{}}
}

// trackings contains the state of each client that tracks.
var trackings = newPerClient[tracking]()

// tracking is the tracking state of a client.
type tracking struct {
	w     *Worker
	sess  *Session
	conns map[*node]*pool.Conn // the client's own connections

	trackingOptions
	broken bool // the redirect target is gone
	choice caching
	begun  bool // the client has the reply to CLIENT TRACKING ON
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

// trackPing is how long a connection that carries invalidations may be silent. Then keyway
// sends a PING to check it.
const trackPing = int64(5 * time.Second)

// caching returns the setting of CLIENT CACHING for the command that is being dispatched.
func (t *tracking) caching() caching { return t.choice }

// active reports whether nodes have to track anything. For a RESP2 client without REDIRECT,
// Redis has no connection for the invalidations.
func (t *tracking) active() bool { return t.sess.has(resp3) || t.redirect != 0 }

// conn returns the client's own connection to a node, and makes it if necessary.
func (t *tracking) conn(n *node) *pool.Conn {
	c := t.conns[n]
	if c == nil {
		s := t.sess
		c = n.newConn()
		s.shape(c)
		c.CheckEvery = t.w.o.CheckEvery
		c.Prelude = func() []byte { return t.prelude(n) }
		c.Pushes = t
		if !s.has(resp3) {
			featureOf[*trackers](t.w).openInvalidationFeed(n)
		}
		t.conns[n] = c
	}
	return c
}

// prelude returns the CLIENT TRACKING ON for a new connection to the node, or nil if the
// node's invalidation feed is not ready yet.
func (t *tracking) prelude(n *node) []byte { return t.frame(n, t.prefixes) }

// frame returns a CLIENT TRACKING ON with these prefixes for a node, or nil if the client
// needs the node's invalidation feed and that is not ready yet.
func (t *tracking) frame(n *node, prefixes [][]byte) []byte {
	args := []string{"CLIENT", "TRACKING", "ON"}
	if !t.sess.has(resp3) {
		feed := featureOf[*trackers](t.w).invalidationFeeds[n]
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
		t.forgetAll()
	}
}

// Lost is called when a connection has ended. The node no longer tracks what was read over it.
func (t *tracking) Lost(*pool.Conn) { t.forgetAll() }

// forgetAll tells the client that its whole cache is invalid.
func (t *tracking) forgetAll() {
	if t.active() {
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
	if target := t.w.byID[t.redirect]; target != nil {
		invalidate(t.w, target, keys)
		return
	}
	id, from, index := t.redirect, t.sess.id, t.w.o.Index
	if int((id-1)%uint64(t.w.o.Workers)) == index || t.w.o.Workers == 1 {
		t.breakRedirect()
		return
	}
	t.w.siblings.tell(func(o *Worker) {
		if int((id-1)%uint64(o.o.Workers)) != o.o.Index {
			return
		}
		if target := o.byID[id]; target != nil {
			invalidate(o, target, keys)
			return
		}
		o.siblings.tell(func(back *Worker) {
			s := back.byID[from]
			if s == nil || back.o.Index != index {
				return
			}
			if t := trackings.of(s); t != nil && t.redirect == id {
				t.breakRedirect()
			}
		})
	})
}

// breakRedirect records that the redirect target is gone, and tells a RESP3 client so.
func (t *tracking) breakRedirect() {
	if !t.broken && t.sess.has(resp3) {
		b := resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "tracking-redir-broken")
		t.sess.push(resp.AppendInt(b, int64(t.redirect)))
	}
	t.broken = true
}

// invalidate sends an invalidation to a client. A RESP2 client gets it only if it is
// subscribed to the channel for invalidations.
func invalidate(w *Worker, s *Session, keys []byte) {
	if s.has(resp3) {
		s.push(append(resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "invalidate"), keys...))
		return
	}
	if s.topics == nil || !s.topics.hasChannel(invalidations) {
		return
	}
	b := resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 3), "message"), invalidations)
	if resp.IsNull(keys) {
		keys = resp.AppendNull(nil) // the null bulk string, not the null array (tracking.c, sendTrackingMessage)
	}
	s.push(append(b, keys...))
}

// invalidationFeed receives a node's invalidations for RESP2 clients that track.
type invalidationFeed struct{ *trackers }

// Pushed sends an invalidation to each redirect target once, even if several clients name
// the same target.
func (f invalidationFeed) Pushed(c *pool.Conn, message []byte) {
	n, pushed := c.Owner.(*node), f.pushedTo
	clear(pushed)
	for _, s := range f.sessions {
		if t := trackings.of(s); !s.has(resp3) && t.begun && t.conns[n] != nil && !pushed[t.redirect] {
			pushed[t.redirect] = true
			t.Pushed(c, message)
		}
	}
}

// Ready resumes the greeting of connections that waited for the feed's client id.
func (f invalidationFeed) Ready(c *pool.Conn) {
	for _, s := range f.sessions {
		if own := trackings.of(s).conns[c.Owner.(*node)]; own != nil && !s.has(resp3) {
			own.ResumeGreeting()
		}
	}
}

// Lost ends the connections that redirect to this feed: the next one has another client id.
func (f invalidationFeed) Lost(c *pool.Conn) {
	n := c.Owner.(*node)
	for _, s := range f.sessions {
		if own := trackings.of(s).conns[n]; own != nil && !s.has(resp3) {
			own.Fail(f.w.now, "the connection for invalidations ended")
		}
	}
}

// openInvalidationFeed returns the node's invalidation feed, and opens it if there is none.
func (of *trackers) openInvalidationFeed(n *node) *pool.Conn {
	c := of.invalidationFeeds[n]
	if c == nil {
		c = n.newConn()
		c.RESP3, c.Pushes = true, invalidationFeed{of}
		c.Open(of.w.now)
		of.invalidationFeeds[n] = c
	}
	return c
}

// track starts a session's tracking.
func track(w *Worker, s *Session, t *tracking) {
	trackings.set(s, t)
	s.ownConns = t
	s.set(tracks)
	of := featureOf[*trackers](w)
	of.sessions = append(of.sessions, s)
}

// leave ends a session's tracking, and closes the invalidation feeds if no other client needs them.
func (of *trackers) leave(s *Session) {
	if !s.has(tracks) {
		return
	}
	trackings.of(s).close()
	s.clear(tracks)
	trackings.set(s, nil)
	s.ownConns = nil
	of.sessions = slices.DeleteFunc(of.sessions, func(o *Session) bool { return o == s })
	if slices.ContainsFunc(of.sessions, func(o *Session) bool { return !o.has(resp3) }) {
		return
	}
	for n := range of.invalidationFeeds {
		of.closeEar(n)
	}
}

// closeNode closes the connections to a node that has left.
func (of *trackers) closeNode(n *node, reason string) {
	of.closeEar(n)
	for _, s := range of.sessions {
		t := trackings.of(s)
		if c := t.conns[n]; c != nil {
			delete(t.conns, n)
			c.Close(of.w.now, reason)
		}
	}
}

// conns returns the clients' own connections to a node.
func (of *trackers) conns(n *node) (all []*pool.Conn) {
	for _, s := range of.sessions {
		if c := trackings.of(s).conns[n]; c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (of *trackers) closeEar(n *node) {
	if c := of.invalidationFeeds[n]; c != nil {
		c.Pushes = noMore{}
		of.w.doomed = append(of.w.doomed, &c.Link)
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
func (t *tracking) discard(n *node, c *pool.Conn) {
	c.Pushes = noMore{}
	t.w.doomed = append(t.w.doomed, &c.Link)
	delete(t.conns, n)
}

// stateChanged replaces the connections of a client that tracks.
func (of *trackers) stateChanged(s *Session) {
	if s.has(tracks) {
		trackings.of(s).close()
		trackings.of(s).openAll()
	}
}

// openAll connects to every master if the client is in BCAST mode, in which it gets
// invalidations also of keys that it has not read.
func (t *tracking) openAll() {
	if t.bcast && t.active() {
		for _, n := range t.w.masters {
			t.conn(n).Open(t.w.now)
		}
	}
}

// layout makes the clients forget what they have cached if keys may have other owners.
func (of *trackers) layout(moved bool) {
	if !moved {
		return
	}
	for _, s := range of.sessions {
		if !s.has(resp3) && trackings.of(s).active() {
			for _, n := range of.w.masters {
				of.openInvalidationFeed(n)
			}
		}
		trackings.of(s).forgetAll()
		trackings.of(s).openAll()
	}
}

// due returns the next tick while a client's own connection is busy, and one not much later
// otherwise, to notice a connection that has become silent.
func (of *trackers) due() int64 {
	if len(of.sessions) == 0 {
		return math.MaxInt64
	}
	for _, s := range of.sessions {
		for _, c := range trackings.of(s).conns {
			if c.Busy() {
				return of.w.now + tick
			}
		}
	}
	return of.w.now + 10*tick
}

// tick checks the timeouts of the clients' own connections and of the invalidation feeds, and sends
// a PING over those that are silent.
func (of *trackers) tick() {
	w := of.w
	watch := func(c *pool.Conn) {
		c.Tick(w.now)
		if c.State() == pool.Ready && c.InFlight() == 0 && w.now-c.LastReceived() >= trackPing {
			w.ask(c, w.deadline(), func([]byte, bool) {}, "PING")
		}
	}
	if len(of.sessions) == 0 {
		return
	}
	for _, s := range of.sessions {
		for _, c := range trackings.of(s).conns {
			watch(c)
		}
	}
	for _, n := range w.nodes {
		if c := of.invalidationFeeds[n]; c != nil {
			watch(c)
		}
	}
}

// beginTracking handles CLIENT TRACKING ON. It answers when the nodes have accepted the
// options.
func beginTracking(w *Worker, s *Session, cmd *command.Command, o trackingOptions) bool {
	t := trackings.of(s)
	again, wasActive := t != nil, t != nil && t.active()
	added := o.prefixes
	if again {
		o.prefixes = slices.Clip(t.prefixes)
		if !everyKey(o.prefixes) { // otherwise the client tracks all keys already
			o.prefixes = append(o.prefixes, added...)
		}
	} else {
		t = &tracking{w: w, sess: s, conns: map[*node]*pool.Conn{}}
		track(w, s, t)
	}
	t.trackingOptions, t.broken = o, false
	if !t.active() {
		t.close()
		t.begun = true
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	}
	s.set(blocked)
	done := func(refusal string) {
		if s.index < 0 {
			return
		}
		s.clear(blocked)
		if refusal != "" {
			featureOf[*trackers](w).leave(s)
			s.answerError(cmd, refusal)
		} else {
			s.answer(cmd, resp.AppendOK(nil))
			if t.begun = true; again && !wasActive {
				t.forgetAll() // no node tracked the reads until now
			}
		}
		s.wake()
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
		if s.index < 0 {
			return
		}
		t.openAll()
		if len(t.conns) == 0 {
			w.anyMaster(s)
		}
		reach(w, slices.Collect(maps.Values(t.conns)), done)
	}
	if s.has(resp3) {
		begin("")
		return
	}
	var feeds []*pool.Conn
	for _, n := range w.masters {
		feeds = append(feeds, featureOf[*trackers](w).openInvalidationFeed(n))
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
			c.Send(&probe{done: one}, frame, t.w.now, t.w.deadline())
		case c.State() != pool.Idle: // its greeting may have sent the old options
			t.discard(n, c)
		}
	}
	t.openAll()
	one(nil, true)
}

// reach connects, and calls done when each connection is ready or has failed. refusal is the
// error with which a node refused the connection's greeting, or "".
func reach(w *Worker, conns []*pool.Conn, done func(refusal string)) {
	left, refusal := len(conns), ""
	if left == 0 {
		done("")
		return
	}
	for _, c := range conns {
		w.ask(c, w.deadline(), func(_ []byte, ok bool) {
			if why, refused := strings.CutPrefix(c.Reason(), "the node refuses: "); !ok && refused {
				refusal = why
			}
			if left--; left == 0 {
				done(refusal)
			}
		}, "PING")
	}
}
