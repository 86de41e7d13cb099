package proxy

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/quorum"
)

// TestLockNodeIsReplacedWhileCommandsWait: a command that waits for the connection to a node ends
// when a reload removes that node, although another node is silent.
func TestLockNodeIsReplacedWhileCommandsWait(t *testing.T) {
	r := newLockRig(t, 50*time.Millisecond)
	r.nodes[2].Fail(r.now, "connection reset") // it is dialed again
	r.feed(acquires(0))
	r.endTurn()
	take(r.nodes[1])
	r.grant(r.now, []int{strings.Count(take(r.nodes[0]), "\r\nEVAL"), 0, 0})
	o := r.w.Options
	rule := o.Locks[0]
	rule.Nodes = []string{rule.Nodes[0], rule.Nodes[1], "10.0.1.4:1"}
	o.Locks = quorum.Rules{rule}
	Configure(r.w, o)
	for range 200 {
		r.now += int64(10 * time.Millisecond)
		r.w.Turn(r.now, time.Time{})
		r.w.Tick()
		r.endTurn()
	}
	if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: 1 of 3 lock nodes take part") {
		t.Errorf("after two seconds the client has %q", got)
	}
	if due := r.w.NextTick(math.MaxInt64); due <= r.now {
		t.Errorf("the next tick was due %s ago", time.Duration(r.now-due))
	}
}
