package proxy

import (
	"bytes"
	"cmp"
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
// A client is told that it listens when every feed has confirmed, and the other
// workers know: what anybody publishes from then on reaches it, and counts it.

const (
	hardPubsub = 32 << 20 // bytes that a subscriber may leave unread (client-output-buffer-limit pubsub),
	softPubsub = 8 << 20  // and for no longer than softTime
	softTime   = 60 * int64(time.Second)
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
	round   int // grows whenever a feed is told to leave it

	// Of a sharded channel:
	home    *node // to whose feed it was last said
	heard   bool  // and who has confirmed
	askedAt int64
	quiet   int64 // until when a new home is not believed
}

// clients is how many a message reaches for sure: none before the feeds have
// confirmed.
func (tp *topic) clients() int {
	if len(tp.pending) > 0 || tp.kind == byShard && !tp.heard {
		return 0
	}
	return len(tp.subs)
}

// subscriptions are a client's.
type subscriptions struct {
	places     [topicKinds]map[string]place
	last       int32 // place's order
	softSince  int64
	confirming int // SUBSCRIBEs that are not answered
}

// place is a client's in a topic.
type place struct {
	at    int32 // among the topic's subs
	order int32 // among the client's topics
}

// all are the topics of a kind in the order in which they were subscribed to, as
// Redis keeps patterns.
func (p *subscriptions) all(kind topicKind) []string {
	if p == nil {
		return nil
	}
	places := p.places[kind]
	return slices.SortedFunc(maps.Keys(places), func(a, b string) int { return cmp.Compare(places[a].order, places[b].order) })
}

// count is what Redis shows with a change of that kind.
func (p *subscriptions) count(kind topicKind) int {
	switch {
	case p == nil:
		return 0
	case kind == byShard:
		return len(p.places[byShard])
	}
	return len(p.places[byChannel]) + len(p.places[byPattern])
}

func (p *subscriptions) none() bool { return p.count(byChannel)+p.count(byShard) == 0 }

// subscribing is a client's SUBSCRIBE that waits for the feeds and the siblings, or
// its UNSUBSCRIBE, that waits for the siblings alone.
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
			t.subs.places[k] = map[string]place{}
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
			if kind == byPattern {
				h.audience.addPattern(name)
			}
			h.open(tp)
		}
		if _, has := t.subs.places[kind][name]; !has {
			t.subs.last++
			t.subs.places[kind][name] = place{int32(len(tp.subs)), t.subs.last}
			tp.subs = append(tp.subs, s)
			h.audience.changed(h, tp)
		}
		if len(tp.pending) > 0 {
			wait.left++
			tp.waits = append(tp.waits, wait)
		}
		wait.reply = s.appendSubscription(wait.reply, cmd.Name, a.Arg(i), t.subs.count(kind))
	}
	if w.listens(s, cmd, wait) && s.has(resp3) {
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
	if len(names) == 0 {
		names = subs.all(kind)
	}
	wait := &subscribing{deadline: w.deadline()}
	if len(names) == 0 {
		wait.reply = s.appendSubscription(nil, cmd.Name, nil, subs.count(kind))
	}
	for _, name := range names {
		w.hub.leave(s, name, kind)
		wait.reply = s.appendSubscription(wait.reply, cmd.Name, []byte(name), subs.count(kind))
	}
	w.listens(s, cmd, wait)
	if subs.none() {
		s.clear(subscribed)
	}
	return true
}

// listens tells a client what it listens to now, when that holds for everybody. It
// tells true when there is something to wait for.
func (w *Worker) listens(s *Session, cmd *command.Command, wait *subscribing) bool {
	if s.subs == nil || wait.left == 0 && w.o.Workers == 1 {
		w.count(cmd, w.now, false)
		s.unanswered()
		w.tell(s, wait.reply)
		return false
	}
	r := w.newRequest(s, cmd)
	r.mute = false // not even CLIENT REPLY OFF concerns what is pushed
	r.call.node, r.call.group = &node{w: w}, -1
	s.inflight++
	s.subs.confirming++
	wait.call = &r.call
	w.hub.waits = append(w.hub.waits, wait)
	if wait.left == 0 {
		w.hub.confirmed(wait)
	}
	return true
}

// leave takes a client off a topic.
func (h *hub) leave(s *Session, name string, kind topicKind) {
	if s.subs == nil {
		return
	}
	own, has := s.subs.places[kind][name]
	if !has {
		return
	}
	delete(s.subs.places[kind], name)
	tp := h.topics[kind][name]
	last := len(tp.subs) - 1
	if other := tp.subs[last]; other != s {
		tp.subs[own.at] = other
		moved := other.subs.places[kind][name]
		moved.at = own.at
		other.subs.places[kind][name] = moved
	}
	tp.subs[last] = nil
	tp.subs = tp.subs[:last]
	h.audience.changed(h, tp)
	if last > 0 {
		return
	}
	delete(h.topics[kind], name)
	if kind == byPattern {
		h.audience.dropPattern(name)
	}
	if kind == byShard && !tp.heard {
		h.unheard--
	}
	h.release(tp)
	for _, n := range h.w.masters {
		if h.hears(n, tp) {
			n.tell(tp, true)
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

// tooSlow tells whether a subscriber has left too much unread for too long.
func (s *Session) tooSlow(now int64) bool {
	if s.out.Size()+s.parked <= softPubsub {
		s.subs.softSince = 0
		return false
	}
	if s.subs.softSince == 0 {
		s.subs.softSince = now
	}
	return now-s.subs.softSince > softTime
}

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
