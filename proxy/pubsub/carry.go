package pubsub

import (
	"slices"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// When another process takes the subscribers over, it also gets the feeds, because a second
// subscription could not tell which messages the first one has delivered. The nodes notice nothing.
//
// The old process lends them first. Neither process reads them until the new one has all subscribers.
// Then the old one gives them away; or the new one has failed, and the old one takes them back.

// carrier passes a worker's subscriptions to another process, or takes them over.
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
		h.audience.patterns.add(name)
	case byShard:
		if _, id := h.w.Table.Place([]byte(name)); id >= 0 {
			tp.home = h.w.Nodes[id]
		}
		if tp.isConfirmed = tp.home != nil && h.inherited[tp.home.Addr]; !tp.isConfirmed {
			h.unconfirmedTopics++ // the slot has moved meanwhile
		}
	}
	return tp
}

// Carried implements engine.Subscriptions.
func (c carrier) Carried() (feeds []engine.CarriedFeed, settled bool) {
	h := c.h
	settled = len(h.waits) == 0 && h.unconfirmedTopics == 0
	for n, f := range h.feeds {
		if f.State() != pool.Ready {
			continue // the other process connects to the node as this one would
		}
		part, isWritten := f.Carry()
		if !isWritten || len(f.unconfirmed) > 0 {
			settled = false
			continue
		}
		feeds = append(feeds, engine.CarriedFeed{Feed: f.Feed, Part: part, Primary: n == h.primary})
	}
	return feeds, settled
}

// Lend implements engine.Subscriptions.
func (c carrier) Lend() {
	h := c.h
	h.isLent, h.lent = true, h.feeds
	h.feeds = map[*engine.Node]*feed{}
	for _, f := range h.lent {
		f.Listener = nobody{}
	}
}

// GiveAway implements engine.Subscriptions.
func (c carrier) GiveAway() {
	for _, f := range c.h.lent {
		f.Close(c.h.w.Now, "another process has taken it over")
	}
	c.h.lent = nil
}

// TakeBack implements engine.Subscriptions.
func (c carrier) TakeBack() {
	h := c.h
	if !h.isLent {
		return
	}
	h.isLent = false
	for n, f := range h.lent {
		if !slices.Contains(h.w.Masters, n) {
			f.Close(h.w.Now, "no longer needed")
			continue
		}
		f.Listener = h
		h.feeds[n] = f
	}
	h.lent = nil
	if h.isUnused() {
		h.closeFeeds()
		return
	}
	h.Layout(true)
	for _, f := range h.feeds {
		if f.State() == pool.Ready {
			h.Up(f.Feed) // some client may have subscribed meanwhile
		}
	}
}

// Inherit implements engine.Subscriptions.
func (c carrier) Inherit(addr string, isPrimary bool) {
	h := c.h
	if h.inherited == nil {
		h.inherited = map[string]bool{}
	}
	h.inherited[addr] = true
	for _, n := range h.w.Masters {
		if isPrimary && n.Addr == addr {
			h.primary = n
		}
	}
}
