package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// answerProbe greets the connection for AUTH, and gives the node's answer to what it asks.
func answerProbe(r *rig, answer string) {
	r.t.Helper()
	r.endTurn()
	l := r.apart[slices.IndexFunc(r.apart, func(l *pool.Link) bool {
		return l.State() == pool.Dialing || len(l.NextWrite()) > 0
	})]
	if l.State() == pool.Dialing {
		l.Connected(r.now)
		for said := ""; l.State() == pool.Greeting; {
			said = string(l.NextWrite())
			l.Wrote(len(said), r.now)
			l.Received([]byte(greetingAnswer(said)), r.now)
		}
	}
	if n := len(l.NextWrite()); n == 0 {
		r.t.Fatal("the node is not asked")
	} else {
		l.Wrote(n, r.now)
	}
	l.Received([]byte(answer), r.now)
	r.endTurn()
}

// loggedIn returns a rig whose client is the user app of the nodes.
func loggedIn(t *testing.T) *rig {
	r := newRig(t, Options{Permissions: Permissions{OfNodes: true}})
	r.feed("AUTH app pw\r\n")
	answerProbe(r, "+OK\r\n")
	if got := r.got(); got != "+OK\r\n" {
		t.Fatalf("AUTH is answered with %q", got)
	}
	return r
}

// TestClientsOfNodesUsersStay: another process would need the password, so such a client does not go
// over to it, and is closed as when keyway stops. One that has not authenticated goes over.
func TestClientsOfNodesUsersStay(t *testing.T) {
	t.Parallel()
	r := loggedIn(t)
	if got := PrepareToGo(r.s); got != NeverGoes {
		t.Errorf("a user of the nodes: %v", got)
	}
	r = newRig(t, Options{Permissions: Permissions{OfNodes: true}})
	if got := PrepareToGo(r.s); got != ReadyToGo {
		t.Errorf("a client that has not authenticated: %v", got)
	}
}

// TestConnectionsOfNodesUsers: commands go over connections of the client's user; these are closed once
// the user has had no client for some time, and a client's reads and writes never use keyway's own.
func TestConnectionsOfNodesUsers(t *testing.T) {
	t.Parallel()
	r := loggedIn(t)
	r.feed(cmd("SET", "a", "1") + cmd("GET", "b"))
	for i := range r.w.Nodes {
		if sent := r.sent(i); sent != "" {
			t.Errorf("keyway's own connection gets %q", sent)
		}
		own := r.sharedAll(i)[1]
		if own.User == nil || own.User.Username != "app" {
			t.Fatalf("the connection is that of %v", own.User)
		}
		if said := strings.Join(answerAll(r, own), ""); !strings.HasSuffix(said, cmd("AUTH", "app", "pw")) {
			t.Errorf("the node is greeted with %q", said)
		}
		if sent := string(own.NextWrite()); sent != cmd("SET", "a", "1") && sent != cmd("GET", "b") {
			t.Errorf("the node gets %q", sent)
		}
	}
	r.w.Gone(r.s)
	r.pass(59 * time.Second)
	if n := len(r.sharedAll(0)); n != 2 {
		t.Errorf("after 59 s there are %d connections", n)
	}
	r.pass(3 * time.Second)
	if n := len(r.sharedAll(0)); n != 1 {
		t.Errorf("after a minute without clients there are %d connections", n)
	}
}

// TestNewPasswordIsNotForNodesUsers: when keyway's password at the nodes is renewed, the connections of
// clients' users do not become keyway's.
func TestNewPasswordIsNotForNodesUsers(t *testing.T) {
	t.Parallel()
	r := loggedIn(t)
	o := r.w.Options
	o.Backend.Account = pool.Account{Username: "keyway", Password: "one", Renewed: true}
	Configure(r.w, o)
	r.feed(cmd("SET", onA, "1"))
	own := r.sharedAll(0)[1]
	answerAll(r, own)
	own.Wrote(len(own.NextWrite()), r.now)
	r.sent(0)
	o.Backend.Account.Password = "two"
	Configure(r.w, o)
	if sent := r.sent(0); !strings.Contains(sent, cmd("AUTH", "keyway", "two")) {
		t.Errorf("keyway's connection gets %q", sent)
	}
	if sent := string(own.NextWrite()); sent != "" {
		t.Errorf("the connection of a user gets %q", sent)
	}
}

// TestNodesUsersShareNoConnection: clients of one user and password share connections, and those of two
// users, or of one user with two passwords, do not.
func TestNodesUsersShareNoConnection(t *testing.T) {
	t.Parallel()
	r := loggedIn(t)
	sessions := []*Session{r.s}
	for _, login := range []string{"AUTH app pw\r\n", "AUTH app other\r\n", "AUTH lib pw\r\n"} {
		r.s = r.w.Open(nil, "peer:1", "keyway:1")
		r.feed(login)
		answerProbe(r, "+OK\r\n")
		if got := r.got(); got != "+OK\r\n" {
			t.Fatalf("AUTH is answered with %q", got)
		}
		sessions = append(sessions, r.s)
	}
	seen := map[*pool.Conn]int{}
	for i, s := range sessions {
		c := r.connOf(s, 0)
		if c == r.shared(0) {
			t.Errorf("client %d uses keyway's connection", i)
		}
		seen[c]++
	}
	if seen[r.connOf(r.s, 0)] != 1 || seen[r.connOf(sessions[0], 0)] != 2 || len(seen) != 3 {
		t.Errorf("%d connections for three accounts: %v", len(seen), seen)
	}
}
