package pull

import (
	"container/list"
)

// queue has keys of a pair that are not in the batch. Only keys of one group may move together; groups take
// turns. What it does for a key, or for a batch, does not depend on how many keys there are.
type queue struct {
	size   int
	groups map[uint16]*list.Element // of turns, by the group
	turns  list.List                // of *group
}

// group has keys that may move together, in the order in which they came.
type group struct {
	id   uint16
	keys list.List // of *want
}

// groupOf returns the group of a key. A new one has its turn last.
func (q *queue) groupOf(k *want) *group {
	at := q.groups[k.group]
	if at == nil {
		if q.groups == nil {
			q.groups = map[uint16]*list.Element{}
		}
		at = q.turns.PushBack(&group{id: k.group})
		q.groups[k.group] = at
	}
	return at.Value.(*group)
}

// add adds a key behind those of its group.
func (q *queue) add(k *want) {
	k.in, k.at = q, q.groupOf(k).keys.PushBack(k)
	q.size++
}

// putBack adds a key before those of its group.
func (q *queue) putBack(k *want) {
	k.in, k.at = q, q.groupOf(k).keys.PushFront(k)
	q.size++
}

// remove removes a key.
func (q *queue) remove(k *want) {
	g := q.groupOf(k)
	g.keys.Remove(k.at)
	k.in, k.at = nil, nil
	q.size--
	if g.keys.Len() == 0 {
		q.turns.Remove(q.groups[g.id])
		delete(q.groups, g.id)
	}
}

// next returns the group whose turn it is. The queue must not be empty.
func (q *queue) next() uint16 { return q.turns.Front().Value.(*group).id }

// take moves the first keys of a group to a batch, until that has most keys. What is left of the group has its
// next turn last.
func (q *queue) take(id uint16, batch []*want, most int) []*want {
	at := q.groups[id]
	if at == nil {
		return batch
	}
	q.turns.MoveToBack(at)
	for keys := &at.Value.(*group).keys; keys.Len() > 0 && len(batch) < most; {
		k := keys.Front().Value.(*want)
		q.remove(k)
		batch = append(batch, k)
	}
	return batch
}

// all returns the keys.
func (q *queue) all() (keys []*want) {
	for g := q.turns.Front(); g != nil; g = g.Next() {
		for k := g.Value.(*group).keys.Front(); k != nil; k = k.Next() {
			keys = append(keys, k.Value.(*want))
		}
	}
	return keys
}
