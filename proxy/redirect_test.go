package proxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// newClusterRig is a rig whose two nodes are a Redis Cluster.
func newClusterRig(t testing.TB) *rig {
	r := newRig(t, Options{})
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true, Aliases: []string{"a.example:1"}}, {ID: "b", Addr: "10.0.0.2:1", Master: true}},
		[][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(router.NewSlots(m))
	for _, n := range r.w.nodes {
		c := n.conns[0]
		c.Connected(r.now)
		ping := string(c.NextWrite())
		c.Wrote(len(ping))
		c.Received([]byte(ping[strings.Index(ping, "PING\r\n")+6:]), r.now)
	}
	r.w.EndTurn()
	return r
}

func (r *rig) pass(d time.Duration) {
	for end := r.now + int64(d); r.now < end; {
		r.now += int64(10 * time.Millisecond)
		r.w.Turn(r.now, time.Unix(1000, 0))
		r.w.Tick()
		r.w.EndTurn()
	}
}

// Commands that were behind a moved one on the old node follow it; one that is
// read later waits, though the new owner is known by then.
func TestMovedKeepsOrder(t *testing.T) {
	r := newClusterRig(t)
	r.feed(cmd("SET", onA, "1") + cmd("SET", onA, "2"))
	r.sent(0)
	r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
	r.feed(cmd("SET", onA, "3"))
	if got := r.sent(1); got != cmd("SET", onA, "1") {
		t.Fatalf("b was sent %q", got)
	}
	r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
	r.w.EndTurn()
	if got := r.sent(1); got != cmd("SET", onA, "2") {
		t.Fatalf("b was sent %q", got)
	}
	r.node(1, "+OK\r\n+OK\r\n")
	r.w.EndTurn()
	if got := r.sent(1); got != cmd("SET", onA, "3") {
		t.Fatalf("b was sent %q", got)
	}
	r.node(1, "+OK\r\n")
	if got := r.got(); got != "+OK\r\n+OK\r\n+OK\r\n" {
		t.Errorf("%q", got)
	}
	if !r.w.ready.Refresh {
		t.Error("MOVED does not ask for a new topology")
	}
}

// ASKING and the command leave together; the next command asks the old owner
// again.
func TestASKIsFollowedOnce(t *testing.T) {
	r := newClusterRig(t)
	r.feed(cmd("GET", onA))
	r.sent(0)
	r.node(0, "-ASK 3300 10.0.0.2:1\r\n")
	r.w.EndTurn()
	if got := string(r.w.nodes[1].conns[0].NextWrite()); got != cmd("ASKING")+cmd("GET", onA) {
		t.Fatalf("b is to be sent %q in one write", got)
	}
	r.sent(1)
	r.node(1, "+OK\r\n$1\r\nx\r\n")
	r.feed(cmd("GET", onA))
	if got := r.got(); got != "$1\r\nx\r\n" {
		t.Errorf("%q", got)
	}
	if got := r.sent(0); got != cmd("GET", onA) {
		t.Errorf("a was sent %q", got)
	}
}

// What a plain command's redirect can look like, and what must not happen:
// MOVED or ASK never reach the client, nobody unknown is dialed.
func TestRedirectTargets(t *testing.T) {
	for reply, want := range map[string]string{
		"-MOVED 3300 10.0.0.2:1\r\n":  "b",
		"-MOVED 3300 a.example:1\r\n": "a", // an alias, here of the node itself
		"-MOVED 3300 :1\r\n":          "a", // the replying node's host
		"-MOVED 99 10.0.0.2:1\r\n":    "makes no sense",
		"-MOVED x\r\n":                "makes no sense",
		"-MOVED 3300 10.9.9.9:1\r\n":  "which the topology does not know",
		"-ASK 3300 [::1]:99999\r\n":   "makes no sense",
	} {
		r := newClusterRig(t)
		r.feed(cmd("GET", onA))
		r.sent(0)
		r.node(0, reply)
		r.w.EndTurn()
		switch want {
		case "a", "b":
			if got := r.sent(int(want[0] - 'a')); got != cmd("GET", onA) {
				t.Errorf("%q: %s was sent %q", reply, want, got)
			}
		default:
			for range 200 {
				r.pass(10 * time.Millisecond)
				if r.sent(0) != "" {
					r.node(0, reply)
				}
			}
			got := r.got()
			if !strings.HasPrefix(got, "-CLUSTERDOWN keyway: node 10.0.0.1:1") || !strings.Contains(got, want) && !strings.Contains(got, "topology does not know") {
				t.Errorf("%q: the client got %q", reply, got)
			}
		}
	}
}

// Nodes that point at each other end in an error after five hops.
func TestRedirectCircle(t *testing.T) {
	r := newClusterRig(t)
	r.feed(cmd("GET", onA))
	hops := 0
	for ; hops < 20; hops++ {
		if r.sent(0) != "" {
			r.node(0, "-MOVED 3300 10.0.0.2:1\r\n")
		} else if r.sent(1) != "" {
			r.node(1, "-MOVED 3300 10.0.0.1:1\r\n")
		} else {
			break
		}
		r.w.EndTurn()
	}
	if got := r.got(); !strings.Contains(got, "redirect in a circle") || hops != maxHops+1 {
		t.Errorf("after %d hops: %q", hops, got)
	}
}

// TRYAGAIN is retried with a back-off until the deadline, then told as it is.
func TestTryAgainUntilTheDeadline(t *testing.T) {
	const said = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
	r := newClusterRig(t)
	r.feed(cmd("MGET", "{b}1", "{b}2"))
	tries := 0
	for range 150 {
		if r.sent(0) != "" {
			tries++
			r.node(0, said)
		}
		r.pass(10 * time.Millisecond)
	}
	if got := r.got(); got != said || tries < 5 || tries > 60 {
		t.Errorf("%d tries, then %q", tries, got)
	}
	r = newClusterRig(t)
	r.feed(cmd("MGET", "{b}1", "{b}2") + cmd("PING"))
	r.sent(0)
	r.node(0, said)
	r.pass(100 * time.Millisecond)
	r.sent(0)
	r.node(0, "*2\r\n$-1\r\n$-1\r\n")
	if got := r.got(); got != "*2\r\n$-1\r\n$-1\r\n+PONG\r\n" {
		t.Errorf("%q", got)
	}
}

// A moment in which a node refuses all is seen by nobody: what it has refused goes
// again in order, a fifth at a time. When it lasts, few wait and the others are told
// at once.
func TestRefusalsOfAMomentAreSeenByNobody(t *testing.T) {
	const said, n = "-CLUSTERDOWN The cluster is down\r\n", 500
	r := newClusterRig(t)
	in, ok := "", ""
	for i := range n {
		in += cmd("SET", onA, fmt.Sprint(i))
		ok += "+OK\r\n"
	}
	refuse := func(in string) { r.node(0, strings.Repeat(said, strings.Count(in, "SET"))) }
	r.feed(in)
	refuse(r.sent(0))
	again := ""
	for again != in {
		r.pass(10 * time.Millisecond)
		got := r.sent(0)
		if !strings.HasPrefix(in[len(again):], got) || strings.Count(got, "SET") > n/5 {
			t.Fatalf("at one tick %d were sent, out of order: %t", strings.Count(got, "SET"), !strings.HasPrefix(in[len(again):], got))
		}
		again += got
		r.node(0, strings.Repeat("+OK\r\n", strings.Count(got, "SET")))
	}
	if got := r.got(); got != ok {
		t.Errorf("%.100q", got)
	}

	for _, lasts := range []bool{false, true} {
		if lasts {
			for range 110 {
				r.w.Feed(r.w.Open(nil, "peer:2", "keyway:1"), []byte(cmd("SET", onA, "1")))
				refuse(r.sent(0))
				r.pass(10 * time.Millisecond)
			}
		}
		r.feed(in)
		refuse(r.sent(0))
		r.w.EndTurn()
		if told := r.s.Output(); (len(told) > 0) != lasts {
			t.Errorf("it lasts: %t; the client was told %.100q", lasts, told)
		}
		if lasts != (r.w.nodes[0].waiting < n) {
			t.Errorf("it lasts: %t; %d wait", lasts, r.w.nodes[0].waiting)
		}
		r.pass(2 * time.Second) // their time is up
		r.got()
	}
}

// What waits for one node is bounded: past that the client is told at once.
func TestPutOffIsBounded(t *testing.T) {
	const said = "-CLUSTERDOWN The cluster is down\r\n"
	r := newClusterRig(t)
	set := cmd("SET", onA, strings.Repeat("x", maxWaiting/8))
	for range 2 { // when the clients have left there is room again
		var clients []*Session
		for i := range 9 {
			s := r.w.Open(nil, "peer:2", "keyway:1")
			clients = append(clients, s)
			r.w.Feed(s, []byte(set))
			r.answerAlone(0, said)
			r.w.EndTurn()
			want := ""
			if i >= 7 {
				want = said
			}
			if got := string(s.Output()); got != want {
				t.Errorf("client %d was told %q", i, got)
			}
		}
		for _, s := range clients {
			r.w.Gone(s)
		}
		r.pass(2 * time.Second)
	}
}

// A command that was put off is not sent after a later one to its slot has been
// executed.
func TestPutOffIsNotOvertaken(t *testing.T) {
	r := newClusterRig(t)
	r.feed(cmd("SET", onA, "1") + cmd("SET", onA, "2"))
	r.sent(0)
	r.node(0, "-LOADING Redis is loading the dataset in memory\r\n+OK\r\n")
	r.pass(500 * time.Millisecond)
	if got := r.sent(0); got != "" {
		t.Errorf("a was sent %q", got)
	}
	if got := r.got(); got != "-LOADING Redis is loading the dataset in memory\r\n+OK\r\n" {
		t.Errorf("%q", got)
	}
}

// A slot without an owner is waited for a little, then told as Redis does.
func TestUnownedSlot(t *testing.T) {
	r := newClusterRig(t)
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}}, [][]slots.Range{{{First: 9000, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(router.NewSlots(m))
	r.feed(cmd("GET", onA))
	r.pass(1100 * time.Millisecond)
	if got := r.got(); got != "-CLUSTERDOWN Hash slot not served\r\n" {
		t.Errorf("%q", got)
	}
}

// Of a command that is split only the part waits whose slot has no owner. The node
// that gets one would not take the others with it.
func TestPartOfAnUnownedSlot(t *testing.T) {
	r := newClusterRig(t)
	whole := r.w.table
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}, {ID: "b", Addr: "10.0.0.2:1", Master: true}}, [][]slots.Range{{{First: 0, Last: 3000}}, {{First: 9000, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, late := range []bool{false, true} {
		r.w.SetTable(router.NewSlots(m))
		r.feed(cmd("MSET", onA, "1", onB, "2"))
		if got := r.sent(0); got != "" {
			t.Errorf("a was sent %q", got)
		}
		if got := r.sent(1); got != cmd("MSET", onB, "2") {
			t.Errorf("b was sent %q", got)
		}
		r.node(1, "+OK\r\n")
		want := "-ERR keyway: MSET may have been executed on some nodes only; of one: CLUSTERDOWN Hash slot not served\r\n"
		if late {
			r.pass(1100 * time.Millisecond)
		} else {
			r.w.SetTable(whole)
			r.pass(200 * time.Millisecond)
			if got := r.sent(0); got != cmd("MSET", onA, "1") {
				t.Errorf("a was sent %q", got)
			}
			r.node(0, "+OK\r\n")
			want = "+OK\r\n"
		}
		if got := r.got(); got != want {
			t.Errorf("%q", got)
		}
	}
}

// What a script says of where it runs, or when, is believed only when the node says
// the same of a plain command for the same keys.
func TestScriptRedirects(t *testing.T) {
	eval := cmd("EVAL", "s", "1", onA)
	for _, tc := range []struct{ said, exists, want string }{
		{"-MOVED 3300 10.0.0.2:1\r\n", "-MOVED 3300 10.0.0.2:1\r\n", "follows"},
		{"-ASK 3300 10.0.0.2:1\r\n", "-ASK 3300 10.0.0.2:1\r\n", "follows"},
		{"-ASK 3300 10.0.0.2:1\r\n", "-MOVED 3300 10.0.0.2:1\r\n", "follows"},
		{"-MOVED 3300 10.0.0.2:1\r\n", ":1\r\n", "its words"},
		{"-MOVED 3300 10.0.0.2:1\r\n", ":0\r\n", "its words"},
		{"-MOVED 3300 10.9.9.9:1\r\n", "-MOVED 3300 10.0.0.2:1\r\n", "its words"},
		{"-MOVED 1 10.0.0.2:1\r\n", "", "its words"},
		{"-TRYAGAIN x\r\n", ":1\r\n", "its words"},
		{"-TRYAGAIN x\r\n", "-TRYAGAIN x\r\n", "goes again"},
		{"-CLUSTERDOWN x\r\n", ":1\r\n", "its words"},
		{"-CLUSTERDOWN x\r\n", "-CLUSTERDOWN y\r\n", "its words"},
		{"-CLUSTERDOWN x\r\n", "-CLUSTERDOWN x\r\n", "goes again"},
		{"-LOADING x\r\n", "-LOADING x\r\n", "goes again"},
		{"-READONLY x\r\n", "", "its words"},
	} {
		r := newClusterRig(t)
		r.feed(eval + cmd("PING"))
		r.sent(0)
		r.node(0, tc.said)
		r.w.EndTurn()
		if tc.exists != "" {
			if got := r.sent(0); got != cmd("EXISTS", onA) {
				t.Errorf("%q: a was asked %q", tc.said, got)
			}
			r.node(0, tc.exists)
			r.w.EndTurn()
		}
		switch tc.want {
		case "follows":
			if got := r.sent(1); !strings.HasSuffix(got, eval) {
				t.Errorf("%q: b was sent %q", tc.said, got)
			}
			continue
		case "goes again":
			for _, exists := range []string{tc.exists, ":1\r\n"} {
				r.pass(100 * time.Millisecond)
				if got := r.sent(0); got != cmd("EXISTS", onA) {
					t.Errorf("%q: a was sent %q", tc.said, got)
				}
				r.node(0, exists)
			}
			r.pass(100 * time.Millisecond)
			if got := r.sent(0); got != eval {
				t.Errorf("%q: a was sent %q", tc.said, got)
			}
			continue
		}
		if got := r.got(); got != tc.said+"+PONG\r\n" {
			t.Errorf("%q: the client got %q", tc.said, got)
		}
	}
}

// A script that was refused when all was is sent again, even if the node is well by
// the time that it is asked; not so if the refusal may have been the script's own.
func TestScriptRefusedWithAll(t *testing.T) {
	eval := cmd("EVAL", "s", "1", onA)
	for _, tc := range []struct {
		said, others string
		again        bool
	}{
		{"-CLUSTERDOWN The cluster is down\r\n", "-CLUSTERDOWN The cluster is down\r\n", true},
		{"-CLUSTERDOWN The cluster is down\r\n", "-LOADING x\r\n", false},
		{"-CLUSTERDOWN The cluster is down\r\n", "$-1\r\n", false},
		{"-CLUSTERDOWN Hash slot not served\r\n", "-CLUSTERDOWN Hash slot not served\r\n", false},
		{"-TRYAGAIN x\r\n", "-TRYAGAIN x\r\n", false},
	} {
		r := newClusterRig(t)
		r.w.Feed(r.w.Open(nil, "peer:2", "keyway:1"), []byte(cmd("GET", onA)))
		r.feed(eval)
		r.sent(0)
		r.node(0, tc.others+tc.said)
		if got := r.sent(0); got != cmd("EXISTS", onA) {
			t.Fatalf("%q: a was sent %q", tc.said, got)
		}
		r.node(0, ":1\r\n")
		want := tc.said
		if tc.again {
			want = ""
		}
		if got := r.got(); got != want {
			t.Errorf("%q, while others got %q: the client got %q", tc.said, tc.others, got)
		}
	}
}

// A script that comes while a node refuses all is not sent before the node is well,
// though all that it has refused be scripts.
func TestScriptIsHeld(t *testing.T) {
	for _, refused := range []string{cmd("SET", onA, "1"), cmd("EVAL", "other", "1", onA)} {
		testHeld(t, refused)
	}
}

func testHeld(t *testing.T, refused string) {
	const said = "-CLUSTERDOWN The cluster is down\r\n"
	r := newClusterRig(t)
	r.w.Feed(r.w.Open(nil, "peer:2", "keyway:1"), []byte(refused))
	for r.sent(0) != "" { // the script, then the question about it
		r.node(0, said)
	}
	eval := cmd("EVAL", "s", "1", onA)
	r.feed(eval)
	if got := r.sent(0); got != "" {
		t.Errorf("a was sent %q", got)
	}
	for sent := ""; !strings.Contains(sent, eval); {
		r.pass(10 * time.Millisecond)
		sent = r.sent(0)
		r.node(0, strings.Repeat("+OK\r\n", strings.Count(sent, "SET"))+strings.Repeat(":1\r\n", strings.Count(sent, "EXISTS")+strings.Count(sent, "EVAL")))
		if r.now > int64(time.Hour+time.Second) {
			t.Fatal("the script was never sent")
		}
	}
	if got := r.got(); got != ":1\r\n" {
		t.Errorf("%q", got)
	}
}

// A script that was refused is not sent after a later command to its slot has been
// executed, though that be while the node is asked about it.
func TestScriptIsNotOvertaken(t *testing.T) {
	const said = "-CLUSTERDOWN The cluster is down\r\n"
	r := newClusterRig(t)
	r.feed(cmd("EVAL", "s", "1", onA) + cmd("SET", onA, "2"))
	r.sent(0)
	r.node(0, said+"+OK\r\n")
	if got := r.sent(0); got != cmd("EXISTS", onA) {
		t.Fatalf("a was sent %q", got)
	}
	r.node(0, said)
	r.pass(500 * time.Millisecond)
	if got := r.sent(0); got != "" {
		t.Errorf("a was sent %q", got)
	}
	if got := r.got(); got != said+"+OK\r\n" {
		t.Errorf("%q", got)
	}
}

// A script and a later command that were both refused go again in their order, though
// the script waits for an answer about itself before it waits to be sent.
func TestRefusedKeepOrder(t *testing.T) {
	const said = "-CLUSTERDOWN The cluster is down\r\n"
	r := newClusterRig(t)
	eval, set := cmd("EVAL", "s", "1", onA), cmd("SET", onA, "2")
	r.feed(eval + set)
	r.sent(0)
	r.node(0, said+said)
	for _, reply := range []string{said, said, ":1\r\n"} {
		if got := r.sent(0); got != cmd("EXISTS", onA) {
			t.Fatalf("a was sent %q", got)
		}
		r.node(0, reply)
		r.pass(200 * time.Millisecond)
	}
	if got := r.sent(0); got != eval+set {
		t.Errorf("a was sent %q", got)
	}
}

// Hundreds of redirects ask for the topology, they do not fetch it.
func TestRedirectStorm(t *testing.T) {
	r := newClusterRig(t)
	in, moved, ok := "", "", ""
	for i := range 500 {
		in += cmd("SET", onA, fmt.Sprint(i))
		moved += "-MOVED 3300 10.0.0.2:1\r\n"
		ok += "+OK\r\n"
	}
	r.feed(in)
	r.sent(0)
	r.node(0, moved)
	r.w.EndTurn()
	if got := r.sent(1); got != in {
		t.Error("the commands did not follow in order")
	}
	r.node(1, ok)
	if got := r.got(); got != ok {
		t.Errorf("%.100q", got)
	}
}

// TestScriptThatASiblingKnows: a client may name a script that another one has just
// sent to another worker.
func TestScriptThatASiblingKnows(t *testing.T) {
	const body, said = "return 1", "-NOSCRIPT No matching script. Please use EVAL.\r\n"
	sum := sha1.Sum([]byte(body))
	sha := hex.EncodeToString(sum[:])
	for _, known := range []bool{true, false} {
		r, sibling := newRig(t, Options{Workers: 2}), newRig(t, Options{Workers: 2})
		if known {
			sibling.feed(cmd("EVAL", body, "1", onB))
		}
		r.feed(cmd("EVALSHA", sha, "1", onA))
		r.sent(0)
		r.node(0, said)
		if got := r.sent(0); got != cmd("SCRIPT", "EXISTS", sha) {
			t.Fatalf("sent %q", got)
		}
		r.node(0, "*1\r\n:0\r\n")
		r.asked(sibling)
		want := said
		if known {
			want = ":1\r\n"
			if got := r.sent(0); got != cmd("EVAL", body, "1", onA) {
				t.Errorf("sent %q", got)
			}
			r.node(0, want)
		}
		if got := r.got(); got != want {
			t.Errorf("%q", got)
		}
	}
}

// TestNoScriptAskedOnce: clients whose EVALSHA found the node without the script
// share the question whether it is so. Asked after a third client's EVAL had
// loaded it, a second one's would be answered as if the script itself had said
// NOSCRIPT.
func TestNoScriptAskedOnce(t *testing.T) {
	const body, said = "return 1", "-NOSCRIPT No matching script. Please use EVAL.\r\n"
	r := newRig(t, Options{})
	sum := sha1.Sum([]byte(body))
	evalsha := cmd("EVALSHA", hex.EncodeToString(sum[:]), "1", onA)
	eval := cmd("EVAL", body, "1", onA)
	r.feed(eval + evalsha) // which shows that the node has it
	r.sent(0)
	r.node(0, ":1\r\n:1\r\n")
	r.got()
	second, third := r.w.Open(nil, "peer:2", "keyway:1"), r.w.Open(nil, "peer:3", "keyway:1")
	r.feed(evalsha)
	r.w.Feed(second, []byte(evalsha))
	if got := r.sent(0); got != evalsha+evalsha {
		t.Fatalf("sent %q", got)
	}
	r.node(0, said)
	r.w.Feed(third, []byte(evalsha))
	r.node(0, said)
	if got := r.sent(0); got != cmd("SCRIPT", "EXISTS", hex.EncodeToString(sum[:]))+eval {
		t.Fatalf("sent %q", got)
	}
	r.node(0, "*1\r\n:0\r\n")
	if got := r.sent(0); got != eval+eval {
		t.Errorf("sent %q", got)
	}
	r.node(0, ":1\r\n:2\r\n:3\r\n")
	if got := r.got(); got != ":2\r\n" {
		t.Errorf("%q", got)
	}
	if got := string(second.Output()); got != ":3\r\n" {
		t.Errorf("the second client got %q", got)
	}
}
