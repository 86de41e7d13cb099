package transfer_test

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keyway-proxy/keyway/transfer"
)

var seeds = flag.Int("seeds", 600, "how many seeds to simulate")

// slack is how much longer a key may live because it was moved: the clocks of nodes are compared
// to the length of a round trip.
const slack = 25 * time.Millisecond

// TestKeysUnderFaults: copiers freeze, die and are replaced while they move the same keys, their
// commands arrive late, nodes fail over and lose writes, keys expire, clients write, delete and
// flush. Each key is on one node, or on two with the same value. What clients see is linearizable,
// no value is lost or comes back, and in the end all keys have moved.
func TestKeysUnderFaults(t *testing.T) {
	commands, outcomes := 0, [transfer.Refused + 1]int{}
	for seed := range uint64(*seeds) {
		w := simulate(seed, false)
		if w.wrong != "" {
			w = simulate(seed, true)
			t.Fatalf("seed %d (%+v): %s\n%s", seed, w.worldKind, w.wrong, strings.Join(w.trace, "\n"))
		}
		commands += len(w.ops)
		for o, n := range w.outcomes {
			outcomes[o] += n
		}
	}
	t.Logf("%d seeds, %d commands, outcomes %d", *seeds, commands, outcomes)
	for o, n := range outcomes[:transfer.Refused] {
		if n*10 < *seeds {
			t.Errorf("outcome %d only %d times: the faults leave too little to check", o, n)
		}
	}
}

// simulate runs a world.
func simulate(seed uint64, isTraced bool) *world {
	w := &world{
		isTraced: isTraced,
		rand:     rand.New(rand.NewPCG(seed, 2)), ran: map[string]bool{}, deadlines: map[string]int64{},
		strays: map[string]string{}, written: map[string]string{}, first: map[string]string{},
	}
	w.fenced, w.durable, w.resp3, w.old = seed%5 != 4, seed%3 == 1, w.oneIn(2), w.oneIn(3)
	w.strict = w.durable && w.fenced && w.oneIn(2)
	w.flush = w.fenced && !w.durable && w.oneIn(2)
	w.hasStrays = w.fenced && !w.flush && w.oneIn(4)
	for i := range 3 {
		w.nodes = append(w.nodes, &node{
			w: w, name: fmt.Sprint("n", i), ahead: int64(w.between(time.Hour, 2*time.Hour)),
			data: map[string]entry{}, replica: map[string]entry{},
		})
	}
	keys := 1 + w.rand.IntN(3)
	if w.flush { // before all have moved
		keys += 4
	}
	w.fill(keys)
	for i := range 2 + w.rand.IntN(3) {
		k := w.start(fmt.Sprint("k", i))
		if w.oneIn(2) || !w.fenced {
			k.later(w.between(0, 300*time.Millisecond), k.sweep)
		}
	}
	running := 4
	for i := range running {
		c := &client{w: w, id: i, left: 15, then: func() {
			if running--; running == 0 {
				w.settle()
			}
		}}
		if w.fenced {
			c.next()
		} else {
			w.writeAtSource(c)
		}
	}
	w.after(w.between(0, 100*time.Millisecond), w.fault)
	for range 3 {
		if w.flush {
			w.after(w.between(20*time.Millisecond, 200*time.Millisecond), w.flushAll)
		}
	}
	w.run()
	w.judge()
	return w
}

// fill creates the keys. Some are on both nodes, as after the death of a copier.
func (w *world) fill(count int) {
	for i := range count {
		key := fmt.Sprint("key", i)
		w.keys = append(w.keys, key)
	}
	for _, key := range w.keys {
		from, to := w.sides(key)
		e := entry{kind: "string", value: "old " + key}
		switch w.rand.IntN(5) {
		case 0:
			continue
		case 1:
			e.kind = "hash"
		case 2:
			if w.fenced {
				e.value = "lease " + key
				lease := []time.Duration{400 * time.Millisecond, 30 * time.Second}[w.rand.IntN(2)]
				e.expires = from.clock()/1e6 + w.between(0, lease).Milliseconds()
				w.deadlines[e.value] = from.deadline(e)
			}
		}
		from.data[key], from.replica[key] = e, e
		w.written[key], w.first[key] = e.value, e.value
		if e.expires > 0 {
			e.expires += int64(math.Ceil(float64(to.ahead-from.ahead) / 1e6))
		}
		switch {
		case w.oneIn(5):
			to.data[key] = e
			to.replica[key] = e
			if w.durable && w.oneIn(2) { // the replica does not have it yet
				delete(to.replica, key)
				to.offset++
				to.stream = append(to.stream, write{key: key, value: e})
				w.after(w.lag(), to.replicate)
			}
		case w.hasStrays && w.oneIn(2):
			w.strays[key] = e.value
			switch {
			case e.expires > 0 && w.oneIn(2):
				e.expires += time.Hour.Milliseconds() // the same value with a longer lease is another
				w.deadlines[e.value] = to.deadline(e)
			case w.oneIn(3):
				e.kind = map[string]string{"string": "hash", "hash": "string"}[e.kind]
			default:
				e.value, e.expires = "other "+key, 0
			}
			w.first[key] = e.value
			to.data[key], to.replica[key] = e, e
		}
	}
}

// writeAtSource has a client change keys where they come from, which nothing prevents if the
// source is not fenced.
func (w *world) writeAtSource(c *client) {
	if c.left--; c.left < 0 {
		c.then()
		return
	}
	key := w.keys[w.rand.IntN(len(w.keys))]
	from, _ := w.sides(key)
	via := &conn{w: w, n: from, life: from.life, watched: map[string]bool{}}
	value := fmt.Sprintf("c%d-%d", c.id, c.left)
	if w.oneIn(4) {
		from.set(via, key, entry{}, nil)
		delete(w.written, key)
	} else {
		from.set(via, key, entry{kind: "string", value: value}, nil)
		w.written[key] = value
	}
	w.logf("a client writes %s = %q at %s", key, w.written[key], from.name)
	w.after(w.between(0, 40*time.Millisecond), func() { w.writeAtSource(c) })
}

// fault breaks something, and mends it later.
func (w *world) fault() {
	if w.calm || w.now > int64(20*time.Second) {
		return
	}
	k, n := w.ways[w.rand.IntN(len(w.ways))], w.nodes[w.rand.IntN(len(w.nodes))]
	mend := w.between(time.Millisecond, 1200*time.Millisecond)
	switch w.rand.IntN(7) {
	case 0, 1:
		if !k.frozen {
			w.logf("%s freezes", k.name)
			k.frozen = true
			w.after(mend, k.thaw)
		}
	case 2:
		w.replace(k)
	case 3:
		if len(k.conns) > 0 {
			c := k.conns[w.rand.IntN(len(k.conns))]
			w.logf("a connection of %s to %s breaks", k.name, c.n.name)
			k.when(c.close)
		}
	case 4, 5:
		if w.durable && w.fenced && (w.strict || n != w.nodes[0]) {
			n.failOver()
		}
	case 6:
		w.logf("%s is full", n.name)
		n.full = true
		w.after(mend/4, func() { n.full = false })
	}
	w.after(w.between(5*time.Millisecond, 120*time.Millisecond), w.fault)
}

func (k *keyway) sweepIf(does bool) {
	if does {
		k.later(0, k.sweep)
	}
}

// flushAll deletes all keys in two passes.
func (w *world) flushAll() {
	k := &keyway{w: w, name: "flush", absent: map[string]bool{}}
	began, left := w.now, len(w.nodes)
	second := func() {
		left = len(w.nodes)
		for _, n := range w.nodes {
			w.connect(n, k, nil).do(func([]byte) {
				if left--; left == 0 {
					w.logf("all is flushed")
					w.flushes = append(w.flushes, [2]int64{began, w.now})
				}
			}, "FLUSHALL")
		}
	}
	for _, n := range w.nodes {
		w.connect(n, k, nil).do(func([]byte) {
			if left--; left == 0 {
				second()
			}
		}, "FLUSHALL")
	}
}

// settle ends the faults. Then a copier must be able to move all keys, and a client to read them.
func (w *world) settle() {
	w.calm = true
	for _, k := range w.ways {
		if k.frozen {
			k.thaw()
		}
	}
	for _, n := range w.nodes {
		n.full = false
	}
	k := w.start("last")
	w.after(4*time.Second, func() {
		k.later(0, k.sweep)
		if !w.fenced {
			return
		}
		for i, key := range w.keys {
			c := &client{w: w, id: 100 + i, way: k, conns: map[*node]*conn{}}
			o := &op{client: c.id, key: key, args: []string{"GET", key}}
			w.after(w.between(0, 5*time.Second), func() { c.do(o) })
		}
	})
}

// check looks at the keys of a command before and after it.
func (w *world) check(c *conn, n *node, args []string) (after func()) {
	if !w.fenced {
		return func() {}
	}
	was := map[string]bool{}
	for _, key := range w.keys {
		from, to := w.sides(key)
		if slices.Contains(args, key) || args[0] == "FLUSHALL" {
			_, was[key] = n.get(key)
		}
		if _, there := from.get(key); !c.copies && args[0] != "FLUSHALL" && args[1] == key {
			if there || n != to {
				w.violated("%q runs at %s, and %s has the key", args, n.name, from.name)
			}
			w.ran[key] = true
		}
	}
	return func() {
		for _, key := range slices.Sorted(maps.Keys(was)) {
			w.checkKey(c, n, args, key, was[key])
		}
	}
}

func (w *world) checkKey(c *conn, n *node, args []string, key string, was bool) {
	from, to := w.sides(key)
	source, atSource := from.get(key)
	e, there := to.get(key)
	_, isStray := w.strays[key]
	switch {
	case n == from && atSource && !was:
		w.violated("%q creates %s at %s", args, key, n.name)
	case n == to && was && !there && c.copies:
		w.violated("%q deletes %s at %s", args, key, n.name)
	case atSource && there && w.ran[key]:
		w.violated("%q: %s is at %s, and a client's command has run at %s", args, key, from.name, to.name)
	case atSource && there && !isStray && (source.value != e.value || source.kind != e.kind):
		w.violated("%q: %s is %+v at %s and %+v at %s", args, key, source, from.name, e, to.name)
	}
	if deadline, expires := w.deadlines[e.value]; n == to && there {
		late := to.deadline(e) - deadline
		if expires != (e.expires > 0) || expires && (late < 0 || late > int64(slack)) {
			w.violated("%q: %+v expires %s late", args, e, time.Duration(late))
		}
	}
}

// judge checks the whole history.
func (w *world) judge() {
	if w.wrong != "" {
		return
	}
	for _, key := range w.keys {
		from, to := w.sides(key)
		if e, ok := from.get(key); ok {
			w.violated("in the end, %s still has %s: %+v", from.name, key, e)
		}
		w.judgeLoss(key, from, to)
	}
	for _, o := range w.ops {
		if o.client >= 100 && (!o.ended || o.end == int64(time.Hour)) {
			w.violated("in the end, %q gets no reply", o.args)
		}
	}
	for _, key := range w.keys {
		if !porcupine.CheckOperations(register, w.history(key)) {
			w.violated("the history of %s is not linearizable: %s", key, w.describe(key))
		}
	}
}

// judgeLoss checks that the source's values of keys on two nodes were kept.
func (w *world) judgeLoss(key string, from, to *node) {
	want, matters := w.strays[key]
	if !w.fenced {
		want, matters = w.written[key]
	}
	if e, _ := to.get(key); !matters || e.value == want && !w.fenced {
		return
	}
	if _, expires := w.deadlines[want]; expires {
		return
	}
	for name, e := range from.data {
		if strings.HasPrefix(name, "keyway:stray:7:") && strings.HasSuffix(name, key) && e.value == want {
			return
		}
	}
	w.violated("the value %q of %s is lost", want, key)
}
