package proxy

import (
	"github.com/keyway-proxy/keyway/command"
)

// Ask is something that a worker wants of its siblings, each of which does it on
// its own thread; see Ready.
type Ask struct {
	Token uint64 // of the answers; 0: none are wanted
	Do    func(sibling *Worker) (answer any)
}

// question is a client's command that waits for what the siblings say.
type question struct {
	call     *call
	left     int
	answers  []any
	conclude func(answers []any) (reply []byte)
}

// askAll has every worker do something, this one at once, and answers the client
// with what conclude makes of the answers. do must not touch what belongs to this
// worker's thread, nor its answer what belongs to the other's.
func (w *Worker) askAll(s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte) bool {
	q := &question{left: w.o.Workers - 1, answers: []any{do(w)}, conclude: conclude}
	if q.left == 0 {
		return w.reply(s, cmd, append(w.scratch[:0], conclude(q.answers)...))
	}
	r := w.newRequest(s, cmd)
	r.call.node, r.call.group = &node{w: w}, -1
	s.inflight++
	q.call = &r.call
	w.token++
	w.questions[w.token] = q
	w.ready.Asks = append(w.ready.Asks, Ask{Token: w.token, Do: do})
	return true
}

// tellSiblings has the other workers do something.
func (w *Worker) tellSiblings(do func(*Worker)) {
	if w.o.Workers > 1 {
		w.ready.Asks = append(w.ready.Asks, Ask{Do: func(sibling *Worker) any {
			do(sibling)
			return nil
		}})
	}
}

// Answered brings one sibling's answer to an Ask.
func (w *Worker) Answered(token uint64, answer any) {
	q := w.questions[token]
	if q == nil {
		return
	}
	q.answers = append(q.answers, answer)
	if q.left--; q.left == 0 {
		delete(w.questions, token)
		w.settleFor(q.call, q.conclude(q.answers))
	}
}
