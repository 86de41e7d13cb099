package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// pushed fails the test unless the next frame is this push message.
func pushed(t *testing.T, c *redistest.Client, want string) {
	t.Helper()
	c.Conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if r, err := c.Receive(); err != nil || r.Kind != '>' || r.String() != want {
		t.Errorf("pushed %c%s (%v), want %s", r.Kind, r, err, want)
	}
}

// quiet fails the test if the client has got a push message.
func quiet(t *testing.T, c *redistest.Client) {
	t.Helper()
	c.Expect("PONG", "PING")
}

// TestTracking: a client that caches gets an invalidation for each change of a key that it has
// read, and for a lost connection.
func TestTracking(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		keys := apart(t, k, nodes)
		w := k.Dial() // writes
		for _, key := range keys {
			w.MustDo("SET", key, "0")
		}
		c := k.Dial()
		c.MustDo("HELLO", "3")
		c.Expect("OK", "CLIENT", "TRACKING", "ON")
		c.Expect("[flags [on] redirect 0 prefixes []]", "CLIENT", "TRACKINGINFO")
		c.Expect("0", "CLIENT", "GETREDIR")
		for _, key := range keys {
			c.Expect("0", "GET", key)
			w.MustDo("SET", key, "1")
			pushed(t, c, "[invalidate ["+key+"]]")
			w.MustDo("SET", key, "2") // nothing is cached any more
			quiet(t, c)
		}
		if all := c.MustDo(append([]string{"MGET"}, keys...)...); strings.Trim(all.String(), "[2 ]") != "" {
			t.Errorf("%s", all)
		}
		w.MustDo(append([]string{"DEL"}, keys...)...)
		got := map[string]bool{}
		for range keys {
			r, err := c.Receive()
			if err != nil || r.Kind != '>' {
				t.Fatal(r, err)
			}
			got[r.Elems[1].Elems[0].Text] = true
		}
		for _, key := range keys {
			if !got[key] {
				t.Errorf("%s is not said to be invalid", key)
			}
		}
		c.MustDo("GET", keys[0])
		c.MustDo("SET", keys[0], "own") // without NOLOOP that counts
		pushed(t, c, "[invalidate ["+keys[0]+"]]")
		c.Expect("OK", "CLIENT", "TRACKING", "OFF")
		c.MustDo("GET", keys[0])
		w.MustDo("SET", keys[0], "x")
		quiet(t, c)

		c.Expect("OK", "CLIENT", "TRACKING", "ON")
		loseTrackedConnection(t, c, w, keys[0], nodes)
		c.Expect("RESET", "RESET")
		c.Expect("[flags [off] redirect -1 prefixes []]", "CLIENT", "TRACKINGINFO")
		c.Close()
		noTrackedConnections(t, nodes)
	})
}

// loseTrackedConnection cuts the connections over which a client has read. The values that it
// has read become invalid, and later reads are tracked again.
func loseTrackedConnection(t *testing.T, c, w *redistest.Client, key string, nodes []*redistest.Node) {
	t.Helper()
	c.MustDo("GET", key)
	for _, n := range nodes {
		n.Do("CLIENT", "KILL", "TYPE", "normal")
	}
	pushed(t, c, "[invalidate (nil)]")
	redistest.Eventually(t, 20*time.Second, "the node is spoken to again", func() bool {
		c.Send("GET", key)
		c.Flush()
		for {
			if r, err := c.Receive(); err != nil || r.Kind != '>' {
				return r.Kind == '$'
			}
		}
	})
	redistest.Eventually(t, 20*time.Second, "it is written to", func() bool {
		return w.Do("SET", key, "again").Text == "OK"
	})
	for {
		r, err := c.Receive()
		if err != nil {
			t.Fatal("a key that was read over a new connection is not tracked: ", err)
		}
		if r.String() == "[invalidate ["+key+"]]" {
			return
		}
	}
}

// noTrackedConnections waits until the nodes have no connection that tracks.
func noTrackedConnections(t *testing.T, nodes []*redistest.Node) {
	t.Helper()
	redistest.Eventually(t, 20*time.Second, "no connection that tracks is left", func() bool {
		return !slices.ContainsFunc(nodes, func(n *redistest.Node) bool {
			return strings.Contains(n.Do("CLIENT", "LIST").Text, "flags=t")
		})
	})
}

// TestTrackingModes: NOLOOP, OPTIN, OPTOUT and BCAST decide which invalidations a client gets.
func TestTrackingModes(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		keys := apart(t, k, nodes)
		w, c := k.Dial(), k.Dial()
		c.MustDo("HELLO", "3")
		c.Expect("OK", "CLIENT", "TRACKING", "ON", "NOLOOP")
		c.MustDo("GET", keys[0])
		c.MustDo("SET", keys[0], "own")
		quiet(t, c)
		c.MustDo("CLIENT", "TRACKING", "OFF")

		c.Expect("OK", "CLIENT", "TRACKING", "ON", "OPTIN")
		c.MustDo("GET", keys[0])
		w.MustDo("SET", keys[0], "x")
		quiet(t, c)
		c.Expect("OK", "CLIENT", "CACHING", "YES")
		c.Expect("[flags [on optin caching-yes] redirect 0 prefixes []]", "CLIENT", "TRACKINGINFO")
		c.MustDo("GET", keys[0])
		c.MustDo("GET", keys[1])
		w.MustDo("SET", keys[0], "z")
		w.MustDo("SET", keys[1], "z")
		pushed(t, c, "[invalidate ["+keys[0]+"]]")
		quiet(t, c)
		c.Expect("OK", "CLIENT", "CACHING", "YES")
		c.MustDo("MULTI")
		c.MustDo("GET", keys[2])
		c.MustDo("EXEC")
		w.MustDo("SET", keys[2], "z")
		pushed(t, c, "[invalidate ["+keys[2]+"]]")
		c.MustDo("CLIENT", "TRACKING", "OFF")

		c.Expect("OK", "CLIENT", "TRACKING", "ON", "OPTOUT")
		c.Expect("OK", "CLIENT", "CACHING", "NO")
		c.MustDo("GET", keys[0])
		c.MustDo("GET", keys[1])
		w.MustDo("SET", keys[0], "z")
		w.MustDo("SET", keys[1], "z")
		pushed(t, c, "[invalidate ["+keys[1]+"]]")
		c.MustDo("CLIENT", "TRACKING", "OFF")

		c.Expect("OK", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", keys[0]+"|", "PREFIX", keys[1]+"|")
		w.MustDo("SET", keys[0], "z")
		for i := range 10 { // wherever they live
			for _, key := range keys[:2] {
				key = fmt.Sprintf("%s|%d", key, i)
				w.MustDo("SET", key, "z")
				pushed(t, c, "[invalidate ["+key+"]]")
			}
		}
	})
}

// TestTrackingRedirect: invalidations go to another client, on any thread and in either
// version of the protocol.
func TestTrackingRedirect(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Layouts(nodes)["slots"]).Ready()
	keys := apart(t, k, nodes)
	for round := range 6 {
		for _, protocol := range []string{"2", "3"} {
			redirectOnce(t, k, keys, protocol, round)
		}
	}
	noTrackedConnections(t, nodes)
}

// redirectOnce has one client's invalidations sent to another, which then leaves.
func redirectOnce(t *testing.T, k *redistest.Keyway, keys []string, protocol string, round int) {
	t.Helper()
	w, target, c := k.Dial(), k.Dial(), k.Dial()
	other := k.Dial() // of RESP2 too: it is not to hear of what it has not read
	defer w.Close()
	target.MustDo("HELLO", protocol)
	c.MustDo("HELLO", protocol)
	id := target.Do("CLIENT", "ID").String()
	invalidated := func(key string) string { return "[invalidate " + key + "]" }
	if protocol == "2" {
		target.MustDo("SUBSCRIBE", "__redis__:invalidate")
		invalidated = func(key string) string { return "[message __redis__:invalidate " + key + "]" }
	}
	c.Expect("OK", "CLIENT", "TRACKING", "ON", "REDIRECT", id)
	c.Expect(id, "CLIENT", "GETREDIR")
	for _, key := range keys {
		c.MustDo("GET", key)
		w.MustDo("SET", key, fmt.Sprint(round))
		want := invalidated("[" + key + "]")
		if r, err := target.Receive(); err != nil || r.String() != want {
			t.Errorf("RESP%s: %s (%v), want %s", protocol, r, err, want)
		}
	}
	quiet(t, c)
	quiet(t, other)
	if protocol == "2" && round == 0 {
		c.MustDo("GET", keys[0])
		w.MustDo("FLUSHALL")
		for range keys {
			r, err := target.Receive()
			if err != nil || r.String() != invalidated("(nil)") && r.String() != invalidated("["+keys[0]+"]") {
				t.Errorf("%s (%v)", r, err)
			}
		}
	}
	target.Close()
	redistest.Eventually(t, 20*time.Second, "it is gone", func() bool {
		return !strings.Contains(w.MustDo("CLIENT", "LIST").Text, "id="+id+" ")
	})
	c.MustDo("GET", keys[1])
	w.MustDo("SET", keys[1], "x")
	if protocol == "3" {
		pushed(t, c, "[tracking-redir-broken "+id+"]")
		c.Expect("[flags [on broken_redirect] redirect "+id+" prefixes []]", "CLIENT", "TRACKINGINFO")
	}
	c.Close()
	other.Close()
}

// TestTrackingLikeRedis compares the replies to CLIENT TRACKING and similar commands
// with Redis's answers.
func TestTrackingLikeRedis(t *testing.T) {
	t.Parallel()
	oracle, node := redistest.Start(t), redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	for _, script := range [][]string{
		{"CLIENT TRACKING"}, {"CLIENT TRACKING x"}, {"CLIENT TRACKING ON x"},
		{
			"CLIENT TRACKING ON", "CLIENT TRACKINGINFO", "GET a", "SET a 1",
			"CLIENT TRACKING OFF", "CLIENT TRACKINGINFO",
		},
		{"CLIENT TRACKING ON PREFIX a"}, {"CLIENT TRACKING ON BCAST OPTIN"}, {"CLIENT TRACKING ON OPTIN OPTOUT"},
		{"CLIENT TRACKING ON REDIRECT 99999"}, {"CLIENT TRACKING ON REDIRECT x"}, {"CLIENT TRACKING ON REDIRECT 0"},
		{"CLIENT TRACKING OFF REDIRECT -1"}, {"CLIENT TRACKING ON REDIRECT"},
		{"CLIENT TRACKING ON BCAST", "CLIENT TRACKING ON", "CLIENT TRACKINGINFO"},
		{"CLIENT TRACKING ON OPTIN", "CLIENT TRACKING ON OPTOUT"}, {"CLIENT TRACKING ON BCAST PREFIX a PREFIX ab"},
		{
			"CLIENT TRACKING ON BCAST PREFIX ab", "CLIENT TRACKING ON BCAST PREFIX b", "CLIENT TRACKINGINFO",
			"CLIENT TRACKING ON BCAST PREFIX a",
		},
		{
			"CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES", "CLIENT TRACKINGINFO", "CLIENT TRACKINGINFO", "PING",
			"CLIENT TRACKINGINFO",
		},
		{"CLIENT CACHING YES"}, {"CLIENT TRACKING ON", "CLIENT CACHING YES"},
		{"CLIENT TRACKING ON OPTIN", "CLIENT CACHING NO", "CLIENT CACHING x", "CLIENT CACHING YES"},
		{"CLIENT TRACKING ON OPTOUT", "CLIENT CACHING YES", "CLIENT CACHING NO"},
		{"HELLO 3", "CLIENT TRACKING ON", "CLIENT TRACKINGINFO", "GET a", "SET a 2"}, {"CLIENT GETREDIR"},
		{"CLIENT TRACKINGINFO"}, {"CLIENT TRACKINGINFO x"}, {"CLIENT TRACKING OFF"},
		{
			"HELLO 3", "CLIENT TRACKING ON BCAST NOLOOP", "CLIENT TRACKINGINFO", "SET a 1", "CLIENT TRACKING OFF",
			"SET a 2",
		},
		{
			"HELLO 3", "CLIENT TRACKING ON", "GET a", "CLIENT TRACKING ON NOLOOP", "SET a 1", "GET a",
			"CLIENT TRACKING ON", "SET a 2",
		},
		{
			"CLIENT TRACKING ON BCAST PREFIX b PREFIX a", "CLIENT TRACKING ON BCAST", "CLIENT TRACKING ON BCAST",
			"CLIENT TRACKINGINFO", "CLIENT TRACKING ON BCAST PREFIX x",
		},
	} {
		text := strings.Join(script, "\r\n") + "\r\n"
		sameAnswers(t, k.Addr, oracle.Addr, script, text)
	}
}

// TestRedirectedInvalidationsLikeRedis compares the invalidations that a RESP2 client gets for
// another client, byte for byte, while that one changes its options.
func TestRedirectedInvalidationsLikeRedis(t *testing.T) {
	t.Parallel()
	oracle, node := redistest.Start(t), redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	received := func(addr string) (all []string) {
		c, w, target := redistest.Dial(t, addr), redistest.Dial(t, addr), redistest.Dial(t, addr)
		id := target.MustDo("CLIENT", "ID").String()
		target.MustDo("SUBSCRIBE", "__redis__:invalidate")
		next := func(step string) {
			raw, err := target.ReceiveRaw()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, step+": "+raw)
		}
		for _, step := range []string{"ON", "ON OPTOUT", "ON", "ON NOLOOP"} {
			c.MustDo(strings.Fields("CLIENT TRACKING " + step + " REDIRECT " + id)...)
			for _, write := range []string{"SET a 1", "FLUSHALL"} {
				c.MustDo("GET", "a")
				w.MustDo(strings.Fields(write)...)
				next(step + ", " + write)
			}
		}
		c.MustDo("GET", "a") // which the node still knows with other options
		c.MustDo("CLIENT", "TRACKING", "ON", "OPTIN", "REDIRECT", id)
		w.MustDo("SET", "a", "1")
		next("what was read before")
		c.MustDo("GET", "a")
		w.MustDo("SET", "a", "2")
		w.MustDo("FLUSHALL")
		next("after OPTIN")
		return all
	}
	if got, want := received(k.Addr), received(oracle.Addr); !slices.Equal(got, want) {
		t.Errorf("received %q, from Redis %q", got, want)
	}
}
