package quorum

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// world is a virtual clock and network, with nodes that hold locks, keyways and clients. Its
// nodes are written from the description of the steps, not from the script.
type world struct {
	rand   *rand.Rand
	now    int64
	events events
	count  int
	nodes  []*simNode
	ways   []*simKeyway
	trace  []string
	jumps  bool          // clocks jump, and keyways do not restart
	most   int           // how many commands of a keyway may be on their way to a node
	sent   map[*Op]int64 // when a node was first sent something of it
	ended  bool
	late   string // the first command that ended after its timeout, or its lease
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.events, event{w.now + int64(d), w.count, do})
}

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rand.Int64N(int64(b-a)+1))
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%9.3f ms  ", float64(w.now)/1e6)+fmt.Sprintf(format, args...))
}

// simNode is a node. Its clock runs at another speed, and may jump.
type simNode struct {
	w         *world
	name      string
	run       int
	dead      bool
	frozen    bool
	queue     []func() // what waits for a frozen node
	takes     time.Duration
	busyUntil int64
	lacks     bool // it does not know the script
	speed     float64
	ahead     int64
	locks     map[string]*simLock
	about     map[string]*simAbout
	knownRun  int
	waitUntil int64
}

type simLock struct {
	value string
	ends  int64 // by the node's clock
}

type simAbout struct {
	id     string
	number int64
	set    int64 // when the lock was set, by the node's clock
	ends   int64
}

func (n *simNode) clock() int64 { return int64(float64(n.w.now)*n.speed) + n.ahead }

// isNewer reports whether the lock, which the attempt by has set, is not the one that a command is
// about: that of its attempt, if it knows one; otherwise one that was set by that time, in microseconds.
func (a *simAbout) isNewer(by, attempt string, until, now int64) bool {
	if by != "" && attempt != "" {
		return by != attempt
	}
	return a.wasSetSince(until, now)
}

func (a *simAbout) wasSetSince(until, now int64) bool { return a.set/1000 > until && a.set <= now }

// countsAgain lets a late attempt of the holder prolong its lock, and returns what the node says.
func (a *simAbout) countsAgain(lock *simLock, ends, keep, number int64) string {
	lock.ends = max(lock.ends, ends)
	a.ends = lock.ends + keep
	a.countsForHolder()
	said := rises(number, a.number)
	a.number = max(a.number, number)
	return said
}

// rises returns what a node says that has a number and gets another.
func rises(number, has int64) string {
	if number > has {
		return "ok"
	}
	return "low"
}

// countsForHolder keeps what is set from being undone.
func (a *simAbout) countsForHolder() {
	if a.id != "" {
		a.id = "again " + strings.TrimPrefix(a.id, "again ")
	}
}

// do executes a step and returns the reply.
func (n *simNode) do(frame []byte) []byte {
	var p resp.Parser
	if _, _, err := p.Next(frame, &resp.DefaultLimits); err != nil {
		panic(err)
	}
	if n.lacks && string(p.Arg(0)) == "EVALSHA" {
		return resp.AppendError(nil, "NOSCRIPT No matching script.")
	}
	n.lacks = false
	arg := func(i int) string { return string(p.Arg(6 + i)) }
	number := func(i int) int64 {
		v, err := strconv.ParseInt(arg(i), 10, 64)
		if err != nil {
			panic(err)
		}
		return v
	}
	now, key, longest := n.clock(), string(p.Arg(3)), number(2)*int64(time.Millisecond)
	if n.knownRun != n.run || arg(1) == "wait" {
		n.knownRun, n.waitUntil = n.run, now+longest
	}
	waits := max(0, n.waitUntil-now)
	lock := n.locks[key]
	if lock != nil && lock.ends <= now {
		delete(n.locks, key)
		lock = nil
	}
	about := n.about[key]
	if about == nil || about.ends <= now {
		about = &simAbout{}
	}
	by, said := strings.TrimPrefix(about.id, "again "), "newer"
	if lock == nil || !about.isNewer(by, arg(5), number(10), now) || !concernsOlder(arg(1), lock.value == arg(3)) {
		said = n.step(arg, number, key, lock, about, waits, now)
	}
	frees := arg(1) == "release" || arg(1) == "delete"
	if frees && arg(5) != "" && arg(5) != by && n.locks[key] == nil {
		about.id, about.ends, n.about[key] = "freed "+arg(5), max(about.ends, now+longest), about
	}
	held, left := "", int64(-2)
	if lock != nil {
		held = lock.value
	}
	if l := n.locks[key]; l != nil {
		left = (l.ends - now) / int64(time.Millisecond)
	}
	if a := n.about[key]; a != nil {
		about = a
	}
	b := resp.AppendArray(nil, 7)
	b = resp.AppendBulkString(b, said)
	b = resp.AppendBulkString(b, held)
	b = resp.AppendBulkString(b, strconv.FormatInt(about.number, 10))
	b = resp.AppendInt(b, left)
	b = resp.AppendInt(b, (waits+999999)/int64(time.Millisecond))
	b = resp.AppendBulkString(b, strconv.FormatInt(now/int64(time.Microsecond), 10))
	return resp.AppendBulkString(b, by)
}

// concernsOlder reports whether a step must leave a lock alone that is newer than the client's command.
func concernsOlder(step string, mine bool) bool {
	return step == "delete" || mine && (step == "release" || step == "renew")
}

func (n *simNode) step(arg func(int) string, number func(int) int64, key string, lock *simLock, about *simAbout,
	waits, now int64,
) string {
	lease, keep := number(4)*int64(time.Millisecond), number(8)*int64(time.Millisecond)
	mine := lock != nil && lock.value == arg(3)
	said := "none"
	if mine {
		said = "ok"
	} else if lock != nil {
		said = "held"
	}
	set := func(id string, from int64) string {
		n.locks[key] = &simLock{arg(3), now + lease}
		said := rises(number(7), about.number)
		n.about[key] = &simAbout{id, max(about.number, number(7)), from, now + lease + keep}
		return said
	}
	switch arg(1) {
	case "acquire":
		if waits > 0 || about.id == "freed "+arg(5) {
			return strings.ReplaceAll(said, "ok", "held")
		}
		if lock == nil || mine && about.id != "" && (about.id == arg(5) || about.id == arg(6)) {
			return set(arg(5), now)
		}
		if lock != nil && agrees(lock.value, arg(3), number(9)) { // no attempt may undo it
			if about.wasSetSince(number(10), now) {
				return about.countsAgain(lock, now+lease, keep, number(7))
			}
			return set("again "+arg(5), now)
		}
		return "held"
	case "raise":
		if !mine || about.id != arg(5) && number(9) == 0 {
			return "held"
		}
		about.number = max(about.number, number(7))
	case "undo":
		if mine && about.id == arg(5) {
			n.free(key, about)
		}
	case "renew":
		if mine {
			lock.ends = now + lease
			about.countsForHolder()
			about.ends = now + lease + keep
		}
	case "adopt":
		if lock == nil && waits == 0 && about.id != "freed "+arg(6) {
			set(arg(5), min(now, number(10)*1000))
		}
	case "release", "delete":
		if mine || lock != nil && arg(1) == "delete" {
			n.free(key, about)
		}
	}
	return said
}

// receive executes a command when the earlier ones have been executed.
func (n *simNode) receive(execute func()) {
	if n.frozen {
		n.queue = append(n.queue, execute)
		return
	}
	if n.takes == 0 && n.busyUntil <= n.w.now {
		execute()
		return
	}
	n.busyUntil = max(n.busyUntil, n.w.now) + int64(n.takes)
	n.w.after(time.Duration(n.busyUntil-n.w.now), func() {
		if n.frozen {
			n.queue = append(n.queue, execute)
			return
		}
		execute()
	})
}

func (n *simNode) free(key string, about *simAbout) {
	delete(n.locks, key)
	about.id = "freed " + strings.TrimPrefix(about.id, "again ")
}

// agrees reports whether a client with a token may acquire a lock with this value again.
func agrees(value, token string, bytes int64) bool {
	if bytes <= 0 {
		return bytes < 0 && value == token
	}
	return value[:min(bytes, int64(len(value)))] == token[:min(bytes, int64(len(token)))]
}

// simKeyway is a keyway: its links to the nodes, and the commands under way.
type simKeyway struct {
	w       *world
	name    string
	life    int // grows when it restarts
	heard   int64
	group   *Group
	number  int64
	skew    time.Duration // of its wall clock
	links   []*simLink
	waiting []*simQueue
}

// simLink is a connection, on which nothing overtakes.
type simLink struct {
	cut         bool
	arrives     [2]int64 // when the last message arrived, to the node and from it
	undelivered []func()
	unanswered  []*simCommand
	next        *simLink // the one that has taken its place
}

type simCommand struct{ done func(reply []byte, ok bool) } // done is nil after it was called

// simQueue is what waits in a keyway for a node.
type simQueue struct {
	urgent, usual []*simSend
	inFlight      int
	busySince     int64
}

type simSend struct {
	o    *Op
	send Send
	pass func()
}

func (q *simQueue) isBusy() bool { return q.inFlight+len(q.urgent)+len(q.usual) > 0 }

func (k *simKeyway) boot(rule *Rule) {
	k.life++
	k.group, k.links, k.waiting = &Group{Rule: rule}, nil, nil
	for _, addr := range rule.Nodes {
		k.group.Members = append(k.group.Members, &Node{Addr: addr, Longest: rule.MaxLease.Milliseconds()})
		k.links, k.waiting = append(k.links, new(simLink)), append(k.waiting, new(simQueue))
	}
	k.lookAtAll(k.life)
}

// lookAtAll asks the nodes for their clocks, as keyway does.
func (k *simKeyway) lookAtAll(life int) {
	if k.life != life || k.w.ended {
		return
	}
	for i := range k.group.Members {
		k.look(i)
	}
	k.w.after(time.Second, func() { k.lookAtAll(life) })
}

func (k *simKeyway) look(i int) {
	m, sent := k.group.Members[i], k.w.now
	k.exchange(i, m.Look(), func(reply []byte, ok bool) {
		if !ok {
			return
		}
		if frame := m.Looked(reply, sent, k.w.now); frame != nil {
			k.exchange(i, frame, func([]byte, bool) {})
		}
		k.pump(i)
	})
}

// add queues a command for a node.
func (k *simKeyway) add(i int, e *simSend) {
	q := k.waiting[i]
	if !q.isBusy() {
		q.busySince = k.w.now
	}
	if e.send.Urgent || e.send.Whole {
		q.urgent = append(q.urgent, e)
	} else {
		q.usual = append(q.usual, e)
	}
	k.pump(i)
}

// pump sends what waits, as far as the node can take it.
func (k *simKeyway) pump(i int) {
	q, m := k.waiting[i], k.group.Members[i]
	for _, from := range []*[]*simSend{&q.urgent, &q.usual} {
		for len(*from) > 0 {
			e := (*from)[0]
			switch {
			case !e.o.Wants(e.send):
				*from = (*from)[1:]
				continue
			case m.IsSilent() || q.inFlight >= k.w.most:
				return
			}
			*from = (*from)[1:]
			k.write(i, e)
		}
	}
}

func (k *simKeyway) write(i int, e *simSend) {
	q := k.waiting[i]
	q.inFlight++
	if _, ok := k.w.sent[e.o]; !ok {
		k.w.sent[e.o] = k.w.now
	}
	k.exchange(i, e.o.Frame(nil, &e.send, k.w.now), func(reply []byte, ok bool) {
		q.inFlight--
		switch {
		case !ok:
			e.o.Lost(e.send, "lost", k.w.now)
		case LacksScript(reply) && !e.send.Whole:
			e.send.Whole = true
			k.group.Members[i].RecordAnswer(k.w.now)
			k.add(i, e)
		default:
			e.o.Answer(e.send, reply, k.w.now)
		}
		e.pass()
		k.pump(i)
	})
}

// notice counts nodes as silent that have been busy for the timeout and sent nothing.
func (k *simKeyway) notice() {
	for i, q := range k.waiting {
		m := k.group.Members[i]
		if q.isBusy() && k.w.now-max(q.busySince, m.Heard()) >= int64(k.group.Timeout) {
			m.Silence(k.group.Timeout)
		}
	}
}

// exchange sends a frame to a node, and passes the reply on.
func (k *simKeyway) exchange(i int, frame []byte, done func(reply []byte, ok bool)) {
	w, n, link, life := k.w, k.w.nodes[i], k.links[i], k.life
	c := &simCommand{done}
	link.unanswered = append(link.unanswered, c)
	finish := func(reply []byte, ok bool) {
		if done := c.done; done != nil && k.life == life {
			c.done = nil
			link.unanswered = slices.DeleteFunc(link.unanswered, func(o *simCommand) bool { return o == c })
			done(reply, ok)
		}
	}
	if n.dead {
		w.after(0, func() { finish(nil, false) })
		return
	}
	run := n.run
	k.transmit(link, 0, func() {
		execute := func() {
			if n.run != run {
				finish(nil, false)
				return
			}
			reply := n.do(frame)
			k.transmit(link, 1, func() {
				if k.life == life && c.done != nil {
					k.heard = w.now
				}
				finish(reply, true)
			})
		}
		n.receive(execute)
	})
	w.after(6*time.Second, func() {
		if c.done != nil && k.life == life {
			k.breakLink(i)
		}
	})
}

// breakLink ends a connection. What has been sent over it may still arrive, also behind what the next
// one carries.
func (k *simKeyway) breakLink(i int) {
	link := k.links[i]
	k.links[i] = &simLink{cut: link.cut}
	link.next = k.links[i]
	for _, c := range slices.Clone(link.unanswered) {
		if done := c.done; done != nil {
			c.done = nil
			done(nil, false)
		}
	}
	k.look(i)
}

// transmit delivers a message behind the earlier ones in its direction. What is sent over a cut
// link arrives when the link is whole again, also after keyway has given up.
func (k *simKeyway) transmit(link *simLink, direction int, deliver func()) {
	w := k.w
	delay := w.between(50*time.Microsecond, 2*time.Millisecond)
	if w.rand.IntN(40) == 0 {
		delay = w.between(0, 300*time.Millisecond)
	}
	at := max(w.now+int64(delay), link.arrives[direction])
	link.arrives[direction] = at
	w.after(time.Duration(at-w.now), func() {
		if link.cut {
			link.undelivered = append(link.undelivered, deliver)
			return
		}
		deliver()
	})
}

// run starts a command. done gets the operation, or nil if keyway died meanwhile.
func (k *simKeyway) run(c Command, done func(*Op)) {
	w, life := k.w, k.life
	if c.Kind == Acquire {
		k.number = max(k.number+1, (w.now+int64(k.skew))/int64(time.Microsecond)+1)
		c.Number = k.number
	}
	o, began := Begin(k.group, c, w.now), w.now
	isOver := false
	var pass func()
	pass = func() {
		for out := o.Take(); len(out) > 0; out = o.Take() {
			for _, send := range out {
				k.add(send.Node, &simSend{o, send, pass})
			}
		}
		quiet := time.Duration(w.now - max(began, k.heard))
		if o.Verdict == Pending && quiet > k.group.Timeout && w.late == "" {
			w.late = fmt.Sprintf("a command of %s has not ended after %s without an answer", k.name, quiet)
		}
		if o.Verdict != Pending && !isOver {
			isOver = true
			done(o)
		}
	}
	pass()
	var expire func()
	expire = func() {
		switch {
		case k.life == life && o.Verdict == Pending:
			k.notice()
			o.Expire(w.now, all)
			pass()
			if o.Verdict == Pending {
				w.after(time.Duration(o.Deadline()-w.now), expire)
			}
		case !isOver:
			isOver = true
			done(nil)
		}
	}
	w.after(k.group.Timeout, expire)
}
