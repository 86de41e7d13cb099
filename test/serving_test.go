package test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// exercise is a little of everything, for ways of serving that share the core.
func exercise(t *testing.T, addr string) {
	t.Helper()
	c := redistest.Dial(t, addr)
	c.Expect("OK", "MSET", "a", "1", "b", "2", "c", "3")
	c.Expect("[1 2 3]", "MGET", "a", "b", "c")
	for i := range 500 {
		c.Send("SET", fmt.Sprintf("k%d", i), strings.Repeat("x", i*20))
		c.Send("STRLEN", fmt.Sprintf("k%d", i))
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if r, err := c.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
		if r, err := c.Receive(); err != nil || r.Int != int64(i*20) {
			t.Fatal(r, err)
		}
	}
	big := strings.Repeat("y", 5<<20)
	c.Expect("OK", "SET", "big", big)
	if got := c.MustDo("GET", "big").Text; got != big {
		t.Error("5 MiB came back changed")
	}
	c.Expect("4", "DEL", "a", "b", "c", "big")
	c.Close()
}

// TestThreadsServeAsOne: several loops share only tables and mailboxes. A script that
// one client loads, and a question that it asks, concern all of them.
func TestThreadsServeAsOne(t *testing.T) {
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 3\nclients: {max: 40}\n"+redistest.Layouts(nodes)["ring"]).Ready()
	exercise(t, k.Addr)
	var clients []*redistest.Client
	ids := map[int64]bool{}
	for range 24 {
		c := k.Dial()
		id := c.MustDo("CLIENT", "ID").Int
		if ids[id] {
			t.Errorf("two clients have the id %d", id)
		}
		ids[id] = true
		clients = append(clients, c)
	}
	used := 0
	for _, s := range k.Snapshot() {
		if s.Clients > 0 {
			used++
		}
	}
	if used < 2 {
		t.Errorf("24 clients are served by %d threads", used)
	}
	if list := clients[0].MustDo("CLIENT", "LIST").Text; strings.Count(list, "\n") != 24 {
		t.Errorf("CLIENT LIST has %d lines", strings.Count(list, "\n"))
	}
	sha := clients[0].MustDo("SCRIPT", "LOAD", "return KEYS[1]").Text
	for _, n := range nodes {
		n.Do("SCRIPT", "FLUSH")
	}
	for i, c := range clients {
		c.Expect(fmt.Sprintf("key%d", i), "EVALSHA", sha, "1", fmt.Sprintf("key%d", i))
	}
	// clients.max counts those of all threads.
	redistest.Eventually(t, 20*time.Second, "those who left are gone", func() bool {
		n := 0
		for _, s := range k.Snapshot() {
			n += s.Clients
		}
		return n == 24
	})
	for range 16 {
		c := k.Dial()
		c.Expect("PONG", "PING") // it is in
		clients = append(clients, c)
	}
	redistest.Eventually(t, 20*time.Second, "one too many is refused", func() bool {
		got, closed := redistest.Exchange(t, k.Addr, "", nil)
		return strings.HasPrefix(got, "-ERR max number of clients reached") && closed
	})
	clients[0].Expect("PONG", "PING")
}

// TestServingWithoutEpoll serves without epoll, as on systems that have none.
func TestServingWithoutEpoll(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.ServeWith(t, redistest.Layouts(nodes)["slots"], server.Options{Streams: true}).Ready()
	exercise(t, k.Addr)
	for id := range 20 {
		if err := redistest.Pipelines(k.Addr, id, 2000); err != nil {
			t.Error(err)
		}
	}
}

// TestUnixSocket listens on a socket file beside a port, and takes over a file
// that a dead keyway has left.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "k.sock")
	ln, err := net.Listen("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	k := redistest.Serve(t, "listen: [127.0.0.1:0, \"unix://"+file+"\"]\n"+redistest.Ring(node.Addr)).Ready()
	exercise(t, file)
	exercise(t, k.Addr)
}

// TestFunctionsRunWhereTheirKeysAre: FCALL is pinned to the node of its keys.
func TestFunctionsRunWhereTheirKeysAre(t *testing.T) {
	t.Parallel()
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) {
		c := k.Dial()
		const lib = "#!lua name=lib\nredis.register_function{function_name='get', flags={'no-writes'}, " +
			"callback=function(keys) return redis.call('get', keys[1]) end}"
		c.Expect("lib", "FUNCTION", "LOAD", "REPLACE", lib)
		c.Expect("-ERR Library 'lib' already exists", "FUNCTION", "LOAD", lib)
		for i, key := range apart(t, k, nodes) {
			c.MustDo("SET", key, fmt.Sprint(i))
			c.Expect(fmt.Sprint(i), "FCALL", "get", "1", key)
			c.Expect(fmt.Sprint(i), "FCALL_RO", "get", "1", key)
		}
		dump := c.MustDo("FUNCTION", "DUMP").Text
		if list := c.MustDo("FUNCTION", "LIST"); len(list.Elems) != 1 || list.Elems[0].Elems[1].Text != "lib" {
			t.Errorf("FUNCTION LIST: %s", list)
		}
		c.Expect("OK", "FUNCTION", "DELETE", "lib")
		c.Expect("[]", "FUNCTION", "LIST")
		c.Expect("OK", "FUNCTION", "RESTORE", dump)
		for _, n := range nodes {
			if len(n.Do("FUNCTION", "LIST").Elems) != 1 {
				t.Error("a node has not got the restored library")
			}
		}
		c.Expect("OK", "FUNCTION", "FLUSH")
		c.Expect("-NOTBUSY No scripts in execution right now.", "FUNCTION", "KILL")
	})
}

// TestKillScript ends a script that runs for ever, which keyway's own connection
// to its node waits for.
func TestKillScript(t *testing.T) {
	var nodes []*redistest.Node
	for range 3 {
		nodes = append(nodes, redistest.Start(t, "--busy-reply-threshold", "50"))
	}
	k := redistest.Serve(t, redistest.Layouts(nodes)["slots"]+"backend: {request_timeout: 10s}\n").Ready()
	admin := k.Dial()
	admin.Expect("-NOTBUSY No scripts in execution right now.", "SCRIPT", "KILL")
	c := k.Dial()
	reply := later(t, c, "EVAL", "while true do end", "1", "a")
	redistest.Eventually(t, 10*time.Second, "the script can be killed", func() bool {
		return admin.Do("SCRIPT", "KILL").Text == "OK"
	})
	if r := <-reply; r.Kind != '-' || !strings.Contains(r.Text, "killed by user") {
		t.Errorf("%s", r)
	}
	c.Expect("OK", "SET", "a", "1")
}

// TestBusyNode: a script runs for longer than keyway waits for it. Clients get Redis's own
// BUSY, over new connections too, until the script is killed.
func TestBusyNode(t *testing.T) {
	const busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	const busyFunction = "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
	node := redistest.Start(t, "--busy-reply-threshold", "50")
	yaml := "backend: {request_timeout: 4s}\n" + redistest.Ring(node.Addr)
	k := redistest.Serve(t, yaml).Ready()
	c, slow, admin := k.Dial(), k.Dial(), k.Dial()
	admin.Expect("OK", "SELECT", "3")
	slow.Expect("lib", "FUNCTION", "LOAD",
		"#!lua name=lib\nredis.register_function('f', function() while true do end end)")
	for _, script := range []struct {
		run       []string
		busy, end string
	}{
		{[]string{"EVAL", "while true do end", "0"}, busy, "SCRIPT"},
		{[]string{"FCALL", "f", "0"}, busyFunction, "FUNCTION"},
	} {
		reply := later(t, slow, script.run...)
		redistest.Eventually(t, 10*time.Second, "the script runs", func() bool {
			return k.Snapshot()[0].Nodes[0].InFlight > 0
		})
		redistest.Eventually(t, 10*time.Second, "a client is told that the node is busy", func() bool {
			return c.Do("GET", "x").String() == script.busy
		})
		c.Expect(script.busy, "SET", "x", "1")
		k.Dial().Expect(script.busy, "GET", "x")
		redistest.Eventually(t, 10*time.Second, "so is one in another database", func() bool {
			return admin.Do("GET", "x").String() == script.busy
		})
		// FUNCTION STATS shows only functions: while a script runs, Redis answers BUSY.
		got := admin.Do("FUNCTION", "STATS").String()
		if got != busy && !strings.Contains(got, "running_script [name f") {
			t.Errorf("FUNCTION STATS: %s", got)
		}
		if got := admin.Do(script.end, "KILL").String(); got != "OK" {
			t.Fatal(got) // the script goes on
		}
		if r := <-reply; !strings.Contains(r.Text, "killed by user") {
			t.Errorf("the script: %s", r)
		}
		for _, client := range []*redistest.Client{c, admin} {
			redistest.Eventually(t, 10*time.Second, "the node is served again", func() bool {
				return client.Do("SET", "x", "1").Text == "OK"
			})
		}
	}
}

// TestSlowScript: with the defaults a script of four seconds lets others wait, as at
// one Redis, and then they are answered; on new connections too.
func TestSlowScript(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	script := later(t, k.Dial(), "EVAL", `local t = redis.call('TIME')[1] + 4
		while redis.call('TIME')[1] + 0 < t do end return 'done'`, "0")
	same, other := k.Dial(), k.Dial()
	other.Send("SELECT", "1") // keyway has no connection for that database yet
	other.Flush()
	redistest.Eventually(t, 10*time.Second, "the script runs", func() bool {
		return k.Snapshot()[0].Nodes[0].InFlight > 0
	})
	a, b := later(t, same, "SET", "a", "1"), later(t, other, "SET", "b", "1")
	if r := <-script; r.Text != "done" {
		t.Errorf("the script: %s", r)
	}
	if r := <-a; r.Text != "OK" {
		t.Errorf("behind it: %s", r)
	}
	if r := <-b; r.Text != "OK" {
		t.Errorf("the SELECT of another client: %s", r)
	}
	if r, err := other.Receive(); err != nil || r.Text != "OK" {
		t.Errorf("its SET: %s, %v", r, err)
	}
}

// TestBusyBeforeTheScriptEnds: a script keeps its node busy. Commands that were sent behind
// it are answered when it ends. Later ones get BUSY as soon as Redis says so.
func TestBusyBeforeTheScriptEnds(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--busy-reply-threshold", "300")
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	behind, c := k.Dial(), k.Dial()
	script := later(t, k.Dial(), "EVAL", redistest.BusyScript(4*time.Second), "0")
	redistest.Eventually(t, 10*time.Second, "the script runs", func() bool {
		return k.Snapshot()[0].Nodes[0].InFlight > 0
	})
	set := later(t, behind, "SET", "a", "1")
	const busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	redistest.Eventually(t, 10*time.Second, "a client is told that the node is busy", func() bool {
		select {
		case r := <-script:
			t.Fatalf("the script ended first: %s", r)
		case r := <-later(t, k.Dial(), "SET", "b", "1"):
			return r.String() == busy
		case <-time.After(50 * time.Millisecond): // it is behind the script, too
		}
		return false
	})
	c.Expect(busy, "SET", "a", "2")
	c.Expect(busy, "GET", "a")
	if up := k.Snapshot()[0].Nodes[0].Up; !up {
		t.Error("a busy node is said to be down")
	}
	if r := <-script; r.Text != "done" {
		t.Errorf("the script: %s", r)
	}
	if r := <-set; r.Text != "OK" {
		t.Errorf("what was behind it: %s", r)
	}
	behind.Expect("1", "GET", "a")
	c.Expect("1", "GET", "a")
}

// TestDrainAnswersSiblings: a thread that has no clients left still answers the
// others while keyway stops, here whether it knows a script.
func TestDrainAnswersSiblings(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)).Ready()
	c := k.Dial()
	node.Freeze()
	defer node.Thaw()
	reply := later(t, c, "EVALSHA", strings.Repeat("0", 40), "1", "x")
	redistest.Eventually(t, 10*time.Second, "the command is on its way", func() bool {
		s := k.Snapshot()
		return s[0].Nodes[0].InFlight+s[1].Nodes[0].InFlight > 0
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		k.Stop()
	}()
	redistest.Eventually(t, 10*time.Second, "keyway is stopping", func() bool {
		other, err := net.Dial("tcp", k.Addr)
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	for range 3 {
		k.Snapshot() // takes a turn of each thread; one that had stopped would not answer
	}
	node.Thaw()
	if r := <-reply; !strings.HasPrefix(r.Text, "NOSCRIPT ") {
		t.Errorf("the client got %s", r)
	}
	<-stopped
}

// TestForeignRedirectIsNotFollowed: a cluster's node points at an address that the topology
// does not know. keyway does not dial it, and the client gets no redirect.
func TestForeignRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	foreign, dialed := redistest.Trap(t)
	node := &redirectingNode{port: redistest.FreePort(t), target: foreign}
	srv := redcon.NewServer(fmt.Sprintf("127.0.0.1:%d", node.port), node.serve, nil, nil)
	started := make(chan error, 1)
	go srv.ListenServeAndSignal(started)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	yaml := fmt.Sprintf("layout: slots\nslots: {seeds: [127.0.0.1:%d]}\nbackend: {request_timeout: 500ms}\n", node.port)
	k := redistest.Serve(t, yaml).Ready()
	began := time.Now()
	r := k.Dial().Do("GET", "a") // slot 15495
	if !strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: ") {
		t.Errorf("the client got %q", r.Text)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("the reply came after %s", d)
	}
	if n := node.calls.Load(); n < 2 || n > 60 {
		t.Errorf("the node was asked %d times", n)
	}
	if dialed.Load() != 0 {
		t.Error("keyway has dialed an address that only a reply named")
	}
}

// redirectingNode is the only node of a cluster. It redirects every GET to target.
type redirectingNode struct {
	port   int
	target string
	calls  atomic.Int64
}

func (n *redirectingNode) serve(conn redcon.Conn, cmd redcon.Command) {
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	switch line := strings.ToUpper(strings.Join(args, " ")); {
	case strings.HasPrefix(line, "PING"):
		conn.WriteBulkString(args[len(args)-1])
	case line == "CLUSTER INFO":
		conn.WriteBulkString("cluster_state:ok\r\ncluster_current_epoch:1\r\n")
	case line == "CLUSTER SHARDS":
		conn.WriteRaw(fmt.Appendf(nil, "*1\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n$5\r\nnodes\r\n*1\r\n*14\r\n"+
			"$2\r\nid\r\n$1\r\nx\r\n$4\r\nport\r\n:%d\r\n"+
			"$2\r\nip\r\n$9\r\n127.0.0.1\r\n$8\r\nendpoint\r\n$9\r\n127.0.0.1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"+
			"$18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n$6\r\nonline\r\n", n.port))
	case strings.HasPrefix(line, "INFO"):
		conn.WriteBulkString("redis_version:7.0.15\r\n")
	case strings.HasPrefix(line, "GET"):
		n.calls.Add(1)
		conn.WriteError("MOVED 15495 " + n.target)
	default:
		conn.WriteError("ERR unknown command")
	}
}

// TestClusterBehindRing: if a cluster's node is behind a layout that needs standalone ones,
// clients get an error that says so, not a missing key.
func TestClusterBehindRing(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, "layout: ring\n"+redistest.NodesYAML(c.Nodes)).Ready()
	client := k.Dial()
	said := false
	for i := range 20 {
		r := client.Do("SET", fmt.Sprint("k", i), "v")
		reason := "is part of a Redis Cluster, but this layout needs standalone nodes"
		if r.Kind == '-' && !strings.Contains(r.Text, reason) {
			t.Errorf("%s", r)
		}
		said = said || r.Kind == '-'
	}
	if !said {
		t.Error("no key fell on another node than its own")
	}
}
