package proxy

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// nearWorld is a keyway with near_cache, clients, and a node whose hot key is a counter. What passes between them
// waits for as long as chance wants, each connection by itself. So an invalidation may come long after the reply
// to a later command.
type nearWorld struct {
	*nearRig
	random  *rand.Rand
	reads   int // one command of a quarter of these is no GET
	clients []*nearClient
	common  nearPath
	tracked nearPath

	counter   int
	isTracked bool
	history   []nearWrite
	told      int   // the value that the invalidations that have arrived have announced
	frozen    int64 // until when nothing arrives over the connection on which the node tracks
}

// nearPath is a connection between keyway and the node.
type nearPath struct {
	waits   [][]string
	replies []nearReply
	inMulti bool
}

// nearReply is what the node has said. told is the value that it announces, if it is an invalidation.
type nearReply struct {
	text string
	told int
}

// nearWrite is a value of the counter, and when it was replaced.
type nearWrite struct{ until, value int64 }

// nearClient is a client and the commands that it waits for.
type nearClient struct {
	*Session
	seen  int
	sent  []nearSent
	rest  string
	alone bool // it sends no command before it has all replies
}

// nearSent is a command: how many replies it has, and the least that the counter may be.
type nearSent struct{ replies, least int }

func newNearWorld(t *testing.T, seed uint64) *nearWorld {
	w := &nearWorld{nearRig: newNearRig(t, nil), random: rand.New(rand.NewPCG(seed, 0)), counter: 1}
	w.reads = 100 << (seed % 6)
	for i := range 4 {
		w.clients = append(w.clients, &nearClient{Session: w.open(), alone: i%2 == 0})
	}
	return w
}

// step lets one thing happen.
func (w *nearWorld) step() {
	c := w.clients[w.random.IntN(len(w.clients))]
	switch n := w.random.IntN(100); {
	case n < 45:
		w.clientSends(c)
	case n < 60:
		w.runs(&w.common)
	case n < 70:
		w.runs(&w.tracked)
	case n < 84:
		w.arrives(&w.common, w.rig.shared(w.home))
	case n < 92:
		w.arrives(&w.tracked, nil)
	case n == 92 && w.random.IntN(w.reads) < 20:
		w.write() // by somebody else
	case n == 98 && w.random.IntN(20) == 0:
		w.loses()
	case n == 99 && w.random.IntN(20) == 0:
		w.frozen = w.now + w.random.Int64N(int64(3*nearLease))
	default:
		w.later(time.Duration(w.random.Int64N(int64(5 * time.Millisecond))))
		w.w.Tick()
	}
	w.settle()
}

func (w *nearWorld) clientSends(c *nearClient) {
	if c.alone && len(c.sent) > 0 || len(c.sent) > 8 {
		return
	}
	text, replies := cmd("GET", w.hot), 1
	switch w.random.IntN(w.reads) {
	case 0:
		text = cmd("INCR", w.hot)
	case 1:
		text = cmd("MGET", "{x}other", w.hot)
	case 2:
		text = cmd("EVAL", "return redis.call('INCR', '"+w.hot+"')", "1", "{x}other")
	case 3:
		text, replies = cmd("MULTI")+cmd("INCR", w.hot)+cmd("EXEC"), 3
	}
	c.sent = append(c.sent, nearSent{replies, max(c.seen, w.told, w.leased())})
	w.w.Received(c.Session, []byte(text))
}

// leased returns the value that the counter had before the lease that ends now.
func (w *nearWorld) leased() int {
	for _, h := range w.history {
		if h.until > w.now-int64(nearLease) {
			return int(h.value)
		}
	}
	return w.counter
}

// settle ends the turn: what keyway has written is under way, and clients have their replies.
func (w *nearWorld) settle() {
	w.endTurn()
	w.common.waits = append(w.common.waits, parsed(w.sent(w.home))...)
	if l := w.last(w.home, isOwn); l != w.tracking {
		w.tracking, w.tracked, w.isTracked = l, nearPath{}, false
	}
	if w.tracking != nil && w.tracking.State() == pool.Dialing {
		answerAll(w.rig, w.tracking)
	}
	if w.isWatched() {
		w.tracked.waits = append(w.tracked.waits, parsed(take(w.tracking))...)
	}
	for i, c := range w.clients {
		c.rest += w.gets(c.Session)
		for len(c.sent) > 0 {
			one, rest, ok := resp.Split([]byte(c.rest))
			if !ok {
				break
			}
			c.rest = string(rest)
			n, isNumber := number(one)
			if s := &c.sent[0]; isNumber && n < max(s.least, c.seen) {
				w.t.Fatalf("client %d: %d, at least %d expected, it has seen %d", i, n, s.least, c.seen)
			}
			c.seen = max(c.seen, n)
			if c.sent[0].replies--; c.sent[0].replies == 0 {
				c.sent = c.sent[1:]
			}
		}
	}
}

// number returns the number in a reply, or in the last element of one.
func number(reply []byte) (n int, ok bool) {
	if reply[0] == '*' {
		count, rest, _ := resp.Elements(reply)
		for range count {
			reply, rest, _ = resp.Split(rest)
		}
	}
	text, isText := resp.Bulk(reply)
	if !isText && reply[0] == ':' {
		text = reply[1 : len(reply)-2]
	}
	n, err := strconv.Atoi(string(text))
	return n, err == nil
}

// parsed returns the commands in text.
func parsed(text string) (all [][]string) {
	for in := []byte(text); len(in) > 0; {
		one, rest, ok := resp.Split(in)
		if !ok {
			panic(fmt.Sprintf("%q", in))
		}
		var args []string
		n, elements, _ := resp.Elements(one)
		for range n {
			var e []byte
			e, elements, _ = resp.Split(elements)
			arg, _ := resp.Bulk(e)
			args = append(args, string(arg))
		}
		all, in = append(all, args), rest
	}
	return all
}

// write is a write to the hot key at the node.
func (w *nearWorld) write() string {
	w.history = append(w.history, nearWrite{w.now, int64(w.counter)})
	w.counter++
	if w.isTracked {
		w.isTracked = false
		w.tracked.replies = append(w.tracked.replies, nearReply{w.invalidates(), w.counter})
	}
	return fmt.Sprintf(":%d\r\n", w.counter)
}

// runs makes the node execute one command of a connection.
func (w *nearWorld) runs(p *nearPath) {
	if len(p.waits) == 0 {
		return
	}
	args := p.waits[0]
	p.waits = p.waits[1:]
	value := fmt.Sprintf("$%d\r\n%d\r\n", len(strconv.Itoa(w.counter)), w.counter)
	reply := ""
	switch args[0] {
	case "GET":
		reply = value
		w.isTracked = w.isTracked || p == &w.tracked
	case "PTTL":
		reply = ":-1\r\n"
	case "PING":
		reply = "+PONG\r\n"
	case "MGET":
		reply = "*2\r\n$-1\r\n" + value
	case "MULTI":
		p.inMulti, reply = true, "+OK\r\n"
	case "EXEC":
		p.inMulti, reply = false, "*1\r\n"+w.write()
	case "INCR", "EVAL":
		if reply = "+QUEUED\r\n"; !p.inMulti {
			reply = w.write()
		}
	default:
		w.t.Fatalf("the node got %q", args)
	}
	p.replies = append(p.replies, nearReply{text: reply})
}

// arrives gives keyway what the node has said first.
func (w *nearWorld) arrives(p *nearPath, conn *pool.Conn) {
	if len(p.replies) == 0 || conn == nil && (!w.isWatched() || w.now < w.frozen) {
		return
	}
	first := p.replies[0]
	p.replies = p.replies[1:]
	if conn != nil {
		conn.Received([]byte(first.text), w.now)
		return
	}
	w.tracking.Received([]byte(first.text), w.now)
	w.told = max(w.told, first.told)
}

// isWatched reports whether keyway has the connection on which the node tracks.
func (w *nearWorld) isWatched() bool { return w.tracking != nil && w.tracking.State() == pool.Ready }

// loses ends the connection on which the node tracks.
func (w *nearWorld) loses() {
	if w.isWatched() {
		w.tracking.Fail(w.now, "reset")
		w.tracked, w.isTracked = nearPath{}, false
	}
}

// TestNearAtRandom: whatever is late, and in whatever order things happen, no client sees a value older than it has
// seen or written, older than the last one that the node has announced, or than the lease allows.
func TestNearAtRandom(t *testing.T) {
	var all, misses uint64
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newNearWorld(t, seed)
			w.later(time.Second)
			for range 5000 {
				w.step()
			}
			shot := w.w.Snapshot()
			all, misses = all+shot.NearHits, misses+shot.NearMisses
		})
	}
	t.Logf("%d hits, %d misses", all, misses)
	if all < misses/20 || misses < 1000 {
		t.Errorf("%d hits, %d misses", all, misses)
	}
}
