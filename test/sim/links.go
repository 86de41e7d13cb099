package sim

import (
	"bytes"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
)

// exchange moves bytes of a link in both directions.
func (w *world) exchange(l *link) {
	l.leaveIfLate()
	switch {
	case !l.open:
		w.mayArriveLate(l)
	case !l.connected:
		if w.now >= l.opened && !w.sleeps(l.owner) {
			w.connect(l)
		}
	default:
		if l.node.runs() && w.rng.IntN(1+w.chaos.lag) == 0 {
			l.node.process(l)
		}
		if !w.sleeps(l.owner) {
			w.toKeyway(l)
		}
	}
}

// leaveIfLate closes a link in whose place keyway has dialed, like package server: what becomes of it
// does not count for the new one.
func (l *link) leaveIfLate() {
	if l.open && l.conn.Stats.Dials != l.dials {
		l.open = false
	}
}

func (w *world) connect(l *link) {
	if !l.node.up {
		w.lose(l, "connection refused")
		return
	}
	l.connected = true
	deliver := func(b []byte) { l.toProxy = append(l.toProxy, b...) }
	l.peer = l.node.redis.Open(deliver, func() { l.ended = "the node closed the connection" })
	l.peer.Owner = l
	if w.change != nil {
		l.servedBy = w.change.keywayOf(l.owner).epoch
	}
	l.conn.Connected(w.now)
}

// toKeyway gives replies to keyway, or the end of the link.
func (w *world) toKeyway(l *link) {
	b := w.some(l.toProxy[:min(len(l.toProxy), socketBuffer)])
	if w.now < l.trickle {
		b = b[:min(len(b), 4)]
	}
	if len(b) > 0 && !l.conn.Paused() && w.rng.IntN(3) > 0 {
		l.toProxy = l.toProxy[len(b):]
		if b = b[w.forward(l.conn, b):]; len(b) > 0 {
			l.conn.Received(bytes.Clone(b), w.now)
		}
	}
	if l.open && l.ended != "" && (len(l.toProxy) == 0 || w.rng.IntN(3) == 0) {
		w.lose(l, l.ended)
	}
}

// lose tells keyway that a link has ended.
func (w *world) lose(l *link, reason string) {
	l.open = false
	w.losses = append(w.losses, loss{w.now, l.conn.Addr})
	l.conn.Fail(w.now, reason)
}

// loss is the end of a link to an address.
type loss struct {
	at   int64
	addr string
}

// maxLosses is how many links one command may lose before keyway refuses it.
const maxLosses = 5

// mayGiveUp reports whether a command that was sent at a time may have lost so many links to the node that
// its error names. Those that end at once carry different commands.
func (w *world) mayGiveUp(sent int64, text string) bool {
	var last int64
	n := 0
	for _, l := range w.losses {
		if l.at >= sent && l.at != last && strings.Contains(text, l.addr) {
			n, last = n+1, l.at
		}
	}
	return n >= maxLosses
}

// forward gives bytes of a large reply to the client past keyway, if it offers that, and returns how many.
func (w *world) forward(conn *pool.Link, b []byte) int {
	to, most := pool.Forwardable(conn)
	if most == 0 {
		return 0
	}
	n := w.writeNow(to.(*proxy.Session), b[:min(len(b), most)])
	pool.Forwarded(conn, n, w.now)
	return n
}

// cutLink ends a link. A keyway that is frozen learns it later.
func (w *world) cutLink(l *link, reason string) {
	if w.sleeps(l.owner) {
		if l.ended, l.toProxy = reason, nil; l.peer != nil {
			l.peer.Close()
		}
		return
	}
	if l.leaveIfLate(); l.open {
		w.lose(l, reason)
	}
}

// mayArriveLate executes what a link has delivered to the node's socket although keyway has closed
// the link, and then closes the node's side.
func (w *world) mayArriveLate(l *link) {
	if l.peer == nil || l.peer.Closed() {
		return
	}
	if l.linger == 0 {
		longest := []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Second}[w.rng.IntN(3)]
		l.linger = w.now + w.rng.Int64N(int64(longest))
	}
	if w.now < l.linger || !l.node.runs() {
		return
	}
	w.isLate = true
	l.node.process(l)
	w.isLate = false
	l.peer.Close()
}

// sleeps reports whether a keyway is frozen.
func (w *world) sleeps(worker *proxy.Worker) bool {
	return w.change != nil && w.change.keywayOf(worker).sleepsUntil > w.now
}
