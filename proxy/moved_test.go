package proxy

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/slots"
)

// failover is what happens to a worker whose clients have asked for a key of each of 5,461
// slots of node a, when this has handed all of them over to b.
type failover struct {
	*rig
	clients  []*Session
	requests [][]byte
	answers  []byte
}

func newFailover(t testing.TB, clients int) *failover {
	f := &failover{rig: newClusterRig(t)}
	const moved = 5461
	f.requests = make([][]byte, clients)
	for range clients {
		f.clients = append(f.clients, f.w.Open(nil, "peer:1", "keyway:1"))
	}
	keys, found := make([]string, moved), 0
	for i := 0; found < moved; i++ {
		key := strconv.Itoa(i)
		if slot := slots.Of([]byte(key)); slot < moved && keys[slot] == "" {
			keys[slot] = key
			found++
		}
	}
	for slot, key := range keys {
		client := slot * clients / moved
		f.requests[client] = append(f.requests[client], cmd("GET", key)...)
		f.answers = fmt.Appendf(f.answers, "-MOVED %d 10.0.0.2:1\r\n", slot)
	}
	return f
}

// ask has the clients send; a takes it.
func (f *failover) ask() {
	for slot := range int32(5461) {
		f.w.moveSlot(slot, 0)
	}
	f.w.EndTurn()
	for i, s := range f.clients {
		f.w.Feed(s, f.requests[i])
	}
	f.w.EndTurn()
	f.w.Taken()
	take(f.shared(0))
}

// turn is the one in which a answers.
func (f *failover) turn() {
	f.shared(0).Received(f.answers, f.now)
	f.w.EndTurn()
	f.w.Taken()
}

// end has b answer, so that it can be done again.
func (f *failover) end() {
	sent := take(f.shared(1))
	f.shared(1).Received([]byte(strings.Repeat("$-1\r\n", strings.Count(sent, "GET"))), f.now)
	for _, s := range f.clients {
		for out := s.Output(); len(out) > 0; out = s.Output() {
			s.Wrote(len(out))
		}
	}
	f.w.EndTurn()
	f.w.Taken()
}

// TestFailoverOfManySlots: slots that move in one turn take one copy of the table, not
// one each; who has to know that keys have other owners is told once.
func TestFailoverOfManySlots(t *testing.T) {
	f := newFailover(t, 6)
	caching := f.w.Open(nil, "peer:2", "keyway:1")
	caching.set(resp3)
	track(f.w, caching, &tracking{w: f.w, sess: caching, conns: map[*node]*pool.Conn{}, begun: true})
	f.ask()
	outputOf(caching)
	var before, after runtime.MemStats
	epoch := f.w.epoch
	runtime.ReadMemStats(&before)
	f.turn()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("it took %d MiB of memory", took>>20)
	}
	if got := outputOf(caching); got != ">2\r\n$10\r\ninvalidate\r\n_\r\n" {
		t.Errorf("a client that caches is told %.100q", got)
	}
	if f.w.epoch-epoch != 5461 || f.w.table.SlotOwner(0) != 1 || f.w.table.SlotOwner(5460) != 1 {
		t.Errorf("%d slots have moved", f.w.epoch-epoch)
	}
	f.end()
	for _, s := range f.clients {
		if s.inflight > 0 {
			t.Errorf("%d commands of a client are not answered", s.inflight)
		}
	}
}

func BenchmarkFailover(b *testing.B) {
	f := newFailover(b, 6)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		f.ask()
		b.StartTimer()
		f.turn()
		b.StopTimer()
		f.end()
		b.StartTimer()
	}
}
