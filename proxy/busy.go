package proxy

import (
	"bytes"
	"iter"
	"strings"

	"github.com/keyway-proxy/keyway/pool"
)

// A node that runs a script for longer than its busy-reply-threshold answers BUSY on every
// connection except the one that the script came from. So keyway knows that the node is
// alive. The script, the writes behind it, and clients that are blocked at that node wait
// until the script ends or is killed. They get their true replies, as with one Redis.
//
//	retired connection   EVAL SET ................................ reply +OK
//	shared connection            PING -BUSY  PING -BUSY  PING -BUSY
//	                                   |           |           |
//	                     nothing is overdue for one more request timeout

// tickBusy sends a PING to a node with overdue replies, to learn whether it is busy with a
// script.
func (n *node) tickBusy() {
	if n.askedIfBusy || !isLate(n) {
		return
	}
	w := n.w
	for _, c := range n.conns {
		switch {
		case strings.HasPrefix(c.ConnectError(), "BUSY "): // the node's answer to the greeting
			n.excuse()
			return
		case c.State() == pool.Ready && !c.IsStuck(w.now, 0) && !c.IsSilent(w.now, w.stuckAfter()):
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

// isLate reports whether a connection of the node has a request but has received nothing
// for stuckAfter.
func isLate(n *node) bool {
	for c := range clientConns(n) {
		if c.IsSilent(n.w.now, n.w.stuckAfter()) {
			return true
		}
	}
	return false
}

// excuse keeps the requests to a busy node from timing out for one more request timeout.
// It sends the reads behind the script again over the shared connection, where the node
// answers BUSY.
func (n *node) excuse() {
	for c := range clientConns(n) {
		c.PostponeTimeouts(n.w.now)
	}
	for _, c := range n.retired.conns {
		n.w.largeValues.rereadBehind(c)
	}
}

// clientConns yields the connections to the node that may carry clients' requests.
func clientConns(n *node) iter.Seq[*pool.Conn] {
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
		for _, f := range n.w.features {
			for _, c := range f.conns(n) {
				if !yield(c) {
					return
				}
			}
		}
	}
}
