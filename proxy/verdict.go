package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// decide says what happens to a call whose node has answered with an error; onError does it.
//
// Only for plain commands does such an error prove that the node executed nothing. A script
// or a module may have written before it returned the same error.

// verdict says what happens to a call after an error reply.
type verdict struct {
	do      outcome
	refresh bool   // the topology may be out of date
	prove   bool   // first, keyway must prove that the node did not execute the command
	ask     bool   // followed: send ASKING first
	target  string // followed: the address of the node
	text    string // failed: the error for the client
}

// outcome says how the call continues.
type outcome uint8

const (
	delivered  outcome = iota // the client gets the error
	failed                    // the client gets another error: the command was not executed
	reread                    // keyway sends the read to another node than this replica
	sentInFull                // the node lacks the script, so keyway sends the text
	followed                  // keyway sends the call to the node that the redirect names
	retried                   // the call waits to be sent again
	unwatched                 // WATCH and its EXEC: nothing is watched any more
)

// decide returns the verdict about an error reply.
func decide(w *Worker, c *call, conn *pool.Conn, reply []byte) verdict {
	if to, ok := c.alone.(interface{ decide(reply []byte) verdict }); ok {
		return to.decide(reply)
	}
	code := errorCode(reply)
	if c.replica && freshness.Unserved(code) {
		return verdict{do: reread, refresh: code[0] == 'M'} // MOVED, or MASTERDOWN
	}
	switch string(code) {
	case "NOSCRIPT":
		return verdict{do: sentInFull}
	case "MOVED", "ASK":
		return decideRedirect(w, c, conn, reply)
	case "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING":
		return decideRefusal(w, c, string(code))
	}
	return verdict{}
}

// errorCode returns the first word of an error reply.
func errorCode(reply []byte) []byte {
	code, _, _ := bytes.Cut(bytes.TrimSuffix(reply[1:], []byte("\r\n")), []byte(" "))
	return code
}

func decideRedirect(w *Worker, c *call, conn *pool.Conn, reply []byte) verdict {
	unproven := c.req.cmd.Unproven()
	ask, slot, target, ok := redirection(reply, conn.Addr)
	switch odd := !ok || slot != c.group; {
	case unproven && (odd || !w.table.Clustered()):
		return verdict{}
	case !w.table.Clustered():
		return verdict{do: failed, text: errtext.NodeIsCluster(c.node.name, c.node.addr)}
	case odd:
		text := errtext.NotExecuted(c.node.label(),
			"its redirect makes no sense: "+resp.Printable(bytes.TrimSpace(reply[1:])))
		return verdict{do: failed, text: text}
	}
	return verdict{do: followed, prove: unproven, ask: ask, target: target}
}

func decideRefusal(w *Worker, c *call, code string) verdict {
	unproven := c.req.cmd.Unproven()
	switch refresh := code != "TRYAGAIN"; {
	case !w.table.Changes():
		return verdict{}
	case c.group < 0, unproven && code == "READONLY": // EXISTS cannot prove it: a replica does not refuse reads
		return verdict{refresh: refresh}
	default:
		return verdict{do: retried, refresh: refresh, prove: unproven}
	}
}

// onError handles an error reply. It returns true if the client must not get the error,
// because the call continues or already has another reply.
func (c *call) onError(conn *pool.Conn, frame []byte, reply []byte) bool {
	w := c.worker()
	v := decide(w, c, conn, reply)
	w.ready.Refresh = w.ready.Refresh || v.refresh
	switch v.do {
	case failed:
		w.stats.NotExecuted++
		c.settle(resp.AppendError(w.scratch[:0], v.text))
		return true
	case reread:
		c.node.lag.Doubt()
		if !c.readAgain(frame, false) {
			text := errtext.NotExecuted(c.node.label(), "the replica answers "+string(errorCode(reply)))
			c.settle(resp.AppendError(w.scratch[:0], text))
		}
		return true
	case sentInFull:
		return w.scripts.onNoScript(c, conn, frame, reply)
	case followed, retried:
		if v.prove {
			claim := v // a copy, so that v itself stays off the heap
			return w.scripts.confirm(c, conn, frame, reply, func(answer, frame, reply []byte) bool {
				return claim.isProven(c, conn, answer, reply) && c.sendOn(frame, reply, &claim)
			})
		}
		if v.do == retried {
			c.node.refused(w.now, reply)
		}
		return c.sendOn(frame, reply, &v)
	}
	return false
}

// sendOn follows a redirect, or queues the call to be sent again. It returns false if the
// call may not wait.
func (c *call) sendOn(frame []byte, reply []byte, v *verdict) bool {
	w := c.worker()
	if v.do == retried {
		return w.retries.putOff(c, frame, reply)
	}
	c.follow(frame, reply, v.ask, v.target)
	return true
}

// isProven reports whether answer, the node's reply to a plain command for the same keys, proves
// that the node did not execute the script that it answered with reply. For a redirect, answer
// also decides whether ASKING is needed.
func (v *verdict) isProven(c *call, conn *pool.Conn, answer, reply []byte) bool {
	if v.do == retried {
		return bytes.Equal(answer, reply) || c.node.refusedAll(c.req.start, reply)
	}
	ask, slot, target, ok := redirection(answer, conn.Addr)
	v.ask = ask
	return ok && slot == c.group && target == v.target
}

// notHere reports whether an error means that this node cannot execute the command, now or
// at all, while another node or a later attempt may.
func notHere(reply []byte) bool {
	if isRedirect(reply) {
		return true
	}
	for _, code := range []string{"-CLUSTERDOWN ", "-READONLY ", "-MASTERDOWN ", "-TRYAGAIN ", "-LOADING "} {
		if bytes.HasPrefix(reply, []byte(code)) {
			return true
		}
	}
	return false
}

// isRedirect reports whether an error is MOVED or ASK.
func isRedirect(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-MOVED ")) || bytes.HasPrefix(reply, []byte("-ASK "))
}
