package proxy

import (
	"bytes"
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
// A client is told that it listens when every feed has confirmed: what anybody
// publishes from then on reaches it.

const (
	feedPing   = 5 * int64(time.Second) // a feed that is silent is asked whether it lives
	hardPubsub = 32 << 20               // bytes that a subscriber may leave unread (client-output-buffer-limit pubsub),
	softPubsub = 8 << 20                // and for no longer than softTime
	softTime   = 60 * int64(time.Second)

	// For so long messages from a new primary feed may be such as the old one
	// has brought already.
	settling = 100 * int64(time.Millisecond)
)

// topic is a channel or a pattern that somebody listens to.
type topic struct {
	name    string
	subs    []*Session
	pending map[*pool.Conn]bool // feeds that have not confirmed
	waits   []*subscribing
}

// topics are those of one kind.
type topics struct {
	byName           map[string]*topic
	subscribe, leave string // the commands
}

// subscriptions are a client's.
type subscriptions struct {
	channels, patterns map[string]int // its place among the topic's subs
	softSince          int64
	confirming         int // SUBSCRIBEs that are not answered
}

func (p *subscriptions) count() int { return len(p.channels) + len(p.patterns) }

// subscribing is a client's SUBSCRIBE that waits for the feeds.
type subscribing struct {
	call     *call
	left     int // topics that are not confirmed
	reply    []byte
	deadline int64
}

// hub is a worker's share in publish and subscribe.
type hub struct {
	w                  *Worker
	channels, patterns topics
	primary            *node
	quiet              int64 // until when a new primary feed is not believed
	waits              []*subscribing
}

func newHub(w *Worker) *hub {
	return &hub{w: w,
		channels: topics{map[string]*topic{}, "SUBSCRIBE", "UNSUBSCRIBE"},
		patterns: topics{map[string]*topic{}, "PSUBSCRIBE", "PUNSUBSCRIBE"}}
}

func (h *hub) kind(pattern bool) *topics {
	if pattern {
		return &h.patterns
	}
	return &h.channels
}

func (h *hub) idle() bool { return len(h.channels.byName)+len(h.patterns.byName) == 0 }

// of returns the client's own set of that kind.
func (p *subscriptions) of(pattern bool) map[string]int {
	if pattern {
		return p.patterns
	}
	return p.channels
}

// subscribe handles SUBSCRIBE and PSUBSCRIBE.
func (w *Worker) subscribe(s *Session, cmd *command.Command, a command.Args, pattern bool) bool {
	h, t := w.hub, s.troubled()
	if t.subs == nil {
		t.subs = &subscriptions{channels: map[string]int{}, patterns: map[string]int{}}
	}
	s.set(subscribed)
	wait := &subscribing{deadline: w.deadline()}
	for i := 1; i < a.Len(); i++ {
		name := string(a.Arg(i))
		tp := h.kind(pattern).byName[name]
		if tp == nil {
			tp = &topic{name: name, pending: map[*pool.Conn]bool{}}
			h.kind(pattern).byName[name] = tp
			h.open(tp, pattern)
		}
		if _, has := t.subs.of(pattern)[name]; !has {
			t.subs.of(pattern)[name] = len(tp.subs)
			tp.subs = append(tp.subs, s)
		}
		if len(tp.pending) > 0 {
			wait.left++
			tp.waits = append(tp.waits, wait)
		}
		wait.reply = s.appendSubscription(wait.reply, cmd.Name, a.Arg(i), t.subs.count())
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

// unsubscribe handles UNSUBSCRIBE and PUNSUBSCRIBE, of all when none is named.
func (w *Worker) unsubscribe(s *Session, cmd *command.Command, a command.Args, pattern bool) bool {
	var names []string
	for i := 1; i < a.Len(); i++ {
		names = append(names, string(a.Arg(i)))
	}
	subs := s.subs
	if len(names) == 0 && subs != nil {
		for name := range subs.of(pattern) {
			names = append(names, name)
		}
	}
	var reply []byte
	count := 0
	if subs != nil {
		count = subs.count()
	}
	if len(names) == 0 {
		reply = s.appendSubscription(nil, cmd.Name, nil, count)
	}
	for _, name := range names {
		w.hub.leave(s, name, pattern)
		if subs != nil {
			count = subs.count()
		}
		reply = s.appendSubscription(reply, cmd.Name, []byte(name), count)
	}
	w.listens(s, cmd, reply)
	if count == 0 {
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
func (h *hub) leave(s *Session, name string, pattern bool) {
	if s.subs == nil {
		return
	}
	at, has := s.subs.of(pattern)[name]
	if !has {
		return
	}
	delete(s.subs.of(pattern), name)
	kind := h.kind(pattern)
	tp := kind.byName[name]
	last := len(tp.subs) - 1
	tp.subs[at] = tp.subs[last]
	tp.subs[at].subs.of(pattern)[name] = at
	tp.subs[last] = nil
	if at == last {
		delete(s.subs.of(pattern), name)
	}
	if tp.subs = tp.subs[:last]; last > 0 {
		return
	}
	delete(kind.byName, name)
	h.release(tp)
	for _, n := range h.w.masters {
		if n.feed != nil && n.feed.State() == pool.Ready && h.hears(n, name, pattern) {
			n.feed.Tell(resp.AppendCommand(nil, kind.leave, name))
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
	for _, pattern := range []bool{false, true} {
		for name := range s.subs.of(pattern) {
			h.leave(s, name, pattern)
		}
	}
	s.clear(subscribed)
}

// open has every feed listen to a new topic.
func (h *hub) open(tp *topic, pattern bool) {
	h.connect()
	for _, n := range h.w.masters {
		if !h.hears(n, tp.name, pattern) || n.feed.Refusing() != "" {
			continue
		}
		tp.pending[n.feed] = true // one that is not ready yet is told everything when it is
		if n.feed.State() == pool.Ready {
			n.feed.Tell(resp.AppendCommand(nil, h.kind(pattern).subscribe, tp.name))
		}
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
	h.each(func(tp *topic, kind *topics, pattern bool) {
		if fromKeyspace(tp.name, pattern) {
			return
		}
		if next.feed.State() == pool.Ready {
			next.feed.Tell(resp.AppendCommand(nil, kind.subscribe, tp.name))
		}
		if before != nil && before.feed != nil && before.feed.State() == pool.Ready {
			before.feed.Tell(resp.AppendCommand(nil, kind.leave, tp.name))
		}
	})
}

func (h *hub) each(f func(tp *topic, kind *topics, pattern bool)) {
	for _, tp := range h.channels.byName {
		f(tp, &h.channels, false)
	}
	for _, tp := range h.patterns.byName {
		f(tp, &h.patterns, true)
	}
}

// hears tells whether a node's feed listens to a topic.
func (h *hub) hears(n *node, name string, pattern bool) bool {
	return !h.w.table.Clustered() || n == h.primary || fromKeyspace(name, pattern)
}

// keyspace is what the channels of keyspace notifications begin with.
const keyspace = "__key"

// fromKeyspace tells whether a topic may bring keyspace notifications.
func fromKeyspace(name string, pattern bool) bool {
	if !pattern {
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
	h.each(func(tp *topic, _ *topics, _ bool) { h.confirm(tp, c) })
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
}

// Up has a feed that is connected listen to everything it is to.
func (h *hub) Up(c *pool.Conn) {
	n := c.Owner.(*node)
	h.elect()
	h.each(func(tp *topic, kind *topics, pattern bool) {
		if h.hears(n, tp.name, pattern) {
			c.Tell(resp.AppendCommand(nil, kind.subscribe, tp.name))
		}
	})
}

// Down: nobody waits for a feed that has ended; another may become primary.
func (h *hub) Down(c *pool.Conn) {
	if n := c.Owner.(*node); c.Stats.Losses > n.fedLosses {
		n.fedLosses = c.Stats.Losses
		h.w.stats.FeedLosses++
	}
	h.each(func(tp *topic, _ *topics, _ bool) { h.confirm(tp, c) })
	h.elect()
}

// confirm notes that a feed listens to the topic, or never will.
func (h *hub) confirm(tp *topic, c *pool.Conn) {
	if tp.pending[c] {
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
	_, rest, ok := resp.Elements(message)
	if !ok {
		return // +PONG, before anything was subscribed to
	}
	kind, rest, _ := resp.Split(rest)
	name, rest, _ := resp.Split(rest)
	what, _ := resp.Bulk(kind)
	topicName, _ := resp.Bulk(name)
	switch string(what) {
	case "message":
		h.publish(c, h.channels.byName[string(topicName)], topicName, message)
	case "pmessage":
		channel, _, _ := resp.Split(rest)
		channel, _ = resp.Bulk(channel)
		h.publish(c, h.patterns.byName[string(topicName)], channel, message)
	case "subscribe":
		if tp := h.channels.byName[string(topicName)]; tp != nil {
			h.confirm(tp, c)
		}
	case "psubscribe":
		if tp := h.patterns.byName[string(topicName)]; tp != nil {
			h.confirm(tp, c)
		}
	}
}

// publish sends a message to the topic's subscribers, each in its turn behind
// the replies that it waits for.
func (h *hub) publish(c *pool.Conn, tp *topic, channel, message []byte) {
	if tp == nil {
		return // nobody listens any more
	}
	if h.w.table.Clustered() && (c.Owner != h.primary || h.w.now < h.quiet) && !bytes.HasPrefix(channel, []byte(keyspace)) {
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

// publishTo sends PUBLISH to the node that the channel falls to, as if it were a
// key; every node is heard.
func publishTo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.anyMaster(s)
	if n == nil {
		return w.answerError(s, cmd, errNoMasters)
	}
	// Messages of one channel keep their order only if they take one way.
	if _, id := w.table.Place(a.Arg(1)); id >= 0 {
		n = w.nodes[id]
		conn = n.conn(s)
	}
	if conn.Full() {
		return w.stall(s)
	}
	r := w.newRequest(s, cmd)
	r.kind = receivers
	r.merge = w.getMerger(1)
	c := r.merge.call(r, 0)
	c.group = -1
	c.frame = append(c.frame[:0], a.Arg(1)...) // the channel
	w.send(s, c, n, a.Frame())
	return true
}

// receiversReply makes the node's count of receivers that of keyway's clients:
// to the node this worker is one, however many listen here.
func (w *Worker) receiversReply(dst []byte, c *call, reply []byte) []byte {
	count, ok := resp.Int(reply)
	n, channel := c.node, c.frame
	if !ok || n.feed == nil {
		return append(dst, reply...)
	}
	if tp := w.hub.channels.byName[string(channel)]; tp != nil {
		count += int64(len(tp.subs))
		if w.hub.hears(n, tp.name, false) {
			count--
		}
	}
	for name, tp := range w.hub.patterns.byName {
		if command.Glob([]byte(name), channel) {
			count += int64(len(tp.subs))
			if w.hub.hears(n, name, true) {
				count--
			}
		}
	}
	return resp.AppendInt(dst, max(count, 0))
}

// inSubscription are the commands that a client which listens may send
// (server.c, processCommand).
var inSubscription = func() []bool {
	t := make([]bool, command.Count)
	for _, name := range []string{"subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ping", "quit", "reset"} {
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
