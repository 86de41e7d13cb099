package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// greetWith answers the whole greeting of the connection, whose node has these libraries.
func (b *bench) greetWith(libraries ...string) {
	b.c.Connected(b.now)
	sent := b.written(-1)
	b.c.Received([]byte(functionList(libraries...)+echoOf(sent)), b.now)
}

// TestNodeThatHasNotBegunTheEpoch: while keys move, a node of the layout is not used before it
// has begun the epoch. Requests wait for that.
func TestNodeThatHasNotBegunTheEpoch(t *testing.T) {
	b := newBench(t, Config{Epoch: 3, MinEpoch: 3})
	b.c.OfLayout = true
	get := &fate{}
	b.c.Send(get, resp.AppendCommand(nil, "GET", "x"), b.now, b.now+int64(2*time.Second))
	for range 5 {
		b.greetWith("keyway_2")
		if b.c.State() != Down || b.c.ConnectError() != "" || get.failed != nil {
			t.Fatalf("the link is %s (%q), the request %+v", b.c.State(), b.c.ConnectError(), get.failed)
		}
		for b.c.State() == Down {
			b.pass(10 * time.Millisecond)
		}
	}
	b.greetWith("keyway_2", "keyway_3")
	if got := b.written(-1); !strings.Contains(got, "GET") {
		t.Fatalf("the link is %s, and writes %q", b.c.State(), got)
	}
	if b.c.Received([]byte("$1\r\n1\r\n"), b.now); get.reply != "$1\r\n1\r\n" {
		t.Errorf("the reply is %q", get.reply)
	}
	other := newBench(t, Config{Epoch: 3, MinEpoch: 3}) // such as one that holds locks
	other.c.Open(other.now)
	if other.greetWith(); other.c.State() != Ready {
		t.Errorf("a node outside the layout is not used: %s", other.c.Reason())
	}
}

// TestRequestsWaitForALaterEpoch: requests to a node of a later epoch wait for some seconds, since
// the layout is probably about to be replaced. Then they fail.
func TestRequestsWaitForALaterEpoch(t *testing.T) {
	b := newBench(t, Config{Epoch: 1})
	get := &fate{}
	b.c.Send(get, resp.AppendCommand(nil, "GET", "x"), b.now, 0)
	began := b.now
	for get.failed == nil {
		b.greetWith("keyway_2")
		for b.c.State() == Down && get.failed == nil {
			b.pass(10 * time.Millisecond)
		}
		if b.now-began > int64(time.Minute) {
			t.Fatal("the request still waits after a minute")
		}
	}
	if took := time.Duration(b.now - began); took < time.Second || get.failed.Sent {
		t.Errorf("the request failed after %s: %+v", took, get.failed)
	}
}

// TestRenew: what waits for a link, or was sent over it, fails when the link is renewed, in any
// state. What is sent after that, or again because of that, goes over the next connection, which
// waits for no back-off if the node was ahead.
func TestRenew(t *testing.T) {
	for name, prepare := range map[string]func(b *bench){
		"dialing":  func(*bench) {},
		"greeting": func(b *bench) { b.c.Connected(b.now) },
		"ready":    func(b *bench) { b.greetWith(); b.written(-1) },
		"down":     func(b *bench) { b.greetWith("keyway_2") },
	} {
		b := newBench(t, Config{Epoch: 1})
		first := &fate{}
		b.c.Send(first, resp.AppendCommand(nil, "GET", "first"), b.now, 0)
		prepare(b)
		b.set.Configure(Config{Epoch: 2, ConnectTimeout: time.Second, RequestTimeout: time.Second})
		again := &resent{b, &fate{}}
		b.c.Send(again, resp.AppendCommand(nil, "GET", "again"), b.now, 0)
		Renew(&b.c.Link, b.now, "renewed")
		if first.failed == nil || first.failed.Sent != (name == "ready") {
			t.Errorf("%s: the request is %+v", name, first.failed)
		}
		for b.c.State() != Dialing {
			if name == "down" {
				t.Fatal("down: the link waits")
			}
			b.pass(10 * time.Millisecond)
		}
		b.greetWith("keyway_2")
		if got := b.written(-1); strings.Contains(got, "first") || strings.Count(got, "again") != 1 {
			t.Errorf("%s: the link is %s (%s), and writes %q", name, b.c.State(), b.c.Reason(), got)
		}
	}
}
