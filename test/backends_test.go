package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// everyConnection has each kind of connection to the nodes made: shared ones of
// both protocols, and those for WATCH, WAIT, blocking commands, subscribers and
// clients that track.
func everyConnection(t *testing.T, addr string) {
	t.Helper()
	exercise(t, addr)
	c, other := redistest.Dial(t, addr), redistest.Dial(t, addr)
	defer c.Close()
	defer other.Close()
	c.Expect("OK", "WATCH", "{b}1")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "{b}1", "x")
	c.Expect("[OK]", "EXEC")
	c.Expect("0", "WAIT", "1", "10")
	c.Send("BLPOP", "{b}list", "10")
	c.Flush()
	other.Expect("1", "RPUSH", "{b}list", "x")
	if r, err := c.Receive(); err != nil || r.String() != "[{b}list x]" {
		t.Errorf("BLPOP: %v %v", r, err)
	}
	c.Expect("[subscribe channel 1]", "SUBSCRIBE", "channel")
	redistest.Eventually(t, 20*time.Second, "a message comes", func() bool {
		return other.MustDo("PUBLISH", "channel", "hello").Int > 0
	})
	if r, err := c.Receive(); err != nil || r.String() != "[message channel hello]" {
		t.Errorf("message: %v %v", r, err)
	}
	other.MustDo("HELLO", "3")
	other.Expect("OK", "CLIENT", "TRACKING", "ON")
	other.Expect("x", "GET", "{b}1")
	other.Expect("OK", "SET", "{b}1", "y")
	pushed(t, other, "[invalidate [{b}1]]")
}

// anApp has the nodes know a user of its own, and no longer the default one
// without a password.
func anApp(t *testing.T, nodes ...*redistest.Node) {
	for _, n := range nodes {
		c := redistest.Dial(t, n.Addr)
		c.MustDo("ACL", "SETUSER", "app", "on", ">apppw", "~*", "&*", "+@all")
		c.MustDo("ACL", "SETUSER", "default", "resetpass")
	}
}

// TestNodesByNameAndPassword: host names, IPv6, a password and an ACL user.
func TestNodesByNameAndPassword(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--requirepass", "secret", "--bind", "127.0.0.1", "::1")
	admin := redistest.Dial(t, node.Addr)
	admin.MustDo("AUTH", "secret")
	admin.MustDo("ACL", "SETUSER", "app", "on", ">apppw", "~*", "&*", "+@all")
	for name, from := range map[string]struct{ host, backend string }{
		"password": {"127.0.0.1", "{password: secret}"},
		"user":     {"127.0.0.1", "{username: app, password: apppw}"},
		"hostname": {"localhost", "{password: secret}"},
		"ipv6":     {"[::1]", "{password: secret}"},
	} {
		t.Run(name, func(t *testing.T) {
			yaml := redistest.Ring(fmt.Sprintf("%s:%d", from.host, node.Port)) + "backend: " + from.backend + "\n"
			everyConnection(t, redistest.Serve(t, yaml).Ready().Addr)
		})
	}
	c := redistest.Serve(t, redistest.Ring(node.Addr)+"backend: {password: wrong}\n").Dial()
	redistest.Eventually(t, 10*time.Second, "the client is told why", func() bool {
		r := c.Do("GET", "x")
		return strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: node a") &&
			strings.Contains(r.Text, "the node refuses: WRONGPASS") && !strings.Contains(r.Text, "wrong)")
	})
}

// TestClusterByIPv6AndUser: the nodes report IPv6 addresses, and keyway logs in as a user.
func TestClusterByIPv6AndUser(t *testing.T) {
	t.Parallel()
	c := redistest.NewClusterAt(t, "::1", 3, 0)
	anApp(t, c.Nodes...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {username: app, password: apppw}\n").Ready()
	for _, n := range k.Snapshot()[0].Nodes {
		if !strings.HasPrefix(n.Addr, "[::1]:") {
			t.Errorf("node %s", n.Addr)
		}
	}
	everyConnection(t, k.Addr)
}

// TestSentinelsWithPasswords: the sentinels have one, and the nodes a user.
func TestSentinelsWithPasswords(t *testing.T) {
	t.Parallel()
	w := redistest.NewWatched(t, "east")
	nodes := strings.ReplaceAll(w.NodesYAML(), "master: east", "master: east, password: sentinelpw")
	yaml := "layout: ring\n" + nodes + "backend: {username: app, password: apppw}\n"
	asked := redistest.Dial(t, w.Sentinels[0].Addr)
	for _, s := range w.Sentinels {
		s.Do("ACL", "SETUSER", "default", "resetpass", ">sentinelpw")
	}
	for _, n := range append(w.Masters, w.Replicas...) {
		n.Do("ACL", "SETUSER", "app", "on", ">apppw", "~*", "&*", "+@all")
	}
	k := redistest.Serve(t, yaml).Ready()
	c := k.Dial()
	c.Expect("OK", "SET", "x", "1")
	asked.MustDo("SENTINEL", "FAILOVER", "east")
	redistest.Eventually(t, redistest.Deliberate, "the switch is followed", func() bool {
		n := k.Snapshot()[0].Nodes[0]
		return n.Addr == w.Replicas[0].Addr && n.Up
	})
	c.Expect("1", "GET", "x")

	wrong := redistest.Serve(t, strings.ReplaceAll(yaml, "sentinelpw", "other"))
	if r := wrong.Dial().Do("GET", "x"); !strings.Contains(r.Text, "no sentinel has reported its address yet") {
		t.Errorf("%s", r)
	}
}

// TestRestartedNodesHaveNoScripts: a client of EVALSHA does not notice.
func TestRestartedNodesHaveNoScripts(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		keys := apart(t, k, nodes)
		loaded := c.MustDo("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])").Text
		seen := c.MustDo("EVAL", "return {KEYS[1], redis.sha1hex('return ARGV[1]')}", "1", keys[0]).Elems[1].Text
		c.MustDo("EVAL", "return ARGV[1]", "1", keys[0], "x")
		for _, n := range nodes {
			n.Kill()
			n.Run()
		}
		k.Ready()
		for _, key := range keys {
			redistest.Eventually(t, 20*time.Second, "the nodes serve again", func() bool {
				return c.Do("DEL", key).Kind == ':'
			})
			c.Expect("1", "EVALSHA", loaded, "1", key)
			c.Expect("y", "EVALSHA", seen, "1", key, "y")
		}
		for _, n := range nodes {
			n.Do("SCRIPT", "FLUSH")
		}
		for _, key := range keys {
			c.Expect("2", "EVALSHA", loaded, "1", key)
		}
	})
}
