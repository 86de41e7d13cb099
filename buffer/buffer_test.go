package buffer

import (
	"bytes"
	"testing"
)

// TestOutputKeepsOrder: a client gets what was appended, however it takes it, and the
// buffers return to the pool.
func TestOutputKeepsOrder(t *testing.T) {
	var p Pool
	var o Output
	var want, got []byte
	for i := range 300 {
		piece := bytes.Repeat([]byte{byte(i)}, i*7)
		o.Append(&p, piece)
		want = append(want, piece...)
		for i%3 == 0 && o.Size() > 1000 {
			n := min(len(o.Next()), 777)
			got = append(got, o.Next()[:n]...)
			o.Wrote(&p, n)
		}
	}
	for o.Size() > 0 {
		n := len(o.Next())
		got = append(got, o.Next()...)
		o.Wrote(&p, n)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came out of %d, or in another order", len(got), len(want))
	}
	if o.Memory() != 0 || p.Unused() == 0 {
		t.Errorf("an empty output takes %d bytes; %d are unused", o.Memory(), p.Unused())
	}
}

// TestPoolIsBounded: what does not fit is counted as garbage, once.
func TestPoolIsBounded(t *testing.T) {
	var p Pool
	for range MaxUnused/Chunk + 2 {
		p.Put(make([]byte, 0, Chunk))
	}
	p.Put(make([]byte, 0, 1<<20))
	p.Put(nil)
	if got := p.TakeGarbage(); p.Unused() != MaxUnused || got != 2*Chunk+1<<20 || p.TakeGarbage() != 0 {
		t.Errorf("%d bytes are unused, %d are garbage", p.Unused(), got)
	}
	for _, n := range []int{1, 5000, Chunk, 1 << 20} {
		if b := p.Get(n); len(b) > 0 || cap(b) < min(n, Chunk) {
			t.Errorf("Get(%d) has length %d and capacity %d", n, len(b), cap(b))
		}
	}
}

// TestNestsAreUsedAgain: where one reply is always parked, only its nest is in use.
func TestNestsAreUsedAgain(t *testing.T) {
	var p Pool
	reply := make([]byte, 70)
	var last Parked
	for range 10_000 {
		var next Parked
		next.Append(&p, reply)
		last.Release(&p)
		last = next
	}
	if n := len(p.nests.all); n > 2 {
		t.Errorf("%d unused nests for one parked reply", n)
	}
}

// TestUnusedBuffersAreDropped: after a burst, a pool drops most of what it has taken, and counts it as
// garbage. It keeps what a steady load uses again and again.
func TestUnusedBuffersAreDropped(t *testing.T) {
	var p Pool
	burst := func(clients int) {
		outputs, parked := make([]Output, clients), make([]Parked, clients)
		for i := range outputs {
			outputs[i].Append(&p, make([]byte, 1000))
			parked[i].Append(&p, make([]byte, 1000))
		}
		for i := range outputs {
			outputs[i].Wrote(&p, outputs[i].Size())
			parked[i].Release(&p)
		}
	}
	burst(1500)
	if p.Unused() < 1500*sizes[0] {
		t.Errorf("%d bytes are unused after the burst", p.Unused())
	}
	for range 20 {
		p.Trim()
		burst(200)
	}
	if n := p.Unused(); n < 200*sizes[0] || n > 200*sizes[0]+keptUnused {
		t.Errorf("%d bytes are unused while 200 clients use buffers", n)
	}
	if n := testing.AllocsPerRun(10, func() { burst(200); p.Trim() }); n > 2 { // the slices of burst
		t.Errorf("200 clients make %v allocations though the pool has buffers", n)
	}
	for range 20 {
		p.Trim()
	}
	if n, queues := p.Unused(), len(p.queues.all); n > keptUnused || queues > keptUnused/sizes[0] {
		t.Errorf("%d bytes and %d queues are unused long after the burst", n, queues)
	}
	if got := p.TakeGarbage(); got < 1400*sizes[0] {
		t.Errorf("%d bytes are counted as garbage", got)
	}
}
