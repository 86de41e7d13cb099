package locks

import (
	"cmp"
	"slices"
)

// Queue is events that wait for their table. Its zero value is empty.
type Queue struct {
	events []Event
	names  []byte // the events' keys and tokens
}

// Add appends a copy of an event.
func (q *Queue) Add(e *Event) {
	q.events = append(q.events, *e)
	kept := &q.events[len(q.events)-1]
	kept.Key, kept.Token = q.keep(e.Key), q.keep(e.Token)
}

// keep returns a copy of b. Earlier copies stay where they are when names grows.
func (q *Queue) keep(b []byte) []byte {
	if len(q.names)+len(b) > cap(q.names) {
		q.names = make([]byte, 0, max(2*cap(q.names), len(b), 1<<10))
	}
	q.names = append(q.names, b...)
	return q.names[len(q.names)-len(b) : len(q.names) : len(q.names)]
}

// Take appends the events of another queue, which must not be used any more. It reports
// whether there were any.
func (q *Queue) Take(from *Queue) bool {
	q.events = append(q.events, from.events...)
	return len(from.events) > 0
}

// Drain passes the events up to a time to apply, in the order of their times, and returns how
// many are left.
func (q *Queue) Drain(until int64, apply func(*Event)) (left int) {
	slices.SortStableFunc(q.events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	n := 0
	for n < len(q.events) && q.events[n].At <= until {
		apply(&q.events[n])
		n++
	}
	left = copy(q.events, q.events[n:])
	clear(q.events[left:])
	q.events = q.events[:left]
	if left == 0 {
		q.names = q.names[:0]
	}
	return left
}
