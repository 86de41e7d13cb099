package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Ask is a message to the siblings: each executes Do on its own thread; see Ready.
type Ask struct {
	Token uint64 // passed to Answered with each answer; 0: no answers are wanted
	Do    func(sibling *Worker) (answer any)
}

// question is an Ask whose answers have not all come.
type question struct {
	left    int // siblings that have not answered
	answers []any
	done    func(answers []any)
}

// askAll executes do on every worker, at once on this one, and answers the client with the
// reply that conclude makes from the answers. do runs on other threads, so it must not use
// this worker's data, and its answer must not refer to the other worker's data.
func (w *Worker) askAll(
	s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte,
) bool {
	r := w.newRequest(s, cmd)
	r.call.node, r.call.group = &node{w: w}, -1
	s.inflight++
	w.askSiblings(do, func(answers []any) { w.settleFor(&r.call, conclude(answers)) })
	return true
}

// haveAll executes do on every worker, at once on this one, and answers OK when all have
// finished. So commands that any client of any worker sends after the OK see the effect.
func (w *Worker) haveAll(s *Session, cmd *command.Command, do func(*Worker)) bool {
	return w.askAll(s, cmd, func(o *Worker) any {
		do(o)
		return nil
	}, func([]any) []byte { return resp.AppendOK(nil) })
}

// askSiblings executes do on every worker, at once on this one, and calls done with the
// answers when all have come.
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

// tellSiblings executes do on the other workers.
func (w *Worker) tellSiblings(do func(*Worker)) {
	if w.o.Workers > 1 {
		w.ready.Asks = append(w.ready.Asks, Ask{Do: func(sibling *Worker) any {
			do(sibling)
			return nil
		}})
	}
}

// Answered delivers one sibling's answer to an Ask.
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

// thenAll settles the request's last call once every node has answered: with the first
// error, or with OK after all workers have applied change.
func (w *Worker) thenAll(r *request, change func(*Worker)) {
	m := r.merge
	last := m.call(r, len(m.replies)-1)
	last.node, last.group = &node{w: w}, -1
	r.sess.inflight++
	m.then = func() {
		for _, p := range m.replies[:len(m.replies)-1] {
			if len(p) > 0 && p[0] == '-' {
				w.settleFor(last, bytes.Clone(p))
				return
			}
		}
		w.askSiblings(func(o *Worker) any {
			change(o)
			return nil
		}, func([]any) { w.settleFor(last, resp.AppendOK(nil)) })
	}
}

// sum adds up the counts in the workers' answers.
func sum(counts []any) (n int) {
	for _, c := range counts {
		n += c.(int)
	}
	return n
}
