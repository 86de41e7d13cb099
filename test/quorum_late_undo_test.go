package test

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// undoRig has operations on three nodes, of which only the first gets anything.
type undoRig struct {
	t     *testing.T
	group *quorum.Group
	conn  net.Conn
	r     *bufio.Reader
	start time.Time
}

func (rig *undoRig) now() int64 { return int64(time.Since(rig.start)) }

func newUndoRig(t *testing.T, n *lockNodes) *undoRig {
	rule := &quorum.Rule{Timeout: time.Minute, MaxLease: time.Minute}
	rig := &undoRig{t: t, group: &quorum.Group{Rule: rule}, start: time.Now()}
	for _, node := range n.five {
		rule.Nodes = append(rule.Nodes, node.Addr)
		rig.group.Members = append(rig.group.Members, &quorum.Node{Addr: node.Addr, Longest: 60_000})
	}
	var err error
	if rig.conn, err = net.Dial("tcp", n.five[0].Addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rig.conn.Close() })
	rig.r = bufio.NewReader(rig.conn)
	return rig
}

// exchange sends the first node what an operation has for it, and passes the reply on.
func (rig *undoRig) exchange(o *quorum.Op, sends []quorum.Send) {
	rig.t.Helper()
	for _, s := range sends {
		if s.Node != 0 {
			continue
		}
		s.Whole = true
		if _, err := rig.conn.Write(o.Frame(nil, &s, rig.now())); err != nil {
			rig.t.Fatal(err)
		}
		o.Answer(s, readReply(rig.t, rig.r), rig.now())
	}
}

// attempt acquires the lock on the first node, and fails. It returns what undoes that.
func (rig *undoRig) attempt(id string, again int) (o *quorum.Op, undo []quorum.Send) {
	rig.t.Helper()
	o = quorum.Begin(rig.group, quorum.Command{
		Kind: quorum.Acquire, Key: "lock:a", Token: "t", Lease: 30_000, ID: id, Again: again,
	}, rig.now())
	sends := o.Take()
	rig.exchange(o, sends)
	for _, s := range sends[1:] {
		o.Lost(s, "lost", rig.now())
	}
	if undo = o.Take(); o.Verdict != quorum.Failed || len(undo) == 0 {
		rig.t.Fatalf("with one node of three: verdict %d, and %d commands undo it", o.Verdict, len(undo))
	}
	return o, undo
}

// TestLateUndoKeepsLockThatWasAcquiredAgain: an attempt sets the lock on a real node and fails.
// Before its undo arrives, a client with the same token acquires the lock again. Neither the late
// undo nor that of another attempt to acquire it again frees the lock; its release does.
func TestLateUndoKeepsLockThatWasAcquiredAgain(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	const wholeToken = -1
	first, undoFirst := rig.attempt("1", 0)
	second, undoSecond := rig.attempt("2", wholeToken)
	rig.exchange(first, undoFirst)
	if got := n.five[0].Do("GET", "lock:a").Text; got != "t" {
		t.Errorf("after the undo of the attempt before, the node has %q", got)
	}
	rig.exchange(second, undoSecond)
	if got := n.five[0].Do("GET", "lock:a").Text; got != "t" {
		t.Errorf("after the undo of the attempt to acquire it again, the node has %q", got)
	}
	release := quorum.Begin(rig.group, quorum.Command{Kind: quorum.Release, Key: "lock:a", Token: "t"}, rig.now())
	rig.exchange(release, release.Take())
	if n.five[0].Do("EXISTS", "lock:a").Int != 0 {
		t.Error("the release does not free the lock")
	}
	third, undoThird := rig.attempt("3", 0) // an attempt of its own is undone
	rig.exchange(third, undoThird)
	if n.five[0].Do("EXISTS", "lock:a").Int != 0 {
		t.Error("an attempt that failed keeps the lock")
	}
}

// TestLateUndoKeepsRenewedLock: a real node that has renewed a lock counts for the client that renews. The undo
// of a failed attempt that had set it there, perhaps of another client with the same token, does not free it.
func TestLateUndoKeepsRenewedLock(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	failed, undo := rig.attempt("1", 0)
	renew := quorum.Begin(rig.group,
		quorum.Command{Kind: quorum.Renew, Key: "lock:a", Token: "t", Lease: 50_000}, rig.now())
	rig.exchange(renew, renew.Take())
	rig.exchange(failed, undo)
	if left := n.five[0].Do("PTTL", "lock:a").Int; left <= 30_000 {
		t.Errorf("after the undo of the attempt, the renewed lock has %d ms left", left)
	}
	release := quorum.Begin(rig.group, quorum.Command{Kind: quorum.Release, Key: "lock:a", Token: "t"}, rig.now())
	rig.exchange(release, release.Take())
	if n.five[0].Do("EXISTS", "lock:a").Int != 0 {
		t.Error("the release does not free the lock")
	}
}

// TestLateReleaseKeepsNextLock: a release or DEL that reaches a real node late does not free the lock
// that another client has acquired there since, although the tokens are the same. Nor does a late
// renewal change its lease.
func TestLateReleaseKeepsNextLock(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	const clockError = 30 * time.Millisecond // that of what is known of the node's clock
	for _, kind := range []quorum.Kind{quorum.Release, quorum.Delete, quorum.Renew} {
		n.five[0].Do("DEL", "lock:a")
		rig.attempt("1", 0)
		late := quorum.Begin(rig.group, quorum.Command{Kind: kind, Key: "lock:a", Token: "t", Lease: 500}, rig.now())
		sends := late.Take()
		n.five[0].Do("DEL", "lock:a") // the lock ends, and another client acquires it
		time.Sleep(clockError)
		rig.attempt("2", 0)
		rig.exchange(late, sends)
		if left := n.five[0].Do("PTTL", "lock:a").Int; left < 1000 {
			t.Errorf("kind %d came late: the next client's lock has %d ms left", kind, left)
		}
		if again := late.Take(); len(again) != 0 {
			t.Errorf("kind %d came late, and is sent again: %v", kind, again)
		}
	}
}

// TestLateAcquisitionOnlyProlongs: a client acquires its lock again, over another connection than before, and what
// it had sent over that comes late to a real node. Its shorter lease does not replace the new one. The node counts
// for both attempts, so that the undo of neither frees the lock.
func TestLateAcquisitionOnlyProlongs(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	const wholeToken = -1
	const clockError = 30 * time.Millisecond
	rig.attempt("1", 0) // so that the node's clock is known
	n.five[0].Do("DEL", "lock:a")
	late := quorum.Begin(rig.group, quorum.Command{
		Kind: quorum.Acquire, Key: "lock:a", Token: "t", Lease: 500, ID: "2", Again: wholeToken,
	}, rig.now())
	sends := late.Take()
	time.Sleep(clockError)
	next, undo := rig.attempt("3", wholeToken)
	rig.exchange(late, sends)
	if left := n.five[0].Do("PTTL", "lock:a").Int; left < 1000 {
		t.Errorf("the lease has %d ms left", left)
	}
	for _, s := range sends[1:] {
		late.Lost(s, "lost", rig.now())
	}
	rig.exchange(late, late.Take())
	rig.exchange(next, undo)
	if n.five[0].Do("EXISTS", "lock:a").Int == 0 {
		t.Error("the undo of an attempt has freed the lock that another counts on")
	}
}

// TestLateReleaseOfAKnownAttempt: a release or renewal that knows its attempt leaves the next client's lock alone
// also if that was set so soon after that the clocks do not show it.
func TestLateReleaseOfAKnownAttempt(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	for _, kind := range []quorum.Kind{quorum.Release, quorum.Delete, quorum.Renew} {
		rig.attempt("1", 0)
		late := quorum.Begin(rig.group,
			quorum.Command{Kind: kind, Key: "lock:a", Token: "t", Lease: 500, ID: "1"}, rig.now()+int64(time.Second))
		sends := late.Take()
		n.five[0].Do("DEL", "lock:a")
		rig.attempt("2", 0)
		rig.exchange(late, sends)
		if left := n.five[0].Do("PTTL", "lock:a").Int; left < 1000 {
			t.Errorf("kind %d came late: the next client's lock has %d ms left", kind, left)
		}
		n.five[0].Do("DEL", "lock:a")
	}
}

// TestLateLocksAreReleased: a node that was frozen for a moment sets a lock after its client has released,
// deleted or renewed it on the others. It then frees it or renews it too, and does not keep it until its
// first lease ends.
func TestLateLocksAreReleased(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	k := redistest.Serve(t, "threads: 1\n"+n.yaml("timeout: 5s, max_lease: 60s")).Ready()
	holder, other := k.Dial(), k.Dial()
	votes(t, holder)
	for i, c := range []*redistest.Client{holder, other, holder, other} {
		key := fmt.Sprint("lock:", i)
		n.five[0].Freeze()
		holder.Expect("OK", "SET", key+":released", "t", "NX", "PX", "30000")
		c.Expect("1", "EVAL", compareAndDelete, "1", key+":released", "t")
		holder.Expect("OK", "SET", key+":deleted", "t", "NX", "PX", "30000")
		c.Expect("1", "DEL", key+":deleted")
		holder.Expect("OK", "SET", key+":renewed", "t", "NX", "PX", "30000")
		c.Expect("1", "EVAL", compareAndExpire, "1", key+":renewed", "t", "50000")
		time.Sleep(30 * time.Millisecond) // more than what is not known of the node's clock
		n.five[0].Thaw()
		redistest.Eventually(t, 10*time.Second, "the node has what the others have", func() bool {
			return n.five[0].Do("EXISTS", key+":released", key+":deleted").Int == 0 &&
				n.five[0].Do("PTTL", key+":renewed").Int > 30_000
		})
	}
}

// TestReleaseThatOvertakesItsLock: a client renews and releases a lock through another keyway than that by which
// it has acquired it. A node that was frozen for a moment may get the later commands first. It does not
// set the lock after it was released.
func TestReleaseThatOvertakesItsLock(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	var clients []*redistest.Client
	for range 2 {
		k := redistest.Serve(t, "threads: 1\n"+n.yaml("timeout: 5s, max_lease: 60s")).Ready()
		clients = append(clients, k.Dial())
		votes(t, clients[len(clients)-1])
	}
	for i := range 8 {
		first, second := clients[i%2], clients[1-i%2]
		key := fmt.Sprint("lock:", i)
		n.five[0].Freeze()
		second.Expect("OK", "SET", key+":other", "t", "NX", "PX", "30000") // so that the node reads from it first
		first.Expect("OK", "SET", key+":released", "t", "NX", "PX", "30000")
		second.Expect("1", "EVAL", compareAndDelete, "1", key+":released", "t")
		first.Expect("OK", "SET", key+":deleted", "t", "NX", "PX", "30000")
		second.Expect("1", "DEL", key+":deleted")
		first.Expect("OK", "SET", key+":renewed", "t", "NX", "PX", "30000")
		second.Expect("1", "EVAL", compareAndExpire, "1", key+":renewed", "t", "50000")
		second.Expect("1", "EVAL", compareAndDelete, "1", key+":renewed", "t")
		n.five[0].Thaw()
		redistest.Eventually(t, 10*time.Second, "the node has none of the locks", func() bool {
			first.Expect("OK", "SET", key+":last", "t", "NX", "PX", "30000") // behind what the node has to do
			first.Expect("1", "DEL", key+":last")
			return n.five[0].Do("EXISTS", key+":released", key+":deleted", key+":renewed").Int == 0
		})
	}
}

// TestLocksThatComeAfterTheirRelease: a real node gets the release of an attempt's lock before the lock. It
// does not set it; but it sets that of the next attempt.
func TestLocksThatComeAfterTheirRelease(t *testing.T) {
	t.Parallel()
	n := threeLockNodes(t)
	rig := newUndoRig(t, n)
	for _, kind := range []quorum.Kind{quorum.Release, quorum.Delete} {
		n.five[0].Do("FLUSHALL")
		n.vote()
		free := quorum.Begin(rig.group, quorum.Command{Kind: kind, Key: "lock:a", Token: "t", ID: "1"}, rig.now())
		rig.exchange(free, free.Take())
		late := quorum.Begin(rig.group,
			quorum.Command{Kind: quorum.Acquire, Key: "lock:a", Token: "t", Lease: 30_000, ID: "1"}, rig.now())
		rig.exchange(late, late.Take())
		if n.five[0].Do("EXISTS", "lock:a").Int != 0 {
			t.Errorf("kind %d: the lock is set after it was released", kind)
		}
		rig.attempt("2", 0)
		if n.five[0].Do("EXISTS", "lock:a").Int != 1 {
			t.Errorf("kind %d: the next client's lock is not set", kind)
		}
	}
}

// readReply reads one reply as it is.
func readReply(t *testing.T, r *bufio.Reader) (reply []byte) {
	t.Helper()
	var scan resp.Scanner
	for {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		reply = append(reply, b)
		if _, done, err := scan.Scan(reply[len(reply)-1:]); err != nil {
			t.Fatal(err)
		} else if done {
			return reply
		}
	}
}
