package pubsub

import (
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// When another process takes the subscribers over, it also gets the feeds, because a second
// subscription could not tell which messages the first one has delivered. The nodes notice nothing.

// carrier gives a worker's subscriptions to another process, or takes them over.
type carrier struct{ h *hub }

// TopicsOf implements engine.Subscriptions.
func (c carrier) TopicsOf(s *engine.Session) (to engine.Topics) {
	for kind := range topicKinds {
		to[kind] = listening.Get(s).all(kind)
	}
	return to
}

// Resume implements engine.Subscriptions.
func (c carrier) Resume(s *engine.Session, to engine.Topics, known func()) {
	subs := subscriptionsOf(s)
	s.Set(engine.Subscribed)
	for kind, names := range to {
		for _, name := range names {
			add(c.h, s, subs, c.resumed(topicKind(kind), name))
		}
	}
	c.h.connect()
	c.h.replyOnceKnown(&subscribing{known: known})
}

// resumed returns a topic to which the feeds are subscribed.
func (c carrier) resumed(kind topicKind, name string) *topic {
	h := c.h
	tp := h.topics[kind][name]
	if tp != nil {
		return tp
	}
	tp = &topic{kind: kind, name: name, pending: map[*pool.Feed]bool{}}
	h.topics[kind][name] = tp
	switch kind {
	case byPattern:
		h.audience.addPattern(name)
	case byShard:
		tp.isConfirmed = true
		if _, id := h.w.Table.Place([]byte(name)); id >= 0 {
			tp.home = h.w.Nodes[id]
		}
	}
	return tp
}

// Carried implements engine.Subscriptions.
func (c carrier) Carried() (feeds []engine.CarriedFeed, ok bool) {
	h := c.h
	if len(h.waits) > 0 || h.unconfirmedTopics > 0 {
		return nil, false
	}
	for n, f := range h.feeds {
		part, ready := f.Carry()
		if !ready || len(f.unconfirmed) > 0 {
			return nil, false
		}
		feeds = append(feeds, engine.CarriedFeed{Feed: f.Feed, Part: part, Primary: n == h.primary})
	}
	return feeds, true
}

// LetGo implements engine.Subscriptions. The subscribers stay, and are counted by PUBLISH, because
// they still hear what clients of this process publish.
func (c carrier) LetGo() {
	h := c.h
	for n, f := range h.feeds {
		f.Listener = nobody{}
		f.Close(h.w.Now, "another process has taken it over")
		delete(h.feeds, n)
	}
}

// Prefer implements engine.Subscriptions.
func (c carrier) Prefer(addr string) {
	h := c.h
	for _, n := range h.w.Masters {
		if n.Addr == addr {
			h.primary = n
		}
	}
}
