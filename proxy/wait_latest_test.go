package proxy

import "testing"

// A client that waits after each write asks about that write alone, until it wants
// more replicas than earlier writes are known to have.
func TestWaitAsksAboutTheLatestWrites(t *testing.T) {
	r := newRig(t, Options{})
	write := func(key string, node int) {
		r.feed(cmd("SET", key, "v"))
		r.sent(node)
		r.node(node, "+OK\r\n")
		r.got()
	}
	// wait sends WAIT and gives each node's number, "" for a node that must not be asked.
	wait := func(replicas string, numbers [2]string, want string) {
		t.Helper()
		r.feed(cmd("WAIT", replicas, "100"))
		for i, n := range numbers {
			if asked := len(r.w.nodes[i].waits) > 0; asked != (n != "") {
				t.Fatalf("WAIT %s: node %d was asked: %v", replicas, i, asked)
			}
			if n == "" {
				continue
			}
			c := r.exclusive(i)
			if got := take(c); got != cmd("CLIENT", "ID")+cmd(restoreNothing...)+cmd("WAIT", replicas, "100") {
				t.Fatalf("sent %q", got)
			}
			c.Received([]byte(":7\r\n+OK\r\n:"+n+"\r\n"), r.now)
		}
		if got := r.got(); got != ":"+want+"\r\n" {
			t.Errorf("WAIT %s: %q, want %s", replicas, got, want)
		}
	}
	write(onA, 0)
	wait("2", [2]string{"1", ""}, "1") // too few: it is asked again
	wait("2", [2]string{"2", ""}, "2")
	write(onA, 0)
	wait("2", [2]string{"3", ""}, "3") // all that it wrote to is asked again
	write(onA, 0)
	wait("2", [2]string{"2", ""}, "2")
	write(onB, 1)
	wait("2", [2]string{"", "3"}, "2") // no more than a's writes are known to have
	write(onB, 1)
	wait("1", [2]string{"", "1"}, "1")
	write(onA, 0)
	wait("2", [2]string{"2", "2"}, "2")
	wait("1", [2]string{"2", "2"}, "2") // nothing was written: about all
	write(onA, 0)
	wait("0", [2]string{"1", "2"}, "1")
	wait("1", [2]string{"1", "2"}, "1")
	write(onB, 1)
	r.feed(cmd("WAITAOF", "0", "1", "100"))
	if n := len(r.w.nodes[0].waits) + len(r.w.nodes[1].waits); n != 2 {
		t.Errorf("WAITAOF asked %d nodes", n)
	}
}

// The reply to the WAIT of a client that has left counts for nobody.
func TestWaitOfAClientThatLeaves(t *testing.T) {
	r := newRig(t, Options{})
	r.feed(cmd("SET", onA, "v"))
	r.sent(0)
	r.node(0, "+OK\r\n")
	r.feed(cmd("WAIT", "1", "0"))
	c := r.exclusive(0)
	take(c)
	other := r.w.Open(nil, "peer:2", "keyway:1")
	r.w.Gone(r.s)
	r.s = other
	c.Received([]byte(":7\r\n+OK\r\n:1\r\n"), r.now)
	if got := r.got(); got != "" {
		t.Errorf("another client got %q", got)
	}
}
