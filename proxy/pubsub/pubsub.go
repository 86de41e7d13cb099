package pubsub

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/logins"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// Clients share subscriptions: however many clients subscribe to a channel, a worker
// subscribes once at each node, over the node's feed. A feed is a connection that carries
// nothing else.
//
//	subscribers  <---+
//	subscribers  <---+-- worker <== feed == node a      ring, range, modulo: the worker
//	subscribers  <---+         <== feed == node b      subscribes at all nodes; a message
//	                                                    is published at one of them
//
// A cluster's nodes forward messages to each other. So the worker subscribes at one node
// only, over the primary feed. It uses the other feeds only for keyspace notifications,
// which each node sends for its own keys alone.
//
// A sharded channel belongs to the node that owns keys of the same name. Only the feed of
// this node subscribes to it. When the slot moves, the subscription moves too.
//
// A client gets the reply to SUBSCRIBE when every feed has confirmed and the other workers
// know of the subscription. Each message published after that reaches the client, and the
// reply to PUBLISH counts it.

const (
	// A subscriber is closed when it leaves maxSubscriber bytes unread, or more than this for
	// softTime (client-output-buffer-limit pubsub).
	softPubsub = 8 << 20
	softTime   = int64(time.Minute)
)

// topicKind is one of the three kinds of subscription.
type topicKind uint8

const (
	byChannel topicKind = iota
	byPattern
	byShard
	topicKinds
)

// prefixes are what the kinds put in front of "subscribe" and "unsubscribe".
var prefixes = [topicKinds]string{"", "p", "s"}

func (k topicKind) listen() string { return prefixes[k] + "subscribe" }
func (k topicKind) leave() string  { return prefixes[k] + "unsubscribe" }

// topic is a channel or a pattern that clients of this worker are subscribed to.
type topic struct {
	kind    topicKind
	name    string
	subs    []*engine.Session
	pending map[*pool.Feed]bool // feeds that have not confirmed; nil stands for the feed of a sharded channel
	waits   []*subscribing      // requests that wait for the confirmations
	round   int                 // grows whenever a feed unsubscribes from the topic

	// Sharded channels only:
	home        *engine.Node // the node at which keyway last subscribed
	isConfirmed bool         // home has confirmed
	askedAt     int64        // when keyway last tried to subscribe
	quiet       int64        // messages of a new home are dropped until then
}

// clients returns how many clients a message surely reaches: none before the feeds have
// confirmed.
func (tp *topic) clients() int {
	if len(tp.pending) > 0 || tp.kind == byShard && !tp.isConfirmed {
		return 0
	}
	return len(tp.subs)
}

// listening contains the subscriptions of each client that has had any.
var listening = engine.NewPerClient[subscriptions]()

// subscriptions are the subscriptions of one client.
type subscriptions struct {
	places    [topicKinds]map[string]place // by topic
	last      int32                        // the order of the latest place
	softSince int64                        // since when softPubsub is exceeded; 0: it is not
}

// place is one subscription of a client.
type place struct {
	at    int32 // index in the topic's subs
	order int32 // grows with each subscription of the client
}

// all returns the topics of a kind in the order of subscription, as Redis keeps patterns.
func (p *subscriptions) all(kind topicKind) []string {
	if p == nil {
		return nil
	}
	places := p.places[kind]
	return slices.SortedFunc(maps.Keys(places), func(a, b string) int {
		return cmp.Compare(places[a].order, places[b].order)
	})
}

func (p *subscriptions) HasChannel(name string) bool {
	_, has := p.places[byChannel][name]
	return has
}

// count returns the number of subscriptions that Redis reports when one of this kind
// changes: it counts channels and patterns together, sharded channels alone.
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

// subscribing is a SUBSCRIBE that waits for the feeds and the siblings, or an UNSUBSCRIBE
// that waits for the siblings alone.
type subscribing struct {
	call     *engine.Call
	known    func() // instead of call: what follows
	left     int    // topics that are not confirmed
	reply    []byte
	deadline int64
}

// hub is the pub/sub state of a worker.
type hub struct {
	engine.Inactive
	w                 *engine.Worker
	topics            [topicKinds]map[string]*topic
	feeds             map[*engine.Node]*feed
	primary           *engine.Node   // the node of the primary feed
	quiet             int64          // messages of a new primary feed are dropped until then
	waits             []*subscribing // requests without a reply so far
	unconfirmedTopics int            // sharded channels that no node has confirmed
	askedNodesAt      int64          // see askNodes
	audience          audience

	// While isLent is set, another process has or gets the feeds; see carrier.
	isLent    bool
	lent      map[*engine.Node]*feed
	inherited map[string]bool // addresses of the nodes whose feeds another process has lent
}

func newHub(w *engine.Worker) *hub {
	h := &hub{w: w, feeds: map[*engine.Node]*feed{}}
	w.Counter, w.Subscriptions = h, carrier{h}
	for k := range h.topics {
		h.topics[k] = map[string]*topic{}
	}
	return h
}

// isUnused reports whether no client of the worker has a subscription.
func (h *hub) isUnused() bool {
	return len(h.topics[byChannel])+len(h.topics[byPattern])+len(h.topics[byShard]) == 0
}

func (h *hub) Due() int64 {
	switch {
	case len(h.waits) > 0 || h.unconfirmedTopics > 0:
		return h.w.Now + engine.Tick
	case !h.isUnused():
		return h.w.Now + 10*engine.Tick
	}
	return math.MaxInt64
}

func (h *hub) EndTurn() { h.tellAudience() }

// Sweep closes clients that do not read their messages, or may not get them any more.
func (h *hub) Sweep() {
	w := h.w
	askNodes(h)
	for _, s := range w.Sessions {
		if s.Has(engine.Subscribed) && s.State&(engine.Closing|engine.Dead) == 0 && isTooSlow(s, w.Now) {
			w.Stats.ClosedSlow++
			w.LogRefusal(s, "does not read its messages")
			s.Kill()
		}
	}
}

// UsersChanged closes clients that listen to what the rules of their user no longer allow (acl.c,
// ACLKillPubsubClientsIfNeeded).
func (h *hub) UsersChanged() {
	for _, s := range h.w.Sessions {
		if s.Has(engine.Subscribed) && s.Login == nil && !s.User.Unlimited && !listening.Get(s).areAllowed(s) {
			closeForbidden(s)
		}
	}
}

func closeForbidden(s *engine.Session) {
	engine.LogUserRefusal(s.Worker, s, "its user may not listen to one of its channels any more", s.User.Name)
	s.Kill()
}

// listenedTo is what clients of one account of the nodes listen to, of one kind.
type listenedTo struct {
	login  *logins.Login
	kind   topicKind
	topics string
}

// askNodesEvery is how often a node is asked whether its users may still listen to their channels.
const askNodesEvery = int64(5 * time.Second)

// askNodes closes clients that listen to what the nodes' rules for their user no longer allow. keyway's
// feeds do not notice, because they are those of keyway's own user.
func askNodes(h *hub) {
	w := h.w
	if w.NodeUsers == nil || h.isUnused() || w.Now-h.askedNodesAt < askNodesEvery {
		return
	}
	h.askedNodesAt = w.Now
	listeners := map[listenedTo][]*engine.Session{}
	for _, s := range w.Sessions {
		subs := listening.Get(s)
		if s.Login == nil || subs == nil {
			continue
		}
		for kind := range topicKinds {
			topics := subs.all(kind)
			if len(topics) == 0 {
				continue
			}
			of := listenedTo{s.Login, kind, strings.Join(topics, "\x00")}
			if listeners[of] = append(listeners[of], s); len(listeners[of]) > 1 {
				continue
			}
			w.NodeUsers.MayListen(s, kind.listen(), topics, func(may bool) {
				for _, s := range listeners[of] {
					if !may && s.Login == of.login && slices.Equal(listening.Get(s).all(of.kind), topics) {
						closeForbidden(s)
					}
				}
			})
		}
	}
}

// areAllowed reports whether the client's user may listen to all that the client listens to.
func (p *subscriptions) areAllowed(s *engine.Session) bool {
	for kind := range topicKinds {
		for name := range p.places[kind] {
			if !s.User.MaySubscribe(string(own(s, []byte(name), kind == byPattern)), kind == byPattern) {
				return false
			}
		}
	}
	return true
}

// subscribe handles SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE.
func subscribe(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args, kind topicKind) bool {
	h, subs := engine.FeatureOf[*hub](w), subscriptionsOf(s)
	s.Set(engine.Subscribed)
	wait := &subscribing{deadline: w.Deadline()}
	for i := 1; i < a.Len(); i++ {
		name := string(a.Arg(i))
		tp := h.topics[kind][name]
		if tp == nil {
			tp = &topic{kind: kind, name: name, pending: map[*pool.Feed]bool{}}
			h.topics[kind][name] = tp
			if kind == byPattern {
				h.audience.patterns.add(name)
			}
			h.open(tp)
		}
		add(h, s, subs, tp)
		if len(tp.pending) > 0 {
			wait.left++
			tp.waits = append(tp.waits, wait)
		}
		shown := own(s, a.Arg(i), kind == byPattern)
		wait.reply = appendSubscription(s, wait.reply, cmd.Name, shown, subs.count(kind))
	}
	if replyWhenConfirmed(w, s, cmd, wait) && s.Has(engine.RESP3) {
		s.Set(engine.Draining) // a message that the client publishes next must reach the client itself
	}
	return true
}

// own returns a channel or pattern as the client writes it: without the prefix of its user.
func own(s *engine.Session, name []byte, isPattern bool) []byte {
	switch {
	case s.User.Prefix == nil:
		return name
	case isPattern:
		return s.User.Prefix.OwnPattern(name)
	}
	return s.User.Prefix.Own(name)
}

// subscriptionsOf returns a client's own subscriptions, and allocates them if necessary.
func subscriptionsOf(s *engine.Session) *subscriptions {
	subs := listening.Get(s)
	if subs == nil {
		subs = new(subscriptions)
		for k := range subs.places {
			subs.places[k] = map[string]place{}
		}
		listening.Set(s, subs)
		s.Topics = subs
	}
	return subs
}

// add subscribes a client to a topic, unless it is.
func add(h *hub, s *engine.Session, subs *subscriptions, tp *topic) {
	if _, has := subs.places[tp.kind][tp.name]; has {
		return
	}
	subs.last++
	subs.places[tp.kind][tp.name] = place{int32(len(tp.subs)), subs.last}
	tp.subs = append(tp.subs, s)
	h.audience.changed(h, tp)
}

func appendSubscription(s *engine.Session, b []byte, what string, name []byte, count int) []byte {
	b = resp.AppendBulkString(s.Protocol().AppendPush(b, 3), what)
	if name == nil {
		b = s.Protocol().AppendNull(b)
	} else {
		b = resp.AppendBulk(b, name)
	}
	return resp.AppendInt(b, int64(count))
}

// unsubscribe handles UNSUBSCRIBE, PUNSUBSCRIBE and SUNSUBSCRIBE. Without names they end all
// subscriptions of the kind.
func unsubscribe(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args, kind topicKind) bool {
	h := engine.FeatureOf[*hub](w)
	var names []string
	for i := 1; i < a.Len(); i++ {
		names = append(names, string(a.Arg(i)))
	}
	subs := listening.Get(s)
	if len(names) == 0 {
		names = subs.all(kind)
	}
	wait := &subscribing{deadline: w.Deadline()}
	if len(names) == 0 {
		wait.reply = appendSubscription(s, nil, cmd.Name, nil, subs.count(kind))
	}
	for _, name := range names {
		h.unsubscribe(s, name, kind)
		shown := own(s, []byte(name), kind == byPattern)
		wait.reply = appendSubscription(s, wait.reply, cmd.Name, shown, subs.count(kind))
	}
	replyWhenConfirmed(w, s, cmd, wait)
	if subs.none() {
		s.Clear(engine.Subscribed)
	}
	return true
}

// replyWhenConfirmed sends the client the reply in wait, as soon as the feeds and siblings have
// confirmed the changes. It returns true if that is later.
func replyWhenConfirmed(w *engine.Worker, s *engine.Session, cmd *command.Command, wait *subscribing) bool {
	if listening.Get(s) == nil || wait.left == 0 && w.Options.Workers == 1 {
		w.Count(s, cmd, false)
		s.Unanswered()
		s.Tell(wait.reply)
		return false
	}
	r := s.NewRequest(cmd)
	r.Mute = false // CLIENT REPLY OFF does not suppress push messages
	r.Call.Node, r.Call.Group = engine.NoNode(w), -1
	s.Inflight++
	s.AllocRareState().Confirming++
	wait.call = &r.Call
	h := engine.FeatureOf[*hub](w)
	h.waits = append(h.waits, wait)
	if wait.left == 0 {
		h.replyOnceKnown(wait)
	}
	return true
}

// Describe adds how many subscriptions a client has.
func (h *hub) Describe(s *engine.Session, to *clients.Client) {
	if subs := listening.Get(s); subs != nil {
		places := &subs.places
		to.Channels, to.Patterns = len(places[byChannel]), len(places[byPattern])
		to.ShardChannels = len(places[byShard])
	}
}

// unsubscribe ends a client's subscription to a topic.
func (h *hub) unsubscribe(s *engine.Session, name string, kind topicKind) {
	subs := listening.Get(s)
	if subs == nil {
		return
	}
	own, has := subs.places[kind][name]
	if !has {
		return
	}
	delete(subs.places[kind], name)
	tp := h.topics[kind][name]
	last := len(tp.subs) - 1
	if other := tp.subs[last]; other != s {
		tp.subs[own.at] = other
		places := listening.Get(other).places[kind]
		moved := places[name]
		moved.at = own.at
		places[name] = moved
	}
	tp.subs[last] = nil
	tp.subs = tp.subs[:last]
	h.audience.changed(h, tp)
	if last > 0 {
		return
	}
	delete(h.topics[kind], name)
	if kind == byPattern {
		h.audience.patterns.drop(name)
	}
	if kind == byShard && !tp.isConfirmed {
		h.unconfirmedTopics--
	}
	h.release(tp)
	for _, n := range h.w.Masters {
		if h.shouldSubscribe(n, tp) {
			h.updateFeed(n, tp, true)
		}
	}
	if h.isUnused() {
		h.closeFeeds()
	}
}

// Leave ends a client's subscriptions.
func (h *hub) Leave(s *engine.Session) {
	subs := listening.Get(s)
	if subs == nil {
		return
	}
	for kind, places := range subs.places {
		for name := range places {
			h.unsubscribe(s, name, topicKind(kind))
		}
	}
	s.Clear(engine.Subscribed)
}

// publish sends a message from the feed c to the topic's subscribers.
func (h *hub) publish(c *pool.Feed, tp *topic, channel, message []byte) {
	switch {
	case tp == nil:
		return // no subscribers are left
	case tp.kind == byShard:
		if tp.home != c.Owner || h.w.Now < tp.quiet {
			return
		}
	case h.w.Table.Clustered() && (c.Owner != h.primary || h.w.Now < h.quiet) &&
		!bytes.HasPrefix(channel, []byte(keyspace)):
		return // another feed delivers this message, or has delivered it
	}
	for _, s := range tp.subs {
		h.w.Stats.Messages++
		to := message
		if s.User.Prefix != nil {
			to = s.User.Prefix.AppendMessage(h.w.Frame[:0], message)
			h.w.Frame = to
		}
		to[0] = s.Protocol().PushKind()
		s.Push(to)
	}
	h.w.Frame = h.w.Buffers.Scratch(h.w.Frame)
}

// isTooSlow reports whether a subscriber has left more than softPubsub unread for longer than
// softTime.
func isTooSlow(s *engine.Session, now int64) bool {
	subs := listening.Get(s)
	if s.Unsent.Size()+s.Parked <= softPubsub {
		subs.softSince = 0
		return false
	}
	if subs.softSince == 0 {
		subs.softSince = now
	}
	return now-subs.softSince > softTime
}

func listenTo(kind topicKind) engine.Local {
	return func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		return subscribe(w, s, cmd, a, kind)
	}
}

func noLongerTo(kind topicKind) engine.Local {
	return func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		return unsubscribe(w, s, cmd, a, kind)
	}
}
