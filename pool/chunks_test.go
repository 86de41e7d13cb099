package pool

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// readyConns returns ready connections of one set.
func readyConns(t *testing.T, n int) (*Set, []*Conn) {
	t.Helper()
	set := NewSet(Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}, rand.New(rand.NewPCG(1, 2)))
	var conns []*Conn
	for i := range n {
		c := set.Conn(fmt.Sprintf("10.0.0.1:%d", i+1), nil)
		b := &bench{t: t, set: set, c: c, now: 1}
		b.ready()
		conns = append(conns, c)
	}
	return set, conns
}

var (
	shortFrame = []byte("*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n")
	shortReply = []byte("$5\r\nhello\r\n")
)

// write takes all that a connection wants to write, and returns in how many writes.
func write(c *Conn, now int64) (writes int) {
	for w := c.NextWrite(); len(w) > 0; w = c.NextWrite() {
		c.Wrote(len(w), now)
		writes++
	}
	return writes
}

// TestManyNodesTakeLittleMemory: connections to hundreds of nodes that all have requests in flight allocate
// nothing for them, and take far less memory than as many with large writes.
func TestManyNodesTakeLittleMemory(t *testing.T) {
	set, conns := readyConns(t, 300)
	var into []*Link
	turn := func(now int64) {
		for _, c := range conns {
			for range 1 + now%16 {
				c.Send(sink{}, shortFrame, now, now+int64(time.Second))
			}
		}
		into = set.Take(into[:0])
		for _, c := range conns {
			write(c, now)
		}
	}
	answer := func(now int64) {
		for _, c := range conns {
			for c.InFlight() > 0 {
				c.Received(shortReply, now)
			}
		}
	}
	now := int64(1)
	both := func() {
		now++
		turn(now)
		answer(now)
	}
	for range 100 {
		both()
	}
	set.TakeGarbage()
	if n := testing.AllocsPerRun(100, both); n > 0 {
		t.Errorf("%v allocations for requests to 300 nodes", n)
	}
	turn(now)
	bytes := 0
	for _, c := range conns {
		for _, ch := range c.queue.chunks {
			bytes += cap(ch.buf)
		}
	}
	if limit := len(conns) * chunkSizes[1]; bytes > limit || bytes == 0 || set.TakeGarbage() > 0 {
		t.Errorf("the requests are in buffers of %d bytes, want %d at most", bytes, limit)
	}
}

// TestBusyConnectionWritesOnce: the requests of a turn leave in one write, whatever the size of the chunks,
// also over a connection that always has requests in flight.
func TestBusyConnectionWritesOnce(t *testing.T) {
	for _, perTurn := range []int{1, 7, 30, 300} {
		_, conns := readyConns(t, 1)
		c, now, writes := conns[0], int64(1), 0
		const warm, turns = 200, 2000
		for i := range warm + turns {
			now++
			for range perTurn {
				c.Send(sink{}, shortFrame, now, now+int64(time.Second))
			}
			if n := write(c, now); i >= warm {
				writes += n
			}
			for c.InFlight() > perTurn/2+1 { // the others are answered later
				c.Received(shortReply, now)
			}
		}
		if writes != turns {
			t.Errorf("%d requests in each turn: %d writes in %d turns", perTurn, writes, turns)
		}
	}
}

// TestUnneededChunksAreFreed: the memory of a burst of requests is garbage once it was not needed for a while.
func TestUnneededChunksAreFreed(t *testing.T) {
	set, conns := readyConns(t, 1000)
	for _, c := range conns {
		c.Send(sink{}, shortFrame, 1, 0)
		write(c, 1)
	}
	for _, c := range conns {
		c.Received(shortReply, 1)
	}
	set.TakeGarbage()
	set.Trim() // the burst was since the last one
	if n := set.TakeGarbage(); n > 0 {
		t.Errorf("%d bytes are freed that may have been needed just now", n)
	}
	set.Trim()
	if n, want := set.TakeGarbage(), (len(conns)-keptFreeChunks)*chunkSizes[0]; n < want {
		t.Errorf("%d bytes are freed, want %d", n, want)
	}
}
