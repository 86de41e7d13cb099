package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/sim/model"
)

// user is a client that shares its keys with others. While the layout changes, each of its commands
// must have the effect and the reply that one Redis would give. The oracle judges the effects
// when nodes execute them; user judges the replies.
type user struct {
	client   *client
	outcomes map[string]outcome // by tag, of writes
	busy     bool               // a transaction waits for the reply to its GET
	walk     *walk              // that is under way; nil: none
}

// walk is a SCAN over all keys, page by page. None may be missing that is there throughout.
type walk struct {
	began   int64
	crashes int // of nodes before that: they make cursors worthless
	found   map[string]bool
}

// sharedScripts are the scripts of users, and what they do.
var sharedScripts = map[string]model.Script{
	"increment": func(call func(...string) []byte, keys, _ []string) []byte { return call("INCR", keys[0]) },
	"release": func(call func(...string) []byte, keys, args []string) []byte {
		if b, _ := resp.Bulk(call("GET", keys[0])); string(b) != args[0] {
			return resp.AppendInt(nil, 0)
		}
		return call("DEL", keys[0])
	},
}

// The kinds of shared keys, and how many there are of each.
var kinds = map[string]int{"text": 8, "count": 4, "lock": 3, "queue": 3, "watched": 3, "pair": 2, "cold": 40}

// sharedKeys returns all keys that users use.
func sharedKeys() (all []string) {
	for _, kind := range []string{"text", "count", "lock", "queue", "watched", "cold"} {
		for i := range kinds[kind] {
			all = append(all, fmt.Sprint(kind, i))
		}
	}
	for i := range kinds["pair"] {
		all = append(all, fmt.Sprintf("{pair%d}count", i), fmt.Sprintf("{pair%d}list", i))
	}
	return all
}

func (u *user) key(kind string) string { return fmt.Sprint(kind, u.client.world.rng.IntN(kinds[kind])) }

// tag returns the name of a new write.
func (u *user) tag() string {
	u.client.seq++
	t := fmt.Sprintf("u%d-%d", u.client.id, u.client.seq)
	u.outcomes[t] = pending
	return t
}

// tagIn returns the tag of the i-th key of a write, or "".
func tagIn(args []string, i int) string {
	tag := ""
	switch args[0] {
	case "SET", "RPUSH":
		tag = args[2]
	case "MSET":
		tag = args[2*i+2]
	}
	tag, _, _ = strings.Cut(tag, "<")
	return tag
}

// send sends a command whose reply is judged as kind says.
func (u *user) send(kind, tag string, keys []string, args ...string) {
	c := u.client
	c.waiting = append(c.waiting, question{kind: kind, keys: keys, elem: tag, sent: c.world.now})
	c.send(args...)
}

// ask sends a pipeline of random commands, or one if it is a user that waits for each reply.
func (u *user) ask() {
	if u.busy {
		return
	}
	if u.client.id%2 == 0 {
		switch r := u.client.world.rng; {
		case len(u.client.waiting) > 0:
		case r.IntN(2) == 0:
			k := u.key([]string{"text", "cold"}[r.IntN(2)])
			u.send("GET", "", []string{k}, "GET", k)
		default:
			u.askOne()
		}
		return
	}
	for range 1 + u.client.world.rng.IntN(6) {
		u.askOne()
		if u.busy {
			return
		}
	}
}

func (u *user) askOne() {
	r := u.client.world.rng
	text := u.key("text")
	one := []string{text}
	switch r.IntN(13) {
	case 0:
		u.send("GET", "", one, "GET", text)
	case 1:
		tag := u.tag()
		u.send("SET", tag, one, "SET", text, tag)
	case 2:
		u.send("DEL", "", one, "DEL", text)
	case 3:
		some := []string{text, u.key("text"), u.key("cold")}
		u.send("MGET", "", some, append([]string{"MGET"}, some...)...)
	case 4:
		other, a, b := u.key("text"), u.tag(), u.tag()
		if other == text {
			other = u.key("watched")
		}
		u.send("MSET", a+" "+b, []string{text, other}, "MSET", text, a, other, b)
	case 5, 6:
		k := u.key("count")
		if r.IntN(2) == 0 {
			u.send("INCR", "", []string{k}, "INCR", k)
		} else {
			u.send("INCR", "", []string{k}, "EVAL", "increment", "1", k)
		}
	case 7:
		k, tag := u.key("lock"), u.tag()
		u.send("LOCK", tag, []string{k}, "SET", k, tag, "NX", "PX", fmt.Sprint(1+r.IntN(400)))
		if r.IntN(2) == 0 {
			u.send("RELEASE", "", []string{k}, "EVAL", "release", "1", k, tag)
		}
	case 8:
		u.askQueue(u.key("queue"))
	case 9:
		u.askPair(fmt.Sprintf("{%s}", u.key("pair")))
	case 10:
		k := u.key("watched")
		u.send("WATCH", "", []string{k}, "WATCH", k)
		u.send("READ", "", []string{k}, "GET", k)
		u.busy = true
	case 11:
		u.askAll()
	default:
		k := u.key("cold")
		u.send("GET", "", []string{k}, "GET", k)
	}
}

// askAll sends KEYS, or begins a walk.
func (u *user) askAll() {
	w := u.client.world
	switch {
	case w.rng.IntN(4) == 0:
		u.send("KEYS", "", nil, "KEYS", "*")
	case u.walk == nil:
		u.walk = &walk{began: w.now, crashes: w.crashes, found: map[string]bool{}}
		u.askPage("0")
	}
}

func (u *user) askPage(cursor string) {
	u.send("SCAN", "", nil, "SCAN", cursor, "COUNT", fmt.Sprint(5+u.client.world.rng.IntN(20)))
}

// judgePage takes in a reply to SCAN, and goes on or checks the walk.
func (u *user) judgePage(reply []byte) bool {
	n, rest, ok := resp.Elements(reply)
	first, rest, _ := resp.Split(rest)
	cursor, isBulk := resp.Bulk(first)
	if !ok || n != 2 || !isBulk {
		return false
	}
	u.take(rest, u.walk.found)
	if string(cursor) != "0" {
		u.askPage(string(cursor))
		return true
	}
	if u.walk.crashes == u.client.world.crashes {
		u.checkFound("SCAN", u.walk.began, u.walk.found)
	}
	u.walk = nil
	return true
}

// take adds the keys of a reply to found, and returns their number.
func (u *user) take(reply []byte, found map[string]bool) int {
	w := u.client.world
	n, rest, _ := resp.Elements(reply)
	for range n {
		var one []byte
		one, rest, _ = resp.Split(rest)
		k, _ := resp.Bulk(one)
		if found[string(k)] = true; w.change.truth[string(k)] == nil {
			w.failf("client %d: it is shown %q, which no client has created", u.client.id, k)
		}
	}
	return n
}

// checkFound checks that all keys are found that have been there since a time.
func (u *user) checkFound(command string, since int64, found map[string]bool) {
	c := u.client.world.change
	for _, k := range sharedKeys() {
		if !found[k] && !slices.ContainsFunc(c.between(k, since), func(v version) bool {
			return v.content == "" || v.expiry != 0
		}) {
			c.world.failf("I9: client %d: %s has missed %s, which was there throughout", u.client.id, command, k)
		}
	}
}

func (u *user) askQueue(k string) {
	if u.client.world.rng.IntN(3) > 0 {
		tag := u.tag()
		u.send("RPUSH", tag, []string{k}, "RPUSH", k, tag)
		return
	}
	u.send("BLPOP", "", []string{k}, "BLPOP", k, []string{"0.05", "0.3"}[u.client.world.rng.IntN(2)])
}

// askPair sends a transaction on two keys with one hash tag.
func (u *user) askPair(prefix string) {
	count, list, tag := prefix+"count", prefix+"list", u.tag()
	u.send("MULTI", "", nil, "MULTI")
	u.send("QUEUED", "", nil, "INCR", count)
	u.send("QUEUED", "", nil, "RPUSH", list, tag)
	u.send("EXEC", tag, []string{count, list}, "EXEC")
}

// askWatched goes on with a transaction whose GET has been answered. Its SET says what the GET has
// found.
func (u *user) askWatched(k, found string) {
	u.busy = false
	tag := u.tag()
	u.send("MULTI", "", nil, "MULTI")
	u.send("QUEUED", "", nil, "SET", k, tag+"<"+found)
	u.send("SWAP", tag, []string{k}, "EXEC")
}

// judge checks a reply.
func (u *user) judge(q question, reply []byte) {
	c := u.client
	if text, isErr := resp.ErrorText(reply); isErr {
		u.failed(q, string(text))
		return
	}
	ok := true
	switch q.kind {
	case "GET", "READ":
		ok = u.isValue(q, q.keys[0], reply)
		if b, _ := resp.Bulk(reply); q.kind == "READ" {
			found, _, _ := strings.Cut(string(b), "<")
			u.askWatched(q.keys[0], found)
		}
	case "MGET":
		n, rest, _ := resp.Elements(reply)
		ok = n == len(q.keys)
		for _, k := range q.keys[:min(n, len(q.keys))] {
			var one []byte
			one, rest, _ = resp.Split(rest)
			if text, isErr := resp.ErrorText(one); isErr {
				u.failed(question{kind: "GET"}, string(text))
			} else {
				ok = ok && u.isValue(q, k, one)
			}
		}
	case "SET", "MSET", "WATCH", "MULTI":
		ok = string(reply) == "+OK\r\n"
	case "QUEUED":
		ok = string(reply) == "+QUEUED\r\n"
	case "LOCK":
		ok = u.isLock(q, reply)
	case "INCR":
		ok = u.isCount(q.keys[0], reply)
	case "DEL", "RELEASE", "RPUSH", "LLEN":
		_, ok = resp.Int(reply)
	case "BLPOP":
		u.judgePop(q, reply)
	case "SCAN":
		ok = u.judgePage(reply)
	case "KEYS":
		ok = u.isEachKey(q, reply)
	case "EXEC":
		n, rest, _ := resp.Elements(reply)
		first, _, _ := resp.Split(rest)
		ok = n == 2 && u.isCount(q.keys[0], first)
	case "SWAP":
		if n, _, _ := resp.Elements(reply); n != 1 {
			u.settle(q, refused) // somebody else has changed the key, or the connection was lost
			return
		}
	}
	if !ok {
		c.world.failf("client %d: %s %v is answered with %.80q", c.id, q.kind, q.keys, reply)
	}
	u.settle(q, acked)
}

// isValue reports whether a key had a value at some time since the question.
func (u *user) isValue(q question, key string, reply []byte) bool {
	c := u.client.world.change
	b, _ := resp.Bulk(reply)
	c.final[key] = c.final[key] || !c.world.faults
	return slices.ContainsFunc(c.between(key, q.sent), func(v version) bool {
		if resp.IsNull(reply) {
			return v.content == ""
		}
		return v.content == "text "+string(b)
	})
}

// isLock reports whether a reply says what has become of an attempt to take a lock.
func (u *user) isLock(q question, reply []byte) bool {
	isTaken := slices.ContainsFunc(u.client.world.change.truth[q.keys[0]], func(v version) bool {
		return v.content == "text "+q.elem
	})
	return isTaken && string(reply) == "+OK\r\n" || !isTaken && resp.IsNull(reply)
}

// isEachKey reports whether a reply to KEYS has each key once.
func (u *user) isEachKey(q question, reply []byte) bool {
	found := map[string]bool{}
	n := u.take(reply, found)
	u.checkFound("KEYS", q.sent, found)
	return n == len(found)
}

// isCount reports whether a reply is a count that nobody has got before.
func (u *user) isCount(key string, reply []byte) bool {
	n, ok := resp.Int(reply)
	c := u.client.world.change
	c.executed[fmt.Sprint("reply ", key, " ", n)]++
	return ok && c.executed[fmt.Sprint("reply ", key, " ", n)] == 1
}

func (u *user) judgePop(q question, reply []byte) {
	if resp.IsNull(reply) {
		return
	}
	w := u.client.world
	_, rest, _ := resp.Elements(reply)
	_, rest, _ = resp.Split(rest)
	elem, _, _ := resp.Split(rest)
	b, _ := resp.Bulk(elem)
	delivery := q.keys[0] + " " + string(b)
	if w.change.executed[delivery] == 0 || w.change.executed["delivered "+delivery] > 0 {
		w.failf("client %d: BLPOP %s gives %q, which was pushed %d times, and delivered %d times",
			u.client.id, q.keys[0], b, w.change.executed[delivery], w.change.executed["delivered "+delivery])
	}
	w.change.executed["delivered "+delivery]++
}

// settle records the outcome of a write.
func (u *user) settle(q question, f outcome) {
	w := u.client.world
	for i, tag := range strings.Fields(q.elem) {
		key := q.keys[min(i, len(q.keys)-1)]
		if q.kind == "EXEC" {
			key = q.keys[1]
		}
		n := w.change.executed[key+" "+tag]
		if f == acked && n != 1 || f == refused && n > 0 {
			w.failf("client %d: %s of %s was executed %d times, and its outcome is %d", u.client.id, tag, key, n, f)
		}
		u.outcomes[tag] = f
	}
}

// failed checks an error.
func (u *user) failed(q question, text string) {
	w := u.client.world
	f := refused
	w.logf("client %d: %s %v failed: %s", u.client.id, q.kind, q.keys, text)
	if s := w.change.shell; s != nil && !s.mayFail(w.change.keywayOf(u.client.session.Worker)) {
		w.failf("client %d: %s %v failed, and its keyway held commands: %s", u.client.id, q.kind, q.keys, text)
	}
	switch {
	case strings.Contains(text, "may have been executed"):
		f = unknown
		w.unknowns++
	case isBusy(text), strings.HasPrefix(text, "CLUSTERDOWN"), strings.HasPrefix(text, "LOADING"),
		strings.HasPrefix(text, "EXECABORT"), text == noScript, strings.HasSuffix(text, "the command was not executed"):
		w.refusals++
	default:
		w.failf("client %d: %s %v failed with %q", u.client.id, q.kind, q.keys, text)
	}
	if q.kind == "MSET" {
		f = unknown // one of its nodes may have executed its part
	}
	if q.kind == "BLPOP" && f == unknown {
		w.change.executed["lost "+q.keys[0]]++
	}
	if q.kind == "SCAN" {
		u.walk = nil
	}
	if q.kind == "READ" {
		u.busy = false
		u.send("UNWATCHED", "", nil, "UNWATCH")
	}
	u.settle(q, f)
}

// end settles what is not answered when the client's connection ends.
func (u *user) end() {
	for _, q := range u.client.waiting {
		if q.kind == "BLPOP" {
			u.client.world.change.executed["lost "+q.keys[0]]++
		}
		u.settle(q, unknown)
	}
}

// readAll lets a client of each keyway read all keys, so that all of them move.
func (c *change) readAll() {
	w := c.world
	for range c.keyways {
		cl := w.newClient(len(w.clients))
		w.clients = append(w.clients, cl)
		for _, k := range sharedKeys() {
			if strings.HasPrefix(k, "queue") || strings.HasSuffix(k, "list") {
				cl.user.send("LLEN", "", []string{k}, "LLEN", k)
			} else {
				cl.user.send("GET", "", []string{k}, "GET", k)
			}
		}
	}
}

// checkEnd checks that all keys have arrived, and that nothing is lost.
func (c *change) checkEnd() {
	w := c.world
	for _, k := range sharedKeys() {
		owner := w.nodes[c.owner(c.epoch, k)]
		for _, n := range w.nodes {
			if n != owner && c.has(n, k) {
				w.failf("%s has %s at the end, which is to be on %s", n, k, owner)
			}
		}
		if strings.HasPrefix(k, "queue") {
			c.checkQueue(owner, k)
		}
	}
}

// checkQueue checks that each element of a queue that was pushed is there, or was delivered, apart
// from those that pops of unknown outcome may have taken.
func (c *change) checkQueue(n *node, key string) {
	w := c.world
	missing := 0
	for _, u := range w.clients {
		for tag := range u.user.outcomes {
			name := key + " " + tag
			if c.executed[name] == 1 && c.executed["delivered "+name] == 0 &&
				!slices.Contains(n.redis.Data().List(key), tag) {
				missing++
			}
		}
	}
	if missing > c.executed["lost "+key] {
		w.failf("%d elements of %s are missing, and %d pops are unknown", missing, key, c.executed["lost "+key])
	}
}
