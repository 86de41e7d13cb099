package answers

import (
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/scan"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/transfer"
)

const (
	errInvalidSlot = "ERR Invalid slot"                   // cluster.c
	errSlotOrCount = "ERR Invalid slot or number of keys" // cluster.c
)

// scanMasters answers SCAN, which walks the masters one after another.
func scanMasters(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	walk := mastersOf(w)
	at, ok := walk.Parse(a.Arg(1))
	switch {
	case !ok:
		return s.AnswerError(cmd, errtext.Cursor)
	case len(w.Masters) == 0:
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	n := w.Masters[at.Master]
	if n.Conn(s).Full() {
		return s.Stall()
	}
	r := s.NewRequest(cmd)
	r.End = func(w *engine.Worker, dst []byte, r *engine.Request) []byte {
		// The masters may be others by now. This cursor then begins again.
		return walk.AppendReply(dst, at, mastersOf(w), withoutGuards(r.Merge.Replies[0]))
	}
	r.Merge = w.Mergers.Get(1)
	c := r.Merge.Call(r, 0)
	c.Group = -1
	frame := resp.AppendArray(w.Frame[:0], a.Len())
	frame = resp.AppendBulk(frame, a.Arg(0))
	frame = resp.AppendBulkString(frame, strconv.FormatUint(at.Own, 10))
	frame = append(frame, a.Tail(2)...)
	c.SendTo(n, frame)
	w.Frame = w.Buffers.Scratch(frame)
	return true
}

// withoutGuards returns a node's reply to SCAN without the keys that exist only while others move.
func withoutGuards(reply []byte) []byte {
	cursor, keys, ok := scan.Page(reply)
	if !ok {
		return reply
	}
	kept := transfer.WithoutGuards(keys)
	if len(kept) == len(keys) {
		return reply
	}
	return append(resp.AppendBulk(resp.AppendArray(nil, 2), cursor), kept...)
}

// mastersOf returns the masters as SCAN walks them.
func mastersOf(w *engine.Worker) scan.Masters {
	return w.Walk.In(w.Options.Backend.Epoch, w.Table.IsMoving())
}

// keysInSlot answers CLUSTER COUNTKEYSINSLOT slot and GETKEYSINSLOT slot count. In a
// cluster, the owner of the slot answers. Nodes outside a cluster have no index of their keys
// by slot, so keyway scans them in small steps, between which they serve other clients.
func keysInSlot(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	slot, ok := resp.ParseInt(a.Arg(2))
	most, invalid := int64(-1), errInvalidSlot
	if ok && a.Len() > 3 {
		most, ok = resp.ParseInt(a.Arg(3))
		invalid = errSlotOrCount
	}
	switch {
	case !ok:
		return s.AnswerError(cmd, errtext.NotInteger)
	case slot < 0 || slot >= slots.Count || a.Len() > 3 && most < 0:
		return s.AnswerError(cmd, invalid)
	}
	nodes := nodesOfSlot(w, int32(slot))
	switch {
	case len(nodes) > 0:
	case w.Table.Slotted():
		return s.AnswerError(cmd, errtext.SlotUnbound)
	default:
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	for _, n := range nodes {
		if n.Conn(s).Full() {
			return s.Stall()
		}
	}
	r := s.NewRequest(cmd)
	r.Call.Group = -1
	if w.Table.Clustered() && !w.Table.IsMoving() {
		r.Call.SendTo(nodes[0], a.Frame())
		return true
	}
	s.Inflight++
	r.Call.Node = nodes[0] // a call needs a node even if step asks none, since count is 0
	walk := &slotScan{
		call: &r.Call, slot: int32(slot), nodes: nodes, epoch: w.LayoutEpoch,
		found: scan.KeysOf(uint16(slot), int(most)),
	}
	walk.step("0")
	return true
}

// nodesOfSlot returns the nodes that have to be scanned for the keys of a slot, in this order. While
// keys move, these are all masters, twice: a key that the first round misses moves during that
// round, and only once.
func nodesOfSlot(w *engine.Worker, slot int32) []*engine.Node {
	switch {
	case w.Table.IsMoving():
		return slices.Concat(w.Masters, w.Masters)
	case !w.Table.Slotted():
		return w.Masters
	}
	if n := w.OwnerOf(slot); n != nil {
		return []*engine.Node{n}
	}
	return nil
}

// slotScan finds the keys of a slot on one node after another.
type slotScan struct {
	call  *engine.Call
	slot  int32
	nodes []*engine.Node // nodes that are not scanned completely
	epoch uint64         // of the layout
	found *scan.SlotKeys
}

// step sends the next SCAN, with this cursor, to the first node.
func (sc *slotScan) step(cursor string) {
	c, s := sc.call, sc.call.Request.Session
	if s != nil && s.Worker.LayoutEpoch != sc.epoch { // the keys may move now, or live elsewhere
		sc.nodes, sc.epoch, cursor = nodesOfSlot(s.Worker, sc.slot), s.Worker.LayoutEpoch, "0"
	}
	if s == nil || len(sc.nodes) == 0 || sc.found.Enough() {
		sc.call.SettleFor(sc.found.AppendReply(nil))
		return
	}
	w, n := s.Worker, sc.nodes[0]
	c.Node = n
	conn := n.Conn(s)
	if why := conn.ConnectError(); why != "" {
		c.Refuse(why)
		return
	}
	w.Ask(conn, w.Deadline(), func(reply []byte, ok bool) {
		next, page, isPage := scan.Page(reply)
		if !ok || !isPage {
			c.SettleFor(resp.AppendError(nil, errtext.NotExecuted(n.Label(), "SCAN failed: "+resp.Printable(reply))))
			return
		}
		sc.found.Add(transfer.WithoutGuards(page))
		if string(next) == "0" {
			sc.nodes = sc.nodes[1:]
		}
		sc.step(string(next))
	}, "SCAN", cursor, "COUNT", "1000")
}
