package proxy

import (
	"fmt"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// SCAN walks the masters one after another. The cursor contains the whole state, so any
// keyway with the same masters can continue the scan.
//
//	63                       16 15     10 9        0
//	| the node's own cursor     | print   | master  |
//
// The print is a fingerprint of the list of masters. If the list has changed, the cursor is
// no longer valid and the scan begins again. Then keys may come twice, but none is missed.
const (
	scanNodeBits  = 10
	scanPrintBits = 6
	scanShift     = scanNodeBits + scanPrintBits
)

// cursor returns the client's cursor for a master's index and its own cursor.
func (w *Worker) cursor(master int, own uint64) uint64 {
	return own<<scanShift | w.mastersFingerprint&(1<<scanPrintBits-1)<<scanNodeBits | uint64(master)
}

func scan(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	cursor, err := strconv.ParseUint(string(a.Arg(1)), 10, 64)
	if err != nil {
		return w.answerError(s, cmd, errCursor)
	}
	if len(w.masters) == 0 {
		return w.answerError(s, cmd, errNoMasters)
	}
	master, own := int(cursor&(1<<scanNodeBits-1)), cursor>>scanShift
	if cursor != w.cursor(master, own) || master >= len(w.masters) {
		master, own = 0, 0
	}
	n := w.masters[master]
	if n.conn(s).Full() {
		return w.stall(s)
	}
	r := w.newRequest(s, cmd)
	r.end = scanCursor
	r.merge = w.getMerger(1)
	r.merge.part = append(r.merge.part[:0], int32(master))
	c := r.merge.call(r, 0)
	c.group = -1
	frame := resp.AppendArray(w.frame[:0], a.Len())
	frame = resp.AppendBulk(frame, a.Arg(0))
	frame = resp.AppendBulkString(frame, strconv.FormatUint(own, 10))
	frame = append(frame, a.Tail(2)...)
	w.send(s, c, n, frame)
	w.frame = w.buffers.Scratch(frame)
	return true
}

// scanCursor is the ending of SCAN. It puts keyway's cursor in place of the node's.
func scanCursor(w *Worker, dst []byte, r *request) []byte {
	reply := r.merge.parts[0]
	if len(reply) > 0 && reply[0] == '-' {
		return append(dst, reply...)
	}
	n, rest, ok := resp.Elements(reply)
	head, keys, ok2 := resp.Split(rest)
	text, ok3 := resp.Bulk(head)
	own, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || n != 2 {
		return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply to SCAN cannot be read: %.40q", reply))
	}
	if own >= 1<<(64-scanShift) {
		return resp.AppendError(dst, "ERR keyway: a node's SCAN cursor is beyond 48 bits; scan that node directly")
	}
	master := int(r.merge.part[0])
	next := w.cursor(master, own)
	if own == 0 {
		next = w.cursor(master+1, 0)
		if master+1 >= len(w.masters) {
			next = 0
		}
	}
	dst = resp.AppendArray(dst, 2)
	dst = resp.AppendBulkString(dst, strconv.FormatUint(next, 10))
	return append(dst, keys...)
}
