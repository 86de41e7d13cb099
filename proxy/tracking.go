package proxy

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// A client that caches (CLIENT TRACKING) is told by the nodes which keys have
// changed. A node remembers what was read over which connection, so such a client
// has a connection of its own to every node that it speaks to, for all it sends:
//
//	client  <--- GET a ------  its own connection  ------ node
//	        <--- >invalidate a -------------------------- (another changes a)
//
// What a node says between the replies is pushed to the client behind the replies
// that came before. Whatever ends such a connection, or moves keys to another
// node, makes everything that the client has cached invalid.
//
// In RESP2 a node cannot say anything between replies. It says it to an ear, a
// connection in RESP3 that all such clients of a worker share; a client may then
// be told of keys that another has read, which does no harm.
//
// When a client changes its options, the nodes are told over the same connections:
// they still know what was read there.

// tracking is a client's.
type tracking struct {
	w     *Worker
	sess  *Session
	conns map[*node]*pool.Conn

	trackingOptions
	broken  bool // the client that is told instead is not there any more
	caching caching
	begun   bool // the client has been told so
}

// trackingOptions are what a client asks for with CLIENT TRACKING ON.
type trackingOptions struct {
	bcast, optin, optout, noloop bool
	prefixes                     [][]byte
	redirect                     uint64 // the id of the client that is told instead; 0: none
}

// invalidations is the channel on which a client of RESP2 is told (tracking.c).
const invalidations = "__redis__:invalidate"

// everyKey reports whether one of the prefixes is that of all keys.
func everyKey(prefixes [][]byte) bool {
	return slices.ContainsFunc(prefixes, func(p []byte) bool { return len(p) == 0 })
}

// trackPing is how long a connection that invalidations come on may be silent
// before it is asked whether it lives.
const trackPing = 5 * int64(time.Second)

// active tells whether nodes have to track anything: in RESP2 without REDIRECT
// Redis has nobody to tell.
func (t *tracking) active() bool { return t.sess.has(resp3) || t.redirect != 0 }

// conn is the connection that a session's commands to the node take while it
// tracks.
func (t *tracking) conn(n *node) *pool.Conn {
	c := t.conns[n]
	if c == nil {
		s := t.sess
		c = n.newConn()
		s.shape(c)
		c.Fence = t.w.o.Fence
		c.Prelude = func() []byte { return t.prelude(n) }
		c.Pushes = t
		if !s.has(resp3) {
			n.openEar()
		}
		t.conns[n] = c
	}
	return c
}

// prelude is the CLIENT TRACKING that the node is sent, nil if it cannot be said
// yet.
func (t *tracking) prelude(n *node) []byte { return t.frame(n, t.prefixes) }

// frame is a CLIENT TRACKING for the node with these of the prefixes, nil if it
// cannot be said yet.
func (t *tracking) frame(n *node, prefixes [][]byte) []byte {
	args := []string{"CLIENT", "TRACKING", "ON"}
	if !t.sess.has(resp3) {
		if n.ear == nil || n.ear.State() != pool.Ready {
			return nil
		}
		args = append(args, "REDIRECT", strconv.FormatInt(n.ear.ClientID, 10))
	}
	for i, on := range []bool{t.bcast, t.optin, t.optout, t.noloop} {
		if on {
			args = append(args, []string{"BCAST", "OPTIN", "OPTOUT", "NOLOOP"}[i])
		}
	}
	if !everyKey(prefixes) { // else that is what a node does without any
		for _, p := range prefixes {
			args = append(args, "PREFIX", string(p))
		}
	}
	return resp.AppendCommand(nil, args...)
}

// Pushed brings what a node says between replies.
func (t *tracking) Pushed(_ *pool.Conn, message []byte) {
	_, rest, ok := resp.Elements(message)
	if !ok {
		return
	}
	what, keys, _ := resp.Split(rest)
	if name, _ := resp.Bulk(what); string(name) == "invalidate" {
		t.tell(keys)
	}
}

// Ready: what has changed until now nobody has told, though in BCAST mode it may
// have been read meanwhile, over other connections.
func (t *tracking) Ready(*pool.Conn) {
	if t.bcast {
		t.forgetAll()
	}
}

// Lost: what was read over that connection is tracked no more.
func (t *tracking) Lost(*pool.Conn) { t.forgetAll() }

// forgetAll tells the client that nothing it has cached is valid any more.
func (t *tracking) forgetAll() {
	if t.active() {
		t.tell([]byte("_\r\n"))
	}
}

// tell has whoever is to know be told that keys, an array or a null in RESP3, are
// not valid any more.
func (t *tracking) tell(keys []byte) {
	if !t.begun {
		return
	}
	if t.redirect == 0 {
		t.w.invalidate(t.sess, keys)
		return
	}
	keys = bytes.Clone(keys)
	if target := t.w.byID[t.redirect]; target != nil {
		t.w.invalidate(target, keys)
		return
	}
	id, from, index := t.redirect, t.sess.id, t.w.o.Index
	if int((id-1)%uint64(t.w.o.Workers)) == index || t.w.o.Workers == 1 {
		t.breakRedirect()
		return
	}
	t.w.tellSiblings(func(o *Worker) {
		if int((id-1)%uint64(o.o.Workers)) != o.o.Index {
			return
		}
		if target := o.byID[id]; target != nil {
			o.invalidate(target, keys)
			return
		}
		o.tellSiblings(func(back *Worker) {
			if s := back.byID[from]; back.o.Index == index && s != nil && s.tracking != nil && s.tracking.redirect == id {
				s.tracking.breakRedirect()
			}
		})
	})
}

// breakRedirect notes that the client which was to be told is gone.
func (t *tracking) breakRedirect() {
	if !t.broken && t.sess.has(resp3) {
		b := resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "tracking-redir-broken")
		t.w.push(t.sess, resp.AppendInt(b, int64(t.redirect)))
	}
	t.broken = true
}

// invalidate tells a client that keys are not valid any more; one of RESP2 if it
// listens to the channel for that.
func (w *Worker) invalidate(s *Session, keys []byte) {
	if s.has(resp3) {
		w.push(s, append(resp.AppendBulkString(resp.AppendHeader(nil, '>', 2), "invalidate"), keys...))
		return
	}
	if s.subs == nil {
		return
	}
	if _, listens := s.subs.places[byChannel][invalidations]; !listens {
		return
	}
	b := resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(nil, 3), "message"), invalidations)
	if resp.IsNull(keys) {
		keys = resp.AppendNull(nil) // which is not the null array (tracking.c, sendTrackingMessage)
	}
	w.push(s, append(b, keys...))
}

// ear hears what a node says to clients of RESP2 that track.
type ear struct{ w *Worker }

// Pushed tells each client once, however many others name it to be told instead.
func (e ear) Pushed(c *pool.Conn, message []byte) {
	n, told := c.Owner.(*node), e.w.told
	clear(told)
	for _, s := range e.w.trackers {
		if t := s.tracking; !s.has(resp3) && t.begun && t.conns[n] != nil && !told[t.redirect] {
			told[t.redirect] = true
			t.Pushed(c, message)
		}
	}
}

// Ready: connections whose greeting names the ear can go on with it.
func (e ear) Ready(c *pool.Conn) {
	for _, s := range e.w.trackers {
		if own := s.tracking.conns[c.Owner.(*node)]; own != nil && !s.has(resp3) {
			own.Resume(e.w.now)
		}
	}
}

// Lost: the next ear has another id, so those who named this one begin anew.
func (e ear) Lost(c *pool.Conn) {
	n := c.Owner.(*node)
	for _, s := range e.w.trackers {
		if own := s.tracking.conns[n]; own != nil && !s.has(resp3) {
			own.Fail(e.w.now, "the connection for invalidations ended")
		}
	}
}

func (n *node) openEar() {
	if n.ear != nil {
		return
	}
	n.ear = n.newConn()
	n.ear.RESP3, n.ear.Pushes = true, ear{n.w}
	n.ear.Open(n.w.now)
}

// track has the session's commands tracked from now on.
func (w *Worker) track(s *Session, t *tracking) {
	s.troubled().tracking = t
	s.set(tracks)
	w.trackers = append(w.trackers, s)
}

// untrack ends a session's tracking.
func (w *Worker) untrack(s *Session) {
	if !s.has(tracks) {
		return
	}
	s.tracking.close()
	s.clear(tracks)
	s.tracking = nil
	i := slices.Index(w.trackers, s)
	w.trackers = slices.Delete(w.trackers, i, i+1)
	if slices.ContainsFunc(w.trackers, func(o *Session) bool { return !o.has(resp3) }) {
		return
	}
	for _, n := range w.nodes {
		n.closeEar()
	}
}

func (n *node) closeEar() {
	if n.ear != nil {
		n.ear.Pushes = noMore{}
		n.w.doomed = append(n.w.doomed, n.ear)
		n.ear = nil
	}
}

// noMore gets what is pushed until a connection that is given up is closed.
type noMore struct{}

func (noMore) Pushed(*pool.Conn, []byte) {}
func (noMore) Ready(*pool.Conn)          {}
func (noMore) Lost(*pool.Conn)           {}

// close gives the connections up.
func (t *tracking) close() {
	for n, c := range t.conns {
		t.discard(n, c)
	}
}

// discard gives the connection to a node up.
func (t *tracking) discard(n *node, c *pool.Conn) {
	c.Pushes = noMore{}
	t.w.doomed = append(t.w.doomed, c)
	delete(t.conns, n)
}

// renew has a client that tracks begin anew over other connections: its database
// or protocol has changed.
func (w *Worker) renew(s *Session) {
	if s.has(tracks) {
		s.tracking.close()
		s.tracking.forgetAll()
		s.tracking.openAll()
	}
}

// openAll connects to every master where keys matter that the client has not
// read.
func (t *tracking) openAll() {
	if t.bcast && t.active() {
		for _, n := range t.w.masters {
			t.conn(n).Open(t.w.now)
		}
	}
}

// layoutChanged is called when keys may have other owners.
func (w *Worker) layoutChanged() {
	for _, s := range w.trackers {
		if !s.has(resp3) && s.tracking.active() {
			for _, n := range w.masters {
				n.openEar()
			}
		}
		s.tracking.forgetAll()
		s.tracking.openAll()
	}
}

// tickTracking lets time act on the connections of those who track.
func (w *Worker) tickTracking() {
	watch := func(c *pool.Conn) {
		c.Tick(w.now)
		if c.State() == pool.Ready && c.InFlight() == 0 && w.now-c.Heard() >= trackPing {
			w.ask(c, w.deadline(), func([]byte, bool) {}, "PING")
		}
	}
	if len(w.trackers) == 0 {
		return
	}
	for _, s := range w.trackers {
		for _, c := range s.tracking.conns {
			watch(c)
		}
	}
	for _, n := range w.nodes {
		if n.ear != nil {
			watch(n.ear)
		}
	}
}

// beginTracking answers once the nodes track as the client asks.
func (w *Worker) beginTracking(s *Session, cmd *command.Command, o trackingOptions) bool {
	t := s.tracking
	again, wasActive := t != nil, t != nil && t.active()
	added := o.prefixes
	if again {
		o.prefixes = slices.Clip(t.prefixes)
		if !everyKey(o.prefixes) { // else there is no more to add
			o.prefixes = append(o.prefixes, added...)
		}
	} else {
		t = &tracking{w: w, sess: s, conns: map[*node]*pool.Conn{}}
		w.track(s, t)
	}
	t.trackingOptions, t.broken = o, false
	if !t.active() {
		t.close()
		t.begun = true
		return w.reply(s, cmd, resp.AppendOK(w.scratch[:0]))
	}
	s.set(blocked)
	done := func(refusal string) {
		if s.index < 0 {
			return
		}
		s.clear(blocked)
		if refusal != "" {
			w.untrack(s)
			w.answerError(s, cmd, refusal)
		} else {
			w.answer(s, cmd, resp.AppendOK(nil))
			if t.begun = true; again && !wasActive {
				t.forgetAll() // what was read meanwhile is not tracked
			}
		}
		w.wake(s)
	}
	if wasActive {
		t.change(added, done)
	} else {
		t.begin(done)
	}
	return true
}

// begin connects to the nodes whose keys matter already. done gets what a node has
// said against it.
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
		w.reach(slices.Collect(maps.Values(t.conns)), done)
	}
	if s.has(resp3) {
		begin("")
		return
	}
	var ears []*pool.Conn
	for _, n := range w.masters {
		n.openEar()
		ears = append(ears, n.ear)
	}
	w.reach(ears, begin) // their ids are part of what the nodes are told
}

// change tells the nodes of new options over the connections that there are.
// added are the prefixes that they do not know.
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
		case c.State() != pool.Idle: // it may have told the node of the old ones
			t.discard(n, c)
		}
	}
	t.openAll()
	one(nil, true)
}

// reach waits until connections are ready, or cannot be. refusal is what a node
// has said against it.
func (w *Worker) reach(conns []*pool.Conn, done func(refusal string)) {
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
