package locks

import "unsafe"

// Batch is events of one thread, in the order of their times. Its zero value is empty.
type Batch struct {
	events []Event
	names  []byte // the events' keys and tokens
	next   int    // of events, once it is in a queue
}

// maxBatch is how many events a batch has at most. No thread sees so many in a tenth of a second, unless
// clients send DEL with very many keys.
const maxBatch = 1 << 15

// Add appends a copy of an event, which must not be earlier than those before. A batch that is full
// drops it.
func (b *Batch) Add(e *Event) {
	if len(b.events) == maxBatch {
		return
	}
	b.events = append(b.events, *e)
	kept := &b.events[len(b.events)-1]
	kept.Key, kept.Token = b.keep(e.Key), b.keep(e.Token)
}

// keep returns a copy of name. Earlier copies stay where they are when names grows.
func (b *Batch) keep(name []byte) []byte {
	if len(b.names)+len(name) > cap(b.names) {
		b.names = make([]byte, 0, max(2*cap(b.names), len(name), 1<<10))
	}
	b.names = append(b.names, name...)
	return b.names[len(b.names)-len(name) : len(b.names) : len(b.names)]
}

// IsEmpty reports whether the batch has no events.
func (b *Batch) IsEmpty() bool { return len(b.events) == 0 }

// memory returns how many bytes an empty batch keeps.
func (b *Batch) memory() int { return cap(b.events)*int(unsafe.Sizeof(Event{})) + cap(b.names) }

// Queue is batches of all threads that wait for a table. Its zero value is empty.
type Queue struct {
	batches []*Batch
	unused  []*Batch
	kept    int // bytes of the unused ones
}

// maxKept is how many bytes a queue keeps for reuse.
const maxKept = 8 << 20

// Batch returns an empty batch.
func (q *Queue) Batch() *Batch {
	n := len(q.unused)
	if n == 0 {
		return new(Batch)
	}
	b := q.unused[n-1]
	q.unused = q.unused[:n-1]
	q.kept -= b.memory()
	return b
}

// Take adds a batch, which the caller must not use any more.
func (q *Queue) Take(b *Batch) { q.batches = append(q.batches, b) }

// Drain passes the events up to a time to apply, in the order of their times, and reports whether
// others are left.
func (q *Queue) Drain(until int64, apply func(*Event)) (areLeft bool) {
	for {
		first, limit := q.earliest(until)
		if first == nil {
			break
		}
		for first.next < len(first.events) && first.events[first.next].At <= limit {
			apply(&first.events[first.next])
			first.next++
		}
	}
	left := q.batches[:0]
	for _, b := range q.batches {
		if b.next < len(b.events) {
			left = append(left, b)
		} else if q.kept+b.memory() <= maxKept {
			clear(b.events)
			b.events, b.names, b.next = b.events[:0], b.names[:0], 0
			q.kept += b.memory()
			q.unused = append(q.unused, b)
		}
	}
	clear(q.batches[len(left):])
	q.batches = left
	return len(left) > 0
}

// earliest returns the batch with the earliest event, or nil if that is later than until, and the time up to
// which the events of no other batch come before those of this one.
func (q *Queue) earliest(until int64) (first *Batch, limit int64) {
	limit = until
	for _, b := range q.batches {
		if b.next == len(b.events) {
			continue
		}
		switch at := b.events[b.next].At; {
		case at > limit:
		case first == nil || at < first.events[first.next].At:
			if first != nil {
				limit = first.events[first.next].At
			}
			first = b
		default:
			limit = at
		}
	}
	return first, limit
}
