package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A moment in which a node refuses all is seen by nobody: what it has refused goes
// again in order, a fifth at a time. When it lasts, few wait and the others are told
// at once.
func TestRefusalsOfAMomentAreSeenByNobody(t *testing.T) {
	const said, n = "-CLUSTERDOWN The cluster is down\r\n", 500
	r := newClusterRig(t, Options{})
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
			t.Fatalf("at one tick %d were sent, out of order: %t", strings.Count(got, "SET"),
				!strings.HasPrefix(in[len(again):], got))
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
				r.w.Received(r.w.Open(nil, "peer:2", "keyway:1"), []byte(cmd("SET", onA, "1")))
				refuse(r.sent(0))
				r.pass(10 * time.Millisecond)
			}
		}
		r.feed(in)
		refuse(r.sent(0))
		r.endTurn()
		if told := r.s.Output(); (len(told) > 0) != lasts {
			t.Errorf("it lasts: %t; the client was told %.100q", lasts, told)
		}
		if lasts != (r.waiting(0) < n) {
			t.Errorf("it lasts: %t; %d wait", lasts, r.waiting(0))
		}
		r.pass(2 * time.Second) // their time is up
		r.got()
	}
}

// What waits for one node is bounded: past that the client is told at once.
func TestPutOffIsBounded(t *testing.T) {
	const said = "-CLUSTERDOWN The cluster is down\r\n"
	r := newClusterRig(t, Options{})
	set := cmd("SET", onA, strings.Repeat("x", 64<<20/8))
	for range 2 { // when the clients have left there is room again
		var clients []*Session
		for i := range 9 {
			s := r.w.Open(nil, "peer:2", "keyway:1")
			clients = append(clients, s)
			r.w.Received(s, []byte(set))
			r.answerAlone(0, said)
			r.endTurn()
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
