package proxy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/quorum"
)

// lockRig is a rig with three nodes that hold locks.
type lockRig struct {
	*rig
	nodes []*pool.Link
}

func newLockRig(t *testing.T, timeout time.Duration) *lockRig {
	addrs := []string{"10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"}
	r := &lockRig{rig: newRig(t, Options{WatchLocks: locks.Options{Observe: true}, Locks: quorum.Rules{{
		Match: []byte("lock:*"), Nodes: addrs, Timeout: timeout, Drift: 0.01, MaxLease: time.Minute,
	}}})}
	for _, addr := range addrs {
		for l := range r.seen {
			if l.Addr == addr {
				greet(r.rig, l)
				r.nodes = append(r.nodes, l)
			}
		}
	}
	if len(r.nodes) != len(addrs) {
		t.Fatalf("keyway connects to %d lock nodes, want %d", len(r.nodes), len(addrs))
	}
	r.endTurn()
	for _, l := range r.nodes {
		if got := take(l); strings.Count(got, "$4\r\nLOAD\r\n") != 1 || strings.Count(got, "$4\r\nEVAL\r\n") != 1 {
			t.Fatalf("a lock node first gets %q", got)
		}
		l.Received([]byte("$3\r\nsha\r\n"+granted(r.now)), r.now)
	}
	return r
}

// asked takes what the lock nodes are asked. It returns the number of questions to each.
func (r *lockRig) asked() (each []int) {
	r.endTurn()
	for _, l := range r.nodes {
		each = append(each, strings.Count(take(l), "\r\nEVAL"))
	}
	return each
}

// grant lets each node grant a lock some times. Its clock is at the time at.
func (r *lockRig) grant(at int64, times []int) {
	for i, l := range r.nodes {
		l.Received([]byte(strings.Repeat(granted(at), times[i])), r.now)
	}
}

// granted is the answer of a node that grants a lock, or that is asked about itself.
func granted(at int64) string {
	clock := fmt.Sprint(at / int64(time.Microsecond))
	return fmt.Sprintf("*7\r\n$2\r\nok\r\n$0\r\n\r\n$1\r\n0\r\n:9\r\n:-2\r\n$%d\r\n%s\r\n$0\r\n\r\n", len(clock), clock)
}

func acquires(n int) string {
	return cmd("SET", fmt.Sprintf("lock:%d", n), "token", "NX", "PX", "30000")
}

// TestLongTurnIsNoClockJump: while keyway is busy, nodes answer. Their clocks then are ahead of
// the time at which keyway's turn has begun. That is no jump, so the nodes go on voting.
func TestLongTurnIsNoClockJump(t *testing.T) {
	r := newLockRig(t, time.Second)
	for n, turn := range []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond} {
		r.feed(acquires(n))
		r.w.Clock = func() int64 { return r.now + int64(turn) }
		r.grant(r.now+int64(turn), r.asked())
		if got := r.got(); got != "+OK\r\n" {
			t.Fatalf("the answers come %s after the begin of the turn: the client gets %q", turn, got)
		}
		if each := r.asked(); fmt.Sprint(each) != "[0 0 0]" {
			t.Errorf("the answers come %s after the begin of the turn: the nodes get %v more commands", turn, each)
		}
	}
}

// TestLockPipelineIsBounded: of the commands that a client sends at once, the nodes get some, and
// more when they have answered.
func TestLockPipelineIsBounded(t *testing.T) {
	const commands, most = 500, 128
	r := newLockRig(t, time.Second)
	var in strings.Builder
	for n := range commands {
		in.WriteString(acquires(n))
	}
	r.feed(in.String())
	total, got := 0, ""
	for range commands {
		each := r.asked()
		if each[0] > most {
			t.Fatalf("a lock node gets %d commands of one client before it has answered", each[0])
		}
		total += each[0]
		r.grant(r.now, each)
		got += r.got()
	}
	if total != commands || got != strings.Repeat("+OK\r\n", commands) {
		t.Errorf("%d of %d commands reach the nodes, and the client gets %d times OK", total, commands,
			strings.Count(got, "+OK\r\n"))
	}
}

// TestSilentLockNodeCostsLittle: for a node that does not answer, keyway keeps a bounded number of
// commands, although the others are a majority and locks are acquired all the time. When the node
// answers, it takes part again.
func TestSilentLockNodeCostsLittle(t *testing.T) {
	r := newLockRig(t, 200*time.Millisecond)
	silent, sent := r.nodes[2], 0
	for n := range 40 {
		var in strings.Builder
		for i := range 100 {
			in.WriteString(acquires(100*n + i))
		}
		r.feed(in.String())
		each := r.asked()
		sent += each[2]
		r.grant(r.now, []int{each[0], each[1], 0})
		if got := r.got(); got != strings.Repeat("+OK\r\n", 100) {
			t.Fatalf("round %d: %.200q", n, got)
		}
		r.now += int64(20 * time.Millisecond)
		r.w.Turn(r.now, time.Time{})
		r.w.Tick()
	}
	if sent > 512+100 {
		t.Errorf("a node that does not answer gets %d commands", sent)
	}
	silent.Received([]byte(strings.Repeat(granted(r.now), sent)), r.now)
	r.feed(acquires(-1))
	if each := r.asked(); each[2] == 0 {
		t.Error("a node that answers again gets no command")
	}
}

// TestNodeThatLacksTheScriptIsThere: an answer that the node does not know the script says that the node
// is busy and not silent, so its answer to the text counts.
func TestNodeThatLacksTheScriptIsThere(t *testing.T) {
	const noScript = "-NOSCRIPT No matching script. Please use EVAL.\r\n"
	r := newLockRig(t, 50*time.Millisecond)
	wait := func() {
		for range 4 {
			r.now += int64(10 * time.Millisecond)
			r.w.Turn(r.now, time.Time{})
			r.w.Tick()
			r.endTurn()
		}
	}
	r.feed(acquires(0))
	r.asked()
	wait()
	for _, l := range r.nodes {
		l.Received([]byte(noScript), r.now)
	}
	whole := r.asked()
	wait()
	if got := r.got(); got != "" || fmt.Sprint(whole) != "[1 1 1]" {
		t.Fatalf("40 ms after the nodes got the text %d times, the client gets %q", whole, got)
	}
	r.grant(r.now, whole)
	if got := r.got(); got != "+OK\r\n" {
		t.Errorf("the client gets %q", got)
	}
}

// TestLockCommandsThatHaveEndedKeepNoTexts: long scripts are forgotten when the client has its reply, though
// a node that is silent has not got the command.
func TestLockCommandsThatHaveEndedKeepNoTexts(t *testing.T) {
	const commands, size = 200, 256 << 10
	r := newLockRig(t, 50*time.Millisecond)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for n := range commands {
		text := fmt.Sprintf("--%d%s\n", n, strings.Repeat(" ", size)) +
			`if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`
		r.feed(cmd("EVAL", text, "1", "lock:1", "token"))
		each := r.asked()
		r.grant(r.now, []int{each[0], each[1], 0})
		if got := r.got(); got != ":1\r\n" {
			t.Fatalf("command %d: %.200q", n, got)
		}
		r.now += int64(20 * time.Millisecond)
		r.w.Turn(r.now, time.Time{})
		r.w.Tick()
	}
	if kept := heap() - before; kept > commands*size/2 { // the cache of scripts has its own bound
		t.Errorf("%d commands of %d bytes that have ended keep %d bytes", commands, size, kept)
	}
	runtime.KeepAlive(r)
}
