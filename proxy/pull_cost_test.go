package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// layouts returns layouts of the rig's nodes.
func layouts(t testing.TB) (lower, upper, ring, heavier *router.Table) {
	t.Helper()
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "b", Addr: "10.0.0.2:1", Master: true}}
	slotted := func(border uint16) *router.Table {
		owned := [][]slots.Range{{{Last: border}}, {{First: border + 1, Last: 16383}}}
		table, err := router.NewStaticSlots(nodes, owned)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	ringed := func(weights ...int) *router.Table {
		table, err := router.NewRing(nodes, router.Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: weights})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	return slotted(8000), slotted(8191), ringed(1, 1), ringed(1, 2)
}

// gets are turns of 16 GETs.
type gets struct {
	*rig
	turns []getTurn
}

// getTurn has the commands of a turn, and the replies of each node.
type getTurn struct {
	in      []byte
	replies [2][]byte
}

// newGets has 16 keys a turn that have the same node in both layouts, or only such as have not.
// While keys move, the worker serves by a moving table, otherwise by the newer one.
func newGets(t testing.TB, older, newer *router.Table, isMoving, stay bool, turns int) *gets {
	g := &gets{rig: newRig(t, Options{}), turns: make([]getTurn, turns)}
	moving := router.Moving(older, newer)
	source := rand.New(rand.NewPCG(1, 2))
	for n := 0; n < 16*turns; {
		key := fmt.Sprintf("key:%012d", source.Uint64N(1e12))
		_, id, from := moving.PlaceMoving([]byte(key))
		if (from == router.None) != stay {
			continue
		}
		to := &g.turns[n/16]
		n++
		to.in = append(to.in, cmd("GET", key)...)
		to.replies[id] = append(to.replies[id], "$64\r\n"+strings.Repeat("v", 64)+"\r\n"...)
	}
	if isMoving {
		g.replaceLayout(moving)
	} else {
		g.replaceLayout(newer)
	}
	return g
}

// run does all turns, and returns the time of a GET.
func (g *gets) run() float64 {
	began := time.Now()
	for i := range g.turns {
		t := &g.turns[i]
		g.turn(t.in, func() {
			for node, reply := range t.replies {
				if len(reply) > 0 {
					g.shared(node).Received(reply, g.now)
				}
			}
		})
	}
	return float64(time.Since(began).Nanoseconds()) / float64(16*len(g.turns))
}

// BenchmarkKeysThatStay compares GETs of keys that stay on their node while others move with the same GETs when
// no key moves. Both take turns, and the shortest of many short runs counts, so it can run on a busy machine. With
// few keys, a processor's branch prediction would learn them by heart.
func BenchmarkKeysThatStay(b *testing.B) {
	lower, upper, ring, heavier := layouts(b)
	for _, c := range []struct {
		name         string
		older, newer *router.Table
	}{
		{"slots to slots", lower, upper}, {"ring to slots", ring, upper},
		{"slots to ring", upper, ring}, {"ring to ring", heavier, ring},
	} {
		b.Run(c.name, func(b *testing.B) {
			still := newGets(b, c.older, c.newer, false, true, 256)
			moving := newGets(b, c.older, c.newer, true, true, 256)
			least := [2]float64{math.MaxFloat64, math.MaxFloat64}
			for b.Loop() {
				least[0] = min(least[0], still.run())
				least[1] = min(least[1], moving.run())
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(least[0], "ns/GET")
			b.ReportMetric(least[1], "ns/GET-while-moving")
		})
	}
}

// TestPullAllocatesNothing: while keys move, a command allocates nothing if its key stays on its node, or is
// known to have left its former node.
func TestPullAllocatesNothing(t *testing.T) {
	lower, upper, ring, heavier := layouts(t)
	for _, c := range [][2]*router.Table{{lower, upper}, {ring, upper}, {heavier, ring}} {
		for _, stay := range []bool{true, false} {
			g := newGets(t, c[0], c[1], true, stay, 1)
			m := newMovers(g.rig)
			m.isEmpty = true
			g.feed(string(g.turns[0].in))
			for range 40 {
				m.turn()
			}
			if asked := len(m.sent) > 0; asked == stay {
				t.Errorf("keys stay: %v; the nodes got %q", stay, m.sent)
			}
			for i := range 2 {
				g.sent(i)
				g.node(i, string(g.turns[0].replies[i]))
			}
			g.got()
			if !g.answered() {
				t.Fatal("commands are left unanswered")
			}
			m.sent = map[string][]string{}
			if n := testing.AllocsPerRun(100, func() { g.run() }); n > 0 {
				t.Errorf("%v allocations for 16 commands; keys stay: %v", n, stay)
			}
			if m.turn(); len(m.sent) > 0 {
				t.Errorf("nodes are asked again: %q", m.sent)
			}
		}
	}
}
