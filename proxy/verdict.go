package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// What becomes of a call that a node has answered with an error is decided in one
// place, and done in another.
//
// An error is proof that nothing was executed only for plain commands: a script or a
// module may have written before it answered in the same words.

// verdict says what becomes of such a call.
type verdict struct {
	do      outcome
	refresh bool // the topology may be out of date
	prove   bool // first the node has to show that it did not execute the command
	ask     bool // of followed: with ASKING
	target  string
	text    string // of failed: what the client is told
}

type outcome uint8

const (
	delivered  outcome = iota // the client reads the error
	failed                    // the client reads another: the command was not executed
	reread                    // a read of a replica goes to another node
	sentInFull                // the node lacks the script
	followed                  // it goes to the node that the error names
	retried                   // it waits to be sent again
	unwatched                 // of WATCH and its EXEC: nothing is watched any more
)

// decide decides about an error reply.
func (w *Worker) decide(c *call, conn *pool.Conn, reply []byte) verdict {
	switch c.alone.(type) {
	case *watching: // its slot has moved, or is about to
		if isRedirect(reply) {
			return verdict{do: unwatched, refresh: true}
		}
		return verdict{}
	case *watched: // elsewhere, or later, nothing would be watched
		if notHere(reply) {
			return verdict{do: unwatched, refresh: true}
		}
		return verdict{}
	}
	code := errorCode(reply)
	if c.replica && unanswered[string(code)] {
		return verdict{do: reread, refresh: code[0] == 'M'} // MOVED, or MASTERDOWN
	}
	switch string(code) {
	case "NOSCRIPT":
		return verdict{do: sentInFull}
	case "MOVED", "ASK":
		return w.decideRedirect(c, conn, reply)
	case "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING":
		return w.decideRefusal(c, string(code))
	}
	return verdict{}
}

func errorCode(reply []byte) []byte {
	code, _, _ := bytes.Cut(bytes.TrimSuffix(reply[1:], []byte("\r\n")), []byte(" "))
	return code
}

func (w *Worker) decideRedirect(c *call, conn *pool.Conn, reply []byte) verdict {
	unproven := c.req.cmd.Unproven()
	ask, slot, target, ok := redirection(reply, conn.Addr)
	switch odd := !ok || slot != c.group; {
	case unproven && (odd || !w.table.Clustered()):
		return verdict{}
	case !w.table.Clustered():
		return verdict{do: failed, text: errNodeIsCluster(c.node)}
	case odd:
		return verdict{do: failed, text: errNotExecuted(c.node, "its redirect makes no sense: "+clean(bytes.TrimSpace(reply[1:])))}
	}
	return verdict{do: followed, prove: unproven, ask: ask, target: target}
}

func (w *Worker) decideRefusal(c *call, code string) verdict {
	unproven := c.req.cmd.Unproven()
	switch refresh := code != "TRYAGAIN"; {
	case !w.table.Changes():
		return verdict{}
	case c.group < 0, unproven && code == "READONLY": // the reads that would prove it are not refused so
		return verdict{refresh: refresh}
	default:
		return verdict{do: retried, refresh: refresh, prove: unproven}
	}
}

// onError looks at an error reply. It returns true if the call goes on, so that the
// client must not see the error.
func (w *Worker) onError(c *call, conn *pool.Conn, frame, reply []byte) bool {
	v := w.decide(c, conn, reply)
	w.ready.Refresh = w.ready.Refresh || v.refresh
	switch v.do {
	case failed:
		w.stats.NotExecuted++
		w.settle(c, resp.AppendError(w.scratch[:0], v.text))
		return true
	case reread:
		c.node.doubt()
		if !w.reread(c, frame, false) {
			w.settle(c, resp.AppendError(w.scratch[:0], errNotExecuted(c.node, "the replica answers "+string(errorCode(reply)))))
		}
		return true
	case sentInFull:
		return w.onNoScript(c, conn, frame, reply)
	case followed, retried:
		if v.prove {
			claim := v // a copy: v itself is to stay off the heap
			return w.confirm(c, conn, frame, reply, func(said, frame, reply []byte) bool {
				return claim.isProven(c, conn, said, reply) && w.sendOn(c, frame, reply, &claim)
			})
		}
		if v.do == retried {
			c.node.refused(w.now, reply)
		}
		return w.sendOn(c, frame, reply, &v)
	}
	return false
}

// sendOn sends a call on to another node, or later. It returns false if neither may be.
func (w *Worker) sendOn(c *call, frame, reply []byte, v *verdict) bool {
	if v.do == retried {
		return w.putOff(c, frame, reply)
	}
	w.follow(c, frame, reply, v.ask, v.target)
	return true
}

// isProven reports whether what the node has said to a plain command for the same keys
// shows that it did not execute a script that it has answered with reply. A redirect
// is then followed as the plain command's says.
func (v *verdict) isProven(c *call, conn *pool.Conn, said, reply []byte) bool {
	if v.do == retried {
		return bytes.Equal(said, reply) || c.node.refusedAll(c.req.start, reply)
	}
	ask, slot, target, ok := redirection(said, conn.Addr)
	v.ask = ask
	return ok && slot == c.group && target == v.target
}
