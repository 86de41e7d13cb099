package proxy

import (
	"crypto/sha1"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// rig is a worker with two standalone nodes on static slots, a below 8192 and b
// from there on, driven by hand.
type rig struct {
	t   testing.TB
	w   *Worker
	s   *Session
	now int64
}

func newRig(t testing.TB, o Options) *rig {
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "b", Addr: "10.0.0.2:1", Master: true}}
	table, err := router.NewStaticSlots(nodes, [][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	o.Backend = pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Second}
	r := &rig{t: t, w: New(o, table), now: int64(time.Hour)}
	r.w.Turn(r.now, time.Unix(1000, 0))
	for _, n := range r.w.nodes {
		for _, c := range n.conns {
			c.Connected(r.now)
			ping := c.NextWrite()
			word := string(ping[strings.Index(string(ping), "PING\r\n")+6:])
			c.Wrote(len(ping))
			c.Received([]byte(word), r.now)
		}
	}
	r.s = r.w.Open(nil, "peer:1", "keyway:1")
	r.w.EndTurn()
	r.w.server.nextHello = math.MaxInt64
	return r
}

// sent is what a node's connection has to write.
func (r *rig) sent(node int) string {
	out := ""
	for c := r.w.nodes[node].conns[0]; len(c.NextWrite()) > 0; {
		out += string(c.NextWrite())
		c.Wrote(len(c.NextWrite()))
	}
	return out
}

// dies ends a node's connection, and the attempt to connect anew.
func (r *rig) dies(node int) {
	c := r.w.nodes[node].conns[0]
	c.Fail(r.now, "reset")
	for c.State() != pool.Dialing {
		r.pass(10 * time.Millisecond)
	}
	c.Fail(r.now, "connection refused")
}

func (r *rig) node(node int, reply string) { r.w.nodes[node].conns[0].Received([]byte(reply), r.now) }

func (r *rig) feed(s string) { r.w.Feed(r.s, []byte(s)); r.w.EndTurn() }

// turn has the client send in and take what comes of it. It takes no memory itself.
func (r *rig) turn(in []byte, answer func()) {
	r.w.Turn(r.now, r.w.wall)
	r.w.Feed(r.s, in)
	for _, c := range r.w.EndTurn().Links {
		for out := c.NextWrite(); len(out) > 0; out = c.NextWrite() {
			c.Wrote(len(out))
		}
	}
	answer()
	for _, s := range r.w.EndTurn().Sessions {
		for out := s.Output(); len(out) > 0; out = s.Output() {
			s.Wrote(len(out))
		}
	}
	r.w.Taken()
}

// asked has a sibling do what the worker wants of it, and answer.
func (r *rig) asked(sibling *rig) {
	for _, ask := range r.w.EndTurn().Asks {
		if answer := ask.Do(sibling.w); ask.Token != 0 {
			defer r.w.Answered(ask.Token, answer)
		}
	}
	r.w.Taken()
}

// got is what the client is sent.
func (r *rig) got() string {
	r.w.EndTurn()
	out := ""
	for len(r.s.Output()) > 0 {
		b := r.s.Output()
		out += string(b)
		r.s.Wrote(len(b))
	}
	return out
}

func cmd(args ...string) string { return string(resp.AppendCommand(nil, args...)) }

// "b" lies in slot 3300, "a" in 15495 (cluster specification's CRC16).
const onA, onB = "b", "a"

func TestRepliesWaitForTheirTurn(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA) + cmd("GET", onB) + cmd("PING") + cmd("GET", onA))
	if got := r.sent(0); got != cmd("GET", onA)+cmd("GET", onA) {
		t.Errorf("a was sent %q", got)
	}
	r.sent(1)
	r.node(1, "$1\r\n2\r\n")
	if got := r.got(); got != "" {
		t.Errorf("the second reply has overtaken the first: %q", got)
	}
	r.node(0, "$1\r\n1\r\n")
	if got := r.got(); got != "$1\r\n1\r\n$1\r\n2\r\n+PONG\r\n" {
		t.Errorf("%q", got)
	}
	r.node(0, "$1\r\n3\r\n")
	if got := r.got(); got != "$1\r\n3\r\n" {
		t.Errorf("%q", got)
	}
}

func TestLocalAnswersWaitBehindForwardedOnes(t *testing.T) {
	for _, local := range []string{"PING", "ECHO x", "TIME", "CLIENT ID", "HELLO 2", "SELECT 0", "FOO", "GET", "PUNSUBSCRIBE x", "SHUTDOWN", "MSETNX a 1 b 2", "ROLE", "RESET", "AUTH x", "QUIT"} {
		r := newRig(t, Options{})
		r.feed(cmd("GET", onA) + local + "\r\n")
		r.sent(0)
		if got := r.got(); got != "" {
			t.Errorf("%s has overtaken: %q", local, got)
			continue
		}
		if local == "FOO" {
			continue // it asks a node first
		}
		r.node(0, "$1\r\n1\r\n")
		if got := r.got(); !strings.HasPrefix(got, "$1\r\n1\r\n") || len(got) < 9 {
			t.Errorf("%s: %q", local, got)
		}
	}
}

// A client that has gone gets nothing, and nobody gets what was meant for it.
func TestGoneClient(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA) + cmd("MGET", onA, onB))
	r.sent(0)
	r.sent(1)
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Gone(r.s)
	r.w.Feed(other, []byte(cmd("GET", onA)))
	r.s = other
	r.sent(0)
	r.node(0, "$4\r\nmine\r\n*1\r\n$4\r\nmine\r\n")
	r.node(1, "*1\r\n$4\r\nmine\r\n")
	if got := r.got(); got != "" {
		t.Errorf("another client got %q", got)
	}
	r.node(0, "$5\r\nyours\r\n")
	if got := r.got(); got != "$5\r\nyours\r\n" {
		t.Errorf("%q", got)
	}
}

func TestPartOfMGETFails(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("MGET", onA, onB) + cmd("EXISTS", onA, onB))
	r.sent(0)
	r.node(0, "*1\r\n$1\r\n1\r\n:1\r\n")
	r.dies(1)
	lost := "-CLUSTERDOWN keyway: node b (10.0.0.2:1) cannot be reached (connection refused); the command was not executed\r\n"
	if got, want := r.got(), "*2\r\n$1\r\n1\r\n"+lost+lost; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// A command that writes is "not executed" only if that is true of all its parts.
func TestPartOfMSETFails(t *testing.T) {
	const inPart = "may have been executed on some nodes only"
	for _, c := range []struct {
		name, a string // a's reply; b's connection fails
		sentToB bool
		want    string
	}{
		{"done on a, not sent to b", "+OK\r\n", false, inPart},
		{"done on a, sent to b", "+OK\r\n", true, inPart},
		{"refused by a, not sent to b", "-OOM x\r\n", false, "-OOM x\r\n"},
		{"refused by a, sent to b", "-OOM x\r\n", true, inPart},
	} {
		r := newRig(t, Options{})
		r.feed(cmd("MSET", onA, "1", onB, "2"))
		r.sent(0)
		if c.sentToB {
			r.sent(1)
		}
		r.node(0, c.a)
		r.dies(1)
		if got := r.got(); !strings.Contains(got, c.want) || c.want == inPart && !strings.HasPrefix(got, "-ERR keyway: MSET ") {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// What a node says to a command that changes nothing is said of the whole.
func TestPartOfAQuestionFails(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("PUBSUB", "CHANNELS"))
	r.sent(0)
	r.sent(1)
	r.node(0, "*0\r\n")
	r.node(1, "-BUSY x\r\n")
	if got := r.got(); got != "-BUSY x\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestOutcomeIsTold(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("INCR", onA))
	r.sent(0)
	r.feed(cmd("INCR", onA))
	r.dies(0)
	want := "-ERR keyway: the connection to node a (10.0.0.1:1) ended after the command was sent (reset); it may have been executed\r\n" +
		"-CLUSTERDOWN keyway: node a (10.0.0.1:1) cannot be reached (connection refused); the command was not executed\r\n"
	if got := r.got(); got != want {
		t.Errorf("%q", got)
	}
}

// A node of a cluster behind a layout without one: its MOVED is no answer.
func TestClusterNodeBehindStaticSlots(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA))
	r.sent(0)
	r.node(0, "-MOVED 3300 10.9.9.9:1\r\n")
	if got := r.got(); !strings.Contains(got, "is part of a Redis Cluster") {
		t.Errorf("%q", got)
	}
}

// A module's command is learned from a node; what no node knows is an error;
// the client's later commands wait meanwhile.
func TestModuleCommandsAreLearned(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("MOD.SET", onB, "v") + cmd("PING"))
	ask := cmd("COMMAND", "INFO", "mod.set")
	if got := r.sent(0) + r.sent(1); got != ask {
		t.Fatalf("the nodes were sent %q", got)
	}
	info := "*1\r\n*7\r\n$7\r\nmod.set\r\n:3\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n*0\r\n"
	r.node(1, info)
	r.w.EndTurn()
	if got := r.sent(1); got != cmd("MOD.SET", onB, "v") {
		t.Fatalf("b was sent %q", got)
	}
	r.node(1, "+OK\r\n")
	if got := r.got(); got != "+OK\r\n+PONG\r\n" {
		t.Errorf("%q", got)
	}
	r.feed(cmd("MOD.SET", onA))
	if got := r.got(); got != "-ERR wrong number of arguments for 'mod.set' command\r\n" {
		t.Errorf("%q", got)
	}
	r.feed(cmd("NO.SUCH", "x") + cmd("PING"))
	r.sent(1)
	r.node(1, "*1\r\n*-1\r\n")
	if got := r.got(); got != "-ERR unknown command 'NO.SUCH', with args beginning with: 'x' \r\n+PONG\r\n" {
		t.Errorf("%q", got)
	}
}

// Before authentication a client may neither take memory nor time.
func TestUnauthenticatedClientsTakeLittle(t *testing.T) {
	r := newRig(t, Options{Password: "pw"})
	for range 600 {
		r.feed(cmd("GET", "x"))
	}
	r.w.EndTurn()
	if !r.s.Dead() {
		t.Error("a client that has not authenticated leaves 16 KiB unread")
	}
	r = newRig(t, Options{Password: "pw"})
	r.now += int64(11 * time.Second)
	r.w.Turn(r.now, time.Unix(1011, 0))
	r.w.Tick()
	if !r.s.Dead() {
		t.Error("a client may take longer than 10 s to authenticate")
	}
	r = newRig(t, Options{Password: "pw"})
	r.feed(cmd("AUTH", "no") + cmd("GET", onA) + cmd("AUTH", "pw") + cmd("GET", onA))
	if got := r.got(); got != "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n+OK\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.sent(0); got != cmd("GET", onA) {
		t.Errorf("a was sent %q", got)
	}
}

// A command that is begun and not continued closes its client after 30 s, an
// idle one is left alone.
func TestStalledCommand(t *testing.T) {
	r := newRig(t, Options{})
	idle := r.w.Open(nil, "peer:2", "keyway:1")
	r.feed("*2\r\n$3\r\nGE")
	r.now += int64(31 * time.Second)
	r.w.Turn(r.now, time.Unix(1031, 0))
	r.w.Tick()
	if !r.s.Dead() || idle.Dead() {
		t.Errorf("the stalled client is closed: %v; the idle one: %v", r.s.Dead(), idle.Dead())
	}
}

// The hot path takes nothing from the heap: one client's commands to two nodes,
// in pipelines, split ones too.
func TestHotPathAllocatesNothing(t *testing.T) {
	allocatesNothing(t, newRig(t, Options{}), 0)
	r := readRig(t, Options{Reads: PreferReplica}, false)
	allocatesNothing(t, r, r.replica())
}

// allocatesNothing has a's keys read from that node.
func allocatesNothing(t *testing.T, r *rig, a int) {
	t.Helper()
	in := []byte(strings.Repeat(cmd("GET", onA)+cmd("SET", onB, strings.Repeat("v", 64)), 8) + cmd("MGET", onA, onB, onA) + cmd("PING"))
	fromA := []byte(strings.Repeat("$64\r\n"+strings.Repeat("v", 64)+"\r\n", 8) + "*2\r\n$1\r\n1\r\n$1\r\n1\r\n")
	fromB := []byte(strings.Repeat("+OK\r\n", 8) + "*1\r\n$1\r\n2\r\n")
	turn := func() {
		r.turn(in, func() {
			r.w.nodes[1].conns[0].Received(fromB, r.now) // first, so that its replies are parked
			r.w.nodes[a].conns[0].Received(fromA, r.now)
		})
	}
	for range 10 {
		turn()
	}
	if r.s.line.head != nil {
		t.Fatal("commands are left unanswered")
	}
	if n := testing.AllocsPerRun(200, turn); n > 0 {
		t.Errorf("%v allocations for 18 commands", n)
	}
}

func BenchmarkPipeline16(b *testing.B) {
	r := newRig(b, Options{})
	var in, fromA, fromB []byte
	for i := range 16 {
		key := fmt.Sprintf("key:%012d", i)
		in = append(in, cmd("GET", key)...)
		reply := "$64\r\n" + strings.Repeat("v", 64) + "\r\n"
		if slots.Of([]byte(key)) < 8192 {
			fromA = append(fromA, reply...)
		} else {
			fromB = append(fromB, reply...)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r.turn(in, func() {
			r.w.nodes[0].conns[0].Received(fromA, r.now)
			r.w.nodes[1].conns[0].Received(fromB, r.now)
		})
	}
}

// With clients.idle_timeout a client that says nothing is closed, one that
// waits for a reply is not.
func TestIdleTimeout(t *testing.T) {
	r := newRig(t, Options{IdleTimeout: 5 * time.Second})
	busy := r.w.Open(nil, "peer:2", "keyway:1")
	for range 8 {
		r.w.Feed(busy, []byte(cmd("PING")))
		r.pass(time.Second)
	}
	if !r.s.Dead() || busy.Dead() {
		t.Errorf("the idle client is closed: %v; the busy one: %v", r.s.Dead(), busy.Dead())
	}
	if r.w.stats.ClosedIdle != 1 {
		t.Errorf("%d clients are counted as closed for idleness", r.w.stats.ClosedIdle)
	}
}

// FLUSHALL, SCRIPT LOAD and their like go to every master; one that fails
// fails the whole.
func TestCommandsForAllMasters(t *testing.T) {
	r := newRig(t, Options{})
	r.feed("FLUSHALL\r\nDBSIZE\r\nSCRIPT EXISTS x\r\nKEYS *\r\n")
	want := cmd("FLUSHALL") + cmd("DBSIZE") + cmd("SCRIPT", "EXISTS", "x") + cmd("KEYS", "*")
	if a, b := r.sent(0), r.sent(1); a != want || b != want {
		t.Errorf("a was sent %q, b %q", a, b)
	}
	r.node(1, "+OK\r\n:40\r\n*1\r\n:0\r\n*1\r\n$1\r\nb\r\n")
	r.node(0, "+OK\r\n:2\r\n*1\r\n:1\r\n*1\r\n$1\r\na\r\n")
	if got := r.got(); got != "+OK\r\n:42\r\n*1\r\n:0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n" {
		t.Errorf("%q", got)
	}
	r.feed("FLUSHALL\r\n")
	r.sent(0)
	r.sent(1)
	r.node(0, "+OK\r\n")
	r.node(1, "-MISCONF x\r\n")
	if got := r.got(); got != "-ERR keyway: FLUSHALL may have been executed on some nodes only; of one: MISCONF x\r\n" {
		t.Errorf("%q", got)
	}
	r.feed("FLUSHALL\r\n")
	r.sent(0)
	r.sent(1)
	r.node(0, "-MISCONF x\r\n")
	r.node(1, "-MISCONF x\r\n")
	if got := r.got(); got != "-MISCONF x\r\n" {
		t.Errorf("%q", got)
	}
}

// A client that sends its last command and closes its side, as printf | nc does,
// still gets every answer.
func TestHalfClosedClientGetsEveryAnswer(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("GET", onA) + cmd("PING"))
	r.w.EOF(r.s)
	if r.s.Reading() || r.s.Finished() {
		t.Fatalf("reading %v, finished %v, while a reply is on the way", r.s.Reading(), r.s.Finished())
	}
	r.sent(0)
	r.node(0, "$1\r\n1\r\n")
	if got := r.got(); got != "$1\r\n1\r\n+PONG\r\n" || !r.s.Finished() {
		t.Errorf("%q, finished %v", got, r.s.Finished())
	}
}

// A WAIT on a node that leaves the topology ends; its client goes on.
func TestWaitOnANodeThatLeaves(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("SET", onA, "v"))
	r.sent(0)
	r.node(0, "+OK\r\n")
	r.got()
	r.feed(cmd("WAIT", "1", "0") + cmd("PING"))
	if n := len(r.w.nodes[0].waits); n != 1 {
		t.Fatalf("%d connections wait", n)
	}
	table, err := router.NewStaticSlots([]router.Node{{Name: "b", Addr: "10.0.0.2:1", Master: true}}, [][]slots.Range{{{First: 0, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(table)
	if got := r.got(); !strings.HasPrefix(got, "-CLUSTERDOWN keyway: node a") || !strings.HasSuffix(got, "\r\n+PONG\r\n") {
		t.Errorf("%q", got)
	}
}

// A script goes in full to a node that is not known to have it, since that
// leaves no doubt about what came of it; by its name to one that has.
func TestScriptsGoInFullOnce(t *testing.T) {
	const sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" // of "return 1"
	r := newRig(t, Options{})
	r.feed(cmd("EVAL", "return 1", "1", onB)) // the other node
	r.sent(1)
	r.node(1, ":1\r\n")
	full, short := cmd("EVAL", "return 1", "1", onA), cmd("EVALSHA", sha, "1", onA)
	for _, reply := range []string{"-NOSCRIPT No matching script. Please use EVAL.\r\n", ":1\r\n"} {
		r.feed(short)
		if got := r.sent(0); got != full {
			t.Errorf("sent %q", got)
		}
		r.got()
		r.node(0, reply)
		if got := r.got(); got != reply {
			t.Errorf("%q", got) // an EVAL that says so has said it itself
		}
		if got := r.sent(0); got != "" {
			t.Errorf("sent again: %q", got)
		}
	}
	r.feed(short)
	if got := r.sent(0); got != short {
		t.Errorf("sent %q", got)
	}
	r.node(0, "-NOSCRIPT No matching script. Please use EVAL.\r\n")
	if got := r.sent(0); got != cmd("SCRIPT", "EXISTS", sha) {
		t.Errorf("sent %q", got)
	}
	r.node(0, "*1\r\n:0\r\n")
	if got := r.sent(0); got != full {
		t.Errorf("sent %q", got)
	}
	r.node(0, ":1\r\n")
	r.feed(short)
	if got := r.sent(0); got != short {
		t.Errorf("sent %q", got)
	}
	r.node(0, "-NOSCRIPT spoof\r\n")
	r.sent(0)
	r.node(0, "*1\r\n:1\r\n") // it is there: the script itself has spoken
	if got := r.got(); got != ":1\r\n-NOSCRIPT spoof\r\n" {
		t.Errorf("%q", got)
	}
}

// TestTimeoutKeepsScripts: one command that comes late does not make keyway send
// every script in full again; the connection goes on, so the node is the same.
func TestTimeoutKeepsScripts(t *testing.T) {
	const sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" // of "return 1"
	r := newRig(t, Options{})
	r.feed(cmd("EVAL", "return 1", "1", onA) + cmd("EVALSHA", sha, "1", onA))
	r.sent(0)
	r.node(0, ":1\r\n:1\r\n")
	r.got()
	r.feed(cmd("GET", onA) + cmd("GET", onA))
	r.sent(0)
	r.pass(600 * time.Millisecond)
	r.node(0, "$-1\r\n")
	r.pass(600 * time.Millisecond)
	if got := r.got(); !strings.Contains(got, "gave no answer") {
		t.Fatalf("%q", got)
	}
	r.feed(cmd("EVALSHA", sha, "1", onA))
	if got := r.sent(0); got != cmd("EVALSHA", sha, "1", onA) {
		t.Errorf("sent %q", got)
	}
}

// TestWaitAOFGoesBehindAWrite goes behind a write to the node that was written to, over a
// connection of its own. If that write is refused, no count is given.
func TestWaitAOFGoesBehindAWrite(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("SET", onA, "v") + cmd("SET", onB, "v"))
	r.sent(0)
	r.sent(1)
	r.node(0, "+OK\r\n")
	r.node(1, "+OK\r\n")
	r.got()
	r.feed(cmd("WAITAOF", "1", "1", "100"))
	for i, reply := range []string{"*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:2\r\n"} {
		c := r.exclusive(i)
		if got := take(c); got != cmd("CLIENT", "ID")+cmd(restoreNothing...)+cmd("WAITAOF", "1", "1", "100") {
			t.Fatalf("sent %q", got)
		}
		c.Received([]byte(":7\r\n+OK\r\n"+reply), r.now)
	}
	if got := r.got(); got != "*2\r\n:0\r\n:0\r\n" {
		t.Errorf("%q", got)
	}
	for _, old := range []bool{false, true} {
		if old {
			r.w.server = software{info.Software{Name: "redis", Version: "7.0.15", Known: true}, math.MaxInt64}
		}
		r.feed(cmd("WAITAOF", "1", "1", "100"))
		for i := range 2 {
			c := r.exclusive(i)
			take(c)
			c.Received([]byte(":7\r\n-OOM no memory\r\n*2\r\n:1\r\n:1\r\n"), r.now)
		}
		if got := r.got(); strings.Contains(got, "FUNCTION RESTORE, with which keyway asks: OOM no memory") == old {
			t.Errorf("%q", got)
		}
	}
	r.feed(cmd("WAITAOF", "1", "1", "-1"))
	if got := r.got(); got != "-ERR timeout is negative\r\n" {
		t.Errorf("%q", got)
	}
}

// TestPausedScripts: a pause of writes holds up the scripts that may write.
func TestPausedScripts(t *testing.T) {
	for script, runs := range map[string]bool{
		"return 1": false, "#!lua\nreturn 'flags=no-writes'": false, "#!lua flags=allow-stale\nreturn 1": false,
		"#!lua flags=no-writes\nreturn 1": true, "#!lua name=x flags=allow-stale,no-writes\nreturn 1": true,
	} {
		for _, send := range []string{cmd("EVAL", script, "1", onA), cmd("EVALSHA", fmt.Sprintf("%x", sha1.Sum([]byte(script))), "1", onA)} {
			r := newRig(t, Options{})
			r.w.scripts.Add([]byte(script))
			r.feed("CLIENT PAUSE 1000 WRITE\r\n" + send)
			if got := r.sent(0); (got != "") != runs {
				t.Errorf("%q: sent %q", send, got)
			}
		}
	}
	r := newRig(t, Options{})
	r.feed("CLIENT PAUSE 1000 WRITE\r\n" + cmd("EVAL_RO", "return 1", "1", onA))
	if r.sent(0) == "" {
		t.Error("EVAL_RO is held up")
	}
}
