package locks

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestQueueMergesBatches: events of all threads come in the order of their times, each once, and none
// before its time.
func TestQueueMergesBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var q Queue
		var sent, got []string
		until := rng.Int64N(200)
		for thread := range 1 + rng.IntN(4) {
			at := int64(0)
			for range rng.IntN(4) {
				b := q.Batch()
				for range rng.IntN(20) {
					at += rng.Int64N(5)
					name := fmt.Sprintf("%06d by %d, %d", at, thread, len(sent))
					b.Add(&Event{At: at, Key: []byte(name), Token: []byte("t")})
					sent = append(sent, name)
				}
				q.Take(b)
			}
		}
		take := func(until int64) bool {
			return q.Drain(until, func(e *Event) {
				if e.At > until || string(e.Token) != "t" {
					t.Fatalf("%s, token %s, came at %d", e.Key, e.Token, until)
				}
				got = append(got, string(e.Key))
			})
		}
		early := 0
		for _, name := range sent {
			if name[:6] <= fmt.Sprintf("%06d", until) {
				early++
			}
		}
		areLeft := take(until)
		if len(got) != early || areLeft != (early < len(sent)) {
			t.Fatalf("%d of %d events came, left: %v; want %d", len(got), len(sent), areLeft, early)
		}
		if take(1<<40) || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(a[:6], b[:6]) }) {
			t.Fatalf("not in order: %q", got)
		}
		slices.Sort(got)
		slices.Sort(sent)
		if !slices.Equal(got, sent) {
			t.Fatalf("got %q, want %q", got, sent)
		}
	}
}

// TestQueueReusesItsMemory: a queue that is never empty needs no more memory with time.
func TestQueueReusesItsMemory(t *testing.T) {
	var q Queue
	now := int64(0)
	key, token := []byte("lock:order:00001"), []byte("0123456789abcdef")
	round := func() {
		for range 2 {
			b := q.Batch()
			for i := range 100 {
				b.Add(&Event{At: now + int64(i), Key: key, Token: token})
			}
			q.Take(b)
		}
		now += 100
		if !q.Drain(now-250, func(*Event) {}) {
			t.Error("nothing is left")
		}
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("%v allocations in a round", n)
	}
}

// TestQueueIsBounded: however many events threads see at once, a batch has only so many of them, and a queue
// keeps little memory once it has passed them on.
func TestQueueIsBounded(t *testing.T) {
	var q Queue
	key := []byte(strings.Repeat("k", maxName))
	for range 20 {
		b := q.Batch()
		for i := range maxBatch + 1000 {
			b.Add(&Event{At: int64(i), Key: key, Token: key})
		}
		q.Take(b)
	}
	n := 0
	if q.Drain(1<<40, func(*Event) { n++ }) || n != 20*maxBatch {
		t.Errorf("%d events", n)
	}
	kept := 0
	for _, b := range q.unused {
		kept += b.memory()
	}
	if kept > maxKept || kept != q.kept {
		t.Errorf("the queue keeps %d bytes, and counts %d", kept, q.kept)
	}
	for len(q.unused) > 0 {
		q.Batch()
	}
	if q.kept != 0 {
		t.Errorf("an empty queue keeps %d bytes", q.kept)
	}
}

func BenchmarkQueue(b *testing.B) {
	const n = 1000
	var q Queue
	now := int64(0)
	key, token := []byte("lock:order:00001"), []byte("0123456789abcdef0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		for range 2 {
			batch := q.Batch()
			for i := range n / 2 {
				batch.Add(&Event{At: now + int64(i), Key: key, Token: token})
			}
			q.Take(batch)
		}
		now += n / 2
		q.Drain(now-n, func(*Event) {})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
}
