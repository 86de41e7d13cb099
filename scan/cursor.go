package scan

import (
	"fmt"
	"strconv"

	"github.com/keyway-proxy/keyway/resp"
)

// SCAN walks the masters one after another. The cursor contains the whole state, so any
// keyway with the same masters can continue the scan.
//
//	62 61  60   57 56                    16 15     10 9        0
//	| m r | epoch | the node's own cursor  | print   | master  |
//
// The print is a fingerprint of the list of masters. epoch is the end of the layout's epoch, and
// m is set while keys move. If any of them has changed, the cursor is no longer valid and the
// scan begins again. Then keys may come twice, but none is missed.
//
// While keys move, there are two rounds over the masters; r is set in the second. A key moves once
// in an epoch. If the first round has missed it, it moved during that round, so it stays at its
// new place during the whole second round.
const (
	nodeBits  = 10
	printBits = 6
	shift     = nodeBits + printBits
	ownBits   = 41
	epochBits = 4
	second    = 1 << 61
	moving    = 1 << 62
)

// Masters are the nodes that SCAN walks.
type Masters struct {
	n     int
	state uint64 // the print, the epoch, and whether keys move, where a cursor has them
}

// Place is where a walk continues.
type Place struct {
	Master  int    // the index of the master
	Own     uint64 // its cursor
	isAgain bool   // in the second round
}

// Of returns the masters with these addresses. Their order matters.
func Of(addrs []string) Masters {
	h := uint64(14695981039346656037) // FNV-1a
	for _, addr := range addrs {
		for _, c := range []byte(addr + strconv.Itoa(len(addr))) {
			h = (h ^ uint64(c)) * 1099511628211
		}
	}
	return Masters{len(addrs), (h ^ h>>32) & (1<<printBits - 1) << nodeBits}
}

// In returns the masters in an epoch of the layout. isMoving says that keys move between them.
func (m Masters) In(epoch int64, isMoving bool) Masters {
	m.state |= uint64(epoch) % (1 << epochBits) << (shift + ownBits)
	if isMoving {
		m.state |= moving
	}
	return m
}

// cursor returns the client's cursor for a place.
func (m Masters) cursor(at Place) uint64 {
	c := m.state | at.Own<<shift | uint64(at.Master)
	if at.isAgain {
		c |= second
	}
	return c
}

// Parse returns the place where a client's cursor continues. A cursor of other masters, or of
// another epoch, begins again. ok is false if the cursor is not a number.
func (m Masters) Parse(cursor []byte) (at Place, ok bool) {
	n, err := strconv.ParseUint(string(cursor), 10, 64)
	if err != nil {
		return at, false
	}
	at = Place{Master: int(n & (1<<nodeBits - 1)), Own: n >> shift & (1<<ownBits - 1), isAgain: n&second != 0}
	if n != m.cursor(at) || at.Master >= m.n {
		return Place{}, true
	}
	return at, true
}

// next returns the place after the last page of a master. ok is false if that is the end.
func (m Masters) next(at Place) (next Place, ok bool) {
	next = Place{Master: at.Master + 1, isAgain: at.isAgain}
	if next.Master >= m.n {
		next = Place{isAgain: true}
		return next, m.state&moving != 0 && !at.isAgain
	}
	return next, true
}

// AppendReply appends a master's reply to SCAN with keyway's cursor in place of the
// master's. now are the masters by which keyway serves when the reply arrives: if they are others, or
// keys have begun or ceased to move, or have moved altogether meanwhile, the walk has to begin again.
func (m Masters) AppendReply(dst []byte, at Place, now Masters, reply []byte) []byte {
	if len(reply) > 0 && reply[0] == '-' {
		return append(dst, reply...)
	}
	text, keys, ok := Page(reply)
	own, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || err != nil {
		return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's reply to SCAN cannot be read: %.40q", reply))
	}
	if own >= 1<<ownBits {
		return resp.AppendError(dst, fmt.Sprintf("ERR keyway: a node's SCAN cursor is beyond %d bits; scan that node "+
			"directly", ownBits))
	}
	goesOn := true
	if at.Own = own; own == 0 {
		at, goesOn = m.next(at)
	}
	next := uint64(0)
	switch {
	case now != m:
		if next = now.cursor(Place{}); next == 0 { // which would end the walk
			next = now.cursor(Place{isAgain: true}) // the only round, unless keys move
		}
	case goesOn:
		next = m.cursor(at)
	}
	dst = resp.AppendArray(dst, 2)
	dst = resp.AppendBulkString(dst, strconv.FormatUint(next, 10))
	return append(dst, keys...)
}

// Union appends the keys of several replies to KEYS, each once. ok is false if a reply is no
// array.
func Union(dst []byte, replies [][]byte) (union []byte, ok bool) {
	seen := map[string]struct{}{}
	for _, p := range replies {
		n, rest, ok := resp.Elements(p)
		if !ok {
			return dst, false
		}
		for range n {
			var one []byte
			one, rest, _ = resp.Split(rest)
			seen[string(one)] = struct{}{}
		}
	}
	dst = resp.AppendArray(dst, len(seen))
	for one := range seen {
		dst = append(dst, one...)
	}
	return dst, true
}

// Page returns the cursor and the encoded array of keys of a node's reply to SCAN.
func Page(reply []byte) (cursor, keys []byte, ok bool) {
	n, rest, isArray := resp.Elements(reply)
	head, keys, hasHead := resp.Split(rest)
	cursor, hasCursor := resp.Bulk(head)
	return cursor, keys, isArray && hasHead && hasCursor && n == 2 && len(cursor) > 0
}
