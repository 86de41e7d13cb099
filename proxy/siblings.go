package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// siblings is how a worker talks to the workers of the other threads.
type siblings struct {
	w         *Worker
	questions map[uint64]*question // by token
	token     uint64               // of the last question
}

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
func (sb *siblings) askAll(
	s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte,
) bool {
	r := s.newRequest(cmd)
	r.call.node, r.call.group = &node{w: sb.w}, -1
	s.inflight++
	sb.ask(do, func(answers []any) { r.call.settleFor(conclude(answers)) })
	return true
}

// haveAll executes do on every worker, at once on this one, and answers OK when all have
// finished. So commands that any client of any worker sends after the OK see the effect.
func (sb *siblings) haveAll(s *Session, cmd *command.Command, do func(*Worker)) bool {
	return sb.askAll(s, cmd, func(o *Worker) any {
		do(o)
		return nil
	}, func([]any) []byte { return resp.AppendOK(nil) })
}

// ask executes do on every worker, at once on this one, and calls done with the
// answers when all have come.
func (sb *siblings) ask(do func(*Worker) any, done func(answers []any)) {
	w := sb.w
	q := &question{left: w.o.Workers - 1, answers: []any{do(w)}, done: done}
	if q.left == 0 {
		done(q.answers)
		return
	}
	sb.token++
	sb.questions[sb.token] = q
	w.ready.Asks = append(w.ready.Asks, Ask{Token: sb.token, Do: do})
}

// tell executes do on the other workers.
func (sb *siblings) tell(do func(*Worker)) {
	w := sb.w
	if w.o.Workers > 1 {
		w.ready.Asks = append(w.ready.Asks, Ask{Do: func(sibling *Worker) any {
			do(sibling)
			return nil
		}})
	}
}

// Answered delivers one sibling's answer to an Ask.
func (w *Worker) Answered(token uint64, answer any) {
	q := w.siblings.questions[token]
	if q == nil {
		return
	}
	q.answers = append(q.answers, answer)
	if q.left--; q.left == 0 {
		delete(w.siblings.questions, token)
		q.done(q.answers)
	}
}

// thenAll settles the request's last call once every node has answered: with the first
// error, or with OK after all workers have applied change.
func (sb *siblings) thenAll(r *request, change func(*Worker)) {
	m := r.merge
	last := m.call(r, len(m.replies)-1)
	last.node, last.group = &node{w: sb.w}, -1
	r.sess.inflight++
	m.then = func() {
		for _, p := range m.replies[:len(m.replies)-1] {
			if len(p) > 0 && p[0] == '-' {
				last.settleFor(bytes.Clone(p))
				return
			}
		}
		sb.ask(func(o *Worker) any {
			change(o)
			return nil
		}, func([]any) { last.settleFor(resp.AppendOK(nil)) })
	}
}

// sum adds up the counts in the workers' answers.
func sum(counts []any) (n int) {
	for _, c := range counts {
		n += c.(int)
	}
	return n
}
