package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// messages reads n replies and returns them as text.
func messages(t *testing.T, c *redistest.Client, n int) (all []string) {
	t.Helper()
	for range n {
		r, err := c.Receive()
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		all = append(all, r.String())
	}
	return all
}

// nextMessage fails the test unless the next message is want.
func nextMessage(t *testing.T, c *redistest.Client, want string) {
	t.Helper()
	if got := messages(t, c, 1)[0]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPubSub: a message reaches every subscriber once, by channel and by pattern, whether a
// client, a transaction, a script on any node or the node itself publishes it.
func TestPubSub(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		a, b, p := k.Dial(), k.Dial(), k.Dial()
		a.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		b.Send("SUBSCRIBE", "news", "other")
		b.Send("PSUBSCRIBE", "n?ws", "__keyevent@0__:*")
		b.Flush()
		confirmed := "[[subscribe news 1] [subscribe other 2] [psubscribe n?ws 3] [psubscribe __keyevent@0__:* 4]]"
		if got := fmt.Sprint(messages(t, b, 4)); got != confirmed {
			t.Errorf("%s", got)
		}
		p.Expect("3", "PUBLISH", "news", "hello")
		p.Expect("1", "PUBLISH", "other", "x")
		p.Expect("0", "PUBLISH", "nobody", "x")
		keys := apart(t, k, nodes)
		want := []string{"[message news hello]", "[pmessage n?ws news hello]", "[message other x]"}
		for _, key := range keys { // a script publishes on its key's node
			p.MustDo("EVAL", "return redis.call('PUBLISH', 'news', ARGV[1])", "1", key, key)
			want = append(want, "[message news "+key+"]", "[pmessage n?ws news "+key+"]")
		}
		p.Expect("OK", "MULTI")
		p.Expect("QUEUED", "SET", keys[0], "x")
		p.Expect("QUEUED", "PUBLISH", "news", "from MULTI")
		p.MustDo("EXEC")
		want = append(want, "[message news from MULTI]", "[pmessage n?ws news from MULTI]")
		got := map[string]int{}
		for _, m := range messages(t, b, len(want)) {
			got[m]++
		}
		for _, m := range want {
			if got[m] != 1 {
				t.Errorf("%s came %d times", m, got[m])
			}
		}
		for _, m := range messages(t, a, 2+len(keys)) {
			if !strings.HasPrefix(m, "[message news ") {
				t.Errorf("the other subscriber got %s", m)
			}
		}
		for _, n := range nodes {
			n.Do("CONFIG", "SET", "notify-keyspace-events", "Eg")
		}
		for _, key := range keys {
			p.MustDo("SET", key, "x")
			p.MustDo("DEL", key)
			if m := messages(t, b, 1)[0]; m != "[pmessage __keyevent@0__:* __keyevent@0__:del "+key+"]" {
				t.Errorf("%s", m)
			}
		}
		for _, n := range nodes {
			n.Do("CONFIG", "SET", "notify-keyspace-events", "")
		}
		b.Expect("[unsubscribe other 3]", "UNSUBSCRIBE", "other")
		a.Close()
		redistest.Eventually(t, 20*time.Second, "only one listens", func() bool {
			return p.Do("PUBLISH", "news", "y").Int == 2
		})
	})
}

// TestSubscriberLikeRedis compares the replies and messages of a subscriber with Redis's.
func TestSubscriberLikeRedis(t *testing.T) {
	t.Parallel()
	node, oracle := redistest.Start(t), redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	for _, script := range [][]string{
		{
			"SUBSCRIBE a b a", "PING", "PING x", "GET a", "MULTI", "UNSUBSCRIBE b", "SELECT 0", "HELLO 2",
			"UNSUBSCRIBE a", "GET a", "PING",
		},
		{"UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE x", "PUNSUBSCRIBE x y"},
		{"PSUBSCRIBE p* q?", "SUBSCRIBE a", "PUNSUBSCRIBE q?", "PUNSUBSCRIBE", "EVAL x 0", "UNSUBSCRIBE", "PING"},
		{"SUBSCRIBE a", "RESET", "GET a"},
		{"SUBSCRIBE a", "QUIT"},
		{"SUBSCRIBE"}, {"PUBLISH a"}, {"PUBLISH a b"},
	} {
		text := strings.Join(script, "\r\n") + "\r\n"
		sameAnswers(t, k.Addr, oracle.Addr, script, text)
	}
	c := k.Dial()
	names := strings.Fields("z y x w v u t s r q p o")
	c.Send(append([]string{"SUBSCRIBE"}, names...)...)
	c.Flush()
	messages(t, c, len(names))
	c.Send("UNSUBSCRIBE")
	c.Flush()
	// In the order of the subscriptions; Redis itself has one for patterns only, and
	// only until 7.0.
	for i, m := range messages(t, c, len(names)) {
		if want := fmt.Sprintf("[unsubscribe %s %d]", names[i], len(names)-1-i); m != want {
			t.Errorf("%s, want %s", m, want)
		}
	}
}

// TestSubscriptionsAreShared: however many clients listen, a node sees one.
func TestSubscriptionsAreShared(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	var subs []*redistest.Client
	for range 300 {
		c := k.Dial()
		c.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		subs = append(subs, c)
	}
	for _, n := range nodes {
		if r := n.Do("PUBSUB", "NUMSUB", "news").String(); r != "[news 1]" {
			t.Errorf("a node sees %s", r)
		}
	}
	p := k.Dial()
	p.Expect("300", "PUBLISH", "news", "x")
	for _, c := range subs {
		if m := messages(t, c, 1)[0]; m != "[message news x]" {
			t.Errorf("%s", m)
		}
		c.Close()
	}
	redistest.Eventually(t, 20*time.Second, "the nodes are not listened to any more", func() bool {
		for _, n := range nodes {
			if n.Do("PUBSUB", "NUMSUB", "news").String() != "[news 0]" {
				return false
			}
		}
		return true
	})
}

// TestSlowSubscriber: a subscriber with too much unread output is closed, and does not delay
// others.
func TestSlowSubscriber(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	slow, quick, p := k.Dial(), k.Dial(), k.Dial()
	for _, c := range []*redistest.Client{slow, quick} {
		c.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
	}
	message := strings.Repeat("x", 1<<20)
	for range 60 {
		p.MustDo("PUBLISH", "news", message)
		messages(t, quick, 1)
	}
	redistest.Eventually(t, 20*time.Second, "only one listens", func() bool {
		return p.Do("PUBLISH", "news", "y").Int == 1
	})
	if n := k.Snapshot()[0].ClosedSlow; n != 1 {
		t.Errorf("%d clients were closed", n)
	}
	quick.Close()
}

// TestPubSubThreads: subscribers of every thread get messages that are published through any
// thread.
func TestPubSubThreads(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Layouts(nodes)["modulo"]).Ready()
	var subs []*redistest.Client
	for range 12 {
		c := k.Dial()
		c.Expect("[psubscribe n* 1]", "PSUBSCRIBE", "n*")
		subs = append(subs, c)
	}
	for i := range 6 {
		k.Dial().Expect("12", "PUBLISH", "news", fmt.Sprint(i))
		for _, c := range subs {
			if m := messages(t, c, 1)[0]; m != fmt.Sprintf("[pmessage n* news %d]", i) {
				t.Errorf("%s", m)
			}
		}
	}
}

// TestShardedPubSub: sharded channels live where a key of their name lives.
func TestShardedPubSub(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		a, b, p := k.Dial(), k.Dial(), k.Dial()
		channels := apart(t, k, nodes)
		for i, ch := range channels {
			a.Expect(fmt.Sprintf("[ssubscribe %s %d]", ch, i+1), "SSUBSCRIBE", ch)
		}
		b.MustDo("HELLO", "3")
		b.Expect("[ssubscribe "+channels[0]+" 1]", "SSUBSCRIBE", channels[0])
		b.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		a.Expect("-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "+
			"are allowed in this context", "GET", "x")
		for i, ch := range channels {
			want := "1"
			if i == 0 {
				want = "2"
			}
			p.Expect(want, "SPUBLISH", ch, "hello")
			nextMessage(t, a, "[smessage "+ch+" hello]")
		}
		if r, err := b.Receive(); err != nil || r.Kind != '>' || r.String() != "[smessage "+channels[0]+" hello]" {
			t.Errorf("%s, %v", r, err)
		}
		p.Expect("OK", "MULTI")
		p.Expect("QUEUED", "SET", channels[1], "x")
		p.Expect("QUEUED", "SPUBLISH", channels[1], "from MULTI")
		p.MustDo("EXEC")
		nextMessage(t, a, "[smessage "+channels[1]+" from MULTI]")
		p.Expect("0", "PUBLISH", channels[0], "not sharded")
		p.Expect("1", "PUBLISH", "news", "x")
		nextMessage(t, b, "[message news x]")
		p.Expect("[news 1 nobody 0]", "PUBSUB", "NUMSUB", "news", "nobody")
		p.Expect(fmt.Sprintf("[%s 2 %s 1 nobody 0]", channels[0], channels[1]),
			"PUBSUB", "SHARDNUMSUB", channels[0], channels[1], "nobody")
		p.Expect("[news]", "PUBSUB", "CHANNELS")
		p.Expect("[]", "PUBSUB", "CHANNELS", "x*")
		if n := len(p.MustDo("PUBSUB", "SHARDCHANNELS").Elems); n != len(channels) {
			t.Errorf("%d sharded channels", n)
		}
		p.Expect("0", "PUBSUB", "NUMPAT")
		b.Expect("[psubscribe n* 2]", "PSUBSCRIBE", "n*")
		p.Expect("1", "PUBSUB", "NUMPAT")
		b.Expect("[sunsubscribe "+channels[0]+" 0]", "SUNSUBSCRIBE")
		p.Expect("1", "SPUBLISH", channels[0], "only one")
		messages(t, a, 1)
		a.Send("SUNSUBSCRIBE")
		a.Flush()
		messages(t, a, len(channels))
		a.Expect("(nil)", "GET", "nothing")
		redistest.Eventually(t, 20*time.Second, "no sharded channel is left", func() bool {
			return len(p.MustDo("PUBSUB", "SHARDCHANNELS").Elems) == 0
		})
	})
}

// TestPublishInTransactions: PUBLISH between MULTI and EXEC counts the clients,
// whichever node executes it, and a client gets its own message after the reply.
func TestPublishInTransactions(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		keys := apart(t, k, nodes)
		own, other := k.Dial(), k.Dial()
		own.MustDo("HELLO", "3")
		own.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		other.Expect("[psubscribe n* 1]", "PSUBSCRIBE", "n*")
		other.Expect("[subscribe news 2]", "SUBSCRIBE", "news")
		for _, key := range keys {
			own.Send("SSUBSCRIBE", key)
			own.Flush()
			messages(t, own, 1)
			for range 20 {
				for _, command := range [][]string{
					{"MULTI"}, {"SET", key, "x"}, {"PUBLISH", "news", key}, {"GET", key},
					{"PUBLISH", "empty", key}, {"SPUBLISH", key, "y"}, {"EXEC"},
				} {
					own.Send(command...)
				}
				own.Flush()
				got := messages(t, own, 9)
				want := []string{
					"OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "[OK 3 x 0 1]",
					"[message news " + key + "]", "[smessage " + key + " y]",
				}
				if got, want := fmt.Sprint(got[:7]), fmt.Sprint(want[:7]); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				messages(t, other, 2)
			}
		}
		own.Send("EVAL", "redis.call('PUBLISH', 'news', 'x') return 5", "1", keys[0])
		own.Send("PUBLISH", "news", "y")
		own.Flush()
		if got := fmt.Sprint(messages(t, own, 4)); !strings.HasPrefix(got, "[5 ") {
			t.Errorf("%s", got)
		}
		other.Close()
	})
}

// TestPublishCountsOnlyReceivers: every client that PUBLISH counts gets the message, even if
// it subscribed a moment ago.
func TestPublishCountsOnlyReceivers(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, _ []*redistest.Node) {
		from := k.Dial()
		for i := range 100 {
			for _, kind := range []struct{ listen, publish, topic, channel string }{
				{"SUBSCRIBE", "PUBLISH", fmt.Sprint("c", i), fmt.Sprint("c", i)},
				{"PSUBSCRIBE", "PUBLISH", fmt.Sprint("p", i, "*"), fmt.Sprint("p", i, "x")},
				{"SSUBSCRIBE", "SPUBLISH", fmt.Sprint("s", i), fmt.Sprint("s", i)},
			} {
				c := k.Dial()
				c.Send(kind.listen, kind.topic)
				c.Flush()
				redistest.Eventually(t, 20*time.Second, "somebody hears it", func() bool {
					return from.MustDo(kind.publish, kind.channel, "hello").Int > 0
				})
				lost := time.AfterFunc(20*time.Second, c.Close) // nobody waits for ever
				for _, want := range []string{"subscribe", "message"} {
					if r, err := c.Receive(); err != nil || !strings.HasSuffix(r.Elems[0].Text, want) {
						t.Fatalf("%s %d: %v %v, want %s", kind.listen, i, r, err, want)
					}
				}
				lost.Stop()
				c.Close()
			}
		}
	})
}

// TestGlobLikeRedis asks a Redis which of 300 channels match 2,000 random patterns.
func TestGlobLikeRedis(t *testing.T) {
	t.Parallel()
	oracle := redistest.Start(t)
	c, listener := redistest.Dial(t, oracle.Addr), redistest.Dial(t, oracle.Addr)
	random := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet string, most int) string {
		b := make([]byte, random.IntN(most+1))
		for i := range b {
			b[i] = alphabet[random.IntN(len(alphabet))]
		}
		return string(b)
	}
	channels := map[string]bool{"": true}
	for len(channels) < 300 {
		channels[word("aabbc-]*\\\xfe", 6)] = true
	}
	for channel := range channels {
		listener.MustDo("SUBSCRIBE", channel)
	}
	for range 2000 {
		pattern := word("aabb**??[[]]^-\\\xff", 9)
		var want, got []string
		for _, r := range c.MustDo("PUBSUB", "CHANNELS", pattern).Elems {
			want = append(want, r.Text)
		}
		for channel := range channels {
			if command.Glob([]byte(pattern), []byte(channel)) {
				got = append(got, channel)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, Redis %q", pattern, got, want)
		}
	}
}
