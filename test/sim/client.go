package sim

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// client pipelines commands on its own keys and checks every reply.
type client struct {
	id       int
	world    *world
	session  *proxy.Session
	toProxy  []byte
	got      []byte
	waiting  []question
	open     bool
	user     *user // nil: the client has keys of its own
	heldBack bool  // another worker is to take it over
	stall    int64 // time until which the client does not read

	seq    int
	latest map[string]int                // the last acknowledged SET of each key
	late   map[string]bool               // by key and number: SETs that may be executed at any time
	pushed map[string]map[string]outcome // by key and element

	transactions []*transaction
	onOwnConn    map[string]bool // elements sent over an exclusive connection, because of WATCH
	overtaken    map[string]bool // earlier elements that such an element has overtaken
	// By key and element: what a node has executed after keyway had closed the link. Behind ASKING, it may create the
	// list a second time, at a node to which the slot moves once more.
	strayed map[string]bool

	// By queue: the last element that BLPOP returned, the number of elements that it
	// returned, and the number of BLPOPs that may have lost one.
	popped, delivered, unknownPops map[string]int
}

// mayOvertake reports whether a later element may be executed before an earlier one. It may
// if it was sent over another connection after the earlier command had failed with an
// unknown outcome: an exclusive one, or one that has replaced the shared connection that a
// script occupies, or that has ended. Over an exclusive connection, or if what was sent over one that
// has ended arrives late, the client may not have read that error yet: acknowledge fails
// the run if the reply turns out to be a success.
func (c *client) mayOvertake(key, later, earlier string) bool {
	f := c.pushed[key][earlier]
	c.overtaken[earlier] = true
	return f == unknown || f == pending && (c.onOwnConn[later] || c.world.isLate)
}

// acknowledge records that an element was acknowledged.
func (c *client) acknowledge(key, elem string) {
	if c.overtaken[elem] {
		c.world.failf("client %d: %s of %s was acknowledged, and executed behind a later one", c.id, elem, key)
	}
	c.pushed[key][elem] = acked
}

// outcome is the outcome of a write, as the client knows it from the reply.
type outcome uint8

const (
	pending outcome = iota // no reply yet
	acked
	refused // not executed
	unknown // may have been executed
)

// pushes is a script that appends an element. lies also appends an element, but then
// returns an error that the client chooses.
const pushes, lies = "push", "lie"

// noScript is Redis's error for EVALSHA of a script that it does not have (script.c).
const noScript = "NOSCRIPT No matching script. Please use EVAL."

func shaOf(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

// question is an unanswered command.
type question struct {
	kind string
	keys []string
	seq  int
	elem string
	want string
	min  map[string]int // by key: the oldest SET whose value a read may return
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
			c.record(q)
			c.send("RPUSH", q.keys[0], q.elem)
		case 2, 3:
			q.kind = "SET"
			c.send("SET", key, fmt.Sprintf("%s=%d=%s", key, c.seq, c.padding()))
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
			c.askScript(&q, "l"+key)
		}
		q.min = map[string]int{}
		for _, k := range q.keys {
			q.min[k] = c.latest[k]
		}
		c.waiting = append(c.waiting, q)
	}
}

// askScript sends a script that appends an element to a list. Half of the scripts also lie.
func (c *client) askScript(q *question, key string) {
	r := c.world.rng
	q.kind, q.elem = "EVAL", fmt.Sprintf("e%d", c.seq)
	q.keys[0] = key
	// The lies are plausible redirects: the right slot and a known node. While slots move, no
	// proxy could distinguish them from real ones. In such runs they name a node that does
	// not exist.
	slot, target := slots.Of([]byte(key)), c.world.nodes[r.IntN(len(c.world.nodes))].addr
	if c.world.chaos.move > 0 {
		target = "10.6.6.6:6379"
	}
	q.want = []string{
		fmt.Sprintf("MOVED %d %s", slot, target), fmt.Sprintf("ASK %d %s", slot, target),
		"TRYAGAIN x", "CLUSTERDOWN x", "WRONGTYPE x", noScript,
	}[r.IntN(6)]
	c.record(*q)
	switch r.IntN(4) {
	case 0:
		c.send("EVAL", lies, "1", key, q.elem, q.want)
	case 1:
		c.send("EVALSHA", shaOf(lies), "1", key, q.elem, q.want)
	case 2:
		q.want = ""
		c.send("EVAL", pushes, "1", key, q.elem)
	default:
		q.want = ""
		c.send("EVALSHA", shaOf(pushes), "1", key, q.elem)
	}
}

// padding returns bytes that make a value longer, sometimes very long.
func (c *client) padding() string {
	size := c.world.rng.IntN(100)
	if c.world.rng.IntN(30) == 0 {
		size = c.world.rng.IntN(60 << 10)
	}
	return strings.Repeat("x", size)
}

// record records a write that is about to be sent.
func (c *client) record(q question) {
	if c.pushed[q.keys[0]] == nil {
		c.pushed[q.keys[0]] = map[string]outcome{}
	}
	c.pushed[q.keys[0]][q.elem] = pending
}

func (c *client) send(args ...string) { c.toProxy = resp.AppendCommand(c.toProxy, args...) }

// read checks the complete replies that have arrived.
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
	if late := w.now - q.sent; late > int64(w.answer) {
		w.failf("client %d waited %d ms for %s %v", c.id, time.Duration(late).Milliseconds(), q.kind, q.keys)
	}
	if c.user != nil {
		c.user.judge(q, reply)
		return
	}
	text, isErr := resp.ErrorText(reply)
	switch {
	case isErr && string(text) == noScript && q.want == noScript:
		c.pushed[q.keys[0]][q.elem] = unknown // the script or the node may have returned this error
		return
	case isErr && q.kind == "EVAL" && string(text) == q.want:
		c.acknowledge(q.keys[0], q.elem) // the script has written before it returned the error
		return
	}
	if isErr {
		c.failed(q, string(text))
		return
	}
	switch q.kind {
	case "WATCH", "MULTI", "QUEUED", "EXEC":
		c.judgeTransaction(q, reply)
	case "BLPOP":
		c.judgePop(q, reply)
	case "RPUSH", "EVAL":
		if _, ok := resp.Int(reply); !ok || q.want != "" {
			w.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
		}
		c.acknowledge(q.keys[0], q.elem)
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
		if b, _ := resp.Bulk(reply); !slices.Contains(bigValues[:], string(b)) {
			w.failf("client %d: GET %s answered with %d bytes: %.80q", c.id, q.keys[0], len(reply), reply)
		}
	case "MGET":
		c.judgeValues(q, reply)
	case "ECHO":
		if b, _ := resp.Bulk(reply); string(b) != q.want {
			w.failf("client %d: ECHO %s answered with %.80q", c.id, q.want, reply)
		}
	default:
		w.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
	}
}

// judgeValues checks a reply to MGET.
func (c *client) judgeValues(q question, reply []byte) {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != len(q.keys) {
		c.world.failf("client %d: MGET of %d keys answered with %.80q", c.id, len(q.keys), reply)
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
}

// judgeValue checks a value. It must belong to this key. It must not be older than the last
// SET that was acknowledged before, or newer than the last SET that was sent before.
func (c *client) judgeValue(q question, key string, reply []byte) {
	if q.tx == nil { // a SET that was acknowledged since then was also sent before the read
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
	late := c.late[fmt.Sprint(key, " ", seq)]
	if len(f) != 3 || f[0] != key || seq < q.min[key] && !late || seq > q.seq {
		c.world.failf("client %d, command %d: %s (at least %d) answered with %.80q",
			c.id, q.seq, key, q.min[key], reply)
	}
}

// failed derives the outcome of a command from its error. An error that a client must never
// get fails the run.
func (c *client) failed(q question, text string) {
	kind := refused
	switch {
	case strings.Contains(text, "may have been executed"):
		kind = unknown
		c.world.unknowns++
	case q.kind == "EVAL" && (strings.HasPrefix(text, "ASK ") || strings.HasPrefix(text, "MOVED ")):
		// A redirect was real when the node answered, but not any more when keyway asked
		// the node again. keyway cannot distinguish it from an error that the script
		// returned. This happens only if a slot moves back within milliseconds.
		kind = unknown
		if c.world.unproven++; c.world.unproven > 3 {
			c.world.failf("client %d: %s failed with %q, as others did: redirects of scripts are not followed",
				c.id, q.kind, text)
		}
	case q.kind == "EXEC" && q.tx.broken && text == discarded: // the client knows why
		c.world.refusals++
	case isBusy(text), strings.HasPrefix(text, "CLUSTERDOWN"), strings.HasPrefix(text, "TRYAGAIN"),
		strings.HasPrefix(text, "LOADING"), q.kind == "EVAL" && text == noScript:
		c.world.refusals++
	default:
		c.world.failf("client %d: %s %v failed with %q", c.id, q.kind, q.keys, text)
	}
	if q.kind == "QUEUED" {
		q.tx.broken = true
	}
	if c.world.onlyBusy && !isBusy(text) && text != noScript {
		c.world.failf("client %d: %s %v failed with %q, though nodes were only busy", c.id, q.kind, q.keys, text)
	}
	if parted := strings.Contains(text, "the layout was replaced"); parted && (q.kind == "MGET" || q.kind == "GET") {
		return
	}
	if c.world.calm && kind == refused && q.tx == nil && text != noScript && !c.world.mayGiveUp(q.sent, text) {
		c.world.failf("client %d: %s %v failed with %q, though it could wait", c.id, q.kind, q.keys, text)
	}
	if c.world.calm && kind == unknown && (q.kind == "GET" || q.kind == "MGET") && !c.wroteBehind(q) {
		c.world.failf("client %d: %s %v failed with %q: it could be sent again", c.id, q.kind, q.keys, text)
	}
	switch q.kind {
	case "SET":
		c.late[fmt.Sprint(q.keys[0], " ", q.seq)] = kind == unknown
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

// executing is called when a node is about to append an element. It fails the run if the
// element was appended before, if its client was told that it was not executed, or if the
// list already has a later element.
func (c *client) executing(n *node, key, elem string) {
	w := c.world
	w.pushes[key+" "+elem]++
	c.strayed[key+" "+elem] = w.isLate
	if count := w.pushes[key+" "+elem]; count > 1 {
		w.failf("client %d: %s of %s is executed for the %d. time", c.id, elem, key, count)
	}
	if c.pushed[key][elem] == refused {
		w.failf("client %d: %s of %s was said not to be executed, and is", c.id, elem, key)
	}
	if list := n.redis.Data().List(key); len(list) > 0 && seqOf(list[len(list)-1]) > seqOf(elem) &&
		!c.mayOvertake(key, list[len(list)-1], elem) {
		w.failf("client %d: %s of %s is executed after %s: the client's commands change order",
			c.id, elem, key, list[len(list)-1])
	}
}

// wroteBehind reports whether the client has sent a command after a read that may write. It
// does not compare the keys.
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

// overdue reports whether the client has waited too long for a reply.
func (c *client) overdue() bool {
	return c.open && len(c.waiting) > 0 && c.world.now-c.waiting[0].sent > int64(c.world.answer)
}

// checkLists compares the nodes' lists at the end of a run with the outcomes that the
// client knows.
func (c *client) checkLists() {
	w := c.world
	counts := map[string]map[string]int{}
	defer func() { c.checkTransactions(counts) }()
	for key, elems := range c.pushed {
		var list []string
		for i, n := range w.nodes {
			if i == 0 || w.layouts == nil { // otherwise all nodes have the same keys
				list = append(list, n.redis.Data().List(key)...)
			}
		}
		count := map[string]int{}
		counts[key] = count
		last := 0
		for _, e := range list {
			count[e]++
			seq := 0
			fmt.Sscanf(e, "e%d", &seq)
			later := fmt.Sprintf("e%d", last)
			if seq < last && !c.strayed[key+" "+later] && !c.mayOvertake(key, later, e) {
				w.failf("client %d: %s has %s after e%d: the client's commands changed order", c.id, key, e, last)
			}
			last = seq
		}
		for e, f := range elems {
			n := count[e]
			switch {
			case n > 1:
				w.failf("client %d: %s of %s was executed %d times", c.id, e, key, n)
			case f == acked && n == 0 && !w.poppedElems[key+" "+e]:
				w.failf("client %d: %s of %s was acknowledged and is lost", c.id, e, key)
			case f == refused && n > 0:
				w.failf("client %d: %s of %s was said not to be executed, and was", c.id, e, key)
			}
		}
	}
}
