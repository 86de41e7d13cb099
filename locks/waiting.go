package locks

import (
	"bytes"
	"slices"
	"strings"
)

// The clients that wait for a lock are of three kinds: pollers, which were refused within the
// last second; subscribers of the channel that wakes them; and clients inside a blocking
// command on a list that gets an element when the lock is released.

// subscribed returns how many clients wait for the message that the lock was released.
func (t *Table) subscribed(e *entry, q Query) int {
	switch {
	case e.library == libRegistry:
		// Each process subscribes to the channels of all locks, and stays subscribed. So a
		// process waits for this lock if it was refused and has not tried again since: it does
		// when the message comes, or a lease later.
		i := bytes.IndexByte(e.key, ':')
		if i < 1 || q.PatternSubscribers == nil {
			return 0
		}
		refused := 0
		for _, p := range e.pollers {
			if age := t.now - p.last; age > pollerAge && age <= max(e.lease, pollerAge) {
				refused++
			}
		}
		if refused == 0 {
			return 0
		}
		return min(refused, q.PatternSubscribers(string(e.key[:i])+"-channel:*"))
	case e.how == nil || e.how.Channel == "" || q.Subscribers == nil:
		return 0
	case bytes.IndexByte(e.key, '{') >= 0:
		return q.Subscribers(e.how.Channel + ":" + string(e.key))
	}
	return q.Subscribers(e.how.Channel + ":{" + string(e.key) + "}")
}

// pollerGone returns after what time without an attempt a poller has surely given up.
func (e *entry) pollerGone() int64 {
	if e.library == libRegistry {
		return max(10*pollerAge, e.lease)
	}
	return 10 * pollerAge
}

// signal returns the list on which clients of python-redis-lock wait for a lock, or "".
func (r *Row) signal() string {
	name, ok := strings.CutPrefix(r.Key, "lock:")
	if !ok {
		return ""
	}
	return "lock-signal:" + name
}

// Part is what one thread knows of the locks.
type Part struct {
	Rows    []Row          // of the locks that it keeps
	Blocked map[string]int // how many of its clients wait inside blocking commands, by key
}

// Join returns the rows of all threads, at most count: those with waiters first, then those that are held for
// longest. It changes the parts.
func Join(parts []Part, count int) []Row {
	var all []*Row
	for _, p := range parts {
		for i := range p.Rows {
			all = append(all, &p.Rows[i])
		}
	}
	for _, p := range parts {
		if len(p.Blocked) == 0 {
			continue
		}
		for _, r := range all {
			r.Blocked += p.Blocked[r.Key] + p.Blocked[r.signal()]
		}
	}
	slices.SortFunc(all, compareRows)
	rows := make([]Row, min(len(all), max(count, 0)))
	for i := range rows {
		rows[i] = *all[i]
	}
	return rows
}
