package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/quorum"
)

// lockRig is a rig with three nodes that hold locks.
type lockRig struct {
	*rig
	nodes []*pool.Link
}

func newLockRig(t *testing.T) *lockRig {
	addrs := []string{"10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"}
	r := &lockRig{rig: newRig(t, Options{Locks: quorum.Rules{{
		Match: []byte("lock:*"), Nodes: addrs, Timeout: time.Second, Drift: 0.01, MaxLease: time.Minute,
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
	return r
}

// asked takes what the lock nodes are asked. It returns the number of questions to each.
func (r *lockRig) asked() (each []int) {
	r.endTurn()
	for _, l := range r.nodes {
		each = append(each, strings.Count(take(l), "$4\r\nEVAL\r\n"))
	}
	return each
}

// grant lets each node grant a lock some times. Its clock is at the time at.
func (r *lockRig) grant(at int64, times []int) {
	clock := fmt.Sprint(at / int64(time.Microsecond))
	answer := fmt.Sprintf("*6\r\n$2\r\nok\r\n$0\r\n\r\n$1\r\n0\r\n:9\r\n:-2\r\n$%d\r\n%s\r\n", len(clock), clock)
	for i, l := range r.nodes {
		l.Received([]byte(strings.Repeat(answer, times[i])), r.now)
	}
}

func acquires(n int) string {
	return cmd("SET", fmt.Sprintf("lock:%d", n), "token", "NX", "PX", "30000")
}

// TestLongTurnIsNoClockJump: while keyway is busy, nodes answer. Their clocks then are ahead of
// the time at which keyway's turn has begun. That is no jump, so the nodes go on voting.
func TestLongTurnIsNoClockJump(t *testing.T) {
	r := newLockRig(t)
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

// TestLockPipelineIsBounded: a client that sends many commands at once does not make the nodes
// miss the timeout. They get some, and more when they have answered.
func TestLockPipelineIsBounded(t *testing.T) {
	const commands, most = 500, 32
	r := newLockRig(t)
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
