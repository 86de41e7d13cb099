package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/locks"
)

// TestQuorumLocksAreSeenAtOnce: a key that a rule of locks.quorum matches is a lock from the first SET on,
// before any client has compared it, and its DEL is a release. Other keys with the same beginning may be
// anything.
func TestQuorumLocksAreSeenAtOnce(t *testing.T) {
	r := newLockRig(t, time.Second)
	r.feed(acquires(1))
	r.grant(r.now, r.asked())
	r.feed(cmd("KEYWAY", "LOCKS"))
	if got := r.got(); !strings.HasPrefix(got, "+OK\r\n*1\r\n") || !strings.Contains(got, "\r\nlock:1\r\n") {
		t.Errorf("after the SET: %q", got)
	}
	if f := LockFigures(r.w); len(f) != 1 || f[0].Acquisitions != 1 {
		t.Errorf("the figures are %+v", f)
	}
	r.feed(cmd("DEL", "lock:1"))
	r.grant(r.now, r.asked())
	r.feed(cmd("KEYWAY", "LOCKS"))
	if got := r.got(); !strings.HasSuffix(got, "\r\n*0\r\n") {
		t.Errorf("after the DEL: %q", got)
	}
}

// TestConnectingIsNoAbsence: the time that a new node takes to be reached for the first time does not make
// leases unsafe; the time that it is away later does.
func TestConnectingIsNoAbsence(t *testing.T) {
	r := newRig(t, Options{WatchLocks: locks.Options{Observe: true, Patterns: []string{"lock:*"}}})
	r.w.SetTable(clusterTable(t)) // of new nodes
	pass := func() { r.pass(3 * time.Second) }
	alarms := func(lease string) string {
		r.feed(cmd("SET", "lock:"+lease, "t", "NX", "PX", lease))
		r.endTurn()
		for i := range 2 {
			if c := r.plain(i); strings.Contains(take(c), "lock:"+lease) {
				c.Received([]byte("+OK\r\n"), r.now)
			}
		}
		r.got()
		pass()
		r.feed(cmd("KEYWAY", "LOCKS", "MATCH", "lock:"+lease))
		return r.got()
	}
	pass()
	greet(r, r.plain(0))
	greet(r, r.plain(1))
	pass()
	if got := alarms("4000"); strings.Contains(got, "unsafe-lease") || !strings.Contains(got, "lock:4000") {
		t.Errorf("twice the timeout is 2 s, and no node was away: %q", got)
	}
	conn := r.plain(0)
	conn.Fail(r.now, "connection reset")
	pass()
	greet(r, conn)
	pass()
	if got := alarms("4001"); !strings.Contains(got, "unsafe-lease") {
		t.Errorf("a node was away for 3 s: %q", got)
	}
}
