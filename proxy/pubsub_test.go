package proxy

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

func TestSubscribeWaitsForFeeds(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("SUBSCRIBE news\r\n")
	var feeds []*pool.Feed
	for _, n := range r.w.nodes {
		feeds = append(feeds, n.feed)
		greet(r, n.feed)
		if got := take(n.feed); got != cmd("subscribe", "news") {
			t.Fatalf("sent %q", got)
		}
	}
	const confirmed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
	feeds[0].Received([]byte(confirmed), r.now)
	if got := r.got(); got != "" {
		t.Errorf("answered before both listen: %q", got)
	}
	const message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"
	feeds[0].Received([]byte(message[:20]), r.now)
	feeds[0].Received([]byte(message[20:]), r.now)
	feeds[1].Received([]byte(confirmed), r.now)
	if got := r.got(); got != confirmed+message {
		t.Errorf("%q", got)
	}
	// A second client is answered at once; a feed that is lost is made again.
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Feed(other, []byte("SUBSCRIBE news\r\n"))
	if other.Pending() == 0 {
		t.Error("the second subscriber waits")
	}
	feeds[1].Fail(r.now, "reset")
	r.now += int64(5 * time.Second)
	feeds[1].Tick(r.now)
	greet(r, feeds[1])
	if got := take(feeds[1]); got != cmd("subscribe", "news") {
		t.Errorf("the feed that is back is told %q", got)
	}
	r.w.Gone(other)
	r.feed("UNSUBSCRIBE\r\n")
	if got := take(feeds[0]); got != cmd("unsubscribe", "news") {
		t.Errorf("told %q", got)
	}
	r.w.Tick()
	if feeds[0].State() != pool.Closed || r.w.nodes[0].feed != nil {
		t.Error("the feeds stay though nobody listens")
	}
}

// Every node of a cluster is listened to for its own notifications; what the
// nodes tell each other counts once.
func TestClusterFeeds(t *testing.T) {
	r := newClusterRig(t)
	r.feed("PSUBSCRIBE *\r\n")
	const confirmed = "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n"
	for _, n := range r.w.nodes {
		greet(r, n.feed)
		take(n.feed)
		n.feed.Received([]byte(confirmed), r.now)
	}
	r.got()
	message := func(channel string) string { return cmd("pmessage", "*", channel, "x") }
	for _, n := range r.w.nodes {
		n.feed.Received([]byte(message("news")+message("__keyspace@0__:k")), r.now)
	}
	if got := r.got(); got != message("news")+message("__keyspace@0__:k")+message("__keyspace@0__:k") {
		t.Errorf("%q", got)
	}
}

// TestShardedChannelFollowsItsSlot: it is listened to where its slot goes, and
// asked for again until it is heard.
func TestShardedChannelFollowsItsSlot(t *testing.T) {
	r := newClusterRig(t)
	r.feed("SSUBSCRIBE " + onA + "\r\n")
	confirmed := "*3\r\n$10\r\nssubscribe\r\n$1\r\n" + onA + "\r\n:1\r\n"
	feeds := []*pool.Feed{r.w.nodes[0].feed, r.w.nodes[1].feed}
	for _, c := range feeds {
		greet(r, c)
	}
	if a, b := take(feeds[0]), take(feeds[1]); a != cmd("ssubscribe", onA) || b != "" {
		t.Fatalf("said %q and %q", a, b)
	}
	feeds[0].Received([]byte("-MOVED 3300 10.0.0.2:1\r\n"), r.now)
	if !r.w.EndTurn().Refresh {
		t.Error("the topology is not looked at")
	}
	r.pass(150 * time.Millisecond)
	if got := take(feeds[0]); got != cmd("ssubscribe", onA) {
		t.Errorf("said %q", got)
	}
	feeds[0].Received([]byte(confirmed), r.now)
	if got := r.got(); got != confirmed {
		t.Errorf("%q", got)
	}
	message := cmd("smessage", onA, "x")
	feeds[0].Received([]byte(message), r.now)
	feeds[1].Received([]byte(message), r.now) // which is not asked for any
	if got := r.got(); got != message {
		t.Errorf("%q", got)
	}
	r.w.moveSlot(3300, 1)
	r.w.EndTurn()
	if a, b := take(feeds[0]), take(feeds[1]); a != cmd("sunsubscribe", onA) || b != cmd("ssubscribe", onA) {
		t.Errorf("said %q and %q", a, b)
	}
	feeds[1].Received([]byte(confirmed+message), r.now)
	if got := r.got(); got != message {
		t.Errorf("%q", got)
	}
}

// TestConfirmationOfAnEarlierSubscription: a client that subscribes again is told so
// when the node has confirmed that, not what it was asked for before.
func TestConfirmationOfAnEarlierSubscription(t *testing.T) {
	says := func(what, name, n string) string {
		return "*3\r\n$" + strconv.Itoa(len(what)) + "\r\n" + what + "\r\n$" + strconv.Itoa(len(name)) + "\r\n" + name + "\r\n:" + n + "\r\n"
	}
	r := newRig(t, Options{})
	r.feed("SUBSCRIBE other\r\n")
	var feeds []*pool.Feed
	for _, n := range r.w.nodes {
		greet(r, n.feed)
		take(n.feed)
		n.feed.Received([]byte(says("subscribe", "other", "1")), r.now)
		feeds = append(feeds, n.feed)
	}
	r.got()
	r.feed("SUBSCRIBE news\r\nUNSUBSCRIBE news\r\nSUBSCRIBE news\r\n")
	before := says("subscribe", "news", "2") + says("unsubscribe", "news", "1")
	if got := r.got(); got != before {
		t.Errorf("%q", got)
	}
	for _, c := range feeds {
		if got := take(c); got != cmd("subscribe", "news")+cmd("unsubscribe", "news")+cmd("subscribe", "news") {
			t.Errorf("told %q", got)
		}
		c.Received([]byte(before), r.now)
	}
	if got := r.got(); got != "" {
		t.Errorf("%q while the nodes do not listen", got)
	}
	for _, c := range feeds {
		c.Received([]byte(says("subscribe", "news", "2")), r.now)
	}
	if got := r.got(); got != says("subscribe", "news", "2") {
		t.Errorf("%q", got)
	}
	// A node that confirms what it was not asked for is not believed.
	feeds[0].Received([]byte(says("subscribe", "other", "1")), r.now)
	if feeds[0].State() == pool.Ready {
		t.Error("the feed stays")
	}
}

// TestPrimaryFeedChangesBeforeItConfirms: the client is told that it listens when the
// feed that took over has confirmed it.
func TestPrimaryFeedChangesBeforeItConfirms(t *testing.T) {
	r := newClusterRig(t)
	r.feed("SUBSCRIBE news\r\n")
	a, b := r.w.nodes[0].feed, r.w.nodes[1].feed
	greet(r, a)
	greet(r, b)
	if got := take(a) + "|" + take(b); got != cmd("subscribe", "news")+"|" {
		t.Fatalf("told %q", got)
	}
	a.Fail(r.now, "reset")
	if got := take(b); got != cmd("subscribe", "news") {
		t.Fatalf("the other feed is told %q", got)
	}
	if got := r.got(); got != "" {
		t.Errorf("%q while no node listens", got)
	}
	const confirmed = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
	b.Received([]byte(confirmed), r.now)
	if got := r.got(); got != confirmed {
		t.Errorf("%q", got)
	}
}

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
			feed := r.w.nodes[0].feed
			greet(r, feed)
			if publish() == "" {
				t.Fatal("nothing was published at the other node")
			}
			feed.Received(fmt.Appendf(nil, "*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n", len(what), what, len(channel), channel), r.now)
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
