package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

const (
	errInvalidSlot = "ERR Invalid slot"                   // cluster.c
	errSlotOrCount = "ERR Invalid slot or number of keys" // cluster.c
)

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
		return w.answerError(s, cmd, errNotInteger)
	case slot < 0 || slot >= slots.Count || a.Len() > 3 && most < 0:
		return w.answerError(s, cmd, invalid)
	}
	nodes := w.masters
	if w.table.Slotted() {
		n := w.ownerOf(int32(slot))
		if n == nil {
			return w.answerError(s, cmd, errSlotUnbound)
		}
		nodes = []*node{n}
	}
	if len(nodes) == 0 {
		return w.answerError(s, cmd, errNoMasters)
	}
	for _, n := range nodes {
		if n.conn(s).Full() {
			return w.stall(s)
		}
	}
	r := w.newRequest(s, cmd)
	r.call.group = -1
	if w.table.Clustered() {
		w.send(s, &r.call, nodes[0], a.Frame())
		return true
	}
	s.inflight++
	r.call.node = nodes[0] // a call needs a node even if step asks none, since count is 0
	scan := &slotScan{call: &r.call, slot: uint16(slot), most: int(most), nodes: nodes, keys: map[string]bool{}}
	scan.step("0")
	return true
}

// slotScan finds the keys of a slot on one node after another.
type slotScan struct {
	call  *call
	slot  uint16
	most  int             // how many keys the client wants; negative: it wants only their number
	nodes []*node         // nodes that are not scanned completely
	keys  map[string]bool // a set, since SCAN may return a key twice
}

// step sends the next SCAN, with this cursor, to the first node.
func (sc *slotScan) step(cursor string) {
	c, s := sc.call, sc.call.req.sess
	if s == nil || len(sc.nodes) == 0 || len(sc.keys) == sc.most {
		sc.end()
		return
	}
	w, n := s.w, sc.nodes[0]
	c.node = n
	conn := n.conn(s)
	if why := conn.ConnectError(); why != "" {
		w.refuse(c, why)
		return
	}
	w.ask(conn, w.deadline(), func(reply []byte, ok bool) {
		_, rest, isArray := resp.Elements(reply)
		head, rest, _ := resp.Split(rest)
		next, _ := resp.Bulk(head)
		if !ok || !isArray || len(next) == 0 {
			w.settleFor(c, resp.AppendError(nil, errNotExecuted(n, "SCAN failed: "+resp.Printable(reply))))
			return
		}
		sc.add(rest)
		if string(next) == "0" {
			sc.nodes = sc.nodes[1:]
		}
		sc.step(string(next))
	}, "SCAN", cursor, "COUNT", "1000")
}

// add adds those keys of a SCAN reply that are in the slot.
func (sc *slotScan) add(page []byte) {
	n, rest, _ := resp.Elements(page)
	for range n {
		one, next, _ := resp.Split(rest)
		if key, ok := resp.Bulk(one); ok && slots.Of(key) == sc.slot && len(sc.keys) != sc.most {
			sc.keys[string(key)] = true
		}
		rest = next
	}
}

// end answers the client.
func (sc *slotScan) end() {
	reply := resp.AppendInt(nil, int64(len(sc.keys)))
	if sc.most >= 0 {
		reply = resp.AppendArray(nil, len(sc.keys))
		for key := range sc.keys {
			reply = resp.AppendBulkString(reply, key)
		}
	}
	sc.call.worker().settleFor(sc.call, reply)
}
