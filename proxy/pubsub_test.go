package proxy

import (
	"fmt"
	"testing"

	"github.com/keyway-proxy/keyway/pool"
)

// TestPublishedBeforeItWasListenedFor: a client whose SUBSCRIBE the nodes confirm only
// after a message was sent may have missed it, so PUBLISH does not count it.
func TestPublishedBeforeItWasListenedFor(t *testing.T) {
	for _, what := range []string{"subscribe", "psubscribe"} {
		for _, transaction := range []bool{false, true} {
			r := newClusterRig(t)
			subscriber := r.s
			r.s = r.w.Open(nil, "peer:2", "keyway:1")
			channel := onB
			for i := 0; r.w.publishNode([]byte(channel)) != r.w.nodes[1]; i++ {
				channel = fmt.Sprint("c", i)
			}
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
			r.w.Feed(subscriber, []byte(cmd(what, channel)))
			r.w.EndTurn()
			feed := feedOf(r.w.nodes[0])
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

// feedOf returns a node's feed, or nil.
func feedOf(n *node) *pool.Feed {
	if f := featureOf[*hub](n.w).feeds[n]; f != nil {
		return f.Feed
	}
	return nil
}
