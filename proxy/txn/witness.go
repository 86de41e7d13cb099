package txn

import (
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// blockWitness gets the reply to EXEC for the witnesses of the commands that it executes.
type blockWitness struct {
	commands []engine.WitnessedReply // by the commands' indexes; nil: nobody wants the reply
}

// witness shows the worker's Witness the queued commands that may change a lock, while the
// client is still in MULTI. They go to n.
func (t *txn) witness(w *engine.Worker, r *engine.Request, n *engine.Node) {
	if !t.locks || w.Witness == nil {
		return
	}
	b := &blockWitness{commands: make([]engine.WitnessedReply, t.Queued)}
	for i := range b.commands {
		b.commands[i] = t.witnessOne(w, r.Session, i, n)
	}
	r.WitnessWith(b)
}

// witnessOne shows the Witness one command, the i-th.
func (t *txn) witnessOne(w *engine.Worker, s *engine.Session, i int, n *engine.Node) engine.WitnessedReply {
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	if _, st, err := p.Next(t.shown(i), &w.Inputs.Limits); err != nil || st != resp.Ready {
		return nil
	}
	cmd := w.Learned.CommandOf(p)
	if cmd == nil || !cmd.Lock.Changes() {
		return nil
	}
	return w.Witness.Sent(s, cmd, p, n)
}

// Replied implements engine.WitnessedReply. If the reply is not whole, what it lacks is dropped.
// Nothing was executed if it is null or an error.
func (b *blockWitness) Replied(reply []byte) {
	_, rest, ok := resp.Elements(reply)
	for _, one := range b.commands {
		var element []byte
		if ok {
			element, rest, ok = resp.Split(rest)
		}
		switch {
		case one == nil:
		case ok:
			one.Replied(element)
		default:
			one.Drop()
		}
	}
}

// Drop implements engine.WitnessedReply.
func (b *blockWitness) Drop() { b.Replied(nil) }
