package sim

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// client pipelines commands on keys of its own and judges every reply.
type client struct {
	id      int
	world   *world
	session *proxy.Session
	toProxy []byte
	got     []byte
	waiting []question
	open    bool
	stall   int64 // until when it does not read

	seq    int
	latest map[string]int // the last acknowledged SET of each key
	pushed map[string]map[string]fate

	transactions []*transaction
	apart        map[string]bool // elements that took another connection, behind WATCH
	passed       map[string]bool // that such a one has passed

	popped, delivered, unknownPops map[string]int // by queue: the last element that BLPOP gave, how many, and how many may have been lost
}

// mayPass tells whether a later element may be executed before an earlier one: it
// went another way when the client had been answered that nobody knows what
// becomes of the earlier one. That answer may not have been read yet; acked fails
// the run if it is another.
func (c *client) mayPass(key, later, earlier string) bool {
	f := c.pushed[key][earlier]
	c.passed[earlier] = true
	return c.apart[later] && (f == unknown || f == pending)
}

// acked notes that an element was acknowledged.
func (c *client) acked(key, elem string) {
	if c.passed[elem] {
		c.world.failf("client %d: %s of %s was acknowledged, and executed behind a later one", c.id, elem, key)
	}
	c.pushed[key][elem] = acked
}

// fate is what a client was told of a write.
type fate uint8

const (
	pending fate = iota
	acked
	refused // surely not executed
	unknown
)

// The scripts that clients send: one that appends an element, and one that does
// and then says what it was told to say.
const pushes, lies = "push", "lie"

// noScript is what Redis answers to EVALSHA of a script that it lacks (script.c).
const noScript = "NOSCRIPT No matching script. Please use EVAL."

func shaOf(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

// question is a command whose reply is outstanding.
type question struct {
	kind string
	keys []string
	seq  int
	elem string
	want string
	min  map[string]int // what a read must see at least
	tx   *transaction
	sent int64
}

func (c *client) key(i int) string { return fmt.Sprintf("c%d:%d", c.id, i) }

// ask sends a pipeline of random commands.
func (c *client) ask() {
	r := c.world.rng
	for range 1 + r.IntN(8) {
		c.seq++
		q := question{seq: c.seq, sent: c.world.now}
		key := c.key(r.IntN(6))
		q.keys = []string{key}
		kind := r.IntN(7)
		if r.IntN(15) == 0 {
			c.askTransaction("l" + key)
			continue
		}
		if r.IntN(15) == 0 {
			c.askPop("q" + key)
			continue
		}
		if r.IntN(40) == 0 {
			kind = -1
		}
		switch kind {
		case -1:
			q.kind, q.keys[0] = "BIG", bigPrefix+key
			c.send("GET", q.keys[0])
		case 0, 1:
			q.kind = "RPUSH"
			q.elem = fmt.Sprintf("e%d", c.seq)
			q.keys[0] = "l" + key
			c.note(q)
			c.send("RPUSH", q.keys[0], q.elem)
		case 2, 3:
			q.kind = "SET"
			size := r.IntN(100)
			if r.IntN(30) == 0 {
				size = r.IntN(60 << 10)
			}
			c.send("SET", key, fmt.Sprintf("%s=%d=%s", key, c.seq, strings.Repeat("x", size)))
		case 4:
			q.kind = "GET"
			c.send("GET", key)
		case 5:
			q.kind = "MGET"
			args := []string{"MGET", key}
			for range 1 + r.IntN(4) {
				args = append(args, c.key(r.IntN(6)))
			}
			q.keys = args[1:]
			c.send(args...)
		default:
			if r.IntN(2) == 0 {
				q.kind, q.want = "ECHO", fmt.Sprintf("echo-%d-%d", c.id, c.seq)
				c.send("ECHO", q.want)
				break
			}
			q.kind, q.elem = "EVAL", fmt.Sprintf("e%d", c.seq)
			q.keys[0] = "l" + key
			// The lies are as good as they can be: the right slot, a known
			// node. While slots move no proxy could tell such a one from
			// the truth; then they name a node that does not exist.
			slot, target := slots.Of([]byte(q.keys[0])), c.world.nodes[r.IntN(len(c.world.nodes))].addr
			if c.world.chaos.move > 0 {
				target = "10.6.6.6:6379"
			}
			q.want = []string{
				fmt.Sprintf("MOVED %d %s", slot, target), fmt.Sprintf("ASK %d %s", slot, target),
				"TRYAGAIN x", "CLUSTERDOWN x", "WRONGTYPE x", noScript,
			}[r.IntN(6)]
			c.note(q)
			switch r.IntN(4) {
			case 0:
				c.send("EVAL", lies, "1", q.keys[0], q.elem, q.want)
			case 1:
				c.send("EVALSHA", shaOf(lies), "1", q.keys[0], q.elem, q.want)
			case 2:
				q.want = ""
				c.send("EVAL", pushes, "1", q.keys[0], q.elem)
			default:
				q.want = ""
				c.send("EVALSHA", shaOf(pushes), "1", q.keys[0], q.elem)
			}
		}
		q.min = map[string]int{}
		for _, k := range q.keys {
			q.min[k] = c.latest[k]
		}
		c.waiting = append(c.waiting, q)
	}
}

func (c *client) note(q question) {
	if c.pushed[q.keys[0]] == nil {
		c.pushed[q.keys[0]] = map[string]fate{}
	}
	c.pushed[q.keys[0]][q.elem] = pending
}

func (c *client) send(args ...string) { c.toProxy = resp.AppendCommand(c.toProxy, args...) }

// read judges the complete replies that have come.
func (c *client) read() {
	for {
		reply, rest, ok := resp.Split(c.got)
		if !ok {
			return
		}
		if len(c.waiting) == 0 {
			c.world.failf("client %d got a reply it did not ask for: %.80q", c.id, reply)
			return
		}
		q := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.judge(q, reply)
		c.got = rest
	}
}

func (c *client) judge(q question, reply []byte) {
	w := c.world
	w.replies++
	if late := w.now - q.sent; late > deadline {
		w.failf("client %d waited %d ms for %s %v", c.id, late/1e6, q.kind, q.keys)
	}
	text, isErr := resp.ErrorText(reply)
	switch {
	case isErr && string(text) == noScript && q.want == noScript:
		c.pushed[q.keys[0]][q.elem] = unknown // the script's own words, or the node's
		return
	case isErr && q.kind == "EVAL" && string(text) == q.want:
		c.acked(q.keys[0], q.elem) // it has written, then lied
		return
	}
	if isErr {
		c.failed(q, string(text))
		return
	}
	switch q.kind {
	case "WATCH", "MULTI":
		if string(reply) != "+OK\r\n" {
			w.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
		}
		q.tx.watched = q.tx.watched || q.kind == "WATCH"
		return
	case "QUEUED":
		if string(reply) != "+QUEUED\r\n" {
			w.failf("client %d: a queued command answered with %.80q", c.id, reply)
		}
		return
	case "EXEC":
		c.judgeTransaction(q, reply)
		return
	}
	switch q.kind {
	case "BLPOP":
		c.judgePop(q, reply)
	case "RPUSH", "EVAL":
		if _, ok := resp.Int(reply); !ok || q.want != "" {
			w.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
		}
		c.acked(q.keys[0], q.elem)
		if q.tx != nil {
			q.tx.changed = true
		}
	case "SET":
		if string(reply) != "+OK\r\n" {
			w.failf("client %d: SET answered with %.80q", c.id, reply)
		}
		c.latest[q.keys[0]] = q.seq
	case "GET":
		c.judgeValue(q, q.keys[0], reply)
	case "BIG":
		if !bytes.Equal(reply, bigReply) && !bytes.Equal(reply, smallReply) {
			w.failf("client %d: GET %s answered with %d bytes: %.80q", c.id, q.keys[0], len(reply), reply)
		}
	case "MGET":
		n, rest, ok := resp.Elements(reply)
		if !ok || n != len(q.keys) {
			w.failf("client %d: MGET of %d keys answered with %.80q", c.id, len(q.keys), reply)
			return
		}
		for _, k := range q.keys {
			var e []byte
			e, rest, _ = resp.Split(rest)
			if text, isErr := resp.ErrorText(e); isErr {
				c.failed(question{kind: "GET", keys: []string{k}}, string(text))
				continue
			}
			c.judgeValue(q, k, e)
		}
	case "ECHO":
		if b, _ := resp.Bulk(reply); string(b) != q.want {
			w.failf("client %d: ECHO %s answered with %.80q", c.id, q.want, reply)
		}
	default:
		w.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
	}
}

// judgeValue: the value must be of this key, and not older than what the client had
// written before, as far as it was told; nor may it come from the client's future.
func (c *client) judgeValue(q question, key string, reply []byte) {
	if q.tx == nil { // what it has been told since it asked was also sent before
		q.min = map[string]int{key: max(q.min[key], c.latest[key])}
	}
	if bytes.HasPrefix(reply, []byte("$-1")) {
		if q.min[key] > 0 {
			c.world.failf("client %d: %s is gone, though SET %d was acknowledged", c.id, key, q.min[key])
		}
		return
	}
	b, _ := resp.Bulk(reply)
	f := strings.SplitN(string(b), "=", 3)
	seq := 0
	if len(f) == 3 {
		fmt.Sscan(f[1], &seq)
	}
	if len(f) != 3 || f[0] != key || seq < q.min[key] || seq > q.seq {
		c.world.failf("client %d, command %d: %s (at least %d) answered with %.80q", c.id, q.seq, key, q.min[key], reply)
	}
}

// failed sorts an error into its class; one that has none is a failure of the
// test.
func (c *client) failed(q question, text string) {
	kind := refused
	switch {
	case strings.Contains(text, "may have been executed"):
		kind = unknown
		c.world.unknowns++
	case q.kind == "EVAL" && (strings.HasPrefix(text, "ASK ") || strings.HasPrefix(text, "MOVED ")):
		// A redirect that was real when the node answered and was not any
		// more when it was asked again cannot be told from a script's own
		// words. It takes a slot that moves to and fro within milliseconds.
		kind = unknown
		if c.world.unproven++; c.world.unproven > 3 {
			c.world.failf("client %d: %s failed with %q, as others did: redirects of scripts are not followed", c.id, q.kind, text)
		}
	case isBusy(text), strings.HasPrefix(text, "CLUSTERDOWN"), strings.HasPrefix(text, "TRYAGAIN"), strings.HasPrefix(text, "LOADING"), q.kind == "EVAL" && text == noScript:
		c.world.refusals++
	default:
		c.world.failf("client %d: %s %v failed with %q", c.id, q.kind, q.keys, text)
	}
	if c.world.onlyBusy && !isBusy(text) && text != noScript {
		c.world.failf("client %d: %s %v failed with %q, though nodes were only busy", c.id, q.kind, q.keys, text)
	}
	if c.world.calm && kind == refused && q.tx == nil && text != noScript {
		c.world.failf("client %d: %s %v failed with %q, though it could wait", c.id, q.kind, q.keys, text)
	}
	if c.world.calm && kind == unknown && (q.kind == "GET" || q.kind == "MGET") && !c.wroteBehind(q) {
		c.world.failf("client %d: %s %v failed with %q: it could be sent again", c.id, q.kind, q.keys, text)
	}
	switch q.kind {
	case "BLPOP":
		if kind == unknown {
			c.unknownPops[q.keys[0]]++
		}
	case "RPUSH", "EVAL":
		c.pushed[q.keys[0]][q.elem] = kind
	case "EXEC":
		c.settle(q.tx, kind)
	}
}

// executing is called when a node appends an element: whatever the client was
// told of it before, and whatever stands in the list, must allow that now.
func (c *client) executing(n *node, key, elem string) {
	w := c.world
	w.pushes[key+" "+elem]++
	if count := w.pushes[key+" "+elem]; count > 1 {
		w.failf("client %d: %s of %s is executed for the %d. time", c.id, elem, key, count)
	}
	if c.pushed[key][elem] == refused {
		w.failf("client %d: %s of %s was said not to be executed, and is", c.id, elem, key)
	}
	if list := n.lists[key]; len(list) > 0 && seqOf(list[len(list)-1]) > seqOf(elem) && !c.mayPass(key, list[len(list)-1], elem) {
		w.failf("client %d: %s of %s is executed after %s: the client's commands change order", c.id, elem, key, list[len(list)-1])
	}
}

// wroteBehind reports whether the client has sent a command that may write any of a
// read's keys behind it.
func (c *client) wroteBehind(read question) bool {
	for _, q := range c.waiting {
		if q.kind != "GET" && q.kind != "MGET" && q.kind != "ECHO" {
			return true
		}
	}
	return false
}

func seqOf(elem string) (seq int) {
	fmt.Sscanf(elem, "e%d", &seq)
	return seq
}

// overdue tells whether the client has waited too long for an answer.
func (c *client) overdue() bool {
	return c.open && len(c.waiting) > 0 && c.world.now-c.waiting[0].sent > deadline
}

// census compares what the nodes hold at the end with what the client was told.
func (c *client) census() {
	w := c.world
	counts := map[string]map[string]int{}
	defer func() { c.whole(counts) }()
	for key, elems := range c.pushed {
		var list []string
		for _, n := range w.nodes {
			list = append(list, n.lists[key]...)
		}
		count := map[string]int{}
		counts[key] = count
		last := 0
		for _, e := range list {
			count[e]++
			seq := 0
			fmt.Sscanf(e, "e%d", &seq)
			if seq < last && !c.mayPass(key, fmt.Sprintf("e%d", last), e) {
				w.failf("client %d: %s has %s after e%d: the client's commands changed order", c.id, key, e, last)
			}
			last = seq
		}
		for e, f := range elems {
			n := count[e]
			switch {
			case n > 1:
				w.failf("client %d: %s of %s was executed %d times", c.id, e, key, n)
			case f == acked && n == 0 && !w.gone[key+" "+e]:
				w.failf("client %d: %s of %s was acknowledged and is lost", c.id, e, key)
			case f == refused && n > 0:
				w.failf("client %d: %s of %s was said not to be executed, and was", c.id, e, key)
			}
		}
	}
}
