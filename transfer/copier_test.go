package transfer_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/transfer"
)

// keyway is a process that moves keys, and serves clients. It may freeze and die.
type keyway struct {
	w      *world
	name   string
	dead   bool
	frozen bool
	inbox  []func() // what happens when it thaws
	conns  []*conn
	absent map[string]bool // proven
	links  map[[2]*node][]*link
}

// link is what one batch at a time uses.
type link struct {
	pair     transfer.Pair
	batch    transfer.Batch
	from, to *conn
	last     transfer.Side // to which it has sent
	isLost   bool
	done     func() // ends the batch that is under way
}

func (w *world) start(name string) *keyway {
	k := &keyway{w: w, name: name, absent: map[string]bool{}, links: map[[2]*node][]*link{}}
	w.ways = append(w.ways, k)
	return k
}

// when does something in the process, if it lives, once it is not frozen.
func (k *keyway) when(do func()) {
	switch {
	case k.dead:
	case k.frozen:
		k.inbox = append(k.inbox, do)
	default:
		do()
	}
}

func (k *keyway) later(d time.Duration, do func()) { k.w.after(d, func() { k.when(do) }) }

func (k *keyway) thaw() {
	k.frozen = false
	for inbox := k.inbox; len(inbox) > 0; inbox = inbox[1:] {
		k.inbox = nil
		k.when(inbox[0])
		if k.frozen || k.dead {
			k.inbox = slices.Concat(inbox[1:], k.inbox)
			return
		}
	}
}

// die ends the process. What it has sent still arrives.
func (k *keyway) die() {
	k.dead = true
	for _, c := range k.conns {
		c.dead = true
	}
}

// take returns a free link between two nodes.
func (k *keyway) take(from, to *node) *link {
	way := [2]*node{from, to}
	if free := k.links[way]; len(free) > 0 {
		k.links[way] = free[1:]
		return free[0]
	}
	w := k.w
	l := &link{pair: transfer.Pair{Fenced: w.fenced, Durable: w.durable, Strict: w.strict, Label: "7"}}
	if w.flush {
		l.pair.Guard = fmt.Sprint(k.name, "-", len(k.conns))
	}
	lost := func() {
		if l.isLost {
			return
		}
		l.isLost = true
		l.from.close()
		l.to.close()
		if done := l.done; done != nil {
			l.done = nil
			done()
		}
	}
	l.from, l.to = w.connect(from, k, lost), w.connect(to, k, lost)
	l.from.copies, l.to.copies = true, true
	return l
}

// pull moves keys, and calls done with what has become of them.
func (k *keyway) pull(from, to *node, keys []string, done func([]transfer.Key)) {
	l := k.take(from, to)
	l.batch.Begin(&l.pair, keys...)
	l.done = func() {
		way := [2]*node{from, to}
		if !l.isLost {
			k.links[way] = append(k.links[way], l)
		}
		outcomes := slices.Clone(l.batch.Keys())
		k.record(from, to, outcomes)
		done(outcomes)
	}
	k.step(l)
}

// step does what the batch needs next.
func (k *keyway) step(l *link) {
	if l.isLost {
		return
	}
	step := l.batch.Next(k.w.now)
	c := l.to
	switch {
	case step.To == transfer.None && step.Until > 0:
		k.later(time.Duration(step.Until-k.w.now), func() { k.step(l) })
		return
	case step.To == transfer.None:
		if f := l.batch.Failure(); f != nil {
			k.w.logf("%s: %+v", k.name, *f)
			if !f.IsReply && !f.Unconfirmed {
				k.w.violated("the batch does not understand a reply: %+v", *f)
			}
		}
		done := l.done
		l.done = nil
		done()
		return
	case step.To == transfer.Source:
		c = l.from
	}
	if !isTime(step.Frames) { // a copier that freezes in each sample would lengthen leases
		chance := 40
		if step.To != l.last { // between the two nodes is the worst place
			chance = 5
		}
		k.stumble(chance)
	}
	l.last = step.To
	k.when(func() { k.send(l, c, step.Frames, step.Replies) })
}

func isTime(frames []byte) bool { return string(frames) == "*1\r\n$4\r\nTIME\r\n" }

// send sends the frames of a step, and takes the replies.
func (k *keyway) send(l *link, c *conn, frames []byte, left int) {
	if l.isLost {
		return
	}
	c.send(frames, func(reply []byte) {
		l.batch.Reply(reply)
		if left--; left == 0 {
			k.step(l)
		}
	})
	if !isTime(frames) {
		k.stumble(40)
	}
}

// stumble freezes or ends the process right here, once in chance times.
func (k *keyway) stumble(chance int) {
	w := k.w
	switch {
	case w.calm || k.frozen || k.dead:
	case w.oneIn(chance):
		w.logf("%s freezes", k.name)
		k.frozen = true
		w.after(w.between(time.Millisecond, 600*time.Millisecond), k.thaw)
	case w.oneIn(80):
		w.replace(k)
	}
}

// replace ends a process, and starts another one.
func (w *world) replace(k *keyway) {
	w.logf("%s dies", k.name)
	k.die()
	w.ways = slices.DeleteFunc(w.ways, func(o *keyway) bool { return o == k })
	w.start(k.name + "'").sweepIf(w.oneIn(2) || !w.fenced)
}

// record remembers what has become of keys, and checks what can be seen of it.
func (k *keyway) record(from, to *node, keys []transfer.Key) {
	for i := range keys {
		key := &keys[i]
		k.w.outcomes[key.Outcome]++
		if key.Outcome.IsGone() {
			k.absent[key.Name] = true
			if _, ok := from.get(key.Name); ok && k.w.fenced {
				k.w.violated("%s is said to be gone from %s", key.Name, from.name)
			}
		}
		_, isStray := k.w.strays[key.Name]
		if k.w.fenced && (key.Outcome == transfer.Aside && !isStray || key.Outcome == transfer.Joined && isStray) {
			k.w.violated("what becomes of %s is %d", key.Name, key.Outcome)
		}
	}
}

// sweep moves all keys, some at a time, until the nodes that they leave have none.
func (k *keyway) sweep() {
	left := map[[2]*node][]string{}
	for _, key := range k.w.keys {
		if from, to := k.w.sides(key); !k.absent[key] {
			left[[2]*node{from, to}] = append(left[[2]*node{from, to}], key)
		}
	}
	ways := slices.SortedFunc(maps.Keys(left), func(a, b [2]*node) int {
		return strings.Compare(a[0].name+a[1].name, b[0].name+b[1].name)
	})
	for _, way := range ways {
		keys := left[way]
		k.w.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:1+k.w.rand.IntN(len(keys))]
		k.pull(way[0], way[1], keys, func([]transfer.Key) { k.later(k.w.between(0, 30*time.Millisecond), k.sweep) })
		return
	}
}
