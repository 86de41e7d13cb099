package proxy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// trying is a rig over a range layout: keys that begin with a to m are on node a, others on
// b. It tries static slots on both nodes.
func trying(t testing.TB, o Options) *rig {
	t.Helper()
	r := newRig(t, o)
	nodes := slices.Clone(r.w.Table.Nodes)
	rules := []router.Rule{{Node: 0, Text: "a", TextTo: "n"}}
	ranges, err := router.NewRange(nodes, rules, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	next, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(ranges)
	TryLayout(r.w, next)
	r.endTurn()
	return r
}

// slotByBits returns a key's slot as the cluster specification describes it, bit by bit.
func slotByBits(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if end := strings.IndexByte(key[open+1:], '}'); end > 0 {
			key = key[open+1 : open+1+end]
		}
	}
	crc := 0
	for _, b := range []byte(key) {
		crc ^= int(b) << 8
		for range 8 {
			if crc <<= 1; crc&0x10000 != 0 {
				crc ^= 0x11021
			}
		}
	}
	return crc & 0x3fff
}

// sentence is a command, the keys that have to live together, and its name among the
// findings.
type sentence struct {
	name string
	args []string
	keys []string
}

// sentenceOf returns the i-th kind of command with these keys.
func sentenceOf(i int, k []string) sentence {
	all := func(name string, before ...string) sentence {
		return sentence{name, append(append([]string{name}, before...), k...), k}
	}
	n := fmt.Sprint(len(k))
	switch i {
	case 0:
		return all("SUNIONSTORE")
	case 1:
		s := sentence{name: "MSETNX", args: []string{"msetnx"}, keys: k}
		for _, key := range k {
			s.args = append(s.args, key, "v")
		}
		return s
	case 2:
		return sentence{"RENAME", []string{"RENAME", k[0], k[1]}, k[:2]}
	case 3:
		return sentence{"EVAL", append(append([]string{"EVAL", "return 1", n}, k...), "argument"), k}
	case 4:
		return sentence{"SORT", []string{"SORT", k[0], "LIMIT", "0", "1", "STORE", k[1]}, k[:2]}
	case 5:
		ids := slices.Repeat([]string{"0"}, len(k))
		return sentence{"XREAD", append(append([]string{"XREAD", "STREAMS"}, k...), ids...), k}
	case 6:
		return sentence{"ZUNIONSTORE", append([]string{"ZUNIONSTORE", k[0], fmt.Sprint(len(k) - 1)}, k[1:]...), k}
	case 7:
		return sentence{"FCALL", append([]string{"FCALL", "f", n}, k...), k}
	case 8:
		return sentence{"MGET", append([]string{"MGET"}, k...), nil} // split
	case 9:
		return sentence{"DEL", append([]string{"DEL"}, k...), nil}
	default:
		return sentence{"SET", []string{"SET", k[0], k[1]}, nil}
	}
}

// TestNextLayoutCounts: of random commands, those are counted that the present layout serves,
// and whose keys are in several slots. What is in a slot says another reckoning.
func TestNextLayoutCounts(t *testing.T) {
	r := trying(t, Options{})
	random := rand.New(rand.NewPCG(1, 2))
	want, others := map[string]uint64{}, 0
	for range 3000 {
		var keys []string
		for range 2 + random.IntN(3) {
			keys = append(keys, string("amnz"[random.IntN(4)])+[]string{"", "{x}", "{y}", ":1", "{}x"}[random.IntN(5)])
		}
		s := sentenceOf(random.IntN(11), keys)
		r.feed(cmd(s.args...))
		apart, together := false, true
		for _, key := range s.keys {
			apart = apart || slotByBits(key) != slotByBits(s.keys[0])
			together = together && (key[0] < 'n') == (s.keys[0][0] < 'n')
		}
		switch {
		case apart && together:
			want[s.name]++
		case !together:
			others++
		}
		for node := range 2 { // nobody waits for replies
			for range strings.Count(r.sent(node), "*") {
				r.node(node, "+OK\r\n")
			}
		}
	}
	if others < 300 || len(want) != 8 {
		t.Fatalf("%d commands are refused now, and %v would be", others, want)
	}
	got, sum := map[string]uint64{}, uint64(0)
	for _, p := range parted(t, Tried(r.w)) {
		got[p.Command] = p.Count
		sum += p.Count
		if len(p.Examples) != 10 {
			t.Errorf("%s: %d examples", p.Command, len(p.Examples))
		}
		for _, e := range p.Examples {
			if slotByBits(e.Keys[0]) == slotByBits(e.Keys[1]) || e.Client != "peer:1" || !e.Time.Equal(r.w.Wall) {
				t.Errorf("%s: %+v", p.Command, e)
			}
		}
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
	if len(got) != len(want) || r.w.Snapshot().NextCrossSlot != sum {
		t.Errorf("got %v, want %v, metric %d", got, want, r.w.Snapshot().NextCrossSlot)
	}
	TryLayout(r.w, nil)
	r.feed(cmd("RENAME", "a", "b"))
	if f := Tried(r.w); len(f.Parted) > 0 || r.w.Snapshot().NextCrossSlot != sum {
		t.Errorf("counts though no layout is tried: %+v", f)
	}
}

// counted is a command that the next layout would refuse, as it is printed.
type counted struct {
	Command  string
	Count    uint64
	Examples []struct {
		Keys   []string
		Client string
		Time   time.Time
	}
}

// parted returns what would be refused, from the report's JSON.
func parted(t *testing.T, report any) []counted {
	t.Helper()
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Parted []counted `json:"crossslot"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found.Parted
}

// TestNextLayoutCountsOnce: a command that has to wait is counted when it begins.
func TestNextLayoutCountsOnce(t *testing.T) {
	r := trying(t, Options{})
	r.w.Links.MaxQueued = 1
	count := func() (n uint64) {
		for _, p := range Tried(r.w).Parted {
			n += p.Count
		}
		return n
	}
	r.feed(cmd("GET", "a") + cmd("RENAME", "a", "b"))
	for range 5 {
		r.pass(20 * time.Millisecond)
	}
	if n := count(); n != 0 {
		t.Errorf("counted %d times before it begins", n)
	}
	r.sent(0)
	r.node(0, "$-1\r\n")
	r.pass(20 * time.Millisecond)
	if n := count(); n != 1 || !strings.Contains(r.sent(0), "RENAME") {
		t.Errorf("counted %d times", n)
	}
}

// TestNextLayoutOfPerKeyScripts: a script that is split by its keys needs only the keys of one
// unit together.
func TestNextLayoutOfPerKeyScripts(t *testing.T) {
	const script = "return redis.call('RENAME', KEYS[1], KEYS[2])"
	perKey := lua.NewPerKeyScripts([]lua.PerKey{{SHA: lua.SHA1([]byte(script)), Keys: 2}})
	r := trying(t, Options{PerKey: perKey})
	for i, keys := range [][]string{
		{"{x}a", "{x}b", "{y}a", "{y}b"},                   // each pair together
		{"a{x}", "b{x}", "n{y}", "z{y}"},                   // not even on one node now
		{"a{x}", "b{y}"}, {"a{x}", "b{y}", "n{x}", "z{x}"}, // the first pair is apart
	} {
		r.feed(cmd(append([]string{"EVAL", script, fmt.Sprint(len(keys))}, keys...)...))
		n := uint64(0)
		for _, p := range Tried(r.w).Parted {
			n += p.Count
		}
		if want := uint64(max(0, i-1)); n != want {
			t.Errorf("after %q: %d, want %d", keys, n, want)
		}
	}
}

// TestNextLayoutTakesNoMemory: once a command's examples are complete, trying it takes nothing
// from the heap.
func TestNextLayoutTakesNoMemory(t *testing.T) {
	r := trying(t, Options{})
	var in []byte
	for i := range 12 {
		in = append(in, cmd("SUNIONSTORE", "a", "b", fmt.Sprintf("c:%d", i))...)
		in = append(in, cmd("EVAL", "return 1", "2", fmt.Sprintf("a:%d", i), "b")...)
	}
	fromA := []byte(strings.Repeat(":1\r\n", 24))
	turn := func() { r.turn(in, func() { r.shared(0).Received(fromA, r.now) }) }
	for range 10 {
		turn()
	}
	if f := Tried(r.w); len(f.Parted) != 2 || f.Parted[0].Count != 120 || !r.answered() {
		t.Fatalf("%+v", f)
	}
	if n := testing.AllocsPerRun(200, turn); n > 0 {
		t.Errorf("%v allocations for 24 commands", n)
	}
}

// BenchmarkNextLayout measures commands with three keys, of which none or all are tried by a
// next layout.
func BenchmarkNextLayout(b *testing.B) {
	for _, tried := range []bool{false, true} {
		b.Run(fmt.Sprintf("tried=%v", tried), func(b *testing.B) {
			r := trying(b, Options{})
			if !tried {
				TryLayout(r.w, nil)
			}
			in := []byte(strings.Repeat(cmd("SUNIONSTORE", "a:1", "b:1", "c:1"), 16))
			fromA := []byte(strings.Repeat(":1\r\n", 16))
			b.ReportAllocs()
			for b.Loop() {
				r.turn(in, func() { r.shared(0).Received(fromA, r.now) })
			}
		})
	}
}
