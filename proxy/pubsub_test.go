package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// TestPublishedBeforeItWasListenedFor: a client whose SUBSCRIBE the nodes confirm only
// after a message was sent may have missed it, so PUBLISH does not count it.
func TestPublishedBeforeItWasListenedFor(t *testing.T) {
	for _, what := range []string{"subscribe", "psubscribe"} {
		for _, transaction := range []bool{false, true} {
			r := newClusterRig(t, Options{})
			subscriber := r.s
			r.s = r.w.Open(nil, "peer:2", "keyway:1")
			channel := r.channelOf(1)
			publish := func() string {
				if transaction {
					r.feed(cmd("MULTI") + cmd("GET", onB) + cmd("PUBLISH", channel, "x") + cmd("EXEC"))
				} else {
					r.feed(cmd("PUBLISH", channel, "x"))
				}
				return r.sent(1)
			}
			reply := func() string {
				if transaction {
					r.node(1, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n:0\r\n")
				} else {
					r.node(1, ":0\r\n")
				}
				got := r.got()
				return got[len(got)-len(":0\r\n"):]
			}
			r.w.Received(subscriber, []byte(cmd(what, channel)))
			r.endTurn()
			feed := r.last(0, isFeed)
			greet(r, feed)
			if publish() == "" {
				t.Fatal("nothing was published at the other node")
			}
			feed.Received(fmt.Appendf(nil, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n",
				len(what), what, len(channel), channel), r.now)
			if got := reply(); got != ":0\r\n" {
				t.Errorf("%s, in a transaction: %v: %q for a client that may have missed it", what, transaction, got)
			}
			publish()
			if got := reply(); got != ":1\r\n" {
				t.Errorf("%s, in a transaction: %v: then %q", what, transaction, got)
			}
		}
	}
}

// TestPublishedAfterALostFeed: for a moment after a cluster's feed is lost, messages of the
// next one are dropped. PUBLISH does not count the clients that miss them, also at the other
// worker.
func TestPublishedAfterALostFeed(t *testing.T) {
	r := newClusterRig(t, Options{Workers: 2})
	sibling := newClusterRig(t, Options{Workers: 2, Index: 1})
	subscriber := r.s
	r.s = r.w.Open(nil, "peer:2", "keyway:1")
	channel := r.channelOf(1)
	r.w.Received(subscriber, []byte(cmd("SUBSCRIBE", channel)))
	r.endTurn()
	confirm := fmt.Appendf(nil, "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n", len(channel), channel)
	first, next := r.last(0, isFeed), r.last(1, isFeed)
	for _, feed := range []*pool.Link{first, next} {
		greet(r, feed)
	}
	first.Received(confirm, r.now)
	r.asked(sibling)
	counts := func(when, node, want string) {
		t.Helper()
		for name, r := range map[string]*rig{"the worker": r, "the other worker": sibling} {
			r.feed(cmd("PUBLISH", channel, "x"))
			if r.sent(1) == "" {
				t.Fatal("nothing was published at the second node")
			}
			r.node(1, node)
			if got := r.got(); got != want {
				t.Errorf("%s: %s counts %q, want %q", when, name, got, want)
			}
		}
	}
	counts("before", ":0\r\n", ":1\r\n")
	first.Fail(r.now, "lost")
	r.endTurn()
	next.Received(confirm, r.now)
	r.asked(sibling)
	counts("while messages are dropped", ":1\r\n", ":0\r\n")
	r.feed(cmd("PUBSUB", "NUMSUB", channel))
	r.sent(0)
	r.sent(1)
	r.node(0, "*2\r\n"+string(resp.AppendBulkString(nil, channel))+":0\r\n")
	r.node(1, "*2\r\n"+string(resp.AppendBulkString(nil, channel))+":1\r\n")
	if got, want := r.got(), "*2\r\n"+string(resp.AppendBulkString(nil, channel))+":1\r\n"; got != want {
		t.Errorf("NUMSUB meanwhile: %q, want %q", got, want)
	}
	for _, r := range []*rig{r, sibling} {
		r.pass(110 * time.Millisecond)
	}
	counts("afterwards", ":1\r\n", ":1\r\n")
}
