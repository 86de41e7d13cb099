package faults

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// ownUsers each may use their own keys only. All else is keyway's or the test's.
const ownUsers = "user default on nopass ~* &* +@all\n" +
	"user keyway on >kw ~* &* +@all\n" +
	"user alice on >pa ~alice:* &alice:* -@all +@read +@write +@transaction +@scripting +@connection +@blocking\n" +
	"user bob on >pb ~bob:* &bob:* -@all +@read +@write +@transaction +@scripting +@connection +@blocking\n"

// intruder is a client of one user that also tries the keys of the other.
type intruder struct {
	t                  *testing.T
	addr, name, other  string
	allowed, forbidden atomic.Int64
}

// run uses all kinds of commands until stop is closed. A command on a foreign key must never be
// executed, and one on an own key must never be forbidden. Faults may make both fail otherwise.
func (i *intruder) run(stop chan struct{}) {
	for n := 0; ; n++ {
		c, err := redistest.TryDial(i.addr)
		if err != nil {
			i.t.Error(err)
			return
		}
		for i.authenticate(c, n) && i.session(c, n) {
			select {
			case <-stop:
				c.Close()
				return
			default:
				n++
			}
		}
		c.Close()
	}
}

// authenticate makes the client the user, in either protocol, and reports whether it is: faults may keep
// nodes from answering.
func (i *intruder) authenticate(c *redistest.Client, n int) bool {
	r, err := c.TryDo("HELLO", fmt.Sprint(2+n/2%2), "AUTH", i.name, "p"+i.name[:1])
	if err == nil && r.Kind == '-' && !strings.Contains(r.Text, "keyway: ") {
		i.t.Errorf("AUTH %s: %v", i.name, r)
	}
	return err == nil && r.Kind != '-'
}

// session runs some commands of a client, and reports whether the connection still works.
func (i *intruder) session(c *redistest.Client, n int) bool {
	for _, args := range i.commands(n) {
		foreign := strings.Contains(strings.Join(args, " "), i.other+":")
		r, err := c.TryDo(args...)
		if err != nil {
			return false
		}
		switch denied := strings.HasPrefix(r.Text, "NOPERM ") || strings.Contains(r.Text, "because of: NOPERM"); {
		case foreign && r.Kind != '-':
			i.t.Errorf("%s: %q: %v", i.name, args, r)
			return false
		case !foreign && denied:
			i.t.Errorf("%s: %q: %v", i.name, args, r)
			return false
		case foreign && denied:
			i.forbidden.Add(1)
		case r.Kind != '-':
			i.allowed.Add(1)
		}
	}
	return true
}

func (i *intruder) commands(n int) [][]string {
	own, foreign := fmt.Sprintf("%s:%d", i.name, n%300), fmt.Sprintf("%s:%d", i.other, n%300)
	const script = "return redis.call('set', KEYS[1], 'x')"
	return [][]string{
		{"SET", own, i.name}, {"GET", foreign}, {"MGET", own, i.name + ":1"}, {"SET", foreign, i.name},
		{"MULTI"}, {"INCR", own + "n"}, {"EXEC"}, {"EVAL", script, "1", own}, {"EVAL", script, "1", foreign},
		{"LPUSH", own + "q", "1"}, {"BLPOP", own + "q", "1"}, {"BLPOP", foreign + "q", "1"},
		{"WATCH", own}, {"UNWATCH"}, {"DEL", foreign}, {"PING"},
	}[n%2*8 : n%2*8+8]
}

// TestNodesUsersUnderFaults: while nodes take each other's place, slots move, and connections are
// killed, no client ever has the rights of another user or of keyway, and each keeps its own.
func TestNodesUsersUnderFaults(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, "--aclfile", redistest.WriteFile(t, "users.acl", ownUsers))
	k := redistest.Serve(t, "auth: passthrough\nthreads: 2\nbackend: {username: keyway, password: kw}\n"+
		c.SeedsYAML()).Ready()
	var all sync.WaitGroup
	stop := make(chan struct{})
	users := []*intruder{
		{t: t, addr: k.Addr, name: "alice", other: "bob"}, {t: t, addr: k.Addr, name: "bob", other: "alice"},
	}
	for _, u := range users {
		for range 6 {
			all.Go(func() { u.run(stop) })
		}
	}
	more := func() {
		t.Helper()
		for _, u := range users {
			allowed, forbidden := u.allowed.Load(), u.forbidden.Load()
			redistest.Eventually(t, 60*time.Second, "the clients go on", func() bool {
				return u.allowed.Load() > allowed+300 && u.forbidden.Load() > forbidden+100
			})
		}
	}
	for range scale(1, 5) {
		more()
		for _, n := range c.Nodes {
			redistest.Ask(n.Addr, "CLIENT", "KILL", "USER", "alice")
			redistest.Ask(n.Addr, "CLIENT", "KILL", "USER", "keyway")
		}
		more()
		reshard(t, c, 0, 1, 500)
		more()
		swap(c)
		more()
		freeze(c.Nodes[2])
		more()
	}
	close(stop)
	all.Wait()
	for i, n := range c.Nodes {
		node := redistest.Dial(t, n.Addr)
		node.MustDo("READONLY")
		for _, key := range node.MustDo("KEYS", "*").Elems {
			if value := node.Do("GET", key.Text); value.Kind == '$' && !value.Null &&
				(value.Text == "alice" || value.Text == "bob") && !strings.HasPrefix(key.Text, value.Text+":") {
				t.Errorf("node %d: %s has written %s", i, value.Text, key.Text)
			}
		}
	}
}
