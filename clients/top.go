package clients

import "slices"

// Key is where an element comes in an order: large numbers come first, texts in their order, and small IDs.
type Key struct {
	Number float64
	Text   string
	ID     uint64
	// IsReversed turns the order around. Keys that are compared agree on it.
	IsReversed bool
}

func (k Key) compare(o Key) int {
	if k.IsReversed {
		k, o = o, k
	}
	switch {
	case k.Number != o.Number:
		if k.Number > o.Number {
			return -1
		}
		return 1
	case k.Text != o.Text:
		if k.Text < o.Text {
			return -1
		}
		return 1
	case k.ID == o.ID:
		return 0
	case k.ID < o.ID:
		return -1
	}
	return 1
}

// Top collects the first elements of many, and keeps few of the others.
type Top[T any] struct {
	count  int
	all    []ranked[T]
	isFull bool // the first count elements are in order, and later ones come before the last of them
}

type ranked[T any] struct {
	key Key
	it  T
}

// NewTop returns an empty collection of at most count elements, above 0.
func NewTop[T any](count int) *Top[T] { return &Top[T]{count: count} }

// Add adds an element if it may be one of the first.
func (t *Top[T]) Add(key Key, it T) {
	if t.isFull && key.compare(t.all[t.count-1].key) > 0 {
		return
	}
	if t.all = append(t.all, ranked[T]{key, it}); len(t.all) >= 2*t.count {
		t.cut()
	}
}

// cut drops all but the first elements.
func (t *Top[T]) cut() {
	slices.SortFunc(t.all, func(a, b ranked[T]) int { return a.key.compare(b.key) })
	if len(t.all) >= t.count {
		t.all, t.isFull = t.all[:t.count], true
	}
}

// First returns the first elements, in order. Add must not be called later.
func (t *Top[T]) First() []T {
	t.cut()
	first := make([]T, len(t.all))
	for i := range t.all {
		first[i] = t.all[i].it
	}
	return first
}
