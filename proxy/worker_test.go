package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/slots"
)

// "b" lies in slot 3300, "a" in 15495 (cluster specification's CRC16).
const onA, onB = "b", "a"

// The hot path takes nothing from the heap: one client's commands to two nodes,
// in pipelines, split ones too.
func TestHotPathAllocatesNothing(t *testing.T) {
	allocatesNothing(t, newRig(t, Options{}), 0)
	allocatesNothing(t, newRig(t, withUser(t, "on nopass ~b %RW~a* &x +@read (~a %W~c +set) +ping")), 0)
	r := readRig(t, Options{Reads: PreferReplica}, false)
	allocatesNothing(t, r, r.replica())
}

// allocatesNothing has a's keys read from that node.
func allocatesNothing(t *testing.T, r *rig, a int) {
	t.Helper()
	in := []byte(strings.Repeat(cmd("GET", onA)+cmd("SET", onB, strings.Repeat("v", 64)), 8) +
		cmd("MGET", onA, onB, onA) + cmd("PING"))
	fromA := []byte(strings.Repeat("$64\r\n"+strings.Repeat("v", 64)+"\r\n", 8) + "*2\r\n$1\r\n1\r\n$1\r\n1\r\n")
	fromB := []byte(strings.Repeat("+OK\r\n", 8) + "*1\r\n$1\r\n2\r\n")
	turn := func() {
		r.turn(in, func() {
			r.shared(1).Received(fromB, r.now) // first, so that its replies are parked
			r.shared(a).Received(fromA, r.now)
		})
	}
	for range 10 {
		turn()
	}
	if !r.answered() {
		t.Fatal("commands are left unanswered")
	}
	if n := testing.AllocsPerRun(200, turn); n > 0 {
		t.Errorf("%v allocations for 18 commands", n)
	}
}

// withUser returns options with this default user.
func withUser(t testing.TB, rules string) Options {
	t.Helper()
	users, _, err := acl.Make([]acl.Definition{{Name: acl.DefaultName, Rules: rules}})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Permissions: Permissions{Users: users}}
}

func BenchmarkPipeline16(b *testing.B) { benchmarkPipeline(b, Options{}) }

// BenchmarkPipeline16Rules is BenchmarkPipeline16 for a user with rules.
func BenchmarkPipeline16Rules(b *testing.B) {
	benchmarkPipeline(b, withUser(b, "on nopass ~key:* %R~shared:* &app:* +@read +@write -keys"))
}

// withLimits returns options with a default user who has limits of each kind, and never reaches them.
func withLimits(t testing.TB) Options {
	t.Helper()
	users, _, err := acl.Make([]acl.Definition{{
		Name: acl.DefaultName, Rules: "on nopass ~* &* +@all",
		Settings: acl.Settings{Limits: &quota.Limits{
			Clients: 10, InFlight: 1000, Commands: 1 << 30, Bytes: 1 << 40, Burst: time.Minute, MaxWait: time.Second,
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Permissions: Permissions{Users: users}}
}

// BenchmarkPipeline16Limits is BenchmarkPipeline16 for a user with limits.
func BenchmarkPipeline16Limits(b *testing.B) { benchmarkPipeline(b, withLimits(b)) }

// TestLimitsAllocateNothing: commands of a user with limits allocate nothing either.
func TestLimitsAllocateNothing(t *testing.T) { allocatesNothing(t, newRig(t, withLimits(t)), 0) }

func benchmarkPipeline(b *testing.B, o Options) {
	b.Helper()
	r := newRig(b, o)
	var in, fromA, fromB []byte
	for i := range 16 {
		key := fmt.Sprintf("key:%012d", i)
		in = append(in, cmd("GET", key)...)
		reply := "$64\r\n" + strings.Repeat("v", 64) + "\r\n"
		if slots.Of([]byte(key)) < 8192 {
			fromA = append(fromA, reply...)
		} else {
			fromB = append(fromB, reply...)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r.turn(in, func() {
			r.shared(0).Received(fromA, r.now)
			r.shared(1).Received(fromB, r.now)
		})
	}
}

// BenchmarkSplit16 sends 16 MGETs of ten keys, which lie on two nodes, and merges the replies.
func BenchmarkSplit16(b *testing.B) {
	r := newRig(b, Options{})
	in := []byte(strings.Repeat(cmd("MGET", onA, onB, onA, onB, onA, onB, onA, onB, onA, onB), 16))
	value := "$64\r\n" + strings.Repeat("v", 64) + "\r\n"
	replies := []byte(strings.Repeat("*5\r\n"+strings.Repeat(value, 5), 16))
	b.ReportAllocs()
	for b.Loop() {
		r.turn(in, func() {
			r.shared(1).Received(replies, r.now)
			r.shared(0).Received(replies, r.now)
		})
	}
	if !r.answered() {
		b.Fatal("commands are left unanswered")
	}
}

// TestConnectionsOfOneTurnCount: clients whose commands arrive in one turn get only so many connections of
// their own as the process has files for. They are opened when the turn ends.
func TestConnectionsOfOneTurnCount(t *testing.T) {
	r := newRig(t, Options{HasRoom: func(opening int) bool { return opening < 3 }})
	r.w.Turn(r.now, time.Unix(1000, 0))
	var clients []*Session
	for i := range 5 {
		s := r.w.Open(nil, fmt.Sprint("peer:", i), "")
		r.w.Received(s, []byte(cmd("BLPOP", "k", "0")))
		clients = append(clients, s)
	}
	r.endTurn()
	refused := 0
	for _, s := range clients {
		if strings.Contains(string(s.Output()), "too many clients hold a connection") {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d of 5 clients are refused, want 2", refused)
	}
}
