package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// readRig is a rig whose node a has two replicas, on static slots or as a cluster.
// Node 0 is a, 1 is b, and the replicas come behind, in step.
func readRig(t testing.TB, o Options, cluster bool) *rig {
	t.Helper()
	r := newRig(t, o)
	table := r.w.table.WithReplicas([][]string{{"10.0.1.1:1", "10.0.1.2:1"}})
	if cluster {
		m, err := slots.NewMap([]slots.Node{{Addr: "10.0.0.1:1", Master: true}, {Addr: "10.0.0.2:1", Master: true}, {Addr: "10.0.1.1:1", Of: "10.0.0.1:1"}, {Addr: "10.0.1.2:1", Of: "10.0.0.1:1"}},
			[][]slots.Range{{{First: 0, Last: 8191}}, {{First: 8192, Last: 16383}}})
		if err != nil {
			t.Fatal(err)
		}
		table = router.NewSlots(m)
	}
	r.w.SetTable(table)
	r.look() // connects
	for i, n := range r.w.nodes {
		if n.conns[0].State().String() == "dialing" {
			said := strings.Join(answerAll(r, n.conns[0]), "")
			want := map[bool]string{true: "READONLY", false: "READWRITE"}[i >= 2]
			if strings.Contains(said, want) != cluster {
				t.Fatalf("node %d was greeted with %q", i, said)
			}
		}
	}
	r.inStep(0)
	return r
}

// look lets it be time for a look at the replicas.
func (r *rig) look() {
	r.now = max(r.now+int64(100*time.Millisecond), r.w.replicas.Next())
	r.w.Turn(r.now, time.Unix(1000, 0))
	r.w.Tick()
	r.w.EndTurn()
}

const infoFrame = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"

// inStep answers a look: the replicas are so many bytes behind.
func (r *rig) inStep(behind int) {
	r.t.Helper()
	r.look()
	r.asksHow(0, "role:master\r\nmaster_replid:s\r\nmaster_repl_offset:1000\r\n")
	for _, replica := range []int{2, 3} {
		r.asksHow(replica, fmt.Sprintf("role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\nslave_repl_offset:%d\r\n", 1000-behind))
	}
}

func (r *rig) asksHow(node int, answer string) {
	r.t.Helper()
	if got := r.sent(node); got != infoFrame {
		r.t.Fatalf("node %d was sent %q", node, got)
	}
	r.node(node, fmt.Sprintf("$%d\r\n%s\r\n", len(answer), answer))
}

// wants checks where a command goes: to the node that answers it, and nowhere else.
func (r *rig) wants(node int, command, answer string) {
	r.t.Helper()
	r.feed(command)
	for i := range r.w.nodes {
		want := ""
		if i == node {
			want = command
		}
		if got := r.sent(i); got != want {
			r.t.Errorf("%q: node %d was sent %q", command, i, got)
		}
	}
	r.node(node, answer)
	if got := r.got(); got != answer {
		r.t.Errorf("%q: the client got %q", command, got)
	}
}

// replica is the one that the rig's client reads from.
func (r *rig) replica() int { return 2 + int(r.s.id)%2 }

func TestReadsGoToReplicas(t *testing.T) {
	for _, cluster := range []bool{false, true} {
		r := readRig(t, Options{Reads: PreferReplica, MaxLag: 10 * time.Second}, cluster)
		r.wants(r.replica(), cmd("GET", onA), "$1\r\n1\r\n")
		r.wants(1, cmd("GET", onB), "$1\r\n1\r\n") // b has no replica
		r.wants(r.replica(), cmd("HGETALL", onA), "*2\r\n$1\r\nf\r\n$1\r\nv\r\n")
		for _, master := range []string{cmd("SET", "b5", "1"), cmd("HSCAN", onA, "0"), cmd("TOUCH", onA), cmd("EVAL_RO", "x", "1", onA), cmd("XREAD", "STREAMS", onA, "0")} {
			r.wants(0, master, "$1\r\n1\r\n")
		}
		r.inStep(0)
		r.s.transaction() // as after WATCH
		r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
	}
}

// TestReadsOwnWrites: what a client has written it reads from the master until the
// replica surely has it.
func TestReadsOwnWrites(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: 10 * time.Second}, false)
	r.feed(cmd("SET", onA, "1") + cmd("GET", onA))
	if got := r.sent(0); got != cmd("SET", onA, "1")+cmd("GET", onA) {
		t.Fatalf("the master was sent %q", got)
	}
	r.node(0, "+OK\r\n$1\r\n1\r\n")
	r.got()
	r.wants(r.replica(), cmd("GET", "b5"), "$-1\r\n")
	r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
	r.inStep(1) // the replica has told of a time before
	r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
	r.inStep(0)
	r.wants(r.replica(), cmd("GET", onA), "$1\r\n1\r\n")

	for write, answer := range map[string]string{cmd("EVAL", "x", "1", onA): ":1\r\n", cmd("DEL", onA, "b5"): ":1\r\n:1\r\n", cmd("FLUSHALL"): "+OK\r\n"} {
		r.inStep(0)
		r.feed(write)
		for i := range 2 {
			if r.sent(i) != "" {
				r.node(i, answer)
			}
		}
		r.got()
		r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
	}
	r.inStep(0)
	r.feed(cmd("MULTI") + cmd("SET", onA, "2") + cmd("EXEC"))
	r.sent(0)
	r.node(0, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
	r.got()
	r.wants(0, cmd("GET", onA), "$1\r\n2\r\n")
	r.inStep(0)
	r.wants(r.replica(), cmd("GET", onA), "$1\r\n2\r\n")
}

// TestOwnWritesAreBounded: what a client has written is known by few keys or many,
// never by more than a bound, and read from the master all the same.
func TestOwnWritesAreBounded(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: 10 * time.Second}, false)
	for i := range 3 * 4096 {
		r.feed(cmd("SET", fmt.Sprint("{b}", i), "1"))
		r.sent(0)
		r.node(0, "+OK\r\n")
		r.got()
	}
	r.wants(0, cmd("GET", "{b}0"), "$1\r\n1\r\n")
	r.wants(0, cmd("GET", "{b}5000"), "$1\r\n1\r\n")
	r.inStep(0)
	r.wants(r.replica(), cmd("GET", "{b}0"), "$1\r\n1\r\n")
}

// TestWritesWaitForReads: a read must not see what was written after it.
func TestWritesWaitForReads(t *testing.T) {
	for read, answer := range map[string]string{
		cmd("GET", onA):                      "$1\r\n1\r\n",
		cmd("SINTER", onA):                   "*1\r\n$1\r\n1\r\n",
		cmd("SINTERCARD", "1", onA):          ":1\r\n",
		cmd("MGET", onA, "{"+onA+"}2"):       "*2\r\n$1\r\n1\r\n$1\r\n2\r\n",
		cmd("SINTER", "{"+onA+"}2", onA):     "*1\r\n$1\r\n1\r\n",
		strings.Repeat(cmd("GET", onA), 300): strings.Repeat("$1\r\n1\r\n", 300),
	} {
		r := readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, false)
		at := r.replica()
		other := "" // reads that the write need not wait for share the chains
		for i := range 300 {
			other += cmd("GET", fmt.Sprint("{b5}", i))
		}
		r.feed(other + read + cmd("SET", "b5", "1") + cmd("SET", onA, "2"))
		if got := r.sent(0); got != cmd("SET", "b5", "1") {
			t.Fatalf("%q: the master was sent %q", read, got)
		}
		r.sent(at)
		r.node(0, "+OK\r\n")
		if got := r.sent(0); got != "" {
			t.Fatalf("%q: the write has overtaken it: %q", read, got)
		}
		before := strings.Repeat("$-1\r\n", 300)
		r.node(at, before+answer)
		r.w.EndTurn()
		if got := r.sent(0); got != cmd("SET", onA, "2") {
			t.Fatalf("%q: the master was sent %q", read, got)
		}
		r.node(0, "+OK\r\n")
		if got := r.got(); got != before+answer+"+OK\r\n+OK\r\n" {
			t.Errorf("%q: %q", read, got)
		}
		if r.s.reading.Any() {
			t.Errorf("%q: still under way", read)
		}
	}
}

// TestReadsThatReplicasFail go to the master, or another replica if only those may
// be read.
func TestReadsThatReplicasFail(t *testing.T) {
	fail := map[string]func(r *rig, at int){
		"LOADING":       func(r *rig, at int) { r.node(at, "-LOADING Redis is loading the dataset in memory\r\n") },
		"MASTERDOWN":    func(r *rig, at int) { r.node(at, "-MASTERDOWN Link with MASTER is down\r\n") },
		"lost":          func(r *rig, at int) { r.w.nodes[at].conns[0].Fail(r.now, "reset") },
		"half of it":    func(r *rig, at int) { r.node(at, "$5\r\nab"); r.w.nodes[at].conns[0].Fail(r.now, "reset") },
		"no answer yet": func(r *rig, at int) { r.now += int64(time.Second) / 2; r.w.Turn(r.now, time.Unix(1, 0)); r.w.Tick() },
	}
	for name, f := range fail {
		for _, o := range []Options{{Reads: PreferReplica}, {Reads: FromReplica}} {
			r := readRig(t, o, false)
			at := r.replica()
			r.feed(cmd("GET", onA))
			r.sent(at)
			f(r, at)
			r.w.EndTurn()
			next := 0
			if o.Reads == FromReplica {
				next = 5 - at
			}
			if got := strings.ReplaceAll(r.sent(next), infoFrame, ""); got != cmd("GET", onA) {
				t.Errorf("%s: node %d was sent %q", name, next, got)
				continue
			}
			r.node(next, "$1\r\n1\r\n")
			if got := r.got(); got != "$1\r\n1\r\n" {
				t.Errorf("%s: %q", name, got)
			}
			if r.s.reading.Any() {
				t.Errorf("%s: still counted as reading", name)
			}
			if slices.Contains([]string{"LOADING", "MASTERDOWN"}, name) {
				r.wants(5-at, cmd("GET", onA), "$1\r\n1\r\n") // until the replica is looked at again
			}
		}
	}
}

// TestScriptOfADemotedMaster: whether a node that has become a replica redirects a
// script is not hidden by its serving reads.
func TestScriptOfADemotedMaster(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, true)
	eval := cmd("EVAL", "x", "1", onA)
	r.feed(eval)
	if got := r.sent(0); got != eval {
		t.Fatalf("the master was sent %q", got)
	}
	m, err := slots.NewMap([]slots.Node{{Addr: "10.0.0.1:1", Of: "10.0.1.1:1"}, {Addr: "10.0.0.2:1", Master: true}, {Addr: "10.0.1.1:1", Master: true}},
		[][]slots.Range{nil, {{First: 8192, Last: 16383}}, {{First: 0, Last: 8191}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(router.NewSlots(m))
	if got := r.sent(0); got != string(readOnlyFrame) {
		t.Fatalf("the demoted master was sent %q", got)
	}
	if got := r.sent(2); got != string(readWriteFrame) {
		t.Fatalf("the new master was sent %q", got)
	}
	r.node(2, "+OK\r\n")
	r.node(0, "-MOVED 3300 10.0.1.1:1\r\n")
	if got := r.sent(0); got != string(readWriteFrame)+cmd("EXISTS", onA)+string(readOnlyFrame) {
		t.Fatalf("the demoted master was sent %q", got)
	}
	r.node(0, "+OK\r\n+OK\r\n-MOVED 3300 10.0.1.1:1\r\n+OK\r\n")
	if got := r.sent(2); got != eval {
		t.Fatalf("the new master was sent %q", got)
	}
	r.node(2, ":1\r\n")
	if got := r.got(); got != ":1\r\n" {
		t.Errorf("%q", got)
	}
}

// TestReplicasThatWereRestarted may have lost what they had.
func TestReplicasThatWereRestarted(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: 10 * time.Second}, false)
	at := r.replica()
	c := r.w.nodes[at].conns[0]
	r.now += int64(2 * time.Second)
	r.w.Turn(r.now, time.Unix(1, 0))
	c.Fail(r.now, "reset") // while nobody waits for it
	c.Tick(r.now)
	answerAll(r, c)
	r.wants(5-at, cmd("GET", onA), "$1\r\n1\r\n")
	r.inStep(0)
	r.wants(at, cmd("GET", onA), "$1\r\n1\r\n")
}

// TestReplicasBehind are not read from beyond the bound.
func TestReplicasBehind(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, false)
	for range 9 {
		r.inStep(1)
		r.wants(r.replica(), cmd("GET", onA), "$1\r\n1\r\n")
	}
	r.inStep(1)
	r.inStep(1)
	r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")

	strict := readRig(t, Options{Reads: FromReplica, MaxLag: time.Second}, false)
	strict.now += int64(2 * time.Second)
	strict.w.Turn(strict.now, time.Unix(1, 0))
	strict.feed(cmd("GET", onA))
	if got := strict.got(); got != "-CLUSTERDOWN keyway: node a (10.0.0.1:1) has no replica that can be read (reads: replica); the command was not executed\r\n" {
		t.Errorf("%q", got)
	}
}

// TestDoubtfulReads: while a slot moves, keys that have gone are not on the old
// owner's replicas any more; what is not there is asked of the master.
func TestDoubtfulReads(t *testing.T) {
	for _, c := range []struct {
		command, answer string
		doubtful        bool
	}{
		{cmd("GET", onA), "$-1\r\n", true}, {cmd("GET", onA), "$1\r\n0\r\n", false}, {cmd("STRLEN", onA), ":0\r\n", true}, {cmd("TTL", onA), ":-2\r\n", true},
		{cmd("LLEN", onA), ":3\r\n", false}, {cmd("TYPE", onA), "+none\r\n", true}, {cmd("TYPE", onA), "+list\r\n", false}, {cmd("SMEMBERS", onA), "*0\r\n", true},
		{cmd("HMGET", onA, "f", "g"), "*2\r\n$-1\r\n$-1\r\n", true}, {cmd("HMGET", onA, "f", "g"), "*2\r\n$-1\r\n$1\r\nx\r\n", false},
		{cmd("MGET", onA, "{b}2"), "*2\r\n$1\r\nx\r\n$-1\r\n", true}, {cmd("MGET", onA, "{b}2"), "*2\r\n$1\r\nx\r\n$1\r\ny\r\n", false},
		{cmd("EXISTS", onA, "{b}2"), ":1\r\n", true}, {cmd("EXISTS", onA, "{b}2"), ":2\r\n", false}, {cmd("XINFO", "STREAM", onA), "-ERR no such key\r\n", true},
		{cmd("ZSCORE", onA, "m"), "_\r\n", true}, {cmd("ZSCORE", onA, "m"), ",0\r\n", false},
	} {
		for _, cluster := range []bool{false, true} {
			r := readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, cluster)
			if !c.doubtful || !cluster {
				r.wants(r.replica(), c.command, c.answer)
				continue
			}
			r.feed(c.command)
			r.sent(r.replica())
			r.node(r.replica(), c.answer)
			r.w.EndTurn()
			if got := r.sent(0); got != c.command {
				t.Errorf("%q: the master was sent %q", c.command, got)
				continue
			}
			r.node(0, "+the truth\r\n")
			if got := r.got(); got != "+the truth\r\n" {
				t.Errorf("%q: %q", c.command, got)
			}
		}
	}
	// Several keys of one slot may have gone in part.
	readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, true).wants(0, cmd("SUNION", onA, "{b}2"), "*0\r\n")
	r := readRig(t, Options{Reads: PreferReplica, MaxLag: time.Second}, false)
	r.wants(r.replica(), cmd("SUNION", onA, "{b}2"), "*0\r\n")
}

// TestReadOnlySaysWhereAClientReads: READONLY and READWRITE say where a client reads.
func TestReadOnlySaysWhereAClientReads(t *testing.T) {
	for _, o := range []Options{{Reads: PreferReplica}, {Reads: PreferReplica, ReadsOptIn: true}} {
		r := readRig(t, o, false)
		if o.ReadsOptIn {
			r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
			r.feed("READONLY\r\n")
			r.got()
			r.wants(0, cmd("GET", onA), "$1\r\n1\r\n") // it may have been written before
			r.inStep(0)
		}
		r.wants(r.replica(), cmd("GET", onA), "$1\r\n1\r\n")
		r.feed("READWRITE\r\n")
		if got := r.got(); got != "+OK\r\n" {
			t.Errorf("%q", got)
		}
		r.wants(0, cmd("GET", onA), "$1\r\n1\r\n")
	}
	r := newRig(t, Options{})
	r.feed("READONLY\r\n")
	if got := r.got(); got != "-ERR This instance has cluster support disabled\r\n" {
		t.Errorf("%q", got)
	}
}

// TestReadsNearest: who answers fastest is read, be it the master.
func TestReadsNearest(t *testing.T) {
	r := readRig(t, Options{Reads: FromNearest, MaxLag: time.Second}, false)
	answers := func(fast int) {
		for range 40 {
			r.look()
			for _, node := range []int{0, 2, 3} {
				r.sent(node)
			}
			order := append([]int{fast}, slices.DeleteFunc([]int{0, 2, 3}, func(n int) bool { return n == fast })...)
			for i, node := range order {
				r.now += int64(i) * int64(time.Millisecond)
				r.w.Turn(r.now, time.Unix(1, 0))
				info := "role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\nslave_repl_offset:1000\r\n"
				if node == 0 {
					info = "role:master\r\nmaster_replid:s\r\nmaster_repl_offset:1000\r\n"
				}
				r.node(node, fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))
			}
		}
	}
	for _, fast := range []int{0, 3, 2} {
		answers(fast)
		r.wants(fast, cmd("GET", onA), "$1\r\n1\r\n")
	}
}

// BenchmarkWrites: what it costs to remember which keys a client has written, which
// reads from replicas need.
func BenchmarkWrites(b *testing.B) {
	b.Run("masters", func(b *testing.B) { writes(b, newRig(b, Options{})) })
	b.Run("replicas", func(b *testing.B) { writes(b, readRig(b, Options{Reads: PreferReplica}, false)) })
}

// writes has 8,192 keys written, 16 at a time.
func writes(b *testing.B, r *rig) {
	const turns = 512
	var in [turns][]byte
	var replies [turns][2][]byte
	for i := range turns * 16 {
		key := fmt.Sprintf("key:%012d", i)
		in[i/16] = append(in[i/16], cmd("SET", key, strings.Repeat("v", 64))...)
		node := slots.Of([]byte(key)) / 8192
		replies[i/16][node] = append(replies[i/16][node], "+OK\r\n"...)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.now += 16_000
		r.turn(in[n%turns], func() {
			for node, b := range replies[n%turns] {
				r.w.nodes[node].conns[0].Received(b, r.now)
			}
		})
	}
}
