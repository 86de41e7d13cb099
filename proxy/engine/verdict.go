package engine

import (
	"bytes"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
)

// Decide says what happens to a call whose node has answered with an error; onError does it.
//
// Only for plain commands does such an error prove that the node executed nothing. A script
// or a module may have written before it returned the same error.

// Verdict says what happens to a call after an error reply.
type Verdict struct {
	Do      outcome
	Refresh bool   // the topology may be out of date
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
	Unwatched                 // WATCH and its EXEC: nothing is watched any more
)

// judge is the receiver of a call that decides about errors itself.
type judge interface {
	// Decide returns the verdict about an error reply.
	Decide(reply []byte) Verdict
}

// Decide returns the verdict about an error reply.
func Decide(w *Worker, c *Call, conn *pool.Conn, reply []byte) Verdict {
	if to, ok := c.alone.(judge); ok {
		return to.Decide(reply)
	}
	code := refusal.Code(reply)
	if c.replica && freshness.Unserved(code) {
		return Verdict{Do: reread, Refresh: code[0] == 'M'} // MOVED, or MASTERDOWN
	}
	if w.isStale(c) && c.isRepeatable() && refusal.CannotServe(reply) { // the keys may have another owner now
		return Verdict{Do: retried, Refresh: true, prove: c.Request.Command.Unproven()}
	}
	switch string(code) {
	case "NOSCRIPT":
		return Verdict{Do: sentInFull}
	case "MOVED", "ASK":
		return decideRedirect(w, c, conn, reply)
	case "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING":
		return decideRefusal(w, c, string(code))
	}
	return Verdict{}
}

func decideRedirect(w *Worker, c *Call, conn *pool.Conn, reply []byte) Verdict {
	unproven := c.Request.Command.Unproven()
	r, ok := refusal.ParseRedirect(reply, conn.Addr)
	switch odd := !ok || r.Slot != c.Group; {
	case unproven && (odd || !w.Table.Clustered()):
		return Verdict{}
	case !w.Table.Clustered():
		return Verdict{Do: failed, text: errtext.NodeIsCluster(c.Node.name, c.Node.Addr)}
	case odd:
		text := errtext.NotExecuted(c.Node.Label(),
			"its redirect makes no sense: "+resp.Printable(bytes.TrimSpace(reply[1:])))
		return Verdict{Do: failed, text: text}
	}
	return Verdict{Do: followed, prove: unproven, ask: r.Ask, target: r.To}
}

func decideRefusal(w *Worker, c *Call, code string) Verdict {
	unproven := c.Request.Command.Unproven()
	switch refresh := code != "TRYAGAIN"; {
	case !w.Table.Changes():
		return Verdict{}
	case c.Group < 0, unproven && code == "READONLY": // EXISTS cannot prove it: a replica does not refuse reads
		return Verdict{Refresh: refresh}
	default:
		return Verdict{Do: retried, Refresh: refresh, prove: unproven}
	}
}

// onError handles an error reply. It returns true if the client must not get the error,
// because the call continues or already has another reply.
func (c *Call) onError(conn *pool.Conn, frame []byte, reply []byte) bool {
	w := c.Worker()
	v := Decide(w, c, conn, reply)
	w.Ready.Refresh = w.Ready.Refresh || v.Refresh
	switch v.Do {
	case failed:
		w.Stats.NotExecuted++
		c.Settle(resp.AppendError(w.Scratch[:0], v.text))
		return true
	case reread:
		c.Node.lag.Doubt()
		if !c.readAgain(frame, false) {
			text := errtext.NotExecuted(c.Node.Label(), "the replica answers "+string(refusal.Code(reply)))
			c.Settle(resp.AppendError(w.Scratch[:0], text))
		}
		return true
	case sentInFull:
		return w.Scripts.onNoScript(c, conn, frame, reply)
	case followed, retried:
		if v.prove {
			claim := v // a copy, so that v itself stays off the heap
			return w.Scripts.confirm(c, conn, frame, reply, func(answer, frame, reply []byte) bool {
				return claim.isProven(c, conn, answer, reply) && c.sendOn(frame, reply, &claim)
			})
		}
		if v.Do == retried {
			c.Node.refusals.Record(w.Now, reply)
		}
		return c.sendOn(frame, reply, &v)
	}
	return false
}

// sendOn follows a redirect, or queues the call to be sent again. It returns false if the
// call may not wait.
func (c *Call) sendOn(frame []byte, reply []byte, v *Verdict) bool {
	w := c.Worker()
	if stale := w.isStale(c); stale || v.Do == retried {
		if !w.PlaceAgain(c, frame) {
			return true // it is settled
		}
		waits := w.retries.putOff(c, frame, reply)
		if !waits && stale {
			c.lastErr = append(c.lastErr[:0], reply...)
			c.Settle(w.retries.finalError(c))
		}
		return waits || stale
	}
	c.follow(frame, reply, v.ask, v.target)
	return true
}

// isProven reports whether answer, the node's reply to a plain command for the same keys, proves
// that the node did not execute the script that it answered with reply. For a redirect, answer
// also decides whether ASKING is needed.
func (v *Verdict) isProven(c *Call, conn *pool.Conn, answer, reply []byte) bool {
	if v.Do == retried {
		return bytes.Equal(answer, reply) || c.Node.refusals.Repeats(c.Request.start, reply)
	}
	r, ok := refusal.ParseRedirect(answer, conn.Addr)
	v.ask = r.Ask
	return ok && r.Slot == c.Group && r.To == v.target
}
