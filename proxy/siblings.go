package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Ask is something that a worker wants of its siblings, each of which does it on
// its own thread; see Ready.
type Ask struct {
	Token uint64 // of the answers; 0: none are wanted
	Do    func(sibling *Worker) (answer any)
}

// question is a client's command that waits for what the siblings say.
type question struct {
	left    int
	answers []any
	done    func(answers []any)
}

// askAll has every worker do something, this one at once, and answers the client
// with what conclude makes of the answers. do must not touch what belongs to this
// worker's thread, nor its answer what belongs to the other's.
func (w *Worker) askAll(s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte) bool {
	r := w.newRequest(s, cmd)
	r.call.node, r.call.group = &node{w: w}, -1
	s.inflight++
	w.askSiblings(do, func(answers []any) { w.settleFor(&r.call, conclude(answers)) })
	return true
}

// haveAll has every worker do something, this one at once, and tells the client OK
// when all have done it: what another client sends after that finds it done,
// whichever worker it belongs to.
func (w *Worker) haveAll(s *Session, cmd *command.Command, do func(*Worker)) bool {
	return w.askAll(s, cmd, func(o *Worker) any {
		do(o)
		return nil
	}, func([]any) []byte { return resp.AppendOK(nil) })
}

// askSiblings has every worker do something, this one at once, and done look at
// the answers.
func (w *Worker) askSiblings(do func(*Worker) any, done func(answers []any)) {
	q := &question{left: w.o.Workers - 1, answers: []any{do(w)}, done: done}
	if q.left == 0 {
		done(q.answers)
		return
	}
	w.token++
	w.questions[w.token] = q
	w.ready.Asks = append(w.ready.Asks, Ask{Token: w.token, Do: do})
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
		q.done(q.answers)
	}
}
