package proxy

import (
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// The hub's connections to the nodes: who listens to what, and what they say.

const (
	feedPing = 5 * int64(time.Second) // a feed that is silent is asked whether it lives

	// For so long messages from a new primary feed, or from a replica that took
	// over, may be such as the old one has brought already.
	settling = 100 * int64(time.Millisecond)

	// So often a sharded channel is asked for where it belongs, until it is heard.
	askAgain = 100 * int64(time.Millisecond)
)

// asked is something that a feed was told and has not answered. Answers come in
// the order of what was told, so a confirmation is never taken for a later one's.
type asked struct {
	topic *topic // nil: PING
	leave bool   // not to listen to it any more
	round int    // the topic's, when it was told
}

// tell has the node's feed listen to a topic, or leave it, if it is ready; one
// that is not is told everything when it is.
func (n *node) tell(tp *topic, leave bool) {
	what := tp.kind.listen()
	if leave {
		what = tp.kind.leave()
		tp.round++ // what is confirmed of it until now is over
	}
	if n.feed != nil && n.feed.State() == pool.Ready {
		n.feed.Tell(resp.AppendCommand(nil, what, tp.name))
		n.unconfirmed = append(n.unconfirmed, asked{tp, leave, tp.round})
	}
}

// answered takes what the feed was told first off the list. what and name are what
// it says of it; both are empty when it says an error.
func (n *node) answered(what, name string) (a asked, inStep bool) {
	if len(n.unconfirmed) == 0 {
		return asked{}, false
	}
	a = n.unconfirmed[0]
	switch {
	case what == "":
		inStep = true
	case a.topic == nil:
		inStep = what == "pong"
	case a.leave:
		inStep = what == a.topic.kind.leave() && name == a.topic.name
	default:
		inStep = what == a.topic.kind.listen() && name == a.topic.name
	}
	if !inStep {
		return asked{}, false
	}
	if n.unconfirmed = n.unconfirmed[1:]; len(n.unconfirmed) == 0 {
		n.unconfirmed = nil
	}
	return a, true
}

// open has every feed that is to hear it listen to a new topic.
func (h *hub) open(tp *topic) {
	h.connect()
	if tp.kind == byShard {
		tp.pending[nil] = true // whoever it belongs to
		h.unheard++
		h.ask(tp)
		return
	}
	for _, n := range h.w.masters {
		if !h.hears(n, tp) || n.feed.Refusing() != "" {
			continue
		}
		tp.pending[n.feed] = true
		n.tell(tp, false)
	}
}

// ask has a sharded channel's node listen to it, which may have changed.
func (h *hub) ask(tp *topic) {
	tp.askedAt = h.w.now
	_, id := h.w.table.Place([]byte(tp.name))
	if id < 0 {
		return // later, perhaps
	}
	n := h.w.nodes[id]
	if tp.home != nil && tp.home != n {
		tp.home.tell(tp, true)
		if !slices.Contains(h.w.masters, tp.home) {
			tp.quiet = h.w.now + settling // a replica took over: it hears its old master's messages, too
		}
	}
	tp.home = n
	n.tell(tp, false)
}

// lose notes that nobody listens to a sharded channel any more.
func (h *hub) lose(tp *topic) {
	if tp.heard {
		tp.heard = false
		h.unheard++
		h.audience.changed(h, tp)
	}
}

// connect makes the feeds that are missing and picks the primary one.
func (h *hub) connect() {
	for _, n := range h.w.masters {
		if n.feed == nil {
			n.feed = n.newConn()
			n.feed.Listener = h
			n.feed.Open(h.w.now)
		}
	}
	h.elect()
}

// elect picks the primary feed: the one there is, while it is a master's and
// well; else one that is.
func (h *hub) elect() {
	var next *node
	for _, n := range h.w.masters {
		if n.feed != nil && n.feed.Refusing() == "" && (next == nil || n == h.primary) {
			next = n
		}
	}
	if next == h.primary || next == nil {
		return
	}
	before := h.primary
	h.primary = next
	if !h.w.table.Clustered() {
		return
	}
	if before != nil {
		h.quiet = h.w.now + settling
	}
	// The new one listens to what it has not listened to so far; the old one no
	// longer does.
	h.each(func(tp *topic) {
		if tp.kind == byShard || tp.fromKeyspace() {
			return
		}
		if before != nil {
			before.tell(tp, true)
			if tp.pending[before.feed] { // the new one is to confirm it
				delete(tp.pending, before.feed)
				tp.pending[next.feed] = true
			}
		}
		next.tell(tp, false)
	})
	h.audience.moved = true
}

func (h *hub) each(f func(tp *topic)) {
	for _, topics := range h.topics {
		for _, tp := range topics {
			f(tp)
		}
	}
}

// hears tells whether a node's feed is to listen to a topic.
func (h *hub) hears(n *node, tp *topic) bool {
	if tp.kind == byShard {
		return n == tp.home
	}
	return !h.w.table.Clustered() || n == h.primary || tp.fromKeyspace()
}

// keyspace is what the channels of keyspace notifications begin with.
const keyspace = "__key"

// fromKeyspace tells whether a topic may bring keyspace notifications.
func (tp *topic) fromKeyspace() bool {
	name := tp.name
	if tp.kind == byChannel {
		return len(name) >= len(keyspace) && name[:len(keyspace)] == keyspace
	}
	for i := range min(len(name), len(keyspace)) {
		switch name[i] {
		case '*', '?', '[', '\\':
			return true
		case keyspace[i]:
		default:
			return false
		}
	}
	return len(name) >= len(keyspace)
}

func (h *hub) closeFeeds() {
	for _, n := range h.w.nodes {
		if n.feed != nil {
			h.close(n)
		}
	}
	h.primary = nil
}

// close ends a node's feed.
func (h *hub) close(n *node) {
	c := n.feed
	n.feed = nil
	c.Listener = nobody{}
	h.w.doomed = append(h.w.doomed, c)
	h.deaf(n, c)
}

// deaf notes that a node's feed has ended. Nobody waits for one that cannot be
// connected again.
func (h *hub) deaf(n *node, c *pool.Conn) {
	gone := n.feed != c || c.Refusing() != ""
	n.unconfirmed = nil
	h.each(func(tp *topic) {
		switch {
		case tp.kind == byShard && tp.home == n:
			h.lose(tp)
		case tp.kind != byShard && gone:
			h.confirm(tp, c)
		}
	})
}

// nobody hears what is said on a feed that is being closed.
type nobody struct{}

func (nobody) Up(*pool.Conn)           {}
func (nobody) Said(*pool.Conn, []byte) {}
func (nobody) Down(*pool.Conn)         {}

// layout is called when the masters may have changed.
func (h *hub) layout() {
	if h.idle() {
		return
	}
	for _, n := range h.w.nodes {
		if n.feed != nil && !slices.Contains(h.w.masters, n) {
			h.close(n)
		}
	}
	h.connect()
	for _, tp := range h.topics[byShard] {
		if _, id := h.w.table.Place([]byte(tp.name)); id >= 0 && h.w.nodes[id] != tp.home {
			h.lose(tp)
			h.ask(tp)
		}
	}
}

// Up has a feed that is connected listen to everything it is to.
func (h *hub) Up(c *pool.Conn) {
	n := c.Owner.(*node)
	h.elect()
	h.each(func(tp *topic) {
		if h.hears(n, tp) {
			n.tell(tp, false)
		}
	})
}

// Down: another feed may become primary.
func (h *hub) Down(c *pool.Conn) {
	n := c.Owner.(*node)
	if c.Stats.Losses > n.fedLosses {
		n.fedLosses = c.Stats.Losses
		h.w.stats.FeedLosses++
	}
	h.elect() // first: what the old one has not confirmed, the new one will
	h.deaf(n, c)
}

// confirm notes that a feed listens to the topic, or never will.
func (h *hub) confirm(tp *topic, c *pool.Conn) {
	if tp != nil && tp.pending[c] {
		if delete(tp.pending, c); len(tp.pending) == 0 {
			h.audience.changed(h, tp)
			h.release(tp)
		}
	}
}

// release answers those who waited for the topic, unless they wait for others.
func (h *hub) release(tp *topic) {
	waits := tp.waits
	tp.waits = nil
	for _, wait := range waits {
		if wait.left--; wait.left == 0 {
			h.confirmed(wait)
		}
	}
}

// confirmed answers a client for whom the feeds have confirmed everything, once the
// siblings know.
func (h *hub) confirmed(wait *subscribing) {
	if h.w.o.Workers == 1 {
		h.finish(wait)
		return
	}
	h.audience.waits = append(h.audience.waits, wait)
}

func (h *hub) finish(wait *subscribing) {
	if wait.call != nil {
		c := wait.call
		wait.call = nil
		if s := c.req.sess; s != nil && s.subs != nil {
			s.subs.confirming--
		}
		h.w.settleFor(c, wait.reply)
	}
}

// Said passes on what a node has said.
func (h *hub) Said(c *pool.Conn, message []byte) {
	n := c.Owner.(*node)
	_, rest, ok := resp.Elements(message)
	if !ok {
		if isRedirect(message) {
			h.w.ready.Refresh = true // a sharded channel belongs elsewhere; it is asked for again
		}
		what := "pong" // where nothing is listened to
		if message[0] == '-' {
			what = "" // a node too old for sharded channels, perhaps
		}
		h.answered(c, n, what, "")
		return
	}
	what, rest, _ := resp.Split(rest)
	first, rest, _ := resp.Split(rest)
	what, _ = resp.Bulk(what)
	name, _ := resp.Bulk(first)
	switch string(what) {
	case "message":
		h.publish(c, h.topics[byChannel][string(name)], name, message)
	case "pmessage":
		channel, _, _ := resp.Split(rest)
		channel, _ = resp.Bulk(channel)
		h.publish(c, h.topics[byPattern][string(name)], channel, message)
	case "smessage":
		h.publish(c, h.topics[byShard][string(name)], name, message)
	default:
		h.answered(c, n, string(what), string(name))
	}
}

// answered acts on a feed's answer to what it was told first.
func (h *hub) answered(c *pool.Conn, n *node, what, name string) {
	a, inStep := n.answered(what, name)
	switch {
	case what == "sunsubscribe":
		// Asked for, or said by a node whose slot has left.
		if tp := h.topics[byShard][name]; tp != nil && tp.home == n {
			h.lose(tp)
			h.w.ready.Refresh = true
		}
	case !inStep:
		c.Fail(h.w.now, "the node confirms a subscription that it was not asked for")
	case what == "" || a.topic == nil || a.leave || a.round != a.topic.round || h.topics[a.topic.kind][name] != a.topic:
	case a.topic.kind != byShard:
		h.confirm(a.topic, c)
	case a.topic.home == n:
		if !a.topic.heard {
			a.topic.heard = true
			h.unheard--
			h.audience.changed(h, a.topic)
		}
		h.confirm(a.topic, nil)
	}
}

// tick lets time act on feeds, and on clients that wait for them.
func (h *hub) tick() {
	w := h.w
	for _, n := range w.nodes {
		c := n.feed
		if c == nil {
			continue
		}
		c.Tick(w.now)
		if silent := w.now - c.Heard(); c.State() == pool.Ready && silent >= feedPing {
			switch {
			case silent >= feedPing+int64(w.o.Backend.RequestTimeout):
				c.Fail(w.now, "the node is silent")
			case n.fedPing < c.Heard():
				n.fedPing = w.now
				c.Tell(resp.AppendCommand(nil, "PING"))
				n.unconfirmed = append(n.unconfirmed, asked{})
			}
		}
	}
	if h.unheard > 0 {
		for _, tp := range h.topics[byShard] {
			if !tp.heard && w.now-tp.askedAt >= askAgain {
				h.ask(tp)
			}
		}
	}
	if len(h.waits) == 0 {
		return
	}
	kept := h.waits[:0]
	for _, wait := range h.waits {
		switch {
		case wait.call == nil:
		case w.now >= wait.deadline:
			h.finish(wait) // a feed hangs; the others are listened to
		default:
			kept = append(kept, wait)
		}
	}
	clear(h.waits[len(kept):])
	h.waits = kept
}
