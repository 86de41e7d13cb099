package proxy

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// failover is what happens to a worker whose clients have asked for a key of each of 5,461
// slots of node a, when this has handed all of them over to b.
type failover struct {
	*rig
	before   *router.Table
	clients  []*Session
	requests [][]byte
	answers  []byte
}

func newFailover(t testing.TB, clients int) *failover {
	f := &failover{rig: newClusterRig(t, Options{}), before: clusterTable(t)}
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
	f.w.SetTable(f.before)
	f.endTurn()
	for i, s := range f.clients {
		f.w.Received(s, f.requests[i])
	}
	f.endTurn()
	f.w.Taken()
	take(f.shared(0))
}

// turn is the one in which a answers.
func (f *failover) turn() {
	f.shared(0).Received(f.answers, f.now)
	f.endTurn()
	f.w.Taken()
}

// end has b answer, so that it can be done again, and returns how many replies the clients
// got.
func (f *failover) end() (replies int) {
	sent := take(f.shared(1))
	f.shared(1).Received([]byte(strings.Repeat("$-1\r\n", strings.Count(sent, "GET"))), f.now)
	for _, s := range f.clients {
		for out := s.Output(); len(out) > 0; out = s.Output() {
			replies += strings.Count(string(out), "$-1\r\n")
			s.Wrote(len(out))
		}
	}
	f.endTurn()
	f.w.Taken()
	return replies
}

// TestFailoverOfManySlots: slots that move in one turn take one copy of the table, not
// one each; who has to know that keys have other owners is told once.
func TestFailoverOfManySlots(t *testing.T) {
	f := newFailover(t, 6)
	caching := f.w.Open(nil, "peer:2", "keyway:1")
	f.w.Received(caching, []byte("HELLO 3\r\nCLIENT TRACKING ON\r\n"))
	for range 2 { // what speaks RESP3, and the client's own
		f.greetAll()
	}
	f.endTurn()
	if got := outputOf(caching); !strings.HasSuffix(got, "+OK\r\n") || f.last(0, isOwn) == f.last(1, isOwn) {
		t.Fatalf("the nodes accept CLIENT TRACKING, and the client is told %q", got)
	}
	f.ask()
	outputOf(caching)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f.turn()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("it took %d MiB of memory", took>>20)
	}
	if got := outputOf(caching); got != ">2\r\n$10\r\ninvalidate\r\n_\r\n" {
		t.Errorf("a client that caches is told %.100q", got)
	}
	if replies := f.end(); replies != 5461 {
		t.Errorf("%d commands of 5461 are answered by the new owner", replies)
	}
	for i, s := range f.clients {
		f.w.Received(s, f.requests[i])
	}
	if old, now := take(f.shared(0)), take(f.shared(1)); old != "" || strings.Count(now, "GET") != 5461 {
		t.Errorf("later, the new owner is sent %d commands, the old one %.100q", strings.Count(now, "GET"), old)
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
