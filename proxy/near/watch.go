package near

import (
	"math"
	"slices"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// watch is keyway's own connection to a node, which tracks what is read over it.
type watch struct {
	of       *cache
	node     *engine.Node
	conn     *pool.Conn
	sent     uint64   // the stamp of the last request
	proven   uint64   // that of the last one that was answered
	pings    []uint64 // those of the PINGs that are not answered
	isWanted bool     // it is in cache.asks
}

// maxPings is how many PINGs may be unanswered at once.
const maxPings = 16

var (
	trackingFrame = resp.AppendCommand(nil, "CLIENT", "TRACKING", "ON")
	pingFrame     = resp.AppendCommand(nil, "PING")
)

// watchOf returns the watch of a node, and makes it if there is none. It returns nil if keyway has no files left.
func (of *cache) watchOf(n *engine.Node) *watch {
	for _, c := range of.watches {
		if c.node == n {
			return c
		}
	}
	if !engine.HasRoom(of.w) {
		return nil
	}
	c := &watch{of: of, node: n, conn: n.NewConn()}
	c.conn.RESP3, c.conn.Pushes = true, c
	c.conn.Prelude = func() []byte { return trackingFrame }
	of.watches = append(of.watches, c)
	return c
}

func (of *cache) nextStamp(c *watch) uint64 {
	of.stamp++
	c.sent = of.stamp
	return c.sent
}

// prove makes a watch answer a request that is sent after this stamp.
func (of *cache) prove(c *watch, stamp uint64) {
	if c.sent <= stamp && !c.isWanted && len(c.pings) < maxPings {
		c.isWanted = true
		of.asks = append(of.asks, c)
	}
}

// EndTurn implements engine.Feature.
func (of *cache) EndTurn() {
	for _, c := range of.asks {
		if c.isWanted = false; c.conn.State() == pool.Ready {
			c.pings = append(c.pings, of.nextStamp(c))
			c.conn.Send(c, pingFrame, of.w.Now, of.w.Deadline())
		}
	}
	of.asks = of.asks[:0]
}

// Reply implements pool.Receiver, for PING.
func (c *watch) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if !p.Last {
		return
	}
	if p.Kind == '+' {
		c.proven = max(c.proven, c.pings[0])
	}
	c.pings = slices.Delete(c.pings, 0, 1)
}

// Failed implements pool.Receiver.
func (c *watch) Failed(*pool.Conn, []byte, pool.Failure) { c.pings = slices.Delete(c.pings, 0, 1) }

// Pushed implements pool.Pushes: it drops what has changed.
func (c *watch) Pushed(_ *pool.Conn, message []byte) {
	_, rest, ok := resp.Elements(message)
	if !ok {
		return
	}
	what, keys, _ := resp.Split(rest)
	if name, _ := resp.Bulk(what); string(name) != "invalidate" {
		return
	}
	n, rest, ok := resp.Elements(keys)
	if !ok || resp.IsNull(keys) { // all keys
		c.dropAll()
		return
	}
	for range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		key, _ := resp.Bulk(one)
		if sp := c.of.find(key); sp != nil {
			c.invalidate(sp)
		}
	}
}

func (c *watch) invalidate(sp *spot) {
	if sp.isSet || sp.fill != nil {
		c.of.w.Stats.NearInvalidated++
		c.of.drop(sp)
	}
}

// dropAll drops all that was read over this connection.
func (c *watch) dropAll() {
	for _, sp := range c.of.spots {
		if sp.watch == c || sp.fill != nil && sp.fill.watch == c {
			c.invalidate(sp)
		}
	}
}

// Ready implements pool.Pushes.
func (c *watch) Ready(*pool.Conn) {}

// Lost implements pool.Pushes.
func (c *watch) Lost(*pool.Conn) { c.dropAll() }

// noMore drops the push messages of a connection that is about to be closed.
type noMore struct{}

func (noMore) Pushed(*pool.Conn, []byte) {}
func (noMore) Ready(*pool.Conn)          {}
func (noMore) Lost(*pool.Conn)           {}

// closeWatches closes some watches.
func (of *cache) closeWatches(which func(*watch) bool) {
	of.watches = slices.DeleteFunc(of.watches, func(c *watch) bool {
		if !which(c) {
			return false
		}
		c.dropAll()
		c.conn.Pushes = noMore{}
		of.w.LinksToClose = append(of.w.LinksToClose, &c.conn.Link)
		return true
	})
}

// CloseNode implements engine.Feature.
func (of *cache) CloseNode(n *engine.Node, _ string) {
	of.closeWatches(func(c *watch) bool { return c.node == n })
}

// Layout implements engine.Feature: keys may have other owners.
func (of *cache) Layout(moved bool) {
	if !moved {
		return
	}
	for _, sp := range of.spots {
		of.drop(sp)
	}
	// A connection is greeted by the layout that was in force then.
	of.closeWatches(func(c *watch) bool {
		return of.layoutEpoch != of.w.LayoutEpoch || !slices.Contains(of.w.Nodes, c.node)
	})
	of.layoutEpoch = of.w.LayoutEpoch
}

// Shut implements engine.Feature.
func (of *cache) Shut() { of.closeWatches(func(*watch) bool { return true }) }

// Due implements engine.Feature.
func (of *cache) Due() int64 {
	for _, c := range of.watches {
		if c.conn.Busy() {
			return of.w.Now + engine.Tick
		}
	}
	return math.MaxInt64
}

// Tick implements engine.Feature.
func (of *cache) Tick() {
	for _, c := range of.watches {
		c.conn.Tick(of.w.Now)
	}
}
