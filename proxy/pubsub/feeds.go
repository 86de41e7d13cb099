package pubsub

import (
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
)

// The hub's feeds: which node's feed subscribes to which topic, and the messages that the
// nodes send over them.

const (
	// maxFeedPing is how long a feed may be silent before it gets a PING, if keyways are many, and a quarter more.
	maxFeedPing = 20 * time.Second

	// settling is how long messages are dropped from a new primary feed, or from a
	// promoted replica: the old feed may have delivered them already.
	settling = int64(100 * time.Millisecond)

	// askAgain is how often SSUBSCRIBE is repeated until a node confirms it.
	askAgain = int64(100 * time.Millisecond)
)

// asked is a command that was sent over a feed and is not answered yet. Answers come in
// the order of the commands, so each answer belongs to one command.
type asked struct {
	topic *topic // nil: PING
	leave bool   // unsubscribe
	round int    // topic.round when the command was sent
}

// feed is a node's feed.
type feed struct {
	*pool.Feed
	unconfirmed []asked
	pingAt      int64  // when it last got a PING
	losses      uint64 // that the metrics have counted
}

// updateFeed subscribes a node's feed to a topic, or unsubscribes it. If the feed is not
// connected, it does nothing: Up subscribes to all topics once the feed is ready.
func (h *hub) updateFeed(n *engine.Node, tp *topic, leave bool) {
	what := tp.kind.listen()
	if leave {
		what = tp.kind.leave()
		tp.round++ // so that confirmations of earlier subscriptions no longer count
	}
	if f := h.feeds[n]; f != nil && f.State() == pool.Ready {
		f.SendCommand(resp.AppendCommand(nil, what, tp.name))
		f.unconfirmed = append(f.unconfirmed, asked{tp, leave, tp.round})
	}
}

// popUnconfirmed removes the feed's oldest unanswered command and returns it. what and
// name are the type and the topic of the node's answer, or "" for an error. inStep is
// false if the answer does not fit the command.
func (f *feed) popUnconfirmed(what, name string) (a asked, inStep bool) {
	if len(f.unconfirmed) == 0 {
		return asked{}, false
	}
	a = f.unconfirmed[0]
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
	if f.unconfirmed = f.unconfirmed[1:]; len(f.unconfirmed) == 0 {
		f.unconfirmed = nil
	}
	return a, true
}

// open subscribes the responsible feeds to a new topic.
func (h *hub) open(tp *topic) {
	h.connect()
	if tp.kind == byShard {
		tp.pending[nil] = true // stands for the feed of any node, since the owner may change
		h.unconfirmedTopics++
		h.ask(tp)
		return
	}
	for _, n := range h.w.Masters {
		if !h.shouldSubscribe(n, tp) || h.feeds[n] == nil || h.feeds[n].ConnectError() != "" {
			continue
		}
		tp.pending[h.feeds[n].Feed] = true
		h.updateFeed(n, tp, false)
	}
}

// ask subscribes to a sharded channel at the node that owns its slot now, and unsubscribes
// at the former owner.
func (h *hub) ask(tp *topic) {
	tp.askedAt = h.w.Now
	_, id := h.w.Table.Place([]byte(tp.name))
	if id < 0 {
		return // tick tries again
	}
	n := h.w.Nodes[id]
	if tp.home != nil && tp.home != n {
		h.updateFeed(tp.home, tp, true)
		if !slices.Contains(h.w.Masters, tp.home) && !h.w.IsLeaving(tp.home) {
			tp.quiet = h.w.Now + settling // a promoted replica also relays its old master's messages
		}
	}
	tp.home = n
	h.updateFeed(n, tp, false)
}

// recordUnconfirmed records that the owner of a sharded channel has not confirmed a
// subscription to it.
func (h *hub) recordUnconfirmed(tp *topic) {
	if tp.isConfirmed {
		tp.isConfirmed = false
		h.unconfirmedTopics++
		h.audience.changed(h, tp)
	}
}

// connect opens a feed to each master that has none, and picks the primary feed.
func (h *hub) connect() {
	if h.isLent {
		return
	}
	for _, n := range h.w.Masters {
		if h.feeds[n] == nil {
			f := &feed{Feed: engine.NewFeed(n, h)}
			f.Open(h.w.Now)
			h.feeds[n] = f
		}
	}
	h.elect()
}

// elect picks the primary feed. It keeps the current one while its node is a master that
// can be reached; otherwise it picks the feed of another such master.
func (h *hub) elect() {
	var next *engine.Node
	for _, n := range h.w.Masters {
		if f := h.feeds[n]; f != nil && !n.IsFormer && f.ConnectError() == "" && (next == nil || n == h.primary) {
			next = n
		}
	}
	if next == h.primary || next == nil {
		return
	}
	before := h.primary
	h.primary = next
	if !h.w.Table.Clustered() {
		return
	}
	if before != nil && !h.w.IsLeaving(before) {
		h.quiet = h.w.Now + settling
	}
	// The topics that only the primary feed carries move from the old feed to the new one.
	h.each(func(tp *topic) {
		if tp.kind == byShard || tp.fromKeyspace() {
			return
		}
		if before != nil {
			if !h.w.IsLeaving(before) { // until it has left, it delivers what was sent to it
				h.updateFeed(before, tp, true)
			}
			if f := h.feeds[before]; f != nil && tp.pending[f.Feed] { // the new feed has to confirm it instead
				delete(tp.pending, f.Feed)
				tp.pending[h.feeds[next].Feed] = true
			}
		}
		h.updateFeed(next, tp, false)
	})
	h.audience.moved = true
}

// each calls f for every topic.
func (h *hub) each(f func(tp *topic)) {
	for _, topics := range h.topics {
		for _, tp := range topics {
			f(tp)
		}
	}
}

// shouldSubscribe reports whether a node's feed should subscribe to a topic.
func (h *hub) shouldSubscribe(n *engine.Node, tp *topic) bool {
	if tp.kind == byShard {
		return n == tp.home
	}
	if n.IsFormer { // others may still publish there
		return !h.w.Table.FromCluster() || tp.fromKeyspace()
	}
	return !h.w.Table.Clustered() || n == h.primary || tp.fromKeyspace()
}

// keyspace is the prefix of the channels of keyspace notifications.
const keyspace = "__key"

// fromKeyspace reports whether a topic may deliver keyspace notifications.
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

// closeFeeds closes all feeds.
func (h *hub) closeFeeds() {
	for _, n := range h.w.Nodes {
		if h.feeds[n] != nil {
			h.close(n)
		}
	}
	h.primary = nil
}

// close closes a node's feed.
func (h *hub) close(n *engine.Node) {
	c := h.feeds[n].Feed
	delete(h.feeds, n)
	c.Listener = nobody{}
	h.w.LinksToClose = append(h.w.LinksToClose, &c.Link)
	h.feedLost(n, c)
}

// CloseNode ends the feed of a node that has left.
func (h *hub) CloseNode(n *engine.Node, reason string) {
	if f := h.feeds[n]; f != nil {
		f.Close(h.w.Now, reason)
		h.Down(f.Feed)
		delete(h.feeds, n)
	}
}

// feedLost records that a node's feed has ended. If it cannot be connected again, clients
// no longer wait for its confirmations.
func (h *hub) feedLost(n *engine.Node, c *pool.Feed) {
	f := h.feeds[n]
	gone := f == nil || f.Feed != c || c.ConnectError() != ""
	if f != nil {
		f.unconfirmed = nil
	}
	h.each(func(tp *topic) {
		switch {
		case tp.kind == byShard && tp.home == n:
			h.recordUnconfirmed(tp)
		case tp.kind != byShard && gone:
			h.confirm(tp, c)
		}
	})
}

// nobody drops the messages on a feed that is being closed.
type nobody struct{}

func (nobody) Up(*pool.Feed)              {}
func (nobody) Message(*pool.Feed, []byte) {}
func (nobody) Down(*pool.Feed)            {}

// Layout adapts the feeds and sharded channels after a possible change of the masters or
// of slot owners.
func (h *hub) Layout(bool) {
	if h.isUnused() {
		return
	}
	for _, n := range h.w.Nodes {
		if h.feeds[n] != nil && !slices.Contains(h.w.Masters, n) {
			h.close(n)
		}
	}
	h.connect()
	for _, tp := range h.topics[byShard] {
		if _, id := h.w.Table.Place([]byte(tp.name)); id >= 0 && h.w.Nodes[id] != tp.home {
			h.recordUnconfirmed(tp)
			h.ask(tp)
		}
	}
}

// Up subscribes a newly connected feed to its topics.
func (h *hub) Up(c *pool.Feed) {
	n := c.Owner.(*engine.Node)
	h.elect()
	h.each(func(tp *topic) {
		if h.shouldSubscribe(n, tp) {
			h.updateFeed(n, tp, false)
		}
	})
}

// Down handles the end of a feed: it counts the loss, and picks another primary feed if
// needed.
func (h *hub) Down(c *pool.Feed) {
	n := c.Owner.(*engine.Node)
	if f := h.feeds[n]; f != nil && c.Stats.Losses > f.losses {
		f.losses = c.Stats.Losses
		h.w.Stats.FeedLosses++
	}
	h.elect() // before feedLost: the new primary feed takes over the pending confirmations
	h.feedLost(n, c)
}

// confirm ends the wait for a feed's confirmation of the topic, when the feed has confirmed
// it or never will.
func (h *hub) confirm(tp *topic, c *pool.Feed) {
	if tp != nil && tp.pending[c] {
		if delete(tp.pending, c); len(tp.pending) == 0 {
			h.audience.changed(h, tp)
			h.release(tp)
		}
	}
}

// release answers the clients that waited for the topic, except those that still wait for
// other topics.
func (h *hub) release(tp *topic) {
	waits := tp.waits
	tp.waits = nil
	for _, wait := range waits {
		if wait.left--; wait.left == 0 {
			h.replyOnceKnown(wait)
		}
	}
}

// replyOnceKnown answers a client whose topics are all confirmed, once the siblings know its
// subscriptions.
func (h *hub) replyOnceKnown(wait *subscribing) {
	if h.w.Options.Workers == 1 {
		h.finish(wait)
		return
	}
	h.audience.waits = append(h.audience.waits, wait)
}

// finish sends the client the reply to its command. It has no effect the second time.
func (h *hub) finish(wait *subscribing) {
	if wait.known != nil {
		wait.known()
		wait.known = nil
	}
	if wait.call != nil {
		c := wait.call
		wait.call = nil
		if s := c.Request.Session; s != nil && s.Confirming > 0 {
			s.Confirming--
		}
		c.SettleFor(wait.reply)
	}
}

// Message handles one message from a node: it publishes it, or takes it as an answer to a
// command of the feed.
func (h *hub) Message(c *pool.Feed, message []byte) {
	n := c.Owner.(*engine.Node)
	_, rest, ok := resp.Elements(message)
	if !ok {
		if refusal.IsRedirect(message) {
			h.w.Ready.Refresh = true // a sharded channel has another owner; tick subscribes again
		}
		what := "pong" // +PONG, from a feed without subscriptions
		if message[0] == '-' {
			what = "" // such as from a node too old for sharded channels
		}
		h.onAnswer(c, n, what, "")
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
		h.onAnswer(c, n, string(what), string(name))
	}
}

// onAnswer handles a feed's answer to its oldest unanswered command.
func (h *hub) onAnswer(c *pool.Feed, n *engine.Node, what, name string) {
	f := h.feeds[n]
	if f == nil {
		return
	}
	a, inStep := f.popUnconfirmed(what, name)
	switch {
	case what == "sunsubscribe":
		// The answer to SUNSUBSCRIBE, or the node has lost the slot.
		if tp := h.topics[byShard][name]; tp != nil && tp.home == n {
			h.recordUnconfirmed(tp)
			h.w.Ready.Refresh = true
		}
	case !inStep:
		c.Fail(h.w.Now, "the node confirms a subscription that it was not asked for")
	case what == "" || a.topic == nil || a.leave || a.round != a.topic.round || h.topics[a.topic.kind][name] != a.topic:
	case a.topic.kind != byShard:
		h.confirm(a.topic, c)
	case a.topic.home == n:
		if !a.topic.isConfirmed {
			a.topic.isConfirmed = true
			h.unconfirmedTopics--
			h.audience.changed(h, a.topic)
		}
		h.confirm(a.topic, nil)
	}
}

// Tick pings silent feeds, repeats unconfirmed SSUBSCRIBEs, and answers clients whose
// deadline has passed.
func (h *hub) Tick() {
	w := h.w
	mayBeSilent := engine.PingInterval(w, maxFeedPing)
	for _, n := range w.Nodes {
		f := h.feeds[n]
		if f == nil {
			continue
		}
		f.Tick(w.Now)
		if silent := w.Now - f.LastReceived(); f.State() == pool.Ready && silent >= mayBeSilent {
			switch {
			case silent >= mayBeSilent+int64(w.Options.Backend.RequestTimeout):
				f.Fail(w.Now, "the node is silent")
			case f.pingAt < f.LastReceived():
				f.pingAt = w.Now
				f.SendCommand(resp.AppendCommand(nil, "PING"))
				f.unconfirmed = append(f.unconfirmed, asked{})
			}
		}
	}
	if h.unconfirmedTopics > 0 {
		for _, tp := range h.topics[byShard] {
			if !tp.isConfirmed && w.Now-tp.askedAt >= askAgain {
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
		case w.Now >= wait.deadline:
			h.finish(wait) // a feed hangs: do not wait for it any longer
		default:
			kept = append(kept, wait)
		}
	}
	clear(h.waits[len(kept):])
	h.waits = kept
}
