package migrate

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/slots"
)

// TestPaceFollowsLatency: the rate grows while nodes are quick and movers use it, halves
// when a node is slow, and stays within its bounds.
func TestPaceFollowsLatency(t *testing.T) {
	p := NewPace(Speed{Latency: time.Millisecond})
	used := func(v verdict) {
		p.taken = int(p.rate * adjustInterval.Seconds())
		p.adjust(v, "b")
	}
	expect := func(when string, rate float64, slow string) {
		t.Helper()
		if gotSlow, got := p.now(); got != rate || gotSlow != slow {
			t.Errorf("%s: %.0f keys/s, held down by %q; expected %.0f, %q", when, got, gotSlow, rate, slow)
		}
	}
	for range 100 {
		used(isQuick)
	}
	high := p.rate
	if high < 10*LeastRate {
		t.Errorf("%.0f keys/s after ten seconds", high)
	}
	used(isSlow)
	expect("after a slow answer", high/2, "b")
	used(isUnknown)
	expect("before the node has been measured at this rate", high/2, "b")
	p.adjust(isQuick, "")
	expect("while the rate is not used", high/2, "")
	for range 100 {
		used(isSlow)
	}
	expect("at least", LeastRate, "b")
	for range 100 {
		used(isQuick)
	}
	if slow, _ := p.now(); slow != "" {
		t.Error("a node is still slow")
	}
	p = NewPace(Speed{Rate: 7, Latency: time.Millisecond})
	used(isQuick)
	expect("with a limit of 7", 7, "")
	used(isSlow)
	expect("below the lowest rate, no node holds it down", 7, "")
}

// TestPaceWaits: keys beyond the rate wait.
func TestPaceWaits(t *testing.T) {
	p := NewPace(Speed{Rate: 1000})
	ctx := context.Background()
	began := time.Now()
	for range 4 {
		if err := p.wait(ctx, 100); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 290*time.Millisecond {
		t.Errorf("301 keys at 1000 keys/s took %s", took)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if p.wait(ctx, 1) == nil {
		t.Error("does not end with its context")
	}
}

// TestPaceChanges: a pause lasts until it ends, and a new speed holds also for keys that wait.
func TestPaceChanges(t *testing.T) {
	p := NewPace(Speed{Paused: true, Rate: 1})
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- p.wait(t.Context(), 100) }() // at this rate, the second takes 100 s
	}
	p.Set(Speed{Paused: true, Rate: 2})
	select {
	case <-done:
		t.Fatal("keys move during a pause")
	case <-time.After(50 * time.Millisecond):
	}
	for _, s := range []Speed{{Rate: 1}, {}} {
		p.Set(s)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Fatal("keys wait as at the former speed")
		}
	}
}

// TestBatchesFollowThePace: at a low rate batches are small, since their node does nothing else meanwhile. They are
// large if otherwise keys would move more slowly than they may.
func TestBatchesFollowThePace(t *testing.T) {
	for _, c := range []struct {
		speed Speed
		most  int
	}{{Speed{}, math.MaxInt32}, {Speed{Rate: 1}, 10}, {Speed{Rate: 3000}, 30}, {Speed{Latency: time.Second}, 20}} {
		if got := NewPace(c.speed).most(); got != c.most {
			t.Errorf("%+v: %d keys at once, expected %d", c.speed, got, c.most)
		}
	}
	p := NewPace(Speed{Rate: 1})
	for nodes, want := range map[int]time.Duration{
		1: 20 * time.Millisecond, 4: 5 * time.Millisecond, 20: time.Millisecond, 100: time.Millisecond,
	} {
		first, _ := p.take(pageCost, leastOfPages(nodes))
		second, _ := p.take(pageCost, leastOfPages(nodes))
		if took := second.Sub(first); took != want {
			t.Errorf("%v for a page of keys of %d nodes, at 1 key a second", took, nodes)
		}
	}
	p.next = p.next.Add(-time.Minute)
	if p.take(pageCost, leastOfPages(2)); p.most() != leastBatch {
		t.Errorf("%d keys at once when none has moved yet, at 1 key a second", p.most())
	}
	to, from, batches := new(move.Node), new(move.Node), make(chan batch, 100)
	p = NewPace(Speed{Rate: 2000})
	c := collector{
		mover: &mover{pace: p, batch: 100}, ctx: t.Context(), from: from, batches: batches,
		waiting: map[*move.Node][]sized{to: make([]sized, 100)},
	}
	if err := c.send(to); err != nil {
		t.Fatal(err)
	}
	if b := <-batches; len(b.keys) != 20 || len(batches) != 4 {
		t.Errorf("%d keys in the first batch at 2,000 a second, and %d more batches", len(b.keys), len(batches))
	}
	p = NewPace(Speed{Rate: 1000})
	p.take(10, 0)
	for _, c := range []struct {
		idle time.Duration
		most int
	}{{0, 10}, {time.Second, math.MaxInt32}, {0, 10}} {
		p.next = p.next.Add(-c.idle)
		if p.take(10, 0); p.most() != c.most {
			t.Errorf("%v after more keys might have moved: %d at once, expected %d", c.idle, p.most(), c.most)
		}
	}
}

// TestProbe: the latency is the 99th percentile of the pings. It is slow above the bound, unless that is usual. Then
// nothing is known until there are new ones.
func TestProbe(t *testing.T) {
	p := new(probe)
	pings := func(slowest time.Duration) { // all but two take up to 98us
		p.pings = nil
		for i := range 98 {
			p.pings = append(p.pings, time.Duration(98-i)*time.Microsecond)
		}
		p.pings = append(p.pings, slowest, slowest)
	}
	expect := func(when string, bound time.Duration, want verdict) {
		t.Helper()
		if got := p.look(bound); got != want {
			t.Errorf("%s: %d, expected %d", when, got, want)
		}
	}
	expect("at first", 0, isUnknown)
	pings(99 * time.Microsecond)
	if got, _ := p.percentile(); got != 99*time.Microsecond {
		t.Errorf("%v, expected 99us", got)
	}
	expect("the first look says what is usual", 0, isQuick)
	pings(300 * time.Microsecond)
	expect("within the bound", 300*time.Microsecond, isQuick)
	expect("300us, where 99us are usual", 299*time.Microsecond, isSlow)
	expect("until it is measured anew", 299*time.Microsecond, isUnknown)
	p.isLost = true
	expect("while it does not answer", 299*time.Microsecond, isQuick)
	p.isLost = false
	looks := 0
	for pings(300 * time.Microsecond); p.look(0) == isSlow && looks < usualRise; looks++ {
		pings(300 * time.Microsecond)
	}
	if looks < usualRise/10 || looks > usualRise/2 {
		t.Errorf("half as slow again is usual after %d looks", looks)
	}
}

// TestSlowestOfNodes: one slow node is enough, and one that is not known yet does not let the rate grow.
func TestSlowestOfNodes(t *testing.T) {
	quick, slow, unknown := &probe{node: &move.Node{Name: "a"}}, &probe{node: &move.Node{Name: "b"}}, new(probe)
	for range pingWindow {
		quick.pings = append(quick.pings, time.Microsecond)
		slow.pings = append(slow.pings, time.Second)
	}
	slow.usual = time.Microsecond
	for _, c := range []struct {
		probes []*probe
		want   verdict
		slow   string
	}{{nil, isQuick, ""}, {[]*probe{quick, unknown, quick}, isUnknown, ""},
		{[]*probe{unknown, slow, quick, unknown}, isSlow, "b"}, {[]*probe{quick, slow}, isUnknown, ""}} {
		if v, name := look(c.probes, time.Millisecond); v != c.want || name != c.slow {
			t.Errorf("%d nodes: %d, %q; expected %d, %q", len(c.probes), v, name, c.want, c.slow)
		}
	}
}

// TestBatches: a batch has at most 100 keys, 256 KB and, if asked for, one slot. No key is
// left out.
func TestBatches(t *testing.T) {
	var keys []sized
	for i := range 1000 {
		keys = append(keys, sized{strings.Repeat("k", i), int64(i % 7 * 30000)})
	}
	keys = append(keys, sized{"large", 10 << 20})
	bytes := map[string]int64{}
	for _, k := range keys {
		bytes[k.key] = k.bytes
	}
	for _, bySlot := range []bool{false, true} {
		seen := 0
		for _, b := range cut(keys, bySlot, batchKeys) {
			total := int64(0)
			for _, k := range b.keys {
				total += bytes[k]
				if bySlot && slots.Of([]byte(k)) != slots.Of([]byte(b.keys[0])) {
					t.Errorf("%q and %q are in one batch", k, b.keys[0])
				}
			}
			seen += len(b.keys)
			if len(b.keys) > 1 && (len(b.keys) > 100 || total > 256<<10) || b.cost < len(b.keys) {
				t.Errorf("%d keys, %d bytes, cost %d", len(b.keys), total, b.cost)
			}
			if total == 10<<20 && b.cost != 4000 {
				t.Errorf("10 MB cost as much as %d keys", b.cost)
			}
		}
		if seen != len(keys) {
			t.Errorf("%d of %d keys", seen, len(keys))
		}
	}
}
