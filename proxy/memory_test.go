package proxy

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// largeArgument is an argument of a command.
var largeArgument = strings.Repeat("x", 8<<20)

// largeCommands are what makes a worker take much memory for a moment.
var largeCommands = map[string]func(r *rig){
	"a large local answer": func(r *rig) { r.feed(cmd("ECHO", largeArgument)); r.got() },
	"a large SCAN": func(r *rig) {
		r.feed(cmd("SCAN", "0", "MATCH", largeArgument))
		r.answerAlone(0, "*2\r\n$1\r\n0\r\n*0\r\n")
		r.got()
	},
	"a channel with a long name": func(r *rig) {
		r.feed(cmd("PUBLISH", largeArgument, "x"))
		for i := range r.w.Nodes {
			if len(r.w.Nodes[i].InUse) > 0 {
				r.answerAlone(i, ":0\r\n")
			}
		}
		r.got()
	},
	"many merged replies": func(r *rig) {
		const n = 64
		r.feed(strings.Repeat(cmd("MGET", onA, onB), n))
		r.sent(0)
		r.sent(1)
		r.node(1, strings.Repeat("*1\r\n"+value("v", 60<<10), n))
		r.node(0, strings.Repeat("*1\r\n"+value("v", 60<<10), n))
		r.got()
	},
	"many commands at once": func(r *rig) {
		for r.w.Clients() < 20 {
			r.w.Open(nil, "peer:2", "keyway:1")
		}
		for _, s := range r.w.Sessions {
			r.w.Received(s, []byte(strings.Repeat(cmd("GET", onA), 4000)))
		}
		r.sent(0)
		r.node(0, strings.Repeat("$-1\r\n", 80_000))
		for _, r.s = range r.w.Sessions {
			r.got()
		}
	},
}

// What large commands took is let go of, and counted for the shell to give back.
func TestLargeCommandsLeaveNothing(t *testing.T) {
	for name, f := range largeCommands {
		r := newRig(t, Options{})
		before := heap()
		f(r)
		if !r.answered() {
			t.Fatalf("%s: a command is left unanswered", name)
		}
		garbage := 0
		for range 12 { // each second the worker drops half of what it has not needed
			garbage += r.endTurn().Garbage
			r.w.Taken()
			r.pass(time.Second)
		}
		if kept := heap() - before; kept > 6<<20 {
			t.Errorf("after %s the worker keeps %d KiB", name, kept>>10)
		}
		runtime.KeepAlive(r)
		if garbage < 4<<20 {
			t.Errorf("after %s, %d KiB are counted as garbage", name, garbage>>10)
		}
	}
}

// heap returns the bytes of the heap that are in use.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Commands that are in use at every moment are not let go of: a steady load takes
// nothing from the heap.
func TestSteadyLoadKeepsItsRequests(t *testing.T) {
	r := newRig(t, Options{})
	in := []byte(strings.Repeat(cmd("GET", onA), 1000))
	replies := []byte(strings.Repeat("$-1\r\n", 1000))
	turn := func() {
		r.turn(in, func() { r.shared(0).Received(replies, r.now) })
		r.pass(time.Second)
	}
	for range 5 {
		turn()
	}
	if n := testing.AllocsPerRun(10, turn); n > 10 {
		t.Errorf("%v allocations for 1,000 commands in a second", n)
	}
}
