package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// answerFor answers what lock nodes are asked, for a time. The first one is away, or votes at a time.
func (r *lockRig) answerFor(d time.Duration, isAway bool, votesAt int64) {
	for end := r.now + int64(d); r.now < end; {
		r.pass(10 * time.Millisecond)
		for i, l := range r.nodes {
			if i == 0 && isAway {
				continue
			}
			if l.State() == pool.Dialing {
				greet(r.rig, l)
				r.endTurn()
			}
			asked, reply := take(l), granted(r.now)
			if left := votesAt - r.now; i == 0 && left > 0 {
				reply = strings.Replace(reply, ":-2\r\n", fmt.Sprintf(":%d\r\n", left/int64(time.Millisecond)), 1)
			}
			l.Received([]byte(strings.Repeat("$3\r\nsha\r\n", strings.Count(asked, "\r\nLOAD\r\n"))+
				strings.Repeat(reply, strings.Count(asked, "\r\nEVAL"))), r.now)
		}
	}
}

// logged checks what was logged since the last time.
func (r *lockRig) logged(after string, want ...string) {
	r.t.Helper()
	var got []string
	for _, e := range r.endTurn().Events {
		text, _, _ := strings.Cut(e.Text, ":")
		got = append(got, text)
	}
	r.w.Taken()
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: the log has %q, want %q", after, got, want)
	}
}

const (
	noSpareNode = "locks have a majority but no spare node"
	spareNode   = "locks have a majority and a spare node"
)

// TestLockNodeThatFailsAgainAndAgainIsLoggedOnce: the log says at once that a rule has lost its spare node,
// and that it has one again only when that has lasted.
func TestLockNodeThatFailsAgainAndAgainIsLoggedOnce(t *testing.T) {
	r := newLockRig(t, time.Second)
	r.answerFor(5*time.Second, false, 0)
	r.logged("while all nodes vote")
	for range 5 {
		r.nodes[0].Fail(r.now, "connection reset")
		r.answerFor(1500*time.Millisecond, true, 0)
		r.answerFor(1500*time.Millisecond, false, 0)
	}
	r.logged("after five failures", noSpareNode)
	r.answerFor(5*time.Second, false, 0)
	r.logged("once the node stays", spareNode)
}

// TestLockNodeThatWaitsIsLoggedOnce: the log says once that a lock node waits, again if it must wait for
// longer, and that it votes.
func TestLockNodeThatWaitsIsLoggedOnce(t *testing.T) {
	r := newLockRig(t, time.Second)
	votesAt := r.now + int64(time.Minute)
	r.answerFor(20*time.Second, false, votesAt)
	r.logged("while it waits", "a lock node does not vote yet", noSpareNode)
	votesAt = r.now + int64(time.Minute)
	r.answerFor(20*time.Second, false, votesAt)
	r.logged("after another restart", "a lock node does not vote yet")
	r.answerFor(50*time.Second, false, votesAt)
	r.logged("after the wait", "a lock node votes now", spareNode)
}
