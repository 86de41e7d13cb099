package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/test/sim/model"
)

// oracle judges a change of the layout by what the nodes execute. It knows the true value of each key,
// since it sees the commands of all clients in the order in which they are executed, wherever that
// is. It places keys by itself.
type oracle struct {
	admins   map[int]*model.Conn
	truth    map[string][]version
	touched  map[string]int64 // by key: the epoch in which a client's command has run at the new node
	executed map[string]int   // by key and tag of a write: how often it was executed
	last     map[string]int   // by key and client: the last write that was executed
	byClient bool             // a client's command is being executed
	restored int              // keys that were copied to another node
	started  int              // keyways
	final    map[string]bool  // keys that were read at the end
}

// version is a value that a key had from some time on.
type version struct {
	at      int64
	content string // empty: the key was not there
	expiry  int64  // by the virtual clock; 0: never
}

// The clocks of nodes are compared to the length of a round trip, which is long if a node or a
// keyway is frozen meanwhile.
const maxLonger = int64(4 * time.Second)

// begin gives the nodes their first keys.
func (c *change) begin() {
	c.oracle = oracle{
		admins: map[int]*model.Conn{}, truth: map[string][]version{}, touched: map[string]int64{},
		executed: map[string]int{}, last: map[string]int{}, final: map[string]bool{}, started: c.started,
	}
	for _, k := range sharedKeys() {
		n := c.world.nodes[c.owner(0, k)]
		if strings.HasPrefix(k, "cold") {
			n.redis.Data().Plant(k, "value of "+k)
		}
		c.truth[k] = []version{{0, content(n, k), 0}}
	}
}

// prepare makes a node tell the oracle what it does.
func (c *change) prepare(n *node, skew time.Duration) {
	w := c.world
	c.skews = append(c.skews, skew)
	n.redis.Clock = func() int64 { return epoch + w.now + int64(skew) }
	n.redis.Scripts = sharedScripts
	n.redis.Hooks.Executing = func(conn *model.Conn, args, keys []string) { c.executing(n, conn, args, keys) }
	n.redis.Hooks.Changed = func(conn *model.Conn, key string, before, after bool) {
		c.changed(n, conn, key, before, after)
	}
}

// owner returns the node that owns a key in an epoch (cluster specification, "Key distribution
// model").
func (c *change) owner(epoch int64, key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if j := strings.IndexByte(key[i+1:], '}'); j > 0 {
			key = key[i+1 : i+1+j]
		}
	}
	crc := uint16(0)
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return c.owners[c.layoutOf(epoch)][int(crc%16384)*groups/16384]
}

// layoutOf returns which of the two layouts is that of an epoch.
func (c *change) layoutOf(epoch int64) int {
	if c.shell != nil {
		return c.shell.layoutOf(epoch)
	}
	return int(epoch % 2)
}

// before returns the node on which a key may still be in an epoch, or the owner.
func (c *change) before(epoch int64, key string) int {
	if c.shell != nil {
		return c.owner(c.shell.before(epoch), key)
	}
	return c.owner(max(0, epoch-1), key)
}

// registerOf returns the epoch that a node's register says.
func (c *change) registerOf(n *node) (epoch int64) {
	for _, name := range n.redis.Libraries() {
		number, _ := strconv.ParseInt(strings.TrimPrefix(name, "keyway_"), 10, 64)
		epoch = max(epoch, number)
	}
	return epoch
}

// content returns the value of a key at a node, which may have expired there.
func content(n *node, key string) string {
	if text, ok := n.redis.Data().Text(key); ok {
		return "text " + text
	}
	if list := n.redis.Data().List(key); list != nil {
		return "list " + strings.Join(list, " ")
	}
	return ""
}

// expiry returns when a key ends at a node, by the virtual clock; 0: never.
func (c *change) expiry(n *node, key string) int64 {
	at := n.redis.Data().Expiry(key)
	if at == 0 {
		return 0
	}
	return at*int64(time.Millisecond) - epoch - int64(c.skews[n.self])
}

// has reports whether a node has a key whose time is not over.
func (c *change) has(n *node, key string) bool {
	at := c.expiry(n, key)
	return n.redis.Data().Has(key) && (at == 0 || at >= c.world.now)
}

// pulling are the commands that only keyway sends, over connections of its own. It sends EXISTS also over
// others, to prove that a node has not executed a script.
var pulling = []string{"DUMP", "MEMORY", "OBJECT", "TYPE", "RESTORE", "UNLINK", "PEXPIRETIME", "RENAMENX"}

// changes reports whether a command changes keys.
func changes(command string) bool {
	return slices.Contains([]string{"RESTORE", "UNLINK", "RENAMENX", "SET"}, command)
}

// isGuard reports whether a key is one that keyway creates beside a copy, and removes again.
func isGuard(key string) bool { return strings.HasPrefix(key, "keyway:guard:") }

// executing sees each command on keys immediately before a node executes it.
func (c *change) executing(n *node, conn *model.Conn, args, keys []string) {
	w := c.world
	w.executed++
	l := conn.Owner.(*link)
	read := conn.Epoch
	if l.shell != nil && read < 0 && len(keys) > 0 && !changes(args[0]) {
		read = c.registerOf(n) // such as MEMORY USAGE of a mover
	}
	if read < 0 { // the node was busy, or other connections have ended at the question
		read = l.servedBy
	}
	if now := c.registerOf(n); read < now {
		w.failf("I4: %s is in epoch %d, and executes %.60q over a link of epoch %d", n, now, args, read)
	}
	l.pulls = l.pulls || slices.Contains(pulling, args[0]) || len(keys) > 0 && isGuard(keys[0])
	c.byClient = !l.pulls && args[0] != "WATCH" && args[0] != "EXISTS"
	if args[0] == "GET" && c.owner(c.registerOf(n), keys[0]) != n.self && !l.isClients() {
		c.byClient = false
		if c.has(n, keys[0]) { // it has not left, so this is the reply for the client
			w.stays++
			c.compare(n, keys[0], args)
		} // otherwise keyway asks the owner, as when it does not know yet that all keys have left
		return
	}
	if args[0] == "RESTORE" {
		c.restored++
	}
	if !c.byClient {
		return
	}
	for i, k := range keys {
		if c.truth[k] == nil {
			w.failf("%s executes %.60q", n, args)
			return
		}
		c.checkPlace(n, k, args)
		c.compare(n, k, args)
		if tag := tagIn(args, i); tag != "" {
			c.record(k, tag)
		}
	}
}

// isClients reports whether a worker sends clients' commands over a link.
func (l *link) isClients() bool {
	if l.owner == nil {
		return false
	}
	is := func(c *pool.Conn) bool { return &c.Link == l.conn }
	for _, n := range l.owner.Nodes {
		if slices.ContainsFunc(n.Shared.Conns, is) || slices.ContainsFunc(n.Shared.Retired, is) {
			return true
		}
		for _, use := range n.InUse {
			if is(use.Conn) {
				return true
			}
		}
	}
	return false
}

// leaves reports whether a key leaves a node in the epoch of the node.
func (c *change) leaves(n *node, key string) bool {
	x := c.registerOf(n)
	return c.before(x, key) == n.self && c.owner(x, key) != n.self
}

// checkPlace checks that a client's command on a key runs at the key's owner, and that no other node
// has the key.
func (c *change) checkPlace(n *node, key string, args []string) {
	w, x := c.world, c.registerOf(n)
	if owner := c.owner(x, key); owner != n.self {
		w.failf("I2: %s executes %.60q in epoch %d, and n%d owns %s", n, args, x, owner, key)
		return
	}
	c.touched[key] = x
	from := w.nodes[c.before(x, key)]
	switch {
	case from == n:
	case c.registerOf(from) < x:
		w.failf("I2: %s executes %.60q in epoch %d, and %s, which had %s, is in epoch %d: it may create the key",
			n, args, x, from, key, c.registerOf(from))
	case c.has(from, key):
		w.failf("I2: %s executes %.60q, and %s still has %s", n, args, from, key)
	}
}

// compare checks that the key that a client's command finds is what clients' commands have left.
func (c *change) compare(n *node, key string, args []string) {
	w := c.world
	all := c.truth[key]
	want, have := all[len(all)-1], version{w.now, content(n, key), c.expiry(n, key)}
	switch {
	case want.expiry > 0 && have.content == "" && w.now >= want.expiry-int64(2*time.Millisecond):
		c.truth[key] = append(all, version{at: min(w.now, want.expiry)})
		return
	case have.content != want.content:
		w.failf("%s executes %.60q, and %s is %.60q there, not %.60q", n, args, key, have.content, want.content)
	case (have.expiry == 0) != (want.expiry == 0), have.expiry < want.expiry, have.expiry > want.expiry+maxLonger:
		w.failf("%s executes %.60q, and %s ends after %d ms there, not %d", n, args, key,
			time.Duration(have.expiry).Milliseconds(), time.Duration(want.expiry).Milliseconds())
	case have.expiry != want.expiry:
		c.truth[key] = append(all, have)
	}
}

// changed sees each key after it has changed at a node.
func (c *change) changed(n *node, conn *model.Conn, key string, before, after bool) {
	if isGuard(key) {
		return
	}
	x := c.registerOf(n)
	if c.truth[key] == nil {
		c.world.failf("%s has the key %s now: a value was set aside", n, key)
		return
	}
	if !before && after && c.leaves(n, key) {
		c.world.failf("I3: %s creates %s in epoch %d, in which it moves to n%d", n, key, x, c.owner(x, key))
	}
	if conn != nil && c.byClient {
		c.truth[key] = append(c.truth[key], version{c.world.now, content(n, key), c.expiry(n, key)})
	}
}

// check checks what holds at each step: a key is on one node, or on two with equal values, where no
// client has seen the copy.
func (c *change) check() {
	w := c.world
	latest := int64(0)
	for _, n := range w.nodes {
		latest = max(latest, c.registerOf(n))
	}
	for _, k := range slices.Sorted(maps.Keys(c.truth)) {
		var have []*node
		for _, n := range w.nodes {
			if c.has(n, k) {
				have = append(have, n)
			}
		}
		from, to := w.nodes[c.before(latest, k)], w.nodes[c.owner(latest, k)]
		for _, n := range have {
			if n != from && n != to {
				w.failf("I1: %s has %s, which is to be on %s or %s", n, k, from, to)
			}
		}
		if len(have) < 2 {
			continue
		}
		a, b := c.expiry(from, k), c.expiry(to, k)
		if x, y := content(from, k), content(to, k); x != y || (a == 0) != (b == 0) {
			w.failf("I1: %s is %.60q on %s, and %.60q on %s", k, x, from, y, to)
		}
		if c.touched[k] == latest && c.registerOf(to) == latest {
			w.failf("I1: %s is on %s and %s, and a client has used it on %s", k, from, to, to)
		}
	}
}

// record records the execution of a write, which has a tag of its own for each key.
func (c *change) record(key, tag string) {
	w := c.world
	c.executed[key+" "+tag]++
	if n := c.executed[key+" "+tag]; n > 1 {
		w.failf("%s of %s is executed for the %d. time", tag, key, n)
	}
	var id, seq int
	if _, err := fmt.Sscanf(tag, "u%d-%d", &id, &seq); err != nil || id >= len(w.clients) {
		return
	}
	u := w.clients[id].user
	if u.outcomes[tag] == refused {
		w.failf("%s of %s was said not to be executed, and is", tag, key)
	}
	by := fmt.Sprint(key, " ", id)
	waits := u.outcomes[tag] == pending && w.isLate // its client is yet to read that the outcome is unknown
	if last := c.last[by]; last > seq && u.outcomes[tag] != unknown && !waits {
		w.failf("%s of %s is executed after u%d-%d: the client's commands change order", tag, key, id, last)
	}
	c.last[by] = max(c.last[by], seq)
}

// between returns the values that a key had since a time.
func (c *change) between(key string, since int64) []version {
	all := c.truth[key]
	first := len(all) - 1
	for first > 0 && all[first].at >= since {
		first--
	}
	return all[first:]
}
