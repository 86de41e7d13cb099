package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// gets fails the test unless the client receives a reply or message.
func gets(t *testing.T, c *redistest.Client, want string) {
	t.Helper()
	if got, err := c.Receive(); err != nil || got.String() != want {
		t.Errorf("got %v %v, want %s", got, err, want)
	}
}

// TestPrefixMessages: users with a prefix hear what is published to their own channels, by
// themselves or by a user without a prefix, and under the names that they use.
func TestPrefixMessages(t *testing.T) {
	t.Parallel()
	messages := func(t *testing.T, k *redistest.Keyway) {
		all := k.Dial()
		all.Do("SUBSCRIBE", "app:news")
		app, app3, team := prefixDial(t, k, "app", "2"), prefixDial(t, k, "app", "3"), prefixDial(t, k, "team", "2")
		app.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		app.Expect("[psubscribe n[e]w* 2]", "PSUBSCRIBE", "n[e]w*")
		app3.Expect("[ssubscribe sharded 1]", "SSUBSCRIBE", "sharded")
		team.Expect("[subscribe news 1]", "SUBSCRIBE", "news")
		team.Expect("[psubscribe * 2]", "PSUBSCRIBE", "*")

		c, other := prefixDial(t, k, "app", "3"), prefixDial(t, k, "team", "3")
		c.Expect("[news]", "PUBSUB", "CHANNELS")
		c.Expect("[sharded]", "PUBSUB", "SHARDCHANNELS", "s*")
		c.Expect("[news 2 none 0]", "PUBSUB", "NUMSUB", "news", "none")
		other.Expect("[news]", "PUBSUB", "CHANNELS", "*")
		c.Expect("3", "PUBLISH", "news", "app:news") // the third is the subscriber without a prefix
		gets(t, all, "[message app:news app:news]")
		gets(t, app, "[message news app:news]")
		gets(t, app, "[pmessage n[e]w* news app:news]")
		c.Expect("1", "SPUBLISH", "sharded", "m")
		gets(t, app3, "[smessage sharded m]")
		other.Expect("2", "PUBLISH", "news", "of team")
		gets(t, team, "[message news of team]")
		gets(t, team, "[pmessage * news of team]")
		k.Dial().Expect("3", "PUBLISH", "app:news", "from all")
		gets(t, all, "[message app:news from all]")
		gets(t, app, "[message news from all]")
		gets(t, app, "[pmessage n[e]w* news from all]")
		app.Expect("[unsubscribe news 1]", "UNSUBSCRIBE")
		app.Expect("[punsubscribe n[e]w* 0]", "PUNSUBSCRIBE")
	}
	nodes := redistest.Three(t)
	messages(t, redistest.Serve(t, "threads: 2\n"+redistest.Layouts(nodes)["ring"]+prefixYAML).Ready())
	c := redistest.NewCluster(t, 3, 0, "--cluster-node-timeout", "15000")
	messages(t, redistest.Serve(t, "threads: 2\n"+c.SeedsYAML()+prefixYAML).Ready())
}

// TestPrefixInvalidations: a client that tracks hears of its user's own keys only, in both
// versions of the protocol.
func TestPrefixInvalidations(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Layouts(nodes)["ring"]+prefixYAML).Ready()
	all, app := k.Dial(), prefixDial(t, k, "app", "3")
	app.Expect("OK", "CLIENT", "TRACKING", "ON", "BCAST")
	app.Expect("PONG", "PING")
	old, listener := prefixDial(t, k, "app", "2"), prefixDial(t, k, "app", "2")
	id := listener.Do("CLIENT", "ID").String()
	listener.Do("SUBSCRIBE", "__redis__:invalidate")
	old.Expect("OK", "CLIENT", "TRACKING", "ON", "REDIRECT", id)
	old.Expect("(nil)", "GET", "k")
	for _, key := range []string{"k", "other:k", "{team[1]?}:k", "app:k", "app:last"} {
		all.Expect("OK", "SET", key, "1")
	}
	for k, last := false, false; !k || !last; {
		r, err := app.Receive()
		if err != nil || len(r.Elems) != 2 || r.Elems[0].Text != "invalidate" {
			t.Fatalf("got %v %v", r, err)
		}
		for _, e := range r.Elems[1].Elems { // none if all is invalid, since a connection was not ready before
			switch e.Text {
			case "k":
				k = true
			case "last":
				last = true
			default:
				t.Fatalf("the user hears of the key %q", e.Text)
			}
		}
	}
	gets(t, listener, "[message __redis__:invalidate [k]]")
}

// TestPrefixReload: a reload that changes the prefix of a user closes the user's clients, and
// one that does not leaves them connected.
func TestPrefixReload(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	with := func(prefix, rules string) string {
		return fmt.Sprintf("layout: ring\nthreads: 2\nusers:\n  - {name: app, acl: \"on >pw %s\", prefix: \"%s\"}\n",
			rules, prefix)
	}
	r.reload(with("a:", "~* &* +@all"))
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "app", "pw")
	c.Expect("OK", "SET", "k", "1")
	r.reload(with("a:", "~k* &* +@all"))
	const noKey = "-NOPERM this user has no permissions to access one of the keys used as arguments"
	redistest.Eventually(t, 20*time.Second, "the rules apply to names as the user writes them", func() bool {
		return c.Do("GET", "a:k").String() == noKey
	})
	c.Expect("1", "GET", "k")
	r.reload(with("b:", "~k* &* +@all"))
	if got, err := c.Receive(); err == nil {
		t.Errorf("a client whose user has another prefix gets %v", got)
	}
	c = redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "app", "pw")
	c.Expect("(nil)", "GET", "k")
	r.logs(`reason="its user has another prefix now"`)
}
