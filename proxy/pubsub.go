package proxy

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// Subscriptions are shared: however many clients listen to a channel, a worker
// listens to it once at each node, over one connection (the node's feed) that
// carries nothing else.
//
//	subscribers  <---+
//	subscribers  <---+-- worker <== feed == node a      ring, range, modulo: all nodes
//	subscribers  <---+         <== feed == node b      are heard; a message is
//	                                                    published at one of them
//
// A cluster's nodes pass messages on to each other, so one of them, the primary
// feed, is heard for all; the others only for keyspace notifications, which
// each node makes of its own keys alone.
//
// A sharded channel belongs to the node that a key of its name belongs to: its
// feed alone hears it, and it moves with its slot.
//
// A client is told that it listens when every feed has confirmed: what anybody
// publishes from then on reaches it.

const (
	feedPing   = 5 * int64(time.Second) // a feed that is silent is asked whether it lives
	hardPubsub = 32 << 20               // bytes that a subscriber may leave unread (client-output-buffer-limit pubsub),
	softPubsub = 8 << 20                // and for no longer than softTime
	softTime   = 60 * int64(time.Second)

	// For so long messages from a new primary feed, or from a replica that took
	// over, may be such as the old one has brought already.
	settling = 100 * int64(time.Millisecond)

	// So often a sharded channel is asked for where it belongs, until it is heard.
	askAgain = 100 * int64(time.Millisecond)
)

// topicKind is one of the three ways to listen.
type topicKind uint8

const (
	byChannel topicKind = iota
	byPattern
	byShard
	topicKinds
)

// prefixes make SUBSCRIBE, UNSUBSCRIBE and the messages' types those of the kind.
var prefixes = [topicKinds]string{"", "p", "s"}

func (k topicKind) listen() string { return prefixes[k] + "subscribe" }
func (k topicKind) leave() string  { return prefixes[k] + "unsubscribe" }

// topic is a channel or a pattern that somebody listens to.
type topic struct {
	kind    topicKind
	name    string
	subs    []*Session
	pending map[*pool.Conn]bool // feeds that have not confirmed
	waits   []*subscribing

	// Of a sharded channel:
	home    *node // to whose feed it was last said
	heard   bool  // and who has confirmed
	askedAt int64
	quiet   int64 // until when a new home is not believed
}

// subscriptions are a client's.
type subscriptions struct {
	places     [topicKinds]map[string]int // its place among the topic's subs
	softSince  int64
	confirming int // SUBSCRIBEs that are not answered
}

// count is what Redis shows with a change of that kind.
func (p *subscriptions) count(kind topicKind) int {
	if kind == byShard {
		return len(p.places[byShard])
	}
	return len(p.places[byChannel]) + len(p.places[byPattern])
}

func (p *subscriptions) none() bool { return p.count(byChannel)+p.count(byShard) == 0 }

// subscribing is a client's SUBSCRIBE that waits for the feeds.
type subscribing struct {
	call     *call
	left     int // topics that are not confirmed
	reply    []byte
	deadline int64
}

// hub is a worker's share in publish and subscribe.
type hub struct {
	w        *Worker
	topics   [topicKinds]map[string]*topic
	primary  *node
	quiet    int64 // until when a new primary feed is not believed
	waits    []*subscribing
	unheard  int // sharded channels that no node has confirmed
	audience audience
}

func newHub(w *Worker) *hub {
	h := &hub{w: w}
	for k := range h.topics {
		h.topics[k] = map[string]*topic{}
	}
	return h
}

func (h *hub) idle() bool {
	return len(h.topics[byChannel])+len(h.topics[byPattern])+len(h.topics[byShard]) == 0
}

// subscribe handles SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE.
func (w *Worker) subscribe(s *Session, cmd *command.Command, a command.Args, kind topicKind) bool {
	h, t := w.hub, s.troubled()
	if t.subs == nil {
		t.subs = new(subscriptions)
		for k := range t.subs.places {
			t.subs.places[k] = map[string]int{}
		}
	}
	s.set(subscribed)
	wait := &subscribing{deadline: w.deadline()}
	for i := 1; i < a.Len(); i++ {
		name := string(a.Arg(i))
		tp := h.topics[kind][name]
		if tp == nil {
			tp = &topic{kind: kind, name: name, pending: map[*pool.Conn]bool{}}
			h.topics[kind][name] = tp
			h.open(tp)
		}
		if _, has := t.subs.places[kind][name]; !has {
			t.subs.places[kind][name] = len(tp.subs)
			tp.subs = append(tp.subs, s)
			h.audience.changed(h, tp)
		}
		if len(tp.pending) > 0 {
			wait.left++
			tp.waits = append(tp.waits, wait)
		}
		wait.reply = s.appendSubscription(wait.reply, cmd.Name, a.Arg(i), t.subs.count(kind))
	}
	if wait.left == 0 {
		w.listens(s, cmd, wait.reply)
		return true
	}
	r := w.newRequest(s, cmd)
	r.mute = false // not even CLIENT REPLY OFF concerns what is pushed
	r.call.node, r.call.group = &node{w: w}, -1
	s.inflight++
	wait.call = &r.call
	h.waits = append(h.waits, wait)
	t.subs.confirming++
	if s.has(resp3) {
		s.set(held) // what the client publishes next is to reach itself
	}
	return true
}

func (s *Session) appendSubscription(b []byte, what string, name []byte, count int) []byte {
	b = resp.AppendBulkString(s.appendPush(b, 3), what)
	if name == nil {
		b = s.appendNull(b)
	} else {
		b = resp.AppendBulk(b, name)
	}
	return resp.AppendInt(b, int64(count))
}

// unsubscribe handles UNSUBSCRIBE and its like, of all when none is named.
func (w *Worker) unsubscribe(s *Session, cmd *command.Command, a command.Args, kind topicKind) bool {
	var names []string
	for i := 1; i < a.Len(); i++ {
		names = append(names, string(a.Arg(i)))
	}
	subs := s.subs
	count := 0
	if subs != nil {
		if len(names) == 0 {
			names = slices.Collect(maps.Keys(subs.places[kind]))
		}
		count = subs.count(kind)
	}
	var reply []byte
	if len(names) == 0 {
		reply = s.appendSubscription(nil, cmd.Name, nil, count)
	}
	for _, name := range names {
		w.hub.leave(s, name, kind)
		if subs != nil {
			count = subs.count(kind)
		}
		reply = s.appendSubscription(reply, cmd.Name, []byte(name), count)
	}
	w.listens(s, cmd, reply)
	if subs == nil || subs.none() {
		s.clear(subscribed)
	}
	return true
}

// listens tells a client what it listens to now.
func (w *Worker) listens(s *Session, cmd *command.Command, b []byte) {
	w.count(cmd, w.now, false)
	s.unanswered()
	w.tell(s, b)
}

// leave takes a client off a topic.
func (h *hub) leave(s *Session, name string, kind topicKind) {
	if s.subs == nil {
		return
	}
	at, has := s.subs.places[kind][name]
	if !has {
		return
	}
	delete(s.subs.places[kind], name)
	tp := h.topics[kind][name]
	last := len(tp.subs) - 1
	if at != last {
		tp.subs[at] = tp.subs[last]
		tp.subs[at].subs.places[kind][name] = at
	}
	tp.subs[last] = nil
	tp.subs = tp.subs[:last]
	h.audience.changed(h, tp)
	if last > 0 {
		return
	}
	delete(h.topics[kind], name)
	if kind == byShard && !tp.heard {
		h.unheard--
	}
	h.release(tp)
	for _, n := range h.w.masters {
		if h.hears(n, tp) {
			n.tellFeed(kind.leave(), name)
		}
	}
	if h.idle() {
		h.closeFeeds()
	}
}

// leaveAll ends a client's subscriptions.
func (h *hub) leaveAll(s *Session) {
	if s.subs == nil {
		return
	}
	for kind, places := range s.subs.places {
		for name := range places {
			h.leave(s, name, topicKind(kind))
		}
	}
	s.clear(subscribed)
}

// tellFeed tells the node's feed what to listen to, if it is ready; one that is
// not is told everything when it is.
func (n *node) tellFeed(what, name string) {
	if n.feed != nil && n.feed.State() == pool.Ready {
		n.feed.Tell(resp.AppendCommand(nil, what, name))
	}
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
		n.tellFeed(tp.kind.listen(), tp.name)
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
		tp.home.tellFeed(byShard.leave(), tp.name)
		if !slices.Contains(h.w.masters, tp.home) {
			tp.quiet = h.w.now + settling // a replica took over: it hears its old master's messages, too
		}
	}
	tp.home = n
	n.tellFeed(byShard.listen(), tp.name)
}

// lose notes that nobody listens to a sharded channel any more.
func (h *hub) lose(tp *topic) {
	if tp.heard {
		tp.heard = false
		h.unheard++
	}
}

// connect makes the feeds that are missing and picks the primary one.
func (h *hub) connect() {
	for _, n := range h.w.masters {
		if n.feed == nil {
			n.feed = h.w.set.Conn(n.addr, n)
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
		next.tellFeed(tp.kind.listen(), tp.name)
		if before != nil {
			before.tellFeed(tp.kind.leave(), tp.name)
		}
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

// deaf notes that a node's feed has ended.
func (h *hub) deaf(n *node, c *pool.Conn) {
	h.each(func(tp *topic) {
		if tp.kind != byShard {
			h.confirm(tp, c)
		} else if tp.home == n {
			h.lose(tp)
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
			c.Tell(resp.AppendCommand(nil, tp.kind.listen(), tp.name))
		}
	})
}

// Down: nobody waits for a feed that has ended; another may become primary.
func (h *hub) Down(c *pool.Conn) {
	n := c.Owner.(*node)
	if c.Stats.Losses > n.fedLosses {
		n.fedLosses = c.Stats.Losses
		h.w.stats.FeedLosses++
	}
	h.deaf(n, c)
	h.elect()
}

// confirm notes that a feed listens to the topic, or never will.
func (h *hub) confirm(tp *topic, c *pool.Conn) {
	if tp != nil && tp.pending[c] {
		if delete(tp.pending, c); len(tp.pending) == 0 {
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
			h.finish(wait)
		}
	}
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
	if isRedirect(message) {
		h.w.ready.Refresh = true // a sharded channel belongs elsewhere; it is asked for again
		return
	}
	_, rest, ok := resp.Elements(message)
	if !ok {
		return // +PONG, or a node too old for sharded channels
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
	case "subscribe":
		h.confirm(h.topics[byChannel][string(name)], c)
	case "psubscribe":
		h.confirm(h.topics[byPattern][string(name)], c)
	case "ssubscribe":
		if tp := h.topics[byShard][string(name)]; tp != nil && tp.home == c.Owner {
			if !tp.heard {
				tp.heard = true
				h.unheard--
			}
			h.confirm(tp, nil)
		}
	case "sunsubscribe":
		// Asked for, or said by a node whose slot has left.
		if tp := h.topics[byShard][string(name)]; tp != nil && tp.home == c.Owner {
			h.lose(tp)
			h.w.ready.Refresh = true
		}
	}
}

// publish sends a message to the topic's subscribers, each in its turn.
func (h *hub) publish(c *pool.Conn, tp *topic, channel, message []byte) {
	switch {
	case tp == nil:
		return // nobody listens any more
	case tp.kind == byShard:
		if tp.home != c.Owner || h.w.now < tp.quiet {
			return
		}
	case h.w.table.Clustered() && (c.Owner != h.primary || h.w.now < h.quiet) && !bytes.HasPrefix(channel, []byte(keyspace)):
		return // another feed brings it, or has brought it
	}
	for _, s := range tp.subs {
		h.w.stats.Messages++
		message[0] = s.pushKind()
		h.w.push(s, message)
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

// tooSlow tells whether a subscriber has left too much unread for too long.
func (s *Session) tooSlow(now int64) bool {
	if s.out.size+s.parked <= softPubsub {
		s.subs.softSince = 0
		return false
	}
	if s.subs.softSince == 0 {
		s.subs.softSince = now
	}
	return now-s.subs.softSince > softTime
}

// inSubscription are the commands that a client which listens may send
// (server.c, processCommand).
var inSubscription = func() []bool {
	t := make([]bool, command.Count)
	for _, name := range []string{"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "ping", "quit", "reset"} {
		t[command.Lookup([]byte(name)).ID] = true
	}
	return t
}()

// subscribedPing answers PING of a client that listens.
func (w *Worker) subscribedPing(s *Session, cmd *command.Command, a command.Args) bool {
	b := resp.AppendBulkString(resp.AppendArray(w.scratch[:0], 2), "pong")
	if a.Len() > 1 {
		return w.reply(s, cmd, resp.AppendBulk(b, a.Arg(1)))
	}
	return w.reply(s, cmd, resp.AppendBulk(b, nil))
}

func listenTo(kind topicKind) local {
	return func(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
		return w.subscribe(s, cmd, a, kind)
	}
}

func noLongerTo(kind topicKind) local {
	return func(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
		return w.unsubscribe(s, cmd, a, kind)
	}
}
