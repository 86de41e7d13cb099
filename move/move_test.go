package move_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// pair is a link between two nodes, with gates on the way to them.
type pair struct {
	*move.Link
	s, d         *redistest.Node
	gateS, gateD *gate
}

func open(t *testing.T, name, addr string) *move.Node {
	t.Helper()
	n, err := move.Open(context.Background(), move.Options{Name: name, Addr: addr, ConnectTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// between returns a link from node s to node d, called "s" and "d".
func between(t *testing.T, s, d *redistest.Node, db int) *pair {
	t.Helper()
	p := &pair{s: s, d: d, gateS: newGate(t, s.Addr), gateD: newGate(t, d.Addr)}
	var err error
	p.Link, err = move.Connect(context.Background(), open(t, "s", p.gateS.Addr), open(t, "d", p.gateD.Addr), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// move moves keys and checks the outcome, as in "1 moved, 0 joined, 0 absent, 0 aside".
func (p *pair) move(t *testing.T, want string, keys ...string) move.Result {
	t.Helper()
	r, err := p.Move(context.Background(), keys)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%d moved, %d joined, %d absent, %d aside", r.Moved, r.Joined, r.Absent, len(r.Aside))
	if got != want {
		t.Errorf("%q: %s, expected %s", keys, got, want)
	}
	return r
}

// expect checks the replies of a node.
func expect(t *testing.T, n *redistest.Node, want string, args ...string) {
	t.Helper()
	if got := n.Do(args...).String(); !strings.Contains(got, want) {
		t.Errorf("%q: %.200s, expected %s", args, got, want)
	}
}

// says checks that an error contains these texts.
func says(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not contain %q", err, text)
		}
	}
}

func two(t *testing.T) *pair {
	t.Helper()
	return between(t, redistest.Start(t), redistest.Start(t), 0)
}

// TestAbsentIsNotRevived: another process moves the key, and a client deletes it, before
// this one looks at the destination.
func TestAbsentIsNotRevived(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "v")
	p.gateD.When("WATCH", func() { p.s.Do("DEL", "k") })
	p.move(t, "0 moved, 0 joined, 1 absent, 0 aside", "k")
	expect(t, p.d, "0", "EXISTS", "k")
	expect(t, p.s, "0", "EXISTS", "k")
	if !p.gateD.Came() {
		t.Error("no WATCH at the destination")
	}
}

// TestDeletedWhileCopied: the key goes between DUMP and EXEC: moved and deleted by others.
func TestDeletedWhileCopied(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "v")
	p.gateD.When("RESTORE", func() { // as another mover and a client would do it
		p.d.Do("SET", "k", "v")
		p.s.Do("DEL", "k")
		p.d.Do("DEL", "k")
	})
	p.move(t, "0 moved, 0 joined, 1 absent, 0 aside", "k")
	expect(t, p.d, "0", "EXISTS", "k")
}

// TestChangedAtTheDestination: a client writes there between WATCH and EXEC. Its value
// stays, and the source's is kept under another name.
func TestChangedAtTheDestination(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "old")
	p.s.Do("SET", "other", "v")
	p.gateD.When("RESTORE", func() { p.d.Do("SET", "k", "new") })
	r := p.move(t, "1 moved, 0 joined, 0 absent, 1 aside", "k", "other")
	expect(t, p.d, "new", "GET", "k")
	expect(t, p.d, "v", "GET", "other")
	expect(t, p.s, "old", "GET", "keyway:stray:s:k")
	expect(t, p.s, "0", "EXISTS", "k", "other")
	if len(r.Aside) == 1 && r.Aside[0] != (move.Aside{Node: "s", Key: "k", Name: "keyway:stray:s:k"}) {
		t.Errorf("%+v", r.Aside[0])
	}
}

// TestChangedAtTheSource: a client that should not be there writes at the source after
// DUMP. The write is not lost.
func TestChangedAtTheSource(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "1")
	p.s.Do("SET", "other", "v")
	p.gateS.When("UNLINK", func() { p.s.Do("INCR", "k") })
	p.move(t, "0 moved, 1 joined, 0 absent, 1 aside", "k", "other")
	expect(t, p.s, "2", "GET", "keyway:stray:s:k")
	expect(t, p.d, "1", "GET", "k")

	p.s.Do("SET", "lease", "1")
	p.gateS.When("UNLINK", func() { p.s.Do("EXPIRE", "lease", "1000") })
	p.move(t, "0 moved, 0 joined, 0 absent, 1 aside", "lease")
	expect(t, p.s, "1000", "TTL", "keyway:stray:s:lease")
}

// TestRefusedCopyStaysAtTheSource: the destination has no memory.
func TestRefusedCopyStaysAtTheSource(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "v")
	p.d.Do("CONFIG", "SET", "maxmemory", "1")
	_, err := p.Move(context.Background(), []string{"k"})
	says(t, err, "node d (", "raise its maxmemory")
	var e *move.Error
	if !errors.As(err, &e) || e.Node != "d" {
		t.Errorf("%v names no node", err)
	}
	expect(t, p.s, "v", "GET", "k")
	expect(t, p.d, "0", "DBSIZE")
}

// TestNothingIsReplaced: what is sent can overwrite and delete nothing at the destination.
func TestNothingIsReplaced(t *testing.T) {
	t.Parallel()
	p := two(t)
	p.s.Do("SET", "k", "v")
	p.s.Do("SET", "both", "1")
	p.d.Do("SET", "both", "2")
	p.move(t, "1 moved, 0 joined, 0 absent, 1 aside", "k", "both")
	sent := p.gateD.Sent()
	if !strings.Contains(sent, "RESTORE") {
		t.Fatalf("%q", sent)
	}
	for _, word := range []string{"REPLACE", "UNLINK", "DEL\r", "RENAME"} {
		if strings.Contains(sent, word) {
			t.Errorf("%s was sent to the destination", word)
		}
	}
}

// TestKeysOnBothNodes: equal values become one, and of different ones none is lost.
func TestKeysOnBothNodes(t *testing.T) {
	t.Parallel()
	p := two(t)
	for _, n := range []*redistest.Node{p.s, p.d} {
		n.Do("SET", "equal", "v")
		n.Do("SET", "expiry", "v")
		n.Do("SET", "lasting", "v")
		n.Do("SET", "value", n.Addr)
	}
	p.s.Do("EXPIRE", "expiry", "100")
	p.d.Do("EXPIRE", "lasting", "100")
	p.s.Do("SET", "keyway:stray:s:value", "an earlier one")
	p.move(t, "0 moved, 1 joined, 0 absent, 3 aside", "equal", "expiry", "value", "lasting", "equal")
	expect(t, p.s, "4", "DBSIZE")
	expect(t, p.s, "an earlier one", "GET", "keyway:stray:s:value")
	expect(t, p.s, p.s.Addr, "GET", "keyway:stray:s:2:value")
	expect(t, p.s, "100", "TTL", "keyway:stray:s:expiry")
	expect(t, p.d, p.d.Addr, "GET", "value")
	expect(t, p.d, "-1", "TTL", "expiry")
}

// TestExpiredKeysDoNotRevive: the key expires before and after the question for its expiry, and
// before the copy. A key never lives longer because it moved.
func TestExpiredKeysDoNotRevive(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{"": nil, "before 7.0": {"--rename-command", "PEXPIRETIME", ""}} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, options...)
			p, asked := between(t, s, redistest.Start(t), 0), "PEXPIRETIME"
			if name != "" {
				asked = "PTTL"
			}
			p.s.Do("SET", "first", "v") // so that the link knows what the source knows
			p.move(t, "1 moved, 0 joined, 0 absent, 0 aside", "first")
			expired := func() {
				redistest.Eventually(t, 5*time.Second, "the key expires", func() bool {
					return p.s.Do("EXISTS", "k").Int == 0
				})
			}
			for _, before := range []string{asked, "DUMP"} {
				p.s.Do("SET", "k", "v", "PX", "200")
				p.gateS.When(before, expired)
				p.move(t, "0 moved, 0 joined, 1 absent, 0 aside", "k")
				expect(t, p.d, "0", "EXISTS", "k")
			}

			p.s.Do("SET", "k", "v", "PX", "200")
			p.gateD.When("RESTORE", expired) // RESTORE creates nothing
			if _, err := p.Move(context.Background(), []string{"k"}); err != nil {
				t.Error(err)
			}
			expect(t, p.d, "0", "EXISTS", "k")

			before := time.Now()
			p.s.Do("SET", "k", "v", "PX", "100000")
			p.move(t, "1 moved, 0 joined, 0 absent, 0 aside", "k")
			left, _ := strconv.Atoi(p.d.Do("PTTL", "k").String())
			if took := int(time.Since(before).Milliseconds()) + 2; left < 100000-took || left > 100000+took {
				t.Errorf("%d ms to live, expected 100000 less %d ms at most", left, took)
			}
		})
	}
}

// TestInterruptedMove: a process died after each command. The next one completes the move.
func TestInterruptedMove(t *testing.T) {
	t.Parallel()
	for _, at := range []struct{ node, before string }{
		{"d", "WATCH"}, {"s", "WATCH"}, {"s", "DUMP"}, {"d", "MULTI"}, {"d", "EXEC"}, {"s", "MULTI"}, {"s", "EXEC"},
	} {
		t.Run(at.node+" "+at.before, func(t *testing.T) {
			p := two(t)
			p.s.Do("SET", "k", "v")
			p.s.Do("SADD", "set", "a", "b", "c", "1", "2")
			ctx, cancel := context.WithCancel(context.Background())
			g := p.gateS
			if at.node == "d" {
				g = p.gateD
			}
			g.When(at.before, cancel)
			if _, err := p.Move(ctx, []string{"k", "set"}); err == nil && !g.Came() {
				t.Fatal("was not interrupted")
			}
			again := between(t, p.s, p.d, 0)
			if _, err := again.Move(context.Background(), []string{"k", "set"}); err != nil {
				t.Fatal(err)
			}
			expect(t, p.s, "0", "DBSIZE")
			expect(t, p.d, "2", "DBSIZE")
			expect(t, p.d, "v", "GET", "k")
			expect(t, p.d, "5", "SCARD", "set")
		})
	}
}

// TestSameServer: nothing moves between two addresses of one server.
func TestSameServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("SET", "k", "v")
	a, b := open(t, "a", s.Addr), open(t, "b", newGate(t, s.Addr).Addr)
	_, err := move.Connect(context.Background(), a, b, 0)
	says(t, err, "same server")
}

// TestKeysMoveInTheirEpoch: keys move only while both nodes are in the epoch in which they belong there.
func TestKeysMoveInTheirEpoch(t *testing.T) {
	t.Parallel()
	s, d := redistest.Start(t), redistest.Start(t)
	opened := func(n *redistest.Node, epoch int64) *move.Node {
		of, err := move.Open(context.Background(), move.Options{
			Name: "n", Addr: n.Addr, ConnectTimeout: time.Second, Epoch: epoch,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(of.Close)
		return of
	}
	connect := func(epoch int64) error {
		l, err := move.Connect(context.Background(), opened(s, epoch), opened(d, epoch), 0)
		if err == nil {
			l.Close()
		}
		return err
	}
	enter := func(n *redistest.Node, epoch int) {
		name := fmt.Sprint("keyway_", epoch)
		n.Do("FUNCTION", "LOAD", "#!lua name="+name+"\nredis.register_function('"+name+"', function() end)")
	}
	enter(s, 1)
	enter(d, 1)
	if err := connect(1); err != nil {
		t.Errorf("in the epoch: %v", err)
	}
	enter(d, 2)
	if err := connect(1); err == nil || !strings.Contains(err.Error(), "is in epoch 2") {
		t.Errorf("a mover of an earlier epoch connects: %v", err)
	}
	if err := connect(2); err == nil || !strings.Contains(err.Error(), "is in epoch 1") {
		t.Errorf("the source is a step behind: %v", err)
	}
}
