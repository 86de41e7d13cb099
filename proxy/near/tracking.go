package near

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/shared"
)

// trackingConn is keyway's own connection to a node, which tracks what is read over it.
type trackingConn struct {
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

// connOf returns the tracking connection of a node, and makes it if there is none. It returns nil if keyway has
// no files left.
func (of *cache) connOf(n *engine.Node) *trackingConn {
	for _, c := range of.conns {
		if c.node == n {
			return c
		}
	}
	if !engine.HasRoom(of.w) {
		return nil
	}
	c := &trackingConn{of: of, node: n, conn: n.NewConn()}
	c.conn.RESP3, c.conn.Pushes, c.conn.Extra = true, c, "near_cache"
	c.conn.Prelude = func() []byte { return trackingFrame }
	of.conns = append(of.conns, c)
	return c
}

func (of *cache) nextStamp(c *trackingConn) uint64 {
	of.stamp++
	c.sent = of.stamp
	return c.sent
}

// prove makes a tracking connection answer a request that is sent after this stamp.
func (of *cache) prove(c *trackingConn, stamp uint64) {
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
func (c *trackingConn) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if !p.Last {
		return
	}
	if p.Kind == '+' {
		c.proven = max(c.proven, c.pings[0])
	}
	c.pings = slices.Delete(c.pings, 0, 1)
}

// Failed implements pool.Receiver.
func (c *trackingConn) Failed(*pool.Conn, []byte, pool.Failure) {
	c.pings = slices.Delete(c.pings, 0, 1)
}

// Pushed implements pool.Pushes: it drops what has changed.
func (c *trackingConn) Pushed(_ *pool.Conn, message []byte) {
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
		if e := c.of.find(key); e != nil {
			c.invalidate(e)
		}
	}
}

func (c *trackingConn) invalidate(e *entry) {
	if e.isSet || e.fill != nil {
		c.of.w.Stats.NearInvalidated++
		c.of.drop(e)
	}
}

// dropAll drops all that was read over this connection.
func (c *trackingConn) dropAll() {
	for _, e := range c.of.entries {
		if e.tracking == c || e.fill != nil && e.fill.tracking == c {
			c.invalidate(e)
		}
	}
}

// Ready implements pool.Pushes.
func (c *trackingConn) Ready(*pool.Conn) {}

// Lost implements pool.Pushes.
func (c *trackingConn) Lost(*pool.Conn) { c.dropAll() }

// noMore drops the push messages of a connection that is about to be closed.
type noMore struct{}

func (noMore) Pushed(*pool.Conn, []byte) {}
func (noMore) Ready(*pool.Conn)          {}
func (noMore) Lost(*pool.Conn)           {}

// closeConns closes some tracking connections.
func (of *cache) closeConns(which func(*trackingConn) bool) {
	of.conns = slices.DeleteFunc(of.conns, func(c *trackingConn) bool {
		if !which(c) {
			return false
		}
		c.dropAll()
		c.conn.Pushes = noMore{}
		c.node.Shared.KeepCounts(c.conn)
		of.w.LinksToClose = append(of.w.LinksToClose, &c.conn.Link)
		return true
	})
}

// CountConns implements engine.Feature.
func (of *cache) CountConns(n *engine.Node, to *metrics.Node) {
	for _, c := range of.conns {
		if c.node == n {
			shared.CountOther(c.conn, to)
		}
	}
}

// refusal is a node that refuses what a fill needs. Nothing is read from it until then.
type refusal struct {
	node  *engine.Node
	until int64
}

// refusedFor is how long a node is left alone that has refused a fill.
const refusedFor = int64(time.Minute)

// refuses reports whether a node has lately refused a fill.
func (of *cache) refuses(n *engine.Node) bool {
	return slices.ContainsFunc(of.refused, func(r refusal) bool { return r.node == n && of.w.Now < r.until })
}

// refuse leaves a node alone that has refused PTTL with an error, and says so: otherwise near_cache would silently be
// of no use. Errors that pass, such as LOADING, are no refusals.
func (of *cache) refuse(n *engine.Node, text []byte) {
	if !bytes.HasPrefix(text, []byte("-NOPERM")) && !bytes.HasPrefix(text, []byte("-ERR")) {
		return
	}
	of.w.Stats.NearRefused++
	of.acceptAgain(n)
	of.refused = append(of.refused, refusal{n, of.w.Now + refusedFor})
	of.w.Ready.Events = append(of.w.Ready.Events, engine.Event{
		IsBad: true, Text: "a node refuses a command of near_cache, so clients read all its keys from it",
		Fields: []any{"node", n.Name(), "addr", n.Addr, "command", "PTTL",
			"reason", strings.TrimSpace(string(text[1:])),
			"remedy", "allow its user the command: ACL SETUSER NAME +pttl"},
		Seldom: "near_cache of " + n.Name() + " " + n.Addr,
	})
}

// acceptAgain forgets that a node has refused a fill.
func (of *cache) acceptAgain(n *engine.Node) {
	of.refused = slices.DeleteFunc(of.refused, func(r refusal) bool { return r.node == n })
}

// CloseNode implements engine.Feature.
func (of *cache) CloseNode(n *engine.Node, _ string) {
	of.acceptAgain(n)
	of.closeConns(func(c *trackingConn) bool { return c.node == n })
}

// Layout implements engine.Feature: keys may have other owners.
func (of *cache) Layout(moved bool) {
	if !moved {
		return
	}
	for _, e := range of.entries {
		of.drop(e)
	}
	// A connection is greeted by the layout that was in force then.
	of.closeConns(func(c *trackingConn) bool {
		return of.layoutEpoch != of.w.LayoutEpoch || !slices.Contains(of.w.Nodes, c.node)
	})
	of.layoutEpoch = of.w.LayoutEpoch
}

// Shut implements engine.Feature.
func (of *cache) Shut() { of.closeConns(func(*trackingConn) bool { return true }) }

// Due implements engine.Feature.
func (of *cache) Due() int64 {
	for _, c := range of.conns {
		if c.conn.Busy() {
			return of.w.Now + engine.Tick
		}
	}
	return math.MaxInt64
}

// Tick implements engine.Feature.
func (of *cache) Tick() {
	for _, c := range of.conns {
		c.conn.Tick(of.w.Now)
	}
}
