package scan

import (
	"fmt"
	"strconv"

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
	nodeBits  = 10
	printBits = 6
	shift     = nodeBits + printBits
)

// Masters are the nodes that SCAN walks.
type Masters struct {
	n     int
	print uint64
}

// Of returns the masters with these addresses. Their order matters.
func Of(addrs []string) Masters {
	h := uint64(14695981039346656037) // FNV-1a
	for _, addr := range addrs {
		for _, c := range []byte(addr + strconv.Itoa(len(addr))) {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return Masters{len(addrs), (h ^ h>>32) & (1<<printBits - 1)}
}

// cursor returns the client's cursor for a master's index and its own cursor.
func (m Masters) cursor(master int, own uint64) uint64 {
	return own<<shift | m.print<<nodeBits | uint64(master)
}

// Parse returns the index of the master where a client's cursor continues, and the cursor of
// that master. A cursor of other masters begins again. ok is false if the cursor is not a
// number.
func (m Masters) Parse(cursor []byte) (master int, own uint64, ok bool) {
	n, err := strconv.ParseUint(string(cursor), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	master, own = int(n&(1<<nodeBits-1)), n>>shift
	if n != m.cursor(master, own) || master >= m.n {
		return 0, 0, true
	}
	return master, own, true
}

// AppendReply appends a master's reply to SCAN with keyway's cursor in place of the
// master's.
func (m Masters) AppendReply(dst []byte, master int, reply []byte) []byte {
	if len(reply) > 0 && reply[0] == '-' {
		return append(dst, reply...)
	}
	text, keys, ok := Page(reply)
	own, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || err != nil {
		return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply to SCAN cannot be read: %.40q", reply))
	}
	if own >= 1<<(64-shift) {
		return resp.AppendError(dst, "ERR keyway: a node's SCAN cursor is beyond 48 bits; scan that node directly")
	}
	next := m.cursor(master, own)
	if own == 0 {
		next = m.cursor(master+1, 0)
		if master+1 >= m.n {
			next = 0
		}
	}
	dst = resp.AppendArray(dst, 2)
	dst = resp.AppendBulkString(dst, strconv.FormatUint(next, 10))
	return append(dst, keys...)
}

// Page returns the cursor and the encoded array of keys of a node's reply to SCAN.
func Page(reply []byte) (cursor, keys []byte, ok bool) {
	n, rest, isArray := resp.Elements(reply)
	head, keys, hasHead := resp.Split(rest)
	cursor, hasCursor := resp.Bulk(head)
	return cursor, keys, isArray && hasHead && hasCursor && n == 2 && len(cursor) > 0
}
