package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

// talk is a batch that two nodes answer at once.
type talk struct {
	w     *world
	pair  transfer.Pair
	batch transfer.Batch
	conns [3]*conn // by side
	lines []string // what was sent, such as "D EXISTS k"

	falsified int // the reply that is replaced
	by        string
	ignores   bool // the node has not executed that command
}

// newTalk makes two nodes. The keys are key0 and so on; key0 leaves node 0 for node 1.
func newTalk(kind worldKind) *talk {
	w := &world{worldKind: kind, rand: rand.New(rand.NewPCG(1, 1)), ran: map[string]bool{}, calm: true}
	w.deadlines, w.strays, w.now = map[string]int64{}, map[string]string{}, int64(time.Hour)
	t := &talk{w: w, falsified: -1}
	t.pair = transfer.Pair{Fenced: w.fenced, Durable: w.durable, Strict: w.strict, Label: "7"}
	for i := range 2 {
		w.nodes = append(w.nodes, &node{
			w: w, name: fmt.Sprint("n", i), ahead: int64(i) * 12345678,
			data: map[string]entry{}, replica: map[string]entry{},
		})
	}
	owner := w.start("k")
	for side, n := range w.nodes {
		c := w.connect(n, owner, nil)
		c.copies = true
		t.conns[side+1] = c
	}
	return t
}

// run moves keys. It returns false if that does not end.
func (t *talk) run(keys ...string) bool {
	t.w.keys = keys
	t.batch.Begin(&t.pair, keys...)
	for range 2000 {
		step := t.batch.Next(t.w.now)
		if step.To == transfer.None {
			if t.w.now = step.Until; step.Until == 0 {
				return true
			}
			continue
		}
		frames := step.Frames
		var p resp.Parser
		for range step.Replies {
			n, _, err := p.Next(frames, &resp.DefaultLimits)
			if err != nil {
				return false
			}
			frames = frames[n:]
			var args []string
			for i := range p.Len() {
				args = append(args, string(p.Arg(i)))
			}
			t.batch.Reply(t.answer(step.To, args))
		}
	}
	return false
}

// answer returns a node's reply.
func (t *talk) answer(side transfer.Side, args []string) []byte {
	c := t.conns[side]
	shown := slices.Clone(args)
	if args[0] == "RESTORE" {
		shown = []string{"RESTORE", args[1]}
	}
	if args[0] == "FUNCTION" {
		shown = []string{"FUNCTION", "RESTORE"}
	}
	t.lines = append(t.lines, []string{"", "S ", "D "}[side]+strings.Join(shown, " "))
	from, to := t.w.nodes[0], t.w.nodes[1]
	if args[0] == "UNLINK" && !c.multi || args[0] == "EXEC" && side == transfer.Source {
		for _, key := range t.w.keys {
			a, isHere := from.get(key)
			b, isThere := to.get(key)
			listed := slices.Contains(args, key) || len(c.queue) > 0 && slices.Contains(c.queue[0], key)
			if listed && isHere && (!isThere || a.value != b.value) {
				t.w.violated("%q: the source has %+v, and the destination %+v", args, a, b)
			}
		}
	}
	isTime := (args[0] == "PEXPIRETIME" || args[0] == "PTTL") && t.by == ":7\r\n"
	isFalse := len(t.lines)-1 == t.falsified && !isTime
	if isFalse && t.ignores {
		return []byte(t.by)
	}
	reply := number(1)
	switch {
	case args[0] == "WAIT" && !t.w.durable:
		reply = number(0)
	case args[0] == "WAIT":
		c.n.confirmed = c.n.offset
	default:
		reply, _ = c.n.execute(c, args)
	}
	if isFalse {
		return []byte(t.by)
	}
	return reply
}

// wrongReplies are of a type, or a number, that no command of a batch gets.
var wrongReplies = []string{
	"-ERR no\r\n", "!6\r\nERR no\r\n", "+no\r\n", ":7\r\n", ":-7\r\n", "_\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
	"*1\r\n+no\r\n",
	"*7\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", "%1\r\n+a\r\n+b\r\n", "#t\r\n", ",1.5\r\n", "(12\r\n", "~0\r\n",
	"*1\r\n*1\r\n*0\r\n", "*2\r\n$-1\r\n:1\r\n", "*2\r\n$1\r\nx\r\n$1\r\n1\r\n",
	"*2\r\n$19\r\n9223372036854775807\r\n$1\r\n1\r\n",
	"", "+\r\n", "*1\r\n", "$3\r\nab",
}

// states are what two nodes may have at first.
var states = map[string]func(from, to *node){
	"at the source": func(from, to *node) { from.data["key0"] = entry{"string", "a", 0} },
	"a lease": func(from, to *node) {
		e := entry{"string", "a", from.clock()/1e6 + 5000}
		from.data["key0"], from.w.deadlines["a"] = e, from.deadline(e)
	},
	"on both": func(from, to *node) {
		from.data["key0"], to.data["key0"] = entry{"string", "a", 0}, entry{"string", "a", 0}
	},
	"a hash on both": func(from, to *node) {
		from.data["key0"], to.data["key0"] = entry{"hash", "a", 0}, entry{"hash", "a", 0}
	},
	"two values": func(from, to *node) {
		from.data["key0"], to.data["key0"], to.w.strays["key0"] = entry{"string", "a", 0}, entry{"string", "b", 0}, "a"
	},
	"nowhere": func(from, to *node) {},
}

// measured is how many commands compare the clocks.
const measured = 15

// TestWrongReplies replaces each reply by each wrong one. Nothing is removed from the source of
// which the destination has no equal value, nothing is deleted there, and the batch ends.
func TestWrongReplies(t *testing.T) {
	count := 0
	for _, kind := range []worldKind{
		{}, {fenced: true}, {fenced: true, durable: true, strict: true, resp3: true}, {durable: true, old: true},
	} {
		for name, state := range states {
			honest := newTalk(kind)
			state(honest.w.nodes[0], honest.w.nodes[1])
			honest.run("key0", "key1")
			for i, line := range honest.lines {
				if slices.Contains(honest.lines[:i], line) {
					continue // it is asked again and again
				}
				for j, wrong := range slices.Concat(wrongReplies, wrongReplies) {
					k := newTalk(kind)
					k.falsified, k.by, k.ignores = i, wrong, j < len(wrongReplies)
					if i >= measured { // the clocks need not be compared again
						k.pair, k.falsified = honest.pair, i-measured
					}
					state(k.w.nodes[0], k.w.nodes[1])
					if !k.run("key0", "key1") || k.w.wrong != "" {
						t.Fatalf("%+v %s: %q is answered with %q: %s\n%s",
							kind, name, line, wrong, k.w.wrong, strings.Join(k.lines, "\n"))
					}
					count++
				}
			}
		}
	}
	if count < 1000 {
		t.Errorf("only %d cases", count)
	}
}

// TestRefusedTransaction: if a node refuses MULTI, what follows it would run by itself. Then
// nothing is copied.
func TestRefusedTransaction(t *testing.T) {
	k := newTalk(worldKind{fenced: true})
	states["at the source"](k.w.nodes[0], k.w.nodes[1])
	k.falsified, k.ignores, k.by = measured, true, "-NOPERM this user has no permissions\r\n"
	if f := func() *transfer.Failure { k.run("key0"); return k.batch.Failure() }(); f == nil || !f.IsReply {
		t.Errorf("%+v", f)
	}
	if sent := strings.Join(k.lines, ", "); strings.Contains(sent, "RESTORE") {
		t.Error(sent)
	}
}

// FuzzReplies passes any replies to a batch.
func FuzzReplies(f *testing.F) {
	for _, wrong := range wrongReplies {
		f.Add(byte(3), []byte(":1\r\n"+wrong))
	}
	f.Add(byte(1), []byte("+OK\r\n*0\r\n+OK\r\n:1\r\n"+
		"+hash\r\n:1\r\n:-1\r\n$1\r\na\r\n+hash\r\n:-1\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\nb\r\n%0\r\n"))
	f.Fuzz(func(t *testing.T, kind byte, replies []byte) {
		pair := transfer.Pair{Fenced: kind&1 != 0, Durable: kind&2 != 0, Strict: kind&4 != 0, LFU: kind&8 != 0}
		var b transfer.Batch
		b.Begin(&pair, "a", "b")
		now := int64(1)
		for range 1000 {
			step := b.Next(now)
			if step.To == transfer.None && step.Until == 0 {
				return
			}
			now = max(now, step.Until)
			for range step.Replies {
				reply, rest, ok := resp.Split(replies)
				if !ok {
					reply = []byte("*2\r\n$1\r\n1\r\n$1\r\n2\r\n") // a time
				}
				replies = rest
				b.Reply(reply)
			}
		}
		t.Error("it does not end")
	})
}

// TestLastMillisecond: PTTL says 0 for a key in its last millisecond, and RESTORE's 0 means never.
func TestLastMillisecond(t *testing.T) {
	for _, isOld := range []bool{false, true} {
		k := newTalk(worldKind{fenced: true, old: isOld})
		from, to := k.w.nodes[0], k.w.nodes[1]
		to.ahead -= int64(time.Second) // else RESTORE creates nothing
		e := entry{"string", "a", from.clock() / 1e6}
		from.data["key0"], k.w.deadlines["a"] = e, from.deadline(e)
		if !k.run("key0") || k.w.wrong != "" {
			t.Fatal(k.w.wrong)
		}
		if _, ok := to.get("key0"); !ok {
			t.Error("the key did not move, so that nothing was tried")
		}
	}
}

// TestOneKeyIsCheap: the first touch of a key makes no garbage.
func TestOneKeyIsCheap(t *testing.T) {
	pair := transfer.Pair{Fenced: true}
	var b transfer.Batch
	replies := [][]byte{
		[]byte("+OK\r\n"), []byte("*0\r\n"), []byte("+OK\r\n"), []byte(":0\r\n"), // the destination does not have it
		[]byte(":3\r\n"), []byte(":-1\r\n"), []byte("$5\r\nvalue\r\n"),
		[]byte("+OK\r\n"), []byte("+QUEUED\r\n"), []byte("*1\r\n+OK\r\n"), []byte(":1\r\n"),
	}
	now := []byte("*2\r\n$1\r\n1\r\n$1\r\n2\r\n")
	run := func() {
		b.Begin(&pair, "key")
		for i, step := 0, b.Next(1); step.To != transfer.None; step = b.Next(1) {
			for range step.Replies {
				if len(step.Frames) < len("*1\r\n$4\r\nTIME\r\n")+1 {
					b.Reply(now)
					continue
				}
				b.Reply(replies[i])
				i++
			}
		}
		if b.Keys()[0].Outcome != transfer.Moved {
			t.Fatalf("%+v %+v", b.Keys(), b.Failure())
		}
	}
	if n := testing.AllocsPerRun(100, run); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestConversation shows what is sent, in which order.
func TestConversation(t *testing.T) {
	look := "D MULTI, D EXEC, D WATCH key0, D EXISTS key0"
	fenced, watching := worldKind{fenced: true}, worldKind{}
	durable := worldKind{fenced: true, durable: true}
	strict := worldKind{fenced: true, durable: true, strict: true}
	readBoth := ", S TYPE key0, S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0, " +
		"D TYPE key0, D PTTL key0, D TIME, D DUMP key0"
	waited := strings.Repeat(", S EXISTS key0", 11)
	confirm := ", D INFO replication, D FUNCTION RESTORE, D WAIT 1 100, D INFO replication"
	for _, c := range []struct {
		kind  worldKind
		state string
		want  string
	}{
		{fenced, "at the source", look + ", S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0, " +
			"D MULTI, D RESTORE key0, D EXEC, S UNLINK key0"},
		{watching, "at the source", look + ", S MULTI, S EXEC, S WATCH key0, " +
			"S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0, " +
			"D MULTI, D RESTORE key0, D EXEC, S MULTI, S UNLINK key0, S EXEC"},
		{worldKind{fenced: true, old: true}, "a lease", look + ", S OBJECT IDLETIME key0, " +
			"S PEXPIRETIME key0, S DUMP key0, S OBJECT IDLETIME key0, S PTTL key0, S TIME, S DUMP key0, " +
			"D MULTI, D RESTORE key0, D EXEC, S UNLINK key0"},
		{strict, "at the source", look + ", S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0, " +
			"D MULTI, D RESTORE key0, D EXEC, D WAIT 1 5000, S UNLINK key0, S WAIT 1 5000"},
		{fenced, "on both", look + waited + readBoth + ", S UNLINK key0"},
		// WAIT would say nothing about the copy that another has made.
		{durable, "on both", look + waited + readBoth + confirm + ", S UNLINK key0"},
		{fenced, "a hash on both", look + waited + readBoth + ", S HGETALL key0, D HGETALL key0, " +
			"S HPEXPIRETIME key0 FIELDS 2 name value, D HPEXPIRETIME key0 FIELDS 2 name value, S UNLINK key0"},
		{fenced, "two values", look + waited + readBoth + ", S GET key0, D GET key0, " +
			"S RENAMENX key0 keyway:stray:7:key0"},
		{fenced, "nowhere", look + ", S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0"},
		{strict, "nowhere", look + ", S OBJECT IDLETIME key0, S PEXPIRETIME key0, S DUMP key0" +
			strings.ReplaceAll(confirm, "D ", "S ")},
	} {
		k := newTalk(c.kind)
		states[c.state](k.w.nodes[0], k.w.nodes[1])
		if !k.run("key0") || k.w.wrong != "" {
			t.Fatal(k.w.wrong)
		}
		if got := strings.Join(k.lines[measured:], ", "); got != c.want {
			t.Errorf("%+v %s:\n%s, expected\n%s", c.kind, c.state, got, c.want)
		}
	}
}

// TestNodeWithoutReplica: a node whose only replica has died or taken over gets keys all the same,
// after a while. As soon as it has a replica again, that must have the keys first.
func TestNodeWithoutReplica(t *testing.T) {
	k := newTalk(worldKind{fenced: true})
	k.pair.Durable = true
	for _, c := range []struct {
		state      string
		hasReplica bool
		want       string
	}{
		{"on both", false, "D DUMP key0, D INFO replication, S UNLINK key0"},
		{"at the source", false, "D EXEC, D WAIT 1 1, S UNLINK key0"},
		{"at the source", true, "D EXEC, D WAIT 1 1, S UNLINK key0"},
		{"at the source", true, "D EXEC, D WAIT 1 5000, S UNLINK key0"},
		{"at the source", false, "D EXEC, D WAIT 1 5000, D INFO replication, S UNLINK key0"},
		{"on both", false, "D DUMP key0, S UNLINK key0"},
	} {
		for _, n := range k.w.nodes {
			clear(n.data)
		}
		states[c.state](k.w.nodes[0], k.w.nodes[1])
		k.w.durable, k.lines = c.hasReplica, nil
		if !k.run("key0") || k.w.wrong != "" {
			t.Fatal(k.w.wrong)
		}
		lines := slices.DeleteFunc(k.lines, func(line string) bool { // between two INFO
			return line == "D FUNCTION RESTORE" || line == "D WAIT 1 100"
		})
		got := slices.CompactFunc(lines, func(a, b string) bool { return a == b && strings.Contains(a, "INFO") })
		if text := strings.Join(got, ", "); !strings.HasSuffix(text, c.want) {
			t.Errorf("%s:\n%s, expected at the end\n%s", c.state, text, c.want)
		}
	}
}

// TestStrictNodeWithoutReplica: with Strict, no key moves to a node that has no replica, nor counts as
// gone from one, however long that takes; not even if keys have moved without one before.
func TestStrictNodeWithoutReplica(t *testing.T) {
	for state, want := range map[string]transfer.Side{
		"at the source": transfer.Destination, "on both": transfer.Destination, "nowhere": transfer.Source,
	} {
		k := newTalk(worldKind{fenced: true})
		k.pair.Durable = true
		states["at the source"](k.w.nodes[0], k.w.nodes[1])
		k.run("key0")
		k.pair.Strict = true
		for _, n := range k.w.nodes {
			clear(n.data)
		}
		states[state](k.w.nodes[0], k.w.nodes[1])
		k.run("key0")
		f := k.batch.Failure()
		if k.w.wrong != "" || f == nil || !f.Unconfirmed || f.To != want ||
			k.batch.Keys()[0].Outcome != transfer.Again {
			t.Errorf("%s: %+v %+v %s", state, f, k.batch.Keys(), k.w.wrong)
		}
		if _, there := k.w.nodes[0].get("key0"); there != (state != "nowhere") {
			t.Errorf("%s: at the source is %v", state, there)
		}
	}
}
