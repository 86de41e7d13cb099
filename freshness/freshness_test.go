package freshness

import (
	"fmt"
	"math"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// told is a node whose reply to a look, sent and received at these times, is recorded.
func told(n *Node, text string, asked, now int64, master *Node) {
	n.Ask(1)
	n.Record(fmt.Appendf(nil, "$%d\r\n%s\r\n", len(text), text), asked, now, master)
}

func masterAt(bytes int) string {
	return fmt.Sprintf("role:master\r\nmaster_replid:s\r\nmaster_repl_offset:%d\r\n", bytes)
}

func replicaAt(bytes int) string {
	return fmt.Sprintf("role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\nslave_repl_offset:%d\r\n", bytes)
}

// A replica is as fresh as the latest look at its master whose offset it has reached.
func TestReplicaIsAsFreshAsTheOffsetItHasReached(t *testing.T) {
	for _, c := range []struct {
		reply string
		want  int64 // time, or never
	}{
		{replicaAt(200), 20}, {replicaAt(180), 20}, {replicaAt(179), 10}, {replicaAt(400), 30}, {replicaAt(99), never},
		{"role:slave\r\nmaster_link_status:down\r\nmaster_replid:s\r\nslave_repl_offset:400\r\n", never},
		{"role:slave\r\nmaster_link_status:up\r\nmaster_replid:other\r\nslave_repl_offset:400\r\n", never},
		{masterAt(400), never}, {"role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\n", never},
	} {
		m, r := NewNode(), NewNode()
		for i, bytes := range []int{100, 180, 310} {
			told(&m, masterAt(bytes), 10*int64(i+1), 40, nil)
		}
		told(&r, c.reply, 40, 41, &m)
		if r.fresh != c.want {
			t.Errorf("%q: fresh as of %d, want %d", c.reply, r.fresh, c.want)
		}
		if c.want == never {
			continue
		}
		if r.Has(c.want) || !r.Has(c.want-1) || !r.Has(0) || r.Has(underWay) || r.Lag(50) != time.Duration(50-c.want) {
			t.Errorf("%q: it has the writes of %d: %t; its lag is %d", c.reply, c.want, r.Has(c.want), r.Lag(50))
		}
	}
}

// A look is sent once until it is answered. A new socket, an error that says nothing and a new
// role make a replica doubtful until the next look.
func TestReplicaIsDoubtedUntilTheNextLook(t *testing.T) {
	replicas, m, r := NewReplicas(time.Second), NewNode(), NewNode()
	look := func() { told(&r, replicaAt(100), 20, 21, &m) }
	told(&m, masterAt(100), 10, 11, nil)
	if replicas.InStep(&r, 0, 20) || r.Lag(20) != math.MaxInt64 {
		t.Error("in step before the first look")
	}
	for name, doubt := range map[string]func(){
		"a new socket": func() { r.Ask(2); r.Record(nil, 20, 21, &m) },
		"an error":     func() { r.Doubt() },
		"a role":       func() { r.Reset() },
	} {
		look()
		later := 20 + 2*int64(time.Second)
		if !replicas.InStep(&r, 1, 20) || replicas.InStep(&r, 2, 20) || replicas.InStep(&r, 1, later) {
			t.Errorf("before %s it is not in step, or over any socket or with any lag", name)
		}
		if doubt(); replicas.InStep(&r, 1, 20) || replicas.InStep(&r, 2, 20) {
			t.Errorf("after %s it is in step", name)
		}
	}
	if !r.Ask(1) || r.Ask(1) {
		t.Error("a second look is sent while the first is unanswered")
	}
	if r.Record([]byte("-ERR no\r\n"), 20, 21, &m); !r.Ask(1) {
		t.Error("no look follows a failed one")
	}
}

// Looks come five times within the permitted lag, and at most every 20 ms.
func TestLooksComeOftenEnough(t *testing.T) {
	for lag, every := range map[time.Duration]int64{
		0: 100 * ms, 10 * time.Millisecond: 20 * ms, 300 * time.Millisecond: 60 * ms, time.Hour: 100 * ms,
	} {
		r := NewReplicas(lag)
		if !r.Begin(7) || r.Begin(8) || r.Next() != 7+every || !r.Begin(7+every) {
			t.Errorf("lag %v: the next look is at %d, want %d", lag, r.Next(), 7+every)
		}
	}
	r, old, young := NewReplicas(0), Node{fresh: 3}, Node{fresh: 5}
	r.Begin(9)
	r.See(&young)
	r.See(&old)
	if r.Oldest() != 3 {
		t.Errorf("all replicas have the writes before %d", r.Oldest())
	}
}

// Many who look at the same nodes look less often, but at least twice within the permitted lag. As long as nothing is
// known of a replica, they look as often as few do, for a while.
func TestManyLookLessOften(t *testing.T) {
	for lag, every := range map[time.Duration]int64{
		0: 10_000 * ms, time.Second: 500 * ms, 10 * time.Second: 5_000 * ms, time.Hour: 10_000 * ms,
	} {
		r, known := NewReplicas(lag), Node{fresh: 3}
		r.SetLookers(10 * looksPerSecond)
		if r.Begin(7); r.Next() != 7+every {
			t.Errorf("lag %v: the next look is at %d, want %d", lag, r.Next(), 7+every)
		}
		unknown, now := NewNode(), int64(7)
		for range maxHurried {
			r.See(&known)
			if r.See(&unknown); r.Next() != now+int64(r.least()) {
				t.Fatalf("lag %v: nobody looks again until %d", lag, r.Next())
			}
			now = r.Next()
			r.Begin(now)
		}
		if r.See(&unknown); r.Next() != now+every {
			t.Errorf("lag %v: many go on to look often at a replica that cannot be judged", lag)
		}
	}
}

// The offsets of a busy master are bounded, and go far back.
func TestOffsetsAreBounded(t *testing.T) {
	m := NewNode()
	for i := range 100 * maxOffsets {
		told(&m, masterAt(i), int64(i), int64(i), nil)
		told(&m, masterAt(i), int64(i), int64(i), nil)
	}
	if n := len(m.offsets); n > maxOffsets || n < maxOffsets/2 || m.offsets[0].bytes > 100*maxOffsets-maxOffsets {
		t.Errorf("%d offsets from %d on", n, m.offsets[0].bytes)
	}
}

// The nearest node stays the same unless another is clearly faster, or it cannot be read.
func TestNearestChangesOnlyForAClearGain(t *testing.T) {
	node := func(rtt int64, usable bool) Candidate { return Candidate{&Node{rtt: rtt}, usable} }
	for _, c := range []struct {
		nodes         []Candidate
		current, want int
	}{
		{[]Candidate{node(100, true), node(90, true), node(85, true)}, 0, 0},
		{[]Candidate{node(100, true), node(79, true), node(85, true)}, 0, 1},
		{[]Candidate{node(100, true), node(79, true), node(50, true)}, 0, 2},
		{[]Candidate{node(100, true), node(0, true)}, 0, 0},
		{[]Candidate{node(100, true), node(110, true)}, 1, 1},
		{[]Candidate{node(50, true), node(110, true)}, 1, 0},
		{[]Candidate{node(50, false), node(110, true)}, 1, 1},
		{[]Candidate{node(50, false), node(110, true), node(60, true)}, 0, 2},
		{[]Candidate{node(100, true), node(10, false)}, 1, 0},
		{[]Candidate{node(100, false), node(10, false)}, 1, 0},
	} {
		if got := Nearest(c.nodes, c.current); got != c.want {
			t.Errorf("%v: %d becomes %d, want %d", c.nodes, c.current, got, c.want)
		}
	}
}

// A write counts from the moment it is sent until every replica has it.
func TestWritesAreSeenUntilAnswered(t *testing.T) {
	var none *Writes
	w := NewWrites()
	w.Record(1, 10)
	w.Record(1, 11)
	w.Record(2, 12)
	since := func(key uint64, want int64) {
		t.Helper()
		if got := w.Since(key); got != want {
			t.Errorf("key %d was written at %d, want %d", key, got, want)
		}
	}
	if none.Since(1) != 0 {
		t.Error("a client that has recorded nothing has written")
	}
	since(3, 0)
	w.Answered(11, 100)
	since(1, underWay) // request 11
	w.Answered(12, 200)
	since(1, 200)
	since(2, underWay)
	w.Answered(13, 300)
	since(2, 300)
	w.RecordAll(13)
	since(3, underWay)
	w.Answered(14, 400)
	since(1, 400)
	since(3, 400)
}

// However many keys a client writes, a bounded number is recorded, and none is forgotten that
// a replica may lack.
func TestRecordedKeysAreBounded(t *testing.T) {
	w := NewWrites()
	for i := range uint64(3 * maxKeys) {
		w.Record(i, i)
		w.Trim(0, int64(i))
		if w.Answered(i+1, int64(i)); len(w.keys) > maxKeys+1 || len(w.open) > maxKeys+1 {
			t.Fatalf("%d keys and %d writes are recorded", len(w.keys), len(w.open))
		}
	}
	for i := range uint64(3 * maxKeys) {
		if w.Since(i) < int64(i) {
			t.Fatalf("key %d was written at %d", i, w.Since(i))
		}
	}
	w = NewWrites()
	for i := range uint64(minKeys) + 1 {
		w.Record(i, i)
	}
	w.Answered(minKeys, 5)
	if w.Trim(6, 7); len(w.keys) != 1 || w.Since(0) != 0 || w.Since(minKeys) != underWay {
		t.Errorf("%d keys are recorded that every replica has", len(w.keys))
	}
}

// A write of a key waits for reads of that key, and for those of several keys of its group.
func TestReadsInFlight(t *testing.T) {
	var none *Reads
	r := new(Reads)
	if none.Any() || r.Any() {
		t.Error("reads before the first")
	}
	var reads []*Read
	for i := range 300 {
		read := &Read{Keys: 1, Key: uint64(i), Group: int32(i % 7)}
		if i%3 == 0 {
			read.Keys = 2
		}
		reads = append(reads, read)
		r.Add(read)
	}
	for _, i := range []int{299, 0, 64, 128, 1, 65, 150} {
		r.Remove(reads[i])
		if single := i%3 != 0; single && r.Has(uint64(i), 100) {
			t.Errorf("read %d is in flight after its end", i)
		}
		reads[i] = nil
	}
	for i, read := range reads {
		switch {
		case read == nil:
		case read.Keys == 1 && !r.Has(uint64(i), 100), read.Keys > 1 && !r.Has(1000, read.Group):
			t.Errorf("read %d is not found", i)
		}
		if read != nil {
			r.Remove(read)
		}
	}
	if r.Any() || r.Has(5, 5) {
		t.Error("reads after the last")
	}
}
