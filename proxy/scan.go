package proxy

import (
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/scan"
	"github.com/keyway-proxy/keyway/slots"
)

const (
	errInvalidSlot = "ERR Invalid slot"                   // cluster.c
	errSlotOrCount = "ERR Invalid slot or number of keys" // cluster.c
)

// scanMasters answers SCAN, which walks the masters one after another.
func scanMasters(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	master, own, ok := w.walk.Parse(a.Arg(1))
	switch {
	case !ok:
		return s.answerError(cmd, errtext.Cursor)
	case len(w.masters) == 0:
		return s.answerError(cmd, errtext.NoMasters)
	}
	n := w.masters[master]
	if n.conn(s).Full() {
		return s.stall()
	}
	r := s.newRequest(cmd)
	r.end = func(w *Worker, dst []byte, r *request) []byte {
		return w.walk.AppendReply(dst, master, r.merge.replies[0])
	}
	r.merge = w.mergers.get(1)
	c := r.merge.call(r, 0)
	c.group = -1
	frame := resp.AppendArray(w.frame[:0], a.Len())
	frame = resp.AppendBulk(frame, a.Arg(0))
	frame = resp.AppendBulkString(frame, strconv.FormatUint(own, 10))
	frame = append(frame, a.Tail(2)...)
	c.send(n, frame)
	w.frame = w.buffers.Scratch(frame)
	return true
}

// keysInSlot answers CLUSTER COUNTKEYSINSLOT slot and GETKEYSINSLOT slot count. In a
// cluster, the owner of the slot answers. Nodes outside a cluster have no index of their keys
// by slot, so keyway scans them in small steps, between which they serve other clients.
func keysInSlot(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	slot, ok := resp.ParseInt(a.Arg(2))
	most, invalid := int64(-1), errInvalidSlot
	if ok && a.Len() > 3 {
		most, ok = resp.ParseInt(a.Arg(3))
		invalid = errSlotOrCount
	}
	switch {
	case !ok:
		return s.answerError(cmd, errtext.NotInteger)
	case slot < 0 || slot >= slots.Count || a.Len() > 3 && most < 0:
		return s.answerError(cmd, invalid)
	}
	nodes := w.masters
	if w.table.Slotted() {
		n := w.ownerOf(int32(slot))
		if n == nil {
			return s.answerError(cmd, errtext.SlotUnbound)
		}
		nodes = []*node{n}
	}
	if len(nodes) == 0 {
		return s.answerError(cmd, errtext.NoMasters)
	}
	for _, n := range nodes {
		if n.conn(s).Full() {
			return s.stall()
		}
	}
	r := s.newRequest(cmd)
	r.call.group = -1
	if w.table.Clustered() {
		r.call.send(nodes[0], a.Frame())
		return true
	}
	s.inflight++
	r.call.node = nodes[0] // a call needs a node even if step asks none, since count is 0
	walk := &slotScan{call: &r.call, nodes: nodes, found: scan.KeysOf(uint16(slot), int(most))}
	walk.step("0")
	return true
}

// slotScan finds the keys of a slot on one node after another.
type slotScan struct {
	call  *call
	nodes []*node // nodes that are not scanned completely
	found *scan.SlotKeys
}

// step sends the next SCAN, with this cursor, to the first node.
func (sc *slotScan) step(cursor string) {
	c, s := sc.call, sc.call.req.sess
	if s == nil || len(sc.nodes) == 0 || sc.found.Enough() {
		sc.call.settleFor(sc.found.AppendReply(nil))
		return
	}
	w, n := s.w, sc.nodes[0]
	c.node = n
	conn := n.conn(s)
	if why := conn.ConnectError(); why != "" {
		c.refuse(why)
		return
	}
	w.ask(conn, w.deadline(), func(reply []byte, ok bool) {
		next, page, isPage := scan.Page(reply)
		if !ok || !isPage {
			c.settleFor(resp.AppendError(nil, errtext.NotExecuted(n.label(), "SCAN failed: "+resp.Printable(reply))))
			return
		}
		sc.found.Add(page)
		if string(next) == "0" {
			sc.nodes = sc.nodes[1:]
		}
		sc.step(string(next))
	}, "SCAN", cursor, "COUNT", "1000")
}
