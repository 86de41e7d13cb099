package quorum

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var seeds = flag.Int("seeds", 500, "how many seeds to simulate")

// TestLocksUnderFaults: with nodes that die, lose their data, freeze, are cut off, answer late
// and have clocks that jump, and keyways that restart, no two clients have a lock at the same
// time, and the numbers rise. The history of each lock is linearizable, and no command takes
// longer than the timeout.
func TestLocksUnderFaults(t *testing.T) {
	acquired, failed := 0, 0
	for seed := range uint64(*seeds) {
		h := simulate(seed)
		acquired += h.acquired
		if wrong := h.check(); wrong != "" {
			failed++
			t.Errorf("seed %d: %s\n%s", seed, wrong, strings.Join(h.w.trace, "\n"))
			if failed >= 3 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d seeds, %d acquisitions", *seeds, acquired)
	if acquired < *seeds {
		t.Errorf("only %d acquisitions: the faults leave nothing to check", acquired)
	}
}

// history is what the clients saw.
type history struct {
	w        *world
	ops      []porcupine.Operation
	holds    []hold
	shared   bool // several clients have the same token
	acquired int
}

// hold is a time during which a client is sure to have the lock.
type hold struct {
	client   int
	from, to int64
	number   int64
}

type lockInput struct {
	kind   Kind
	client int // who acquires, by the token: clients that acquire again may share one
	again  bool
	call   int64
	until  int64 // when the lease that it asks for ends for the client
}

type lockOutput struct {
	ended   int64
	verdict Verdict // Pending: the client does not know
	number  int64
}

// lockState is who has the lock, until when at least, and the highest number.
type lockState struct {
	client int
	until  int64
	number int64
}

// lockModel is a lock with leases. A lock may be refused at any time, since clients that
// compete can split the nodes between them.
var lockModel = porcupine.Model{
	Init: func() any { return lockState{client: -1} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(lockState), input.(lockInput), output.(lockOutput)
		mine, isFree := s.client == in.client, s.client < 0 || s.until <= out.ended
		switch {
		case in.kind == Acquire && out.verdict == Yes:
			rises := out.number > s.number || mine && in.again && out.number == s.number // it is its holder's
			isFree = isFree || mine && in.again
			return isFree && rises, lockState{in.client, in.until, out.number}
		case in.kind == Acquire && in.again && mine:
			s.until = min(s.until, in.until) // some nodes may have the new lease, or all
		case in.kind == Renew && out.verdict == Yes:
			s.until = max(s.until, in.until)
			return mine, s
		case in.kind == Renew && (out.verdict == Other || out.verdict == Missing):
			return !mine || isFree, s
		case in.kind == Release && out.verdict == Yes:
			return mine, lockState{-1, 0, s.number}
		case in.kind == Release && (out.verdict == Other || out.verdict == Missing):
			return !mine || isFree, s
		case in.kind == Release && mine, in.kind == Delete && (out.verdict == Pending || out.verdict == Failed):
			s.until = min(s.until, in.call) // it may have been released
		case in.kind == Delete:
			return true, lockState{-1, 0, s.number}
		}
		return true, s
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v: %+v", in, out) },
}

// check returns what is wrong with a history.
func (h *history) check() string {
	for i, a := range h.holds {
		for _, b := range h.holds[:i] {
			if h.shared {
				break // a client can shorten the other's lease meanwhile; the model knows that
			}
			if a.client != b.client && a.from < b.to && b.from < a.to {
				return fmt.Sprintf("clients %d and %d both had the lock: %+v %+v", a.client, b.client, a, b)
			}
		}
	}
	if h.w.late != "" {
		return h.w.late
	}
	if !porcupine.CheckOperations(lockModel, h.ops) {
		return "the history is not linearizable"
	}
	return ""
}

// simulate runs a world.
func simulate(seed uint64) *history {
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), jumps: seed%3 == 2}
	w.most, w.sent = 1+w.rand.IntN(4), map[*Op]int64{}
	h := &history{w: w}
	rule := &Rule{Timeout: 50 * time.Millisecond, Drift: 0.01, MaxLease: 4 * time.Second, Fencing: true}
	for i := range 3 + 2*w.rand.IntN(2) {
		n := &simNode{w: w, name: fmt.Sprint("n", i), run: 1, knownRun: 1, speed: 0.997 + 0.006*w.rand.Float64(),
			ahead: int64(w.between(0, time.Hour)), locks: map[string]*simLock{}, about: map[string]*simAbout{}}
		w.nodes = append(w.nodes, n)
		rule.Nodes = append(rule.Nodes, n.name)
	}
	for i := range 2 {
		k := &simKeyway{w: w, name: fmt.Sprint("k", i), skew: w.between(time.Hour, time.Hour+time.Second)}
		k.boot(rule)
		w.ways = append(w.ways, k)
	}
	sameToken := w.rand.IntN(3) == 0
	h.shared = seed%4 == 3
	for i := range 4 {
		c := &simClient{h: h, id: i, owner: i, way: w.ways[i%2], left: 12, sameToken: sameToken}
		switch {
		case h.shared: // two by two they have a token, and go through different keyways
			c.again, c.sameToken, c.owner = wholeToken, true, i/2
		case seed%4 == 2: // each for itself
			c.again, c.sameToken = wholeToken, false
		}
		w.after(w.between(0, time.Second), c.acquire)
	}
	w.after(w.between(0, time.Second), func() { w.fault(rule) })
	for len(w.events) > 0 && w.now < int64(60*time.Second) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.ended = true
	return h
}

// simClient acquires, renews and releases the lock over and over.
type simClient struct {
	h         *history
	id        int
	owner     int // of the token; see lockInput.client
	again     int // Command.Again of what it acquires
	way       *simKeyway
	left      int // attempts
	tokens    int
	sameToken bool // all clients use the same token
	token     string
	attempt   string // by which it has the lock
	earlier   string
}

// do runs a command, and records it.
func (c *simClient) do(cmd Command, then func(*Op)) {
	w := c.h.w
	if cmd.Kind != Acquire && w.rand.IntN(2) == 0 {
		cmd.ID = c.attempt
	}
	in := lockInput{kind: cmd.Kind, client: c.owner, again: cmd.Again != 0, call: w.now}
	in.until = w.now + cmd.Lease*990000
	i := len(c.h.ops)
	c.h.ops = append(c.h.ops, porcupine.Operation{ClientId: c.id, Input: in, Call: w.now, Return: int64(time.Hour),
		Output: lockOutput{ended: int64(time.Hour)}})
	until := int64(0) // when what the client has ends
	for _, h := range c.h.holds {
		if h.client == c.owner {
			until = max(until, h.to)
		}
	}
	kinds := []string{Acquire: "acquire", Renew: "renew", Release: "release", Delete: "delete"}
	w.logf("client %d: %s %s for %d ms over %s", c.id, kinds[cmd.Kind], cmd.Token, cmd.Lease, c.way.name)
	c.way.run(cmd, func(o *Op) {
		out := lockOutput{ended: w.now}
		verdict := "unknown, since keyway has restarted"
		if o != nil {
			verdict = []string{Yes: "yes", Missing: "missing", Other: "other", Failed: "failed: " + o.Reason}[o.Verdict]
			out.verdict, out.number = o.Verdict, o.Number
			if o.Verdict == Yes { // the lease begins when the first node is sent the command
				in.until = w.sent[o] + cmd.Lease*990000
				c.h.ops[i].Input = in
				if (cmd.Kind == Acquire || cmd.Kind == Renew) && in.until <= w.now && w.late == "" {
					w.late = fmt.Sprintf("client %d gets a lock whose lease is over", c.id)
				}
			}
		}
		w.logf("client %d: %s: %s %d", c.id, kinds[cmd.Kind], verdict, out.number)
		if c.sameToken && c.again == 0 && cmd.Kind != Acquire && w.now >= until {
			out = lockOutput{ended: w.now} // it may have concerned the lock of another client
		}
		c.h.ops[i].Output, c.h.ops[i].Return = out, w.now
		then(o)
	})
}

func (c *simClient) acquire() {
	w := c.h.w
	if c.left--; c.left < 0 {
		return
	}
	if c.earlier == "" || w.rand.IntN(2) == 0 {
		c.tokens++
		c.token = fmt.Sprintf("c%d-%d", c.id, c.tokens)
	}
	if w.rand.IntN(4) == 0 { // over another connection, which knows of no earlier attempt
		c.way, c.earlier = w.ways[w.rand.IntN(len(w.ways))], ""
	}
	if c.sameToken {
		c.token = "1"
	}
	if c.sameToken && c.again != 0 {
		c.token = fmt.Sprintf("o%d", c.owner)
	}
	c.set(func() { w.after(w.between(10*time.Millisecond, 400*time.Millisecond), c.acquire) })
}

// set acquires the lock, or acquires it again.
func (c *simClient) set(failed func()) {
	w := c.h.w
	lease := int64(w.between(100*time.Millisecond, 3*time.Second) / time.Millisecond)
	if w.rand.IntN(4) == 0 {
		lease = int64(w.between(10*time.Millisecond, 150*time.Millisecond) / time.Millisecond)
	}
	if c.h.shared { // else a late attempt could shorten the lease that another has got since
		lease = 1500
	}
	began, id := w.now, fmt.Sprintf("%d", w.rand.Uint64())
	cmd := Command{Kind: Acquire, Key: "lock", Token: c.token, Lease: lease, ID: id, Earlier: c.earlier}
	cmd.Again, c.attempt = c.again, id
	c.endHolds(began + lease*990000) // some nodes may get the new lease, or all
	c.do(cmd, func(o *Op) {
		c.earlier = ""
		if o == nil || o.Verdict != Yes {
			if o != nil {
				c.earlier = id
			}
			failed()
			return
		}
		c.h.acquired++
		c.h.holds = append(c.h.holds, hold{c.owner, w.now, w.sent[o] + lease*990000, o.Number})
		c.next(len(c.h.holds)-1, lease)
	})
}

// endHolds ends at a time what the owner has.
func (c *simClient) endHolds(at int64) {
	for i := range c.h.holds {
		if h := &c.h.holds[i]; h.client == c.owner {
			h.to = min(h.to, at)
		}
	}
}

// next renews, releases or forgets the lock that the client has.
func (c *simClient) next(at int, lease int64) {
	w := c.h.w
	w.after(w.between(0, time.Duration(lease)*time.Millisecond*9/10), func() {
		what := w.rand.IntN(5)
		if c.again != 0 && c.h.holds[at].to <= w.now { // it could release what a failed attempt has left
			c.acquire()
			return
		}
		frees := Release
		if !c.h.shared && w.rand.IntN(3) == 0 {
			frees = Delete
		}
		soon := c.h.holds[at].to-w.now < int64(300*time.Millisecond)
		if soon && (c.sameToken || frees == Delete && what > 1) {
			what = 4 // as with one Redis, it could concern the lock of the next client
		}
		if c.again != 0 && w.rand.IntN(2) == 0 {
			c.set(func() { c.next(at, lease) })
			return
		}
		switch what {
		case 0, 1:
			c.do(Command{Kind: Renew, Key: "lock", Token: c.token, Lease: lease}, func(o *Op) {
				isLate := c.sameToken && w.now >= c.h.holds[at].to // it may have renewed another client's lock
				if o != nil && o.Verdict == Yes && !isLate {
					c.h.holds[at].to = max(c.h.holds[at].to, w.sent[o]+lease*990000)
					c.next(at, lease)
					return
				}
				w.after(time.Duration(max(0, c.h.holds[at].to-w.now)), c.acquire)
			})
		case 2: // it does not wait for the reply to the renewal
			c.do(Command{Kind: Renew, Key: "lock", Token: c.token, Lease: lease}, func(*Op) {})
			c.free(frees, at)
		case 3:
			c.free(frees, at)
		default:
			w.after(time.Duration(lease)*time.Millisecond, c.acquire)
		}
	})
}

// free releases the lock that the client has.
func (c *simClient) free(how Kind, at int) {
	w, until := c.h.w, c.h.holds[at].to
	c.endHolds(w.now)
	c.do(Command{Kind: how, Key: "lock", Token: c.token}, func(*Op) {
		if comparesNoClient := how == Delete || c.sameToken; comparesNoClient && w.now >= until {
			for i := range c.h.holds { // it has taken so long that it may have freed the next client's
				h := &c.h.holds[i]
				h.to = min(h.to, max(h.from, until))
			}
		}
		w.after(w.between(0, 200*time.Millisecond), c.acquire)
	})
}

// fault breaks something, and mends it later.
func (w *world) fault(rule *Rule) {
	if w.now > int64(50*time.Second) {
		return
	}
	n := w.nodes[w.rand.IntN(len(w.nodes))]
	k := w.ways[w.rand.IntN(len(w.ways))]
	link := k.links[w.rand.IntN(len(k.links))]
	mend := w.between(time.Millisecond, 4*time.Second)
	switch what := w.rand.IntN(9); {
	case what <= 1 && !n.dead:
		w.logf("%s dies", n.name)
		n.dead, n.frozen, n.queue, n.lacks = true, false, nil, true
		n.run++
		if w.rand.IntN(4) > 0 {
			n.locks, n.about = map[string]*simLock{}, map[string]*simAbout{}
			n.knownRun = 0
		}
		w.after(mend/4, func() {
			w.logf("%s is back", n.name)
			n.dead = false
		})
	case what == 2 && !n.frozen && !n.dead:
		w.logf("%s freezes", n.name)
		n.frozen = true
		run := n.run
		w.after(mend, func() { n.thaw(run) })
	case what == 3 && !link.cut:
		w.logf("a link of %s is cut", k.name)
		link.cut = true
		w.after(mend*3, func() { link.heal() })
	case what == 4 && !w.jumps:
		w.logf("%s restarts", k.name)
		k.boot(rule)
	case what == 5 && w.jumps:
		by := w.between(100*time.Millisecond, time.Hour)
		if w.rand.IntN(3) == 0 {
			by = -by
		}
		w.logf("the clock of %s jumps by %s", n.name, by)
		n.ahead += int64(by)
	case what == 6:
		n.takes = w.between(0, 40*time.Millisecond)
		w.logf("%s takes %s for a command", n.name, n.takes)
		w.after(mend, func() { n.takes = 0 })
	case what == 7:
		w.logf("%s forgets the script", n.name)
		n.lacks = true
	case what == 8:
		i := slices.Index(k.links, link)
		w.logf("a connection of %s to n%d breaks", k.name, i)
		k.breakLink(i)
	}
	w.after(w.between(10*time.Millisecond, 2*time.Second), func() { w.fault(rule) })
}

func (n *simNode) thaw(run int) {
	if n.run != run {
		return
	}
	n.w.logf("%s thaws", n.name)
	n.frozen = false
	queue := n.queue
	n.queue = nil
	for _, do := range queue {
		do()
	}
}

func (l *simLink) heal() {
	if l.next != nil {
		l.next.heal()
	}
	l.cut = false
	undelivered := l.undelivered
	l.undelivered = nil
	for _, deliver := range undelivered {
		deliver()
	}
}
