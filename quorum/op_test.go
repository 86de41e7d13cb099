package quorum

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// bench is a command on five nodes, which a test answers by hand.
type bench struct {
	t     *testing.T
	op    *Op
	now   int64
	sends []Send
}

func begin(t *testing.T, c Command) *bench {
	g := &Group{Rule: &Rule{
		Nodes: []string{"n0", "n1", "n2", "n3", "n4"}, Timeout: 50 * time.Millisecond, Drift: 0.01,
		MaxLease: time.Minute, Fencing: true,
	}}
	for _, addr := range g.Nodes {
		g.Members = append(g.Members, &Node{Addr: addr, Longest: 60000})
	}
	b := &bench{t: t, now: int64(time.Hour), op: Begin(g, c, int64(time.Hour))}
	b.take()
	return b
}

// take sends the nodes at once what there is for them.
func (b *bench) take() {
	for _, s := range b.op.Take() {
		b.op.Frame(nil, &s, b.now)
		b.sends = append(b.sends, s)
	}
}

// expire lets all nodes that have not answered be silent until the end.
func (b *bench) expire() {
	b.now = max(b.now, b.op.Deadline())
	b.op.Expire(b.now, all)
	b.take()
}

func all(int) bool { return true }

// answer lets nodes answer their oldest questions.
func (b *bench) answer(says string, number, waits int64, nodes ...int) {
	b.answerAbout("1", says, number, waits, nodes...)
}

// answerAbout is answer about a lock that an attempt has set.
func (b *bench) answerAbout(attempt, says string, number, waits int64, nodes ...int) {
	for _, n := range nodes {
		i := slices.IndexFunc(b.sends, func(s Send) bool { return s.Node == n })
		if i < 0 {
			b.t.Fatalf("nothing was sent to node %d", n)
		}
		s := b.sends[i]
		b.sends = slices.Delete(b.sends, i, i+1)
		b.op.Answer(s, fmt.Appendf(nil, "*7\r\n$%d\r\n%s\r\n$0\r\n\r\n:%d\r\n:-2\r\n:%d\r\n:%d\r\n$%d\r\n%s\r\n",
			len(says), says, number, waits, b.now/1000, len(attempt), attempt), b.now)
		b.take()
	}
}

// sent returns which steps have been sent to which nodes and are not answered.
func (b *bench) sent(what step) (nodes []int) {
	for _, s := range b.sends {
		if s.step == what {
			nodes = append(nodes, s.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func (b *bench) want(v Verdict, reason string) {
	b.t.Helper()
	if b.op.Verdict != v || !strings.Contains(b.op.Reason, reason) {
		b.t.Errorf("the verdict is %d %q, want %d %q", b.op.Verdict, b.op.Reason, v, reason)
	}
}

var acquire = Command{Kind: Acquire, Key: "lock", Token: "t", Lease: 1000, ID: "1", Number: 7}

func TestAcquireNeedsAMajority(t *testing.T) {
	b := begin(t, acquire)
	b.answer("ok", 7, 0, 0, 1)
	b.want(Pending, "")
	b.answer("held", 3, 0, 2)
	b.want(Pending, "")
	b.answer("ok", 7, 0, 3)
	b.want(Yes, "")
	if b.op.Number != 7 {
		t.Errorf("the number is %d", b.op.Number)
	}
}

// TestAcquireThatFailsIsUndone: also on nodes that have not answered, since they may have
// granted the lock; but not on those that have said that another client has it.
func TestAcquireThatFailsIsUndone(t *testing.T) {
	b := begin(t, acquire)
	b.answer("held", 3, 0, 0, 1)
	b.answer("ok", 7, 0, 2)
	b.answer("held", 3, 0, 3)
	b.want(Other, "")
	if got := b.sent(stepUndo); !slices.Equal(got, []int{2, 4}) {
		t.Errorf("undone on the nodes %v", got)
	}
	b = begin(t, acquire)
	b.answer("ok", 7, 0, 0, 1)
	b.expire()
	b.want(Failed, "CLUSTERDOWN keyway: 2 of 5 lock nodes take part, and 3 must agree (n2: no answer within 50ms; ")
	if got := b.sent(stepUndo); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("undone on the nodes %v", got)
	}
}

// TestLeaseMustOutlastTheAnswers: a lock whose lease is nearly over when the nodes have
// answered is not acquired.
func TestLeaseMustOutlastTheAnswers(t *testing.T) {
	short := acquire
	short.Lease = 40
	b := begin(t, short)
	b.now += int64(37 * time.Millisecond)
	b.answer("ok", 7, 0, 0, 1, 2)
	b.want(Yes, "")
	b = begin(t, short)
	b.now += int64(38 * time.Millisecond)
	b.answer("ok", 7, 0, 0, 1, 2)
	b.want(Failed, "the lease of 40 ms was nearly over when the lock nodes had answered, after 38ms; the lock was not")
	if got := b.sent(stepUndo); !slices.Equal(got, []int{0, 1, 2, 3, 4}) {
		t.Errorf("undone on the nodes %v", got)
	}
}

// TestNumberIsRaised: a number that less than a majority has taken is raised above those of
// the nodes before the lock is acquired.
func TestNumberIsRaised(t *testing.T) {
	b := begin(t, acquire)
	b.answer("ok", 7, 0, 0, 1)
	b.answer("low", 20, 0, 2)
	b.want(Pending, "")
	if got := b.sent(stepRaise); !slices.Equal(got, []int{0, 1, 2}) {
		t.Fatalf("raised on the nodes %v", got)
	}
	b.sends = slices.DeleteFunc(b.sends, func(s Send) bool { return s.step != stepRaise })
	b.answer("ok", 21, 0, 0, 1)
	b.want(Pending, "")
	b.answer("ok", 21, 0, 2)
	b.want(Yes, "")
	if b.op.Number != 21 {
		t.Errorf("the number is %d", b.op.Number)
	}
}

func TestWaitingNodesDoNotVote(t *testing.T) {
	b := begin(t, acquire)
	b.answer("none", 0, 5001, 0, 1, 2)
	b.want(Failed, "n2: it is new or has restarted, and votes in 6s); the lock was not acquired")
}

// TestErrorNamesNodesThatTakeNoPart: nodes that have not answered yet take part only if they did when
// they last answered. If the others are silent, the error says what to do.
func TestErrorNamesNodesThatTakeNoPart(t *testing.T) {
	b := begin(t, acquire)
	b.op.group.Members[3].Absence = "it is new or has restarted, and votes in 8s"
	b.answer("none", 0, 5001, 0, 1, 2)
	b.want(Failed, "CLUSTERDOWN keyway: 1 of 5 lock nodes take part, and 3 must agree "+
		"(n0: it is new or has restarted, "+
		"and votes in 6s; n1: it is new or has restarted, and votes in 6s; n2: it is new or has restarted, "+
		"and votes in 6s; n3: it is new or has restarted, and votes in 8s); the lock was not acquired")

	b = begin(t, acquire)
	b.answer("ok", 7, 0, 0)
	b.answer("none", 0, 5001, 1)
	b.expire()
	b.want(Failed, "CLUSTERDOWN keyway: 1 of 5 lock nodes take part, and 3 must agree "+
		"(n1: it is new or has restarted, "+
		"and votes in 6s; n2: no answer within 50ms; n3: no answer within 50ms; n4: no answer within 50ms); "+
		"if the silent ones are well, raise the rule's timeout; the lock was not acquired")

	b = begin(t, acquire)
	for _, s := range b.sends[:3] {
		b.op.Lost(s, "connection refused", b.now)
	}
	b.want(Failed, "2 of 5 lock nodes take part, and 3 must agree (n0: connection refused; n1: connection refused; "+
		"n2: connection refused); the lock was not acquired")
}

// TestRenewalSetsTheLockWhereItLacks: but only once a majority has confirmed it.
func TestRenewalSetsTheLockWhereItLacks(t *testing.T) {
	b := begin(t, Command{Kind: Renew, Key: "lock", Token: "t", Lease: 1000})
	b.answer("none", 0, 0, 0)
	b.answer("ok", 7, 0, 1, 2)
	if got := b.sent(stepAdopt); len(got) > 0 {
		t.Fatalf("set on the nodes %v before a majority has confirmed it", got)
	}
	b.answer("ok", 7, 0, 3)
	b.want(Yes, "")
	b.answer("none", 0, 0, 4)
	if got := b.sent(stepAdopt); !slices.Equal(got, []int{0, 4}) {
		t.Errorf("set on the nodes %v", got)
	}
}

// TestCommandsOnLocksSetSince: a release or renewal of a lock that a majority has set since the client
// sent it is repeated for that lock alone, as when the client has sent both at once. If the nodes do not
// agree on the lock, it is not touched.
func TestCommandsOnLocksSetSince(t *testing.T) {
	for kind, step := range map[Kind]step{Renew: stepRenew, Release: stepRelease, Delete: stepDelete} {
		had := "ok"
		if kind == Delete {
			had = "held"
		}
		b := begin(t, Command{Kind: kind, Key: "lock", Token: "t", Lease: 1000})
		b.answerAbout("a", "newer", 7, 0, 0, 1)
		b.want(Pending, "")
		b.answerAbout("a", had, 7, 0, 2)
		b.want(Pending, "")
		if got := b.sent(step); !slices.Equal(got, []int{0, 1, 3, 4}) || b.sends[2].id != "a" || b.sends[0].id != "" {
			t.Errorf("%s is sent to %v: %+v", step, got, b.sends)
		}
		b.answerAbout("a", had, 7, 0, 0, 1)
		b.want(Yes, "")
		b.answerAbout("a", "newer", 7, 0, 3) // it was slower than the client
		b.answerAbout("b", "newer", 7, 0, 4) // the next client has it there
		if got := b.sent(step); !slices.Equal(got, []int{3}) || b.sends[0].id != "a" {
			t.Errorf("%s comes late, and is sent again: %+v", step, b.sends)
		}

		b = begin(t, Command{Kind: kind, Key: "lock", Token: "t", Lease: 1000})
		b.answerAbout("a", "newer", 7, 0, 0, 1)
		b.answerAbout("b", "newer", 7, 0, 2, 3)
		b.answerAbout("", "newer", 7, 0, 4)
		b.want(Failed, "0 of 5 lock nodes take part, and 3 must agree (n0: it has set the lock since; ")
	}
}

// TestNodesThatLackAFreedLockAreTold: the command that has set the lock may come to them later, over another
// connection. If the release has its ID, they know it from the release.
func TestNodesThatLackAFreedLockAreTold(t *testing.T) {
	for kind, step := range map[Kind]step{Release: stepRelease, Delete: stepDelete} {
		for id, want := range map[string][]int{"": {0, 4}, "a": nil} {
			b := begin(t, Command{Kind: kind, Key: "lock", Token: "t", ID: id})
			b.answer("none", 0, 0, 0)
			b.answerAbout("a", "ok", 7, 0, 1, 2, 3)
			b.want(Yes, "")
			b.answer("none", 0, 0, 4)
			if got := b.sent(step); !slices.Equal(got, want) || len(got) > 0 && b.sends[0].id != "a" {
				t.Fatalf("%s with the ID %q is sent again: %+v", step, id, b.sends)
			}
			for _, i := range want { // no node is told for ever
				b.answer("none", 0, 0, i)
			}
			if len(b.sends) > 0 {
				t.Errorf("%s is sent for the third time: %+v", step, b.sends)
			}
		}
	}
}

// TestUnsureOutcomes: if the nodes that are absent could decide, the client is told so, and
// not that it has lost the lock.
func TestUnsureOutcomes(t *testing.T) {
	for _, c := range []struct {
		kind             Kind
		yes, none, other int
		want             Verdict
	}{
		{Renew, 2, 1, 0, Failed}, {Renew, 1, 2, 1, Other}, {Renew, 0, 3, 0, Missing},
		{Release, 2, 1, 0, Yes}, {Release, 2, 0, 1, Failed}, {Release, 1, 0, 3, Other}, {Release, 0, 3, 0, Missing},
		{Release, 2, 0, 0, Failed},
	} {
		b := begin(t, Command{Kind: c.kind, Key: "lock", Token: "t", Lease: 1000})
		b.answer("ok", 7, 0, []int{0, 1, 2, 3, 4}[:c.yes]...)
		b.answer("none", 7, 0, []int{0, 1, 2, 3, 4}[c.yes:c.yes+c.none]...)
		b.answer("held", 7, 0, []int{0, 1, 2, 3, 4}[c.yes+c.none:c.yes+c.none+c.other]...)
		b.expire()
		if b.op.Verdict != c.want {
			t.Errorf("%+v: %d %s", c, b.op.Verdict, b.op.Reason)
		}
		if b.op.Verdict == Failed && (!strings.HasPrefix(b.op.Reason, "ERR keyway: ") ||
			!strings.HasSuffix(b.op.Reason, "it may have been executed")) {
			t.Errorf("%+v: %s", c, b.op.Reason)
		}
	}
}

// TestJumpedNodeMustHearThatItWaits: a node whose clock has jumped does not vote before it waits:
// not by the answers to questions that were on their way when the jump was noticed, nor if it never
// hears that it must wait.
func TestJumpedNodeMustHearThatItWaits(t *testing.T) {
	n, hour := &Node{Longest: 60_000}, int64(time.Hour)
	now := int64(time.Second)
	ask := func(sent, ahead, waits int64) (told bool) {
		t.Helper()
		now += int64(time.Millisecond)
		reply := resp.AppendArray(nil, 7)
		for _, text := range []string{"none", ""} {
			reply = resp.AppendBulkString(reply, text)
		}
		for _, i := range []int64{0, -2, waits, (now + ahead) / int64(time.Microsecond)} {
			reply = resp.AppendInt(reply, i)
		}
		reply = resp.AppendBulkString(reply, "")
		return n.Looked(reply, sent, now) != nil
	}
	expect := func(what string, told, wantTold, votes bool) {
		t.Helper()
		if told != wantTold || (n.Absence == "") != votes {
			t.Errorf("%s: told to wait: %t; absence %q", what, told, n.Absence)
		}
	}
	expect("before", ask(now, 0, 0), false, true)
	onItsWay := now
	expect("first doubt", ask(now, hour, 0), false, false)
	expect("proof", ask(now, hour, 0), true, false)
	expect("asked before the proof", ask(onItsWay, hour, 0), false, false)
	expect("still does not wait", ask(now+1, hour, 0), true, false)
	expect("waits", ask(now+1, hour, 60_000), false, false)
	expect("has waited", ask(now+1, hour, 0), false, true)
}

// TestNodeThatAnswersLateIsAbsent: it is not asked again until it has answered, unless the others
// are too few.
func TestNodeThatAnswersLateIsAbsent(t *testing.T) {
	b := begin(t, acquire)
	late := slices.Clone(b.sends)
	b.answer("ok", 7, 0, 0, 1)
	b.expire()
	b.want(Failed, "no answer within 50ms")
	next := Begin(b.op.group, acquire, b.now)
	if len(next.Take()) != 5 || next.Verdict != Pending {
		t.Errorf("with two nodes of five, the others are not waited for: verdict %d", next.Verdict)
	}
	b.sends = late
	b.answer("ok", 7, 0, 2)
	if next = Begin(b.op.group, acquire, b.now); len(next.Take()) != 3 || next.Verdict != Pending {
		t.Errorf("nodes that are silent are asked although the others are a majority: verdict %d", next.Verdict)
	}
	b.answer("ok", 7, 0, 3, 4)
	if next = Begin(b.op.group, acquire, b.now); len(next.Take()) != 5 || next.Verdict != Pending {
		t.Errorf("nodes that have answered are not asked again: verdict %d", next.Verdict)
	}
}

// TestBusyNodeIsNotAbsent: the wait for a node goes on while it answers other commands, and ends
// when it has sent nothing for the timeout.
func TestBusyNodeIsNotAbsent(t *testing.T) {
	b := begin(t, acquire)
	other := &bench{t: t, op: Begin(b.op.group, acquire, b.now), now: b.now}
	for range 10 {
		other.take()
		b.now += int64(40 * time.Millisecond)
		other.now = b.now
		other.answer("held", 7, 0, 0, 1, 2, 3, 4)
		b.op.Expire(b.now, all)
		b.want(Pending, "")
		other.op = Begin(b.op.group, acquire, b.now)
	}
	if left := b.op.Deadline() - b.now; left != int64(50*time.Millisecond) {
		t.Errorf("the deadline is in %s", time.Duration(left))
	}
	b.expire()
	b.want(Failed, "0 of 5 lock nodes take part")
}

// TestCommandsThatWaitAreNotSentInVain: what waits for a node is sent if it is still needed, or if
// the lock is acquired. An attempt that has failed is undone only where it was sent.
func TestCommandsThatWaitAreNotSentInVain(t *testing.T) {
	group := begin(t, acquire).op.group
	for _, x := range []struct {
		says  string
		want  Verdict
		wants bool
		undo  []int
	}{{"ok", Yes, true, nil}, {"held", Other, false, nil}} {
		b := &bench{t: t, op: Begin(group, acquire, int64(time.Hour)), now: int64(time.Hour)}
		waits := b.op.Take()
		for i := range 3 {
			b.op.Frame(nil, &waits[i], b.now)
			b.sends = append(b.sends, waits[i])
		}
		b.answer(x.says, 7, 0, 0, 1, 2)
		b.want(x.want, "")
		if got := b.op.Wants(waits[4]); got != x.wants {
			t.Errorf("%s: wants to send what waits: %v", x.says, got)
		}
		if got := b.sent(stepUndo); !slices.Equal(got, x.undo) {
			t.Errorf("%s: undone on the nodes %v", x.says, got)
		}
	}
}

// TestTimeInTheQueueIsNoTimeOfTheLease: the lease begins when the first node is sent the command.
func TestTimeInTheQueueIsNoTimeOfTheLease(t *testing.T) {
	b := begin(t, acquire)
	b.op = Begin(b.op.group, acquire, b.now)
	b.now += int64(10 * time.Second)
	for _, m := range b.op.group.Members {
		m.heard = b.now
	}
	b.sends = nil
	b.take()
	b.answer("ok", 7, 0, 0, 1, 2)
	b.want(Yes, "")
}
