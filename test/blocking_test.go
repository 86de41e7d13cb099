package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// later sends a command. The channel delivers its reply.
func later(t *testing.T, c *redistest.Client, args ...string) <-chan redistest.Reply {
	t.Helper()
	c.Send(args...)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	reply := make(chan redistest.Reply, 1)
	go func() {
		r, err := c.Receive()
		if err != nil {
			r = redistest.Reply{Kind: '!', Text: err.Error()}
		}
		reply <- r
	}()
	return reply
}

// blockedOn waits until n clients are blocked on the nodes.
func blockedOn(t *testing.T, nodes []*redistest.Node, n int) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, fmt.Sprintf("%d clients are blocked", n), func() bool {
		total := 0
		for _, node := range nodes {
			for line := range strings.Lines(node.Do("INFO", "clients").Text) {
				if v, ok := strings.CutPrefix(line, "blocked_clients:"); ok {
					k, _ := strconv.Atoi(strings.TrimSpace(v))
					total += k
				}
			}
		}
		return total == n
	})
}

// TestBlockingCommands: each blocking command waits without delaying other clients, and gets
// the same reply as from Redis.
func TestBlockingCommands(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		for i, c := range []struct{ wait, give, want string }{
			{"BLPOP %s 0", "RPUSH %s v", "[%s v]"},
			{"BRPOP %s 5", "RPUSH %s v", "[%s v]"},
			{"BLMOVE %s %s:dst LEFT RIGHT 0", "RPUSH %s v", "v"},
			{"BRPOPLPUSH %s %s:dst 0", "RPUSH %s v", "v"},
			{"BLMPOP 0 1 %s LEFT", "RPUSH %s v", "[%s [v]]"},
			{"BZPOPMIN %s 0", "ZADD %s 1 m", "[%s m 1]"},
			{"BZPOPMAX %s 0", "ZADD %s 1 m", "[%s m 1]"},
			{"BZMPOP 0 1 %s MIN", "ZADD %s 1 m", "[%s [[m 1]]]"},
			{"XREAD BLOCK 0 STREAMS %s $", "XADD %s 1-1 f v", "[[%s [[1-1 [f v]]]]]"},
		} {
			key := fmt.Sprintf("user:%d:{u}", i+1)
			fill := func(s string) []string { return strings.Fields(strings.ReplaceAll(s, "%s", key)) }
			waiter, giver := k.Dial(), k.Dial()
			reply := later(t, waiter, fill(c.wait)...)
			blockedOn(t, nodes, 1)
			giver.Expect("PONG", "PING")
			giver.Expect("(nil)", "GET", key+":other") // on the same node, by the shared connection
			giver.MustDo(fill(c.give)...)
			if got, want := (<-reply).String(), strings.Join(fill(c.want), " "); got != want {
				t.Errorf("%s: got %s, want %s", c.wait, got, want)
			}
			waiter.Expect("PONG", "PING")
			waiter.Close()
			giver.Close()
		}
	})
}

// TestGroupCalledStreams: a group or consumer may be called as an option is; the
// command still blocks its own client alone.
func TestGroupCalledStreams(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		other := k.Dial()
		defer other.Close()
		for _, group := range []string{"streams", "block"} {
			key := "{g}" + group
			other.Expect("OK", "XGROUP", "CREATE", key, group, "$", "MKSTREAM")
			waiter := k.Dial()
			reply := later(t, waiter, "XREADGROUP", "GROUP", group, "count", "BLOCK", "0", "STREAMS", key, ">")
			blockedOn(t, nodes, 1)
			other.Expect("0", "EXISTS", key+":other") // on the same node
			other.Expect("1-1", "XADD", key, "1-1", "f", "v")
			if got, want := (<-reply).String(), "[["+key+" [[1-1 [f v]]]]]"; got != want {
				t.Errorf("group %s: %s", group, got)
			}
			waiter.Close()
		}
	})
}

// TestBlockingTimes: the client's timeout is kept, not keyway's own.
func TestBlockingTimes(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]+"backend: {request_timeout: 300ms}\n").Ready()
	for _, args := range [][]string{
		{"BLPOP", "a", "0.4"}, {"BLPOP", "a", "1"}, {"BLMPOP", "1", "1", "a", "LEFT"},
		{"XREAD", "BLOCK", "1000", "STREAMS", "a", "$"}, {"BLMOVE", "a", "a", "LEFT", "LEFT", "1"},
	} {
		c := k.Dial()
		want := time.Second
		if args[2] == "0.4" {
			want = 400 * time.Millisecond
		}
		began := time.Now()
		r := c.Do(args...)
		if d := time.Since(began); !r.Null || d < want-100*time.Millisecond || d > want+3*time.Second {
			t.Errorf("%q: %s after %s", args, r, d)
		}
	}
	c := k.Dial()
	c.Expect("-ERR timeout is negative", "BLPOP", "a", "-1")
	c.Expect("-ERR timeout is not a float or out of range", "BLPOP", "a", "x")
	c.Expect("-CROSSSLOT Keys in request don't hash to the same slot", "BLPOP", "a", "b", "1")
}

// TestBlockedClientLeaves: when a blocked client leaves, the node pops nothing for it, and
// does not execute the commands that it had sent after the blocking one.
func TestBlockedClientLeaves(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	for range 20 {
		gone := k.Dial()
		gone.Send("BLPOP", "list", "0")
		gone.Send("SET", "never", "x")
		gone.Flush()
		blockedOn(t, nodes, 1)
		gone.Close()
		blockedOn(t, nodes, 0)
		c := k.Dial()
		c.Expect("1", "RPUSH", "list", "v")
		c.Expect("v", "LPOP", "list")
		c.Expect("(nil)", "GET", "never")
		c.Close()
	}
	if n := k.Snapshot()[0].Undelivered; n != 0 {
		t.Errorf("%d elements were popped for nobody", n)
	}
}

// TestUnblockWhilePaused: a node that has paused its clients, as a master does for a
// failover on request, holds BLPOP up before it blocks. Asked in the wrong way to end
// that wait, Redis before 7.2 aborts.
func TestUnblockWhilePaused(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, redistest.Layouts(nodes)["ring"]).Ready()
	admin := k.Dial()
	pause := func() (id string, c *redistest.Client, reply <-chan redistest.Reply) {
		for _, n := range nodes {
			n.Do("CLIENT", "PAUSE", "60000", "WRITE")
		}
		c = k.Dial()
		id = strconv.FormatInt(c.MustDo("CLIENT", "ID").Int, 10)
		reply = later(t, c, "BLPOP", "list", "0")
		awaitBlocked(t, nodes)
		return id, c, reply
	}
	goOn := func() {
		for _, n := range nodes {
			n.Do("CLIENT", "UNPAUSE")
		}
		admin.Expect("1", "RPUSH", "list", "v")
	}

	_, gone, _ := pause()
	gone.Close()
	awaitUnblocked(t, nodes)
	goOn()
	admin.Expect("v", "LPOP", "list")

	for _, how := range []string{"TIMEOUT", "ERROR"} {
		id, c, reply := pause()
		admin.Expect("1", "CLIENT", "UNBLOCK", id, how)
		want := "(nil)"
		if how == "ERROR" {
			want = "-UNBLOCKED client unblocked via CLIENT UNBLOCK"
		}
		got := ""
		select {
		case r := <-reply:
			got = r.String()
			awaitUnblocked(t, nodes)
			goOn()
			admin.Expect("v", "LPOP", "list")
		case <-time.After(3 * time.Second): // Redis since 7.2 does not end such a wait
			goOn()
			got, want = (<-reply).String(), "[list v]"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", how, got, want)
		}
		c.Expect("PONG", "PING")
		c.Close()
	}
	if n := k.Snapshot()[0].Undelivered; n != 0 {
		t.Errorf("%d elements were popped for nobody", n)
	}
}

// awaitBlocked waits until a client of a node is blocked in BLPOP.
func awaitBlocked(t *testing.T, nodes []*redistest.Node) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "a client is blocked in BLPOP", func() bool {
		return clientsOf(nodes, " cmd=blpop ", " flags=b ") > 0
	})
}

// awaitUnblocked waits until no node has a connection that was blocked in BLPOP. Such a
// connection may be blocked again for a moment after its wait has been ended.
func awaitUnblocked(t *testing.T, nodes []*redistest.Node) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "no client is blocked in BLPOP", func() bool {
		return clientsOf(nodes, " cmd=blpop ") == 0
	})
}

// clientsOf counts the clients of the nodes whose lines in CLIENT LIST contain all words.
func clientsOf(nodes []*redistest.Node, words ...string) (n int) {
	for _, node := range nodes {
		n += lines(node.Do("CLIENT", "LIST").Text, words...)
	}
	return n
}

// TestClientUnblock: on the same thread and on another.
func TestClientUnblock(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Layouts(nodes)["modulo"]).Ready()
	admin := k.Dial()
	for i := range 8 { // some on either thread
		c := k.Dial()
		id := strconv.FormatInt(c.MustDo("CLIENT", "ID").Int, 10)
		admin.Expect("0", "CLIENT", "UNBLOCK", id)
		reply := later(t, c, "BLPOP", "list", "0")
		blockedOn(t, nodes, 1)
		want := "(nil)"
		if i%2 == 0 {
			admin.Expect("1", "CLIENT", "UNBLOCK", id)
		} else {
			admin.Expect("1", "CLIENT", "UNBLOCK", id, "ERROR")
			want = "-UNBLOCKED client unblocked via CLIENT UNBLOCK"
		}
		if got := (<-reply).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		c.MustDo("SET", "waits", "for replicas that there are none of")
		reply = later(t, c, "WAIT", "1", "0")
		blockedOn(t, nodes, 1)
		if want = "0"; i%2 == 0 {
			admin.Expect("1", "CLIENT", "UNBLOCK", id)
		} else {
			admin.Expect("1", "CLIENT", "UNBLOCK", id, "ERROR")
			want = "-UNBLOCKED client unblocked via CLIENT UNBLOCK"
		}
		if got := (<-reply).String(); got != want {
			t.Errorf("WAIT: got %s, want %s", got, want)
		}
		c.Expect("PONG", "PING")
		c.Close()
	}
	admin.Expect("0", "CLIENT", "UNBLOCK", "999999")
	admin.Expect("-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR", "CLIENT", "UNBLOCK", "1", "x")
	admin.Expect("-ERR value is not an integer or out of range", "CLIENT", "UNBLOCK", "x")
}

// TestInputOfBlockedClientIsBounded: of a client that waits for an outcome, keyway reads no more than it
// needs to notice when the client leaves; all that the client has sent is executed afterwards.
func TestInputOfBlockedClientIsBounded(t *testing.T) {
	t.Parallel()
	keyway := redistest.Serve(t, redistest.Ring(redistest.Start(t).Addr)).Ready()
	c := keyway.Dial()
	c.Send("BLPOP", "q", "0")
	c.Flush()
	pings := []byte(strings.Repeat("*1\r\n$4\r\nPING\r\n", 1<<16))
	sent := 0
	for sent < 64<<20 { // far more than the buffers of two sockets
		c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Conn.Write(pings[sent%len(pings):])
		if sent += n; err != nil {
			break
		}
	}
	if sent >= 64<<20 {
		t.Errorf("keyway has read all %d bytes of a client that waits", sent)
	}
	keyway.Dial().MustDo("RPUSH", "q", "1")
	for i := range 1 + sent/14 {
		if got, err := c.Receive(); err != nil || i == 0 && len(got.Elems) != 2 || i > 0 && got.Text != "PONG" {
			t.Fatalf("reply %d of %d: %v, %v", i, 1+sent/14, got, err)
		}
	}
}
