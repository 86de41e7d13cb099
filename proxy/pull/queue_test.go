package pull

import (
	"fmt"
	"strings"
	"testing"
)

// fill returns a queue with n keys of each group, in turn.
func fill(groups uint16, n int) *queue {
	q := new(queue)
	for i := range n {
		for id := range groups {
			q.add(&want{name: fmt.Appendf(nil, "%d.%d", id, i), group: id})
		}
	}
	return q
}

func namesOf(keys []*want) string {
	var names []string
	for _, k := range keys {
		names = append(names, string(k.name))
	}
	return strings.Join(names, " ")
}

// TestQueue: groups take turns; in a group, keys go in the order in which they came.
func TestQueue(t *testing.T) {
	q := fill(3, 3)
	var taken []*want
	got := ""
	take := func(most int) {
		taken = q.take(q.next(), nil, most)
		got += namesOf(taken) + ", "
	}
	take(2)
	q.putBack(taken[1])
	q.remove(q.all()[0]) // 1.0
	take(2)
	take(100)
	take(100)
	if got != "0.0 0.1, 1.1 1.2, 2.0 2.1 2.2, 0.1 0.2, " || q.size != 0 {
		t.Errorf("%s; %d are left", got, q.size)
	}
}

// TestQueueTouchesOnlyWhatItTakes: the work for a batch does not grow with the queue.
func TestQueueTouchesOnlyWhatItTakes(t *testing.T) {
	for _, groups := range []uint16{1, 2000} {
		q := fill(groups, 2000/int(groups)*10)
		others := 0
		for i, k := range q.all() {
			if k.group == q.next() && i < maxBatch {
				continue
			}
			k.at.Value = nil // whoever looks at it panics
			others++
		}
		if batch := q.take(q.next(), nil, maxBatch); len(batch)+others != 20_000 || q.size != others {
			t.Errorf("%d groups: %d keys were taken, and %d are left", groups, len(batch), q.size)
		}
	}
}
