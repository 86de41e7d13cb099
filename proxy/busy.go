package proxy

import (
	"bytes"
	"iter"
	"strings"

	"github.com/keyway-proxy/keyway/pool"
)

// A node that runs a script for longer than its busy-reply-threshold says BUSY to
// every connection but the one that the script came from. So it is not silent: the
// script, writes behind it, and clients that are blocked at that node wait until it
// ends, or is killed, and get their true replies, as with one Redis.
//
//	retired connection   EVAL SET ................................ reply +OK
//	shared connection            PING -BUSY  PING -BUSY  PING -BUSY
//	                                   |           |           |
//	                     nothing is overdue for one more request timeout

// tickBusy asks a node that owes replies, and has sent none for a while, whether it is
// busy with a script.
func (n *node) tickBusy() {
	if n.askedIfBusy || !owes(n) {
		return
	}
	w := n.w
	for _, c := range n.conns {
		switch {
		case strings.HasPrefix(c.Refusing(), "BUSY "): // the greeting has asked
			n.excuse()
			return
		case c.State() == pool.Ready && !c.Stuck(w.now, 0) && !c.Late(w.now, w.stuckAfter()):
			n.askedIfBusy = true
			w.ask(c, 0, func(reply []byte, ok bool) {
				n.askedIfBusy = false
				if ok && bytes.HasPrefix(reply, []byte("-BUSY ")) {
					n.excuse()
				}
			}, "PING")
			return
		}
	}
}

// owes reports whether a reply of the node has been due for a while.
func owes(n *node) bool {
	for c := range questioned(n) {
		if c.Late(n.w.now, n.w.stuckAfter()) {
			return true
		}
	}
	return false
}

// excuse lets nothing time out for now that waits for the node, which is busy. Reads that
// are behind the script get BUSY, as all that comes over the shared connection.
func (n *node) excuse() {
	for c := range questioned(n) {
		c.Excuse(n.w.now)
	}
	for _, c := range n.retired.conns {
		n.w.rereadBehind(c)
	}
}

// questioned are the connections over which clients may have asked the node something.
func questioned(n *node) iter.Seq[*pool.Conn] {
	return func(yield func(*pool.Conn) bool) {
		for _, c := range n.conns {
			if !yield(c) {
				return
			}
		}
		for _, c := range n.retired.conns {
			if !yield(c) {
				return
			}
		}
		for i := range n.waits {
			if !yield(n.waits[i].conn) {
				return
			}
		}
		for _, s := range n.w.trackers {
			if c := s.tracking.conns[n]; c != nil && !yield(c) {
				return
			}
		}
	}
}
